"""The procedure that every request passes, in one order, before and after its handler. Nothing in it is pluggable.

Rules it keeps:
    - No request reaches a handler unauthenticated or unauthorized (P1); every failure on the way is a refusal.
    - `receive` never raises and never waits: it is called from a connection's read loop. Handlers run in tasks.
    - Each message with a service reply is answered exactly once; others are dropped and counted (SEC-1c).
    - One view of the tenant decides a request; a new view counts from the next message on.
    - A 503 means that no handler was started: the caller may safely repeat the request.
    - A slot is held until the handler has really ended, even when its caller has long been told 408.

It does not subscribe, load agents, seal or verify signatures, and knows no connection.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from authz.principals import Principal, PrincipalCache
from runtime.dispatch import steps
from runtime.dispatch.errors import RefusedError
from runtime.dispatch.identifiers import CorrelationIds
from runtime.dispatch.limits import DispatchLimits, Slots, TokenBucket
from runtime.dispatch.outcomes import AuditSink, Counters, failure_of, record_of
from runtime.dispatch.ports import (
    CallContext,
    Clock,
    Decision,
    ParseSubject,
    Respond,
    ServedCapability,
    TenantView,
)
from runtime.envelope.messages import Request, build_error
from runtime.envelope.replay import ReplayWindow

log = logging.getLogger(__name__)

_UNKNOWN_AGENT = "host"  # who answers what never came as far as an agent
_UNAUTHENTICATED = 401
_CANCEL_GRACE_S = 1.0


@dataclass(kw_only=True, slots=True)
class Call:
    """One request on its way: what is known of it so far, and what must be given back at its end."""

    reply: str
    correlation_id: str
    view: TenantView | None = None
    capability: str = ""
    principal: Principal | None = None
    decision: Decision | None = None
    served: ServedCapability | None = None
    holds_slot: bool = False
    answered: bool = False


class Dispatcher:
    """Serves one tenant's capabilities on one host.

    Args:
        view: Gives the tenant's current view; raises `UnavailableError` when there is none to rely on.
        capabilities: What is served now; may change between messages.
        parse_subject: Takes a delivered subject apart into (account, capability).
        respond: Sends an answer.
        audit: Takes the record of each decision.
        clock: Where time comes from.
        limits: What the tenant may use.
    """

    def __init__(
        self,
        *,
        view: Callable[[], TenantView],
        capabilities: Mapping[str, ServedCapability],
        parse_subject: ParseSubject,
        respond: Respond,
        audit: AuditSink,
        clock: Clock | None = None,
        limits: DispatchLimits | None = None,
    ) -> None:
        self._view = view
        self._capabilities = capabilities
        self._parse_subject = parse_subject
        self._respond = respond
        self._audit = audit
        self._clock = clock or Clock()
        self._limits = limits or DispatchLimits()
        self._bucket = TokenBucket(rate_per_s=self._limits.rate_per_s, burst=self._limits.burst)
        self._unknown_callers = TokenBucket(
            rate_per_s=self._limits.unauthenticated_records_per_s, burst=self._limits.unauthenticated_records_per_s
        )
        self._slots = Slots(share=self._limits.share)
        self._principals = PrincipalCache(capacity=self._limits.principals)
        self._window = ReplayWindow()
        self._ids = CorrelationIds()
        self._running: dict[asyncio.Task[None], Call] = {}
        self._draining = False
        self._counters = Counters()

    @property
    def counters(self) -> Counters:
        """What this dispatcher has seen so far."""
        self._counters.in_flight = len(self._running)
        return self._counters

    def receive(self, subject: str, reply: str, data: bytes, header_block: bytes) -> None:
        """Take one delivered message through the procedure. Never raises, never waits."""
        self._counters.received += 1
        if not steps.is_answerable(reply):  # (1)
            self._counters.dropped += 1
            return
        call = Call(reply=reply, correlation_id=self._ids.next())
        try:
            self._before_handler(call, subject, data, header_block)
        except Exception as error:  # noqa: BLE001 - an error is a deny
            self._free_slot(call)
            self._answer_refusal(call, steps.refusal_of(error, "dispatch", call.correlation_id))

    def lame_duck(self) -> None:
        """Refuse new requests with 503; go on with those that were accepted."""
        self._draining = True

    async def drain(self, timeout: float, *, only: Collection[ServedCapability] | None = None) -> int:  # noqa: ASYNC109
        """Wait until the accepted requests have ended; after `timeout` seconds answer the rest 500 and cancel them.

        Args:
            timeout: Seconds.
            only: Wait only for requests to these, and go on taking new ones: an agent is being replaced.

        Returns:
            How many requests were given up.
        """
        if only is None:
            self.lame_duck()
        wanted = None if only is None else {id(served) for served in only}
        chosen = {task for task, call in self._running.items() if wanted is None or id(call.served) in wanted}
        left = (await asyncio.wait(chosen, timeout=timeout))[1] if chosen else set()
        for task in left:
            stopping = RefusedError(500, "drain-over", error="the agent stopped before it had answered")
            self._answer_refusal(self._running[task], stopping)
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CANCEL_GRACE_S)
        return len(left)

    def _before_handler(self, call: Call, subject: str, data: bytes, header_block: bytes) -> None:
        """Steps 1 to 9, which don't wait. Who may not call learns nothing of what comes after step 4."""
        now = self._clock.monotonic()
        view = call.view = self._view()
        call.capability = steps.receive(subject, view.trust.account, self._parse_subject)  # (1)
        steps.check_size(data, self._limits)  # (1)
        wall = self._clock.wall()
        principal = steps.authenticate_caller(header_block, view, self._principals, wall)  # (2)
        call.principal = principal
        steps.admit(draining=self._draining, bucket=self._bucket, now=now)  # (3)
        call.decision = steps.authorize(principal, call.capability, view.policy)  # (4)
        steps.require(call.decision, principal, call.capability)  # (4)
        served = self._capabilities.get(call.capability)
        call.served = steps.take_slot(call.capability, served, self._slots, self._limits)  # (5)
        call.holds_slot = True
        request = steps.parse(data, call.correlation_id)  # (6)
        call.correlation_id = request.correlation_id
        seconds = steps.allowed_seconds(header_block, call.served.timeout_s)  # (6)
        # (7) verify the sender's signature: not built yet. No capability requires one until data is labelled as
        #     sensitive, and an `Agent-Sender` header is ignored: every principal here is `asserted`.
        # (8) open: not built yet. Sealed requests are refused in (6), and no capability is sensitive yet.
        # (9) replay: bare data has no correlation id of its own and no time, so a copy of it can't be recognised.
        steps.refuse_replay(request, principal, self._window, wall)  # (9)
        context = CallContext(
            capability=call.capability,
            agent_id=call.served.agent_id,
            principal=principal,
            correlation_id=call.correlation_id,
            deadline=now + seconds,
        )
        self._start(call, call.served, request, context, seconds)

    def _start(
        self, call: Call, served: ServedCapability, request: Request, context: CallContext, seconds: float
    ) -> None:
        """Hand the call to a task of its own, under a timer: `asyncio.wait_for` costs ten times as much."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._handle(call, served, request, context))
        self._running[task] = call
        timer = loop.call_later(seconds, self._deadline_passed, call, task)
        task.add_done_callback(partial(self._handler_ended, call, timer))

    async def _handle(self, call: Call, served: ServedCapability, request: Request, context: CallContext) -> None:
        """Steps 10 to 14. Author's code runs in 10, 11 and 12: whatever it raises ends here."""
        try:
            value = steps.validate(request, served)  # (10)
            output = await steps.invoke(value, context, served)  # (11)
            # (12) seal: not built yet, as (8); every answer is plaintext inside TLS.
            body = steps.encode(output, context, served, self._clock.wall(), self._limits.max_payload_bytes)  # (12)
        except (asyncio.CancelledError, GeneratorExit):
            raise  # by the deadline or a drain, which have answered; `_handler_ended` sees to what has not
        except BaseException as error:  # noqa: BLE001 - a handler's SystemExit must not end the host (P5)
            self._free_slot(call)
            self._answer_refusal(call, steps.refusal_of(error, f"`{call.capability}`", call.correlation_id))
        else:
            self._free_slot(call)  # before the answer: whoever has it may call again at once
            self._answer_result(call, body)

    def _deadline_passed(self, call: Call, task: asyncio.Task[None]) -> None:
        """Tell the caller, and the handler; the slot stays taken until the handler has ended."""
        self._answer_refusal(call, RefusedError(408, "deadline"))
        task.cancel()

    def _handler_ended(self, call: Call, timer: asyncio.TimerHandle, task: asyncio.Task[None]) -> None:
        """Give everything back, however the task ended; one that was cancelled from inside is answered here."""
        del self._running[task]
        timer.cancel()
        self._free_slot(call)
        if not call.answered:
            self._answer_refusal(call, RefusedError(500, "cancelled"))

    def _free_slot(self, call: Call) -> None:
        if call.holds_slot:
            call.holds_slot = False
            self._slots.release(call.capability)

    def _answer_result(self, call: Call, body: bytes) -> None:
        """(13), (14): a result is sent only when its record was taken."""
        if call.answered:
            self._counters.late += 1
            return
        if not self._recorded(call, None):  # (13)
            self._answer_refusal(call, RefusedError(500, "audit", error="the answer could not be recorded"))
            return
        self._send(call, body, None)  # (14)
        self._counters.answered += 1

    def _answer_refusal(self, call: Call, refusal: RefusedError) -> None:
        """(13), (14): a refusal is sent in any case."""
        if call.answered:
            self._counters.late += 1
            return
        if not self._recorded(call, refusal):  # (13)
            self._counters.unaudited += 1
        agent_id = call.served.agent_id if call.served is not None else _UNKNOWN_AGENT
        failure = failure_of(refusal, agent_id=agent_id, correlation_id=call.correlation_id)
        self._send(call, build_error(failure), failure.headers)  # (14)
        self._counters.refused[refusal.code] = self._counters.refused.get(refusal.code, 0) + 1

    def _send(self, call: Call, body: bytes, headers: Mapping[str, str] | None) -> None:
        """(14) The one place that replies. SEC-6: these headers or none; a handler has no way to add any."""
        call.answered = True
        try:
            self._respond(call.reply, body, headers)
        except Exception:
            self._counters.unsent += 1
            log.warning("an answer was not sent [%s]", call.correlation_id, exc_info=True)

    def _recorded(self, call: Call, refusal: RefusedError | None) -> bool:
        """(13) Record a decision; False when there was none to record, or the sink did not take it.

        Storing it before the reply, for sensitive capabilities: not built yet, as (8). The sink buffers.
        """
        view = call.view
        if view is None or (call.decision is None and not self._is_worth_a_record(refusal)):
            return False
        try:
            self._audit.record(
                record_of(
                    trust=view.trust,
                    epoch=view.epoch,
                    principal=call.principal,
                    capability=call.capability,
                    decision=call.decision,
                    refusal=refusal,
                    correlation_id=call.correlation_id,
                    agent_id=call.served.agent_id if call.served is not None else None,
                    now=self._clock.wall(),
                )
            )
        except Exception:
            log.exception("an audit record was not taken [%s]", call.correlation_id)
            return False
        return True

    def _is_worth_a_record(self, refusal: RefusedError | None) -> bool:
        """Whether to record a refusal that came before any decision: a forger's, so far as they don't flood."""
        is_unauthenticated = refusal is not None and refusal.code == _UNAUTHENTICATED
        return is_unauthenticated and not self._unknown_callers.take(self._clock.monotonic())
