"""The steps of the procedure, one function each; `procedure` puts them in their order.

Rules they keep: a step returns what it established or raises `RefusedError`; none does I/O, none waits but `invoke`;
what the caller is told never says more than the code's fixed text, except where the field is meant for the caller.
"""

import logging
import re
import traceback

from authz.errors import IdentityError
from authz.principals import Principal, PrincipalCache, authenticate
from authz.requestinfo import read_request_info
from runtime.dispatch.errors import InputRefusedError, RefusedError, RequestRefusedError, UnavailableError
from runtime.dispatch.limits import DispatchLimits, Slots, TokenBucket
from runtime.dispatch.ports import CallContext, Decider, Decision, ParseSubject, ServedCapability, TenantView
from runtime.envelope.datakey import DataKey
from runtime.envelope.describing import DescribeRequest, Description, encode_description
from runtime.envelope.errors import EnvelopeError
from runtime.envelope.messages import Request, build_response
from runtime.envelope.replay import ReplayedError, ReplayWindow, StaleError, WindowFullError
from runtime.envelope.sealedmessages import SealedRequest, parse_any_request, seal_response

log = logging.getLogger(__name__)

SERVICE_REPLY = "_R_."
ACTION = "call"

_INVALID = 422
_LONGEST_CHAIN = 8

_TIMEOUT_NAME = b"\r\nAgent-Timeout:"
_TIMEOUT = re.compile(rb"\r\nAgent-Timeout: ?([0-9]{1,9})\r\n")


def is_answerable(reply: str) -> bool:
    """(1) Tell whether the message came through a service import, by its reply subject.

    SEC-1c: nats-server gives such replies to imported requests only. Anything else was sent here by a deputy
    (JetStream, another responder) that someone made answer to a capability's subject.
    """
    return reply.startswith(SERVICE_REPLY)


def receive(subject: str, account: str, parse_subject: ParseSubject) -> str:
    """(1) Return the capability that the delivered subject names, for this dispatcher's account only."""
    parsed = parse_subject(subject)
    if parsed is None or parsed[0] != account:
        raise RefusedError(401, "subject")  # SEC-1c: not what this dispatcher subscribed to
    return parsed[1]


def check_size(data: bytes, limits: DispatchLimits) -> None:
    """(1) Refuse what is too large to look at; the header block's size is part of (2)."""
    if len(data) > limits.max_payload_bytes:
        raise RefusedError(413, "payload-size")


def authenticate_caller(header_block: bytes, view: TenantView, cache: PrincipalCache, now: float) -> Principal:
    """(2) Return the verified caller, from the raw header block (SEC-1a, b)."""
    try:
        info = read_request_info(header_block)
        return authenticate(info, subject_account=view.trust.account, trust=view.trust, now=now, cache=cache)
    except IdentityError as error:
        raise RefusedError(401, error.reason) from error


def admit(*, draining: bool, bucket: TokenBucket, now: float) -> None:
    """(3) Take no new work while draining, and no more than the tenant's rate."""
    if draining:
        raise RefusedError(503, "draining")
    retry_after = bucket.take(now)
    if retry_after:
        raise RefusedError(429, "rate", retry_after=round(retry_after, 3))


def authorize(principal: Principal, capability: str, policy: Decider) -> Decision:
    """(4) One decision on (principal, `call`, capability)."""
    return policy.decide(principal, ACTION, capability)


def require(decision: Decision, principal: Principal, capability: str) -> None:
    """(4) Refuse what was not allowed; the caller learns its own role and what it asked for, not the rule."""
    if decision.allowed is not True:
        raise RefusedError(403, "denied", required=f"{ACTION}:{capability}", role=principal.role)


def take_slot(
    capability: str, served: ServedCapability | None, slots: Slots, limits: DispatchLimits
) -> ServedCapability:
    """(5) Take a slot of the capability and of the tenant's share; none is waited for."""
    if served is None:
        raise RefusedError(503, "not-served", error="no such capability here")
    if not slots.take(capability, served.concurrency):
        raise RefusedError(429, "no-slot", retry_after=limits.slot_retry_after_s)
    return served


def parse(data: bytes, fallback_id: str) -> Request | SealedRequest | DescribeRequest:
    """(6) Read the envelope, or take the body as bare data."""
    try:
        return parse_any_request(data, fallback_id=fallback_id)
    except EnvelopeError as error:
        raise RefusedError(400, "malformed", error=error.message) from error


