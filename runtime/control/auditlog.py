"""The durable audit records: what hosts send in, and the control plane's own decisions.

Rules it keeps: a command that changes something is recorded *before* it is carried out, and not carried out when it
can't be; refusals are recorded soon after, from a bounded buffer. The writer of each record is an authenticated
principal or `control`, never what the record says. No payloads.

Not here: chaining and checking the records.
"""

import asyncio
import hashlib
import itertools
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from authz.decisions import Decision
from authz.principals import Principal
from runtime.bus.errors import BusError
from runtime.control.errors import InvalidInputError, TooLargeError, UnavailableError
from runtime.control.lastseen import LastSeen
from runtime.control.limits import ControlLimits
from runtime.control.ports import Clock, Journal

CONTROL: Final = "control"
_BUFFER: Final = 4096
_AT_ONCE: Final = 64  # appends on their way; the stream keeps their order, since they share one connection
_log = logging.getLogger(__name__)


class AuditLog:
    """Appends to the audit stream."""

    def __init__(self, journal: Journal, *, clock: Clock, limits: ControlLimits, seen: LastSeen) -> None:
        self._journal, self._clock, self._limits, self._seen = journal, clock, limits, seen
        self._later: deque[tuple[bytes, str]] = deque(maxlen=_BUFFER)
        self.dropped = 0

    async def store(self, principal: Principal, records: Iterable[Mapping[str, object]]) -> int:
        """Store what a host recorded, in order; on return it is durable. Returns the last record's number.

        Raises:
            TooLargeError: a record is too long; none was stored.
            UnavailableError: not all are stored; sending all again, soon, stores none twice.
        """
        records = tuple(records)
        if not records:
            raise InvalidInputError("no records")
        writer = {"tenant": principal.tenant, "user": principal.user, "name": principal.name}
        encoded = [self._encode(writer, record) for record in records]
        if any(len(data) > self._limits.audit_record_bytes_max for data, _ in encoded):
            raise TooLargeError(f"a record may have {self._limits.audit_record_bytes_max} bytes at most")
        for record in records:
            self._note_seen(record)
        return await self._append(encoded)

    async def decided(self, record: Mapping[str, object]) -> None:
        """Store a decision of ours before it takes effect.

        Raises:
            UnavailableError: it could not be stored: then the command must not be carried out.
        """
        await self._append([self._encode(CONTROL, record)])

    def refused(self, record: Mapping[str, object]) -> None:
        """Take note of a refusal; `flush` stores it."""
        self.dropped += len(self._later) == _BUFFER
        self._later.append(self._encode(CONTROL, record))

    async def flush(self) -> None:
        """Store the refusals that wait; those that can't be stay."""
        while self._later:
            some = tuple(itertools.islice(self._later, _AT_ONCE))
            try:
                await self._append(some)
            except UnavailableError as error:
                _log.warning("%s", error)
                return
            for stored in some:
                if self._later and self._later[0] is stored:  # a full buffer has lost its oldest meanwhile
                    self._later.popleft()

    async def _append(self, encoded: Sequence[tuple[bytes, str]]) -> int:
        """Store the records in their order, `_AT_ONCE` on their way at a time: one by one takes seven times as long."""
        last = 0
        try:
            for start in range(0, len(encoded), _AT_ONCE):
                some = encoded[start : start + _AT_ONCE]
                numbers = await asyncio.gather(*(self._journal.append(data, once=once) for data, once in some))
                last = numbers[-1]
        except BusError as error:
            raise UnavailableError("the audit record could not be stored; try again") from error
        return last

    def _encode(self, writer: object, record: Mapping[str, object]) -> tuple[bytes, str]:
        """The record to store, and what it is known by: each has its time and correlation id, so no two are equal."""
        content = msgspec.json.encode({"v": 1, "writer": writer, "record": record})
        stored = {"v": 1, "writer": writer, "stored_at": self._clock(), "record": record}
        return msgspec.json.encode(stored), hashlib.sha256(content).hexdigest()

    def _note_seen(self, record: Mapping[str, object]) -> None:
        match record:
            case {"tenant": str(tenant), "user": str(user), "at": int(at) | float(at), "effect": "allow"}:
                self._seen.note(tenant, user, min(at, self._clock()))


def decision_record(
    *,
    at: float,
    tenant: str,
    account: str,
    principal: Principal | None,
    command: str,
    target: str,
    decision: Decision | None,
    effect: str,
    code: int,
    reason: str,
    correlation_id: str,
) -> dict[str, object]:
    """An administrative decision in the form of all audit records."""
    rule = decision.rule if decision else None
    return {
        "at": at,
        "tenant": tenant,
        "account": account,
        "user": principal.user if principal else None,
        "name": principal.name if principal else None,
        "role": principal.role if principal else None,
        "assurance": principal.assurance if principal else None,
        "action": "admin",
        "resource": command,
        "target": target,
        "effect": effect,
        "code": code,
        "reason": reason,
        "rule": f"line {rule.line}: {rule.text}" if rule else None,
        "correlation_id": correlation_id,
        "agent_id": CONTROL,
    }
