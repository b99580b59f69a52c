"""How a request ended: the audit record, the answer's bytes and headers, the counters.

Rules it keeps: an answer has the two error headers or none (SEC-6); an audit record never holds payloads.
"""

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from authz.principals import Principal, TenantTrust
from runtime.dispatch.errors import Effect, RefusedError
from runtime.dispatch.ports import Decision
from runtime.envelope.errors import one_line
from runtime.envelope.keyid import KeyId
from runtime.envelope.messages import Failure, FieldFault

_OK = 200


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, and was it allowed. Never payloads.

    A msgspec struct, as it is built for every request: a frozen dataclass of its size costs ten times as much.

    Attributes:
        at: Unix seconds.
        tenant: The tenant's name.
        account: Its public key.
        user: The caller's public key; None where the caller could not be authenticated, as the next three.
        name: The caller's name.
        role: The caller's role.
        assurance: `asserted` or `signed`.
        action: `call`.
        resource: The capability.
        effect: `allow`; `deny` when identity or policy said no; `error` when an allowed request failed.
        code: 200, or the code of the failure.
        reason: Why, as a short text that the caller does not see.
        rule: The line of policy that decided.
        correlation_id: The same as in the answer and the log.
        agent_id: The agent that served it.
        epoch: The revision of the tenant's policy.
        key_id: The key that the request was sealed with; None if it came in the clear.
        data_subject: Whom that key's data is about; None where the key does not say.
    """

    at: float
    tenant: str
    account: str
    user: str | None
    name: str | None
    role: str | None
    assurance: str | None
    action: str
    resource: str
    effect: Effect
    code: int
    reason: str
    rule: str | None
    correlation_id: str
    agent_id: str | None
    epoch: int
    key_id: str | None = None
    data_subject: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the record as plain JSON values."""
        return msgspec.structs.asdict(self)


class AuditSink(Protocol):
    """Takes audit records. Raises when it can't take one: then no result is sent."""

    def record(self, record: AuditRecord, /) -> None:
        """Take one record; buffered, does not block."""

    async def store(self, record: AuditRecord, /) -> None:
        """Return when the record is durable: for calls about sensitive data."""


@dataclass(kw_only=True, slots=True)
class Counters:
    """What one dispatcher has seen since it was made.

    Attributes:
        received: Messages delivered.
        dropped: Messages without a service reply: neither invoked nor answered (SEC-1c).
        answered: Requests answered with a result.
        described: Questions about a capability answered.
        refused: Requests answered with a failure, by code.
        late: Handlers that ended after their request had been answered.
        unsent: Answers that could not be handed to the connection.
        unaudited: Refusals of which no audit record was kept.
        in_flight: Handlers running now.
    """

    received: int = 0
    dropped: int = 0
    answered: int = 0
    described: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    late: int = 0
    unsent: int = 0
    unaudited: int = 0
    in_flight: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name; `refused_403` and so on by code."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "refused"}
        return plain | {f"refused_{code}": count for code, count in sorted(self.refused.items())}


def failure_of(refusal: RefusedError, *, agent_id: str, correlation_id: str) -> Failure:
    """Return what the caller is told of a refusal; texts that come from an agent are made fit for the wire."""
    return Failure(
        code=refusal.code,
        error=one_line(refusal.error),
        correlation_id=correlation_id,
        agent_id=agent_id,
        required=refusal.required,
        role=refusal.role,
        retry_after=refusal.retry_after,
        fields=tuple(FieldFault(path=one_line(f.path), message=one_line(f.message)) for f in refusal.fields),
    )


def record_of(
    *,
    trust: TenantTrust,
    epoch: int,
    principal: Principal | None,
    capability: str,
    decision: Decision | None,
    refusal: RefusedError | None,
    correlation_id: str,
    agent_id: str | None,
    key_id: KeyId | None,
    now: float,
) -> AuditRecord:
    """Return the record of one request's end; `refusal` is None where it was answered with a result."""
    rule = decision.rule if decision is not None else None
    return AuditRecord(
        at=now,
        tenant=trust.tenant,
        account=trust.account,
        user=principal.user if principal is not None else None,
        name=principal.name if principal is not None else None,
        role=principal.role if principal is not None else None,
        assurance=principal.assurance if principal is not None else None,
        action="call",
        resource=capability,
        effect="allow" if refusal is None else refusal.effect,
        code=_OK if refusal is None else refusal.code,
        reason=_reason(decision, refusal),
        rule=f"line {rule.line}: {rule.text}" if rule is not None else None,
        correlation_id=correlation_id,
        agent_id=agent_id,
        epoch=epoch,
        key_id=str(key_id) if key_id is not None else None,
        data_subject=key_id.subject if key_id is not None else None,
    )


def _reason(decision: Decision | None, refusal: RefusedError | None) -> str:
    """The policy's own words where the policy decided the outcome, else the refusal's."""
    if refusal is not None and (decision is None or decision.allowed):
        return refusal.reason
    return decision.reason if decision is not None else ""