def describe(question: DescribeRequest, capability: str, served: ServedCapability, *, now: float) -> bytes:
    """(6) Return the answer to a caller that asks what the capability needs before it sends anything."""
    description = Description(
        capability=capability, agent=served.agent_id, sensitive=served.sensitive, timeout=served.timeout_s
    )
    return build_response(
        agent_id=served.agent_id,
        capability=capability,
        correlation_id=question.correlation_id,
        timestamp=now,
        result=encode_description(description),
    )


def allowed_seconds(header_block: bytes, most: float) -> float:
    """(6) Return how long the handler may take: the capability's timeout, or less where the caller asks for less.

    The caller asks by the header `Agent-Timeout: <milliseconds>`.
    """
    if _TIMEOUT_NAME not in header_block:
        return most
    asked = _TIMEOUT.findall(header_block)
    if len(asked) != 1 or header_block.count(_TIMEOUT_NAME) != 1 or int(asked[0]) == 0:
        raise RefusedError(400, "timeout-header", error="header `Agent-Timeout` is not a number of milliseconds")
    return min(most, int(asked[0]) / 1000)


def refuse_replay(request: Request, principal: Principal, window: ReplayWindow, now: float) -> None:
    """(9) Take an enveloped request once. Bare data has nothing to recognise a copy by."""
    if request.timestamp is None:
        return
    try:
        window.admit(principal.user, request.correlation_id, timestamp=request.timestamp, now=now)
    except (ReplayedError, StaleError) as error:
        raise RefusedError(409, "replayed", error=error.message) from error
    except WindowFullError as error:
        raise RefusedError(429, "replay-window", retry_after=round(error.retry_after, 3)) from error


def validate(request: Request, served: ServedCapability) -> object:
    """(10) Read the data by the handler's input model."""
    try:
        return served.validate(request.data)
    except InputRefusedError as error:
        raise RefusedError(422, "input", fields=error.fields) from error


async def invoke(value: object, context: CallContext, served: ServedCapability) -> object:
    """(11) Run the handler; the deadline cancels it from outside."""
    try:
        return await served.invoke(value, context)
    except RequestRefusedError as error:
        raise RefusedError(422, "declined", error=error.message, fields=error.fields) from error


def encode(
    output: object, context: CallContext, served: ServedCapability, *, now: float, most: int, key: DataKey | None
) -> bytes:
    """(12) Check the output by the handler's output model, and build the answer; sealed where there is a key."""
    result, agent_id, capability = served.encode(output), context.agent_id, context.capability
    cid = context.correlation_id
    if key is None:
        body = build_response(
            agent_id=agent_id, capability=capability, correlation_id=cid, timestamp=now, result=result
        )
    else:
        body = seal_response(
            agent_id=agent_id, capability=capability, correlation_id=cid, timestamp=now, result=result, dek=key
        )
    if len(body) > most:
        raise RefusedError(500, "answer-size", error="the answer is too large")
    return body


def refusal_of(error: BaseException, what: str, correlation_id: str, *, discreet: bool = False) -> RefusedError:
    """Turn whatever a step raised into what the caller is told; details go to the log only.

    Args:
        error: What was raised.
        what: What failed, for the log.
        correlation_id: The call's.
        discreet: Whether the error's own text may quote sensitive data: then the log names its kind and place.
    """
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, UnavailableError):
        return RefusedError(503, error.reason)
    if discreet:
        log.error("%s failed [%s]: %s", what, correlation_id, _kind_and_place(error))
    else:
        log.error("%s failed [%s]", what, correlation_id, exc_info=error)
    return RefusedError(500, "fault")


def without_details(refusal: RefusedError) -> RefusedError:
    """Leave only the code of a 422: its texts and paths may quote the input, and failures travel in the clear."""
    return RefusedError(refusal.code, refusal.reason) if refusal.code == _INVALID else refusal


def _kind_and_place(error: BaseException) -> str:
    """The error's type and stack, and those of what it came from, without a word of their texts."""
    parts: list[str] = []
    chained: BaseException | None = error
    while chained is not None and len(parts) < _LONGEST_CHAIN:
        frames = traceback.extract_tb(chained.__traceback__)
        parts.append(" < ".join([type(chained).__qualname__, *(f"{f.name}:{f.lineno}" for f in reversed(frames))]))
        chained = chained.__cause__ or chained.__context__
    return " from ".join(parts)
