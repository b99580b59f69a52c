"""Steps 13 and 14: each call is recorded and answered, once, in the one place that replies.

Rules it keeps:
    - A result leaves only when its record was taken; a sensitive one, when its record is durable.
    - A refusal leaves in any case.
    - SEC-6: an answer has the two error headers or none; a handler has no way to add any.
"""

import logging
from collections.abc import Mapping
from typing import Final

from runtime.dispatch.call import Call
from runtime.dispatch.errors import RefusedError
from runtime.dispatch.limits import DispatchLimits, TokenBucket
from runtime.dispatch.outcomes import AuditRecord, AuditSink, Counters, failure_of, record_of
from runtime.dispatch.ports import Clock, Respond, TenantView
from runtime.envelope.messages import build_error

log = logging.getLogger(__name__)

_UNKNOWN_AGENT: Final = "host"  # who answers what never came as far as an agent
_UNAUTHENTICATED: Final = 401


class Answers:
    """Ends the calls of one dispatcher, and counts how.

    Args:
        respond: Sends an answer.
        audit: Takes the record of each decision.
        clock: Where time comes from.
        limits: How many records of forgers are kept.
    """

    def __init__(self, *, respond: Respond, audit: AuditSink, clock: Clock, limits: DispatchLimits) -> None:
        self._respond = respond
        self._audit = audit
        self._clock = clock
        self._unknown_callers = TokenBucket(
            rate_per_s=limits.unauthenticated_records_per_s, burst=limits.unauthenticated_records_per_s
        )
        self.counters = Counters()

    def result(self, call: Call, body: bytes) -> None:
        """(13), (14): a result is sent only when its record was taken."""
        if not self._is_late(call):
            self._answer_recorded(call, body, is_recorded=self._recorded(call, None))  # (13)

    def description(self, call: Call, body: bytes) -> None:
        """(14): what a capability needs is told to who may call it; nothing was carried out, so nothing is recorded."""
        self._send(call, body, None)  # (14)
        self.counters.described += 1

    async def result_when_stored(self, call: Call, body: bytes) -> None:
        """(13), (14): a sensitive result is sent only when its record is durable."""
        if self._is_late(call):
            return
        is_stored = await self._stored(call)  # (13)
        if not self._is_late(call):
            self._answer_recorded(call, body, is_recorded=is_stored)

    def _is_late(self, call: Call) -> bool:
        """Whether the caller has been answered already; counted."""
        self.counters.late += call.answered
        return call.answered

    def _answer_recorded(self, call: Call, body: bytes, *, is_recorded: bool) -> None:
        if not is_recorded:
            self.refusal(call, RefusedError(500, "audit", error="the answer could not be recorded"))
            return
        self._send(call, body, None)  # (14)
        self.counters.answered += 1

    def refusal(self, call: Call, refusal: RefusedError) -> None:
        """(13), (14): a refusal is sent in any case."""
        if self._is_late(call):
            return
        if not self._recorded(call, refusal):  # (13)
            self.counters.unaudited += 1
        agent_id = call.served.agent_id if call.served is not None else _UNKNOWN_AGENT
        failure = failure_of(refusal, agent_id=agent_id, correlation_id=call.correlation_id)
        self._send(call, build_error(failure), failure.headers)  # (14)
        self.counters.refused[refusal.code] = self.counters.refused.get(refusal.code, 0) + 1

    def _send(self, call: Call, body: bytes, headers: Mapping[str, str] | None) -> None:
        """(14) The one place that replies. SEC-6: these headers or none; a handler has no way to add any."""
        call.answered = True
        try:
            self._respond(call.reply, body, headers)
        except Exception:
            self.counters.unsent += 1
            log.warning("an answer was not sent [%s]", call.correlation_id, exc_info=True)

    def _recorded(self, call: Call, refusal: RefusedError | None) -> bool:
        """(13) Record a decision; False when there was none to record, or the sink did not take it."""
        view = call.view
        if view is None or (call.decision is None and not self._is_worth_a_record(refusal)):
            return False
        try:
            self._audit.record(self._record_of(call, view, refusal))
        except Exception:
            log.exception("an audit record was not taken [%s]", call.correlation_id)
            return False
        return True

    async def _stored(self, call: Call) -> bool:
        """(13) Store the record of a result; False when it is not known to be durable."""
        view = call.view
        if view is None:
            return False
        try:
            await self._audit.store(self._record_of(call, view, None))
        except Exception:
            log.exception("an audit record was not stored [%s]", call.correlation_id)
            return False
        return True

    def _record_of(self, call: Call, view: TenantView, refusal: RefusedError | None) -> AuditRecord:
        return record_of(
            trust=view.trust,
            epoch=view.epoch,
            principal=call.principal,
            capability=call.capability,
            decision=call.decision,
            refusal=refusal,
            correlation_id=call.correlation_id,
            agent_id=call.served.agent_id if call.served is not None else None,
            key_id=call.key_id,
            now=self._clock.wall(),
        )

    def _is_worth_a_record(self, refusal: RefusedError | None) -> bool:
        """Whether to record a refusal that came before any decision: a forger's, so far as they don't flood."""
        is_unauthenticated = refusal is not None and refusal.code == _UNAUTHENTICATED
        return is_unauthenticated and not self._unknown_callers.take(self._clock.monotonic())
