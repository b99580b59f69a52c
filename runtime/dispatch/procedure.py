"""The procedure that every request passes, in one order, before and after its handler. Nothing in it is pluggable.

Rules it keeps:
    - No request reaches a handler unauthenticated or unauthorized (P1); every failure on the way is a refusal.
    - `receive` never raises and never waits: it is called from a connection's read loop. Handlers run in tasks.
    - Each message with a service reply is answered exactly once; others are dropped and counted (SEC-1c).
    - One view of the tenant decides a request; a new view counts from the next message on.
    - What opens a request and seals its answer is at hand before its handler runs. A cached key costs no wait; only a
      missing one moves the call into its task before step 9.
    - A 503 means that no handler was started: the caller may safely repeat the request.
    - A slot is held until the handler has really ended, even when its caller has long been told 408.

It does not subscribe, load agents or unwrap keys, and knows no connection.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial

from authz.principals import PrincipalCache
from runtime.dispatch import secured, steps
from runtime.dispatch.answering import Answers
from runtime.dispatch.call import Call
from runtime.dispatch.errors import RefusedError
from runtime.dispatch.identifiers import CorrelationIds
from runtime.dispatch.limits import DispatchLimits, Slots, TokenBucket
from runtime.dispatch.outcomes import AuditSink, Counters
from runtime.dispatch.ports import (
    CallContext,
    Clock,
    KeysOf,
    ParseSubject,
    PublishedAs,
    Respond,
    ServedCapability,
    TenantView,
)
from runtime.envelope.describing import DescribeRequest
from runtime.envelope.messages import Request
from runtime.envelope.replay import ReplayWindow
from runtime.envelope.sealedmessages import SealedRequest

_CANCEL_GRACE_S = 1.0


class Dispatcher:
    """Serves one tenant's capabilities on one host.

    Args:
        view: Gives the tenant's current view; raises `UnavailableError` when there is none to rely on.
        capabilities: What is served now; may change between messages.
        parse_subject: Takes a delivered subject apart into (account, capability).
        published_as: Builds the subject that callers publish on, which is what they sign.
        keys_of: Gives the data keys that an agent may use.
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
        published_as: PublishedAs,
        keys_of: KeysOf,
        respond: Respond,
        audit: AuditSink,
        clock: Clock | None = None,
        limits: DispatchLimits | None = None,
    ) -> None:
        self._view = view
        self._capabilities = capabilities
        self._parse_subject = parse_subject
        self._published_as = published_as
        self._keys_of = keys_of
        self._clock = clock or Clock()
        self._limits = limits or DispatchLimits()
        self._answers = Answers(respond=respond, audit=audit, clock=self._clock, limits=self._limits)
        self._bucket = TokenBucket(rate_per_s=self._limits.rate_per_s, burst=self._limits.burst)
        self._slots = Slots(share=self._limits.share)
        self._principals = PrincipalCache(capacity=self._limits.principals)
        self._window = ReplayWindow()
        self._ids = CorrelationIds()
        self._running: dict[asyncio.Task[None], Call] = {}
        self._draining = False

    @property
    def counters(self) -> Counters:
        """What this dispatcher has seen so far."""
        self._answers.counters.in_flight = len(self._running)
        return self._answers.counters

    def receive(self, subject: str, reply: str, data: bytes, header_block: bytes) -> None:
        """Take one delivered message through the procedure. Never raises, never waits."""
        self._answers.counters.received += 1
        if not steps.is_answerable(reply):  # (1)
            self._answers.counters.dropped += 1
            return
        call = Call(reply=reply, correlation_id=self._ids.next())
        try:
            self._before_handler(call, subject, data, header_block)
        except Exception as error:  # noqa: BLE001 - an error is a deny
            self._free_slot(call)
            self._answers.refusal(call, steps.refusal_of(error, "dispatch", call.correlation_id))

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
            self._answers.refusal(self._running[task], stopping)
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
        secured.require_sealed(request, call.served)  # (6)
        seconds = steps.allowed_seconds(header_block, call.served.timeout_s)  # (6)
        call.principal = principal = secured.verify_sender(  # (7)
            header_block,
            data,
            request,
            principal,
            capability=call.capability,
            published_as=self._published_as,
            is_required=call.served.sensitive is not None and not isinstance(request, DescribeRequest),
            now=wall,
        )
        if isinstance(request, DescribeRequest):  # asked before anything is sent: nothing is invoked
            self._free_slot(call)
            self._answers.description(call, steps.describe(request, call.capability, call.served, now=wall))
            return
        if isinstance(request, SealedRequest):
            call.key_id = request.key_id
            secured.require_label(request, principal, view.policy)  # (8)
            keys = secured.keys_at_hand(request, self._keys_of(call.served.agent_id))  # (8)
            if keys is not None:
                request = self._open(call, request, keys)  # (8)
        if isinstance(request, Request):  # else it waits for a key in its task: (8) and (9) are done there
            # (9) replay: bare data has no correlation id of its own and no time, so a copy can't be recognised.
            steps.refuse_replay(request, principal, self._window, wall)  # (9)
        context = CallContext(
            capability=call.capability,
            agent_id=call.served.agent_id,
            principal=principal,
            correlation_id=call.correlation_id,
            deadline=now + seconds,
        )
        self._start(call, call.served, request, context, seconds)

    @staticmethod
    def _open(call: Call, sealed: SealedRequest, keys: secured.CallKeys) -> Request:
        """(8) Open the request, and note what its answer is to be sealed with."""
        request = secured.open_sealed(sealed, call.capability, keys.opening)
        call.sealing_key = keys.sealing
        return request

    def _start(
        self,
        call: Call,
        served: ServedCapability,
        request: Request | SealedRequest,
        context: CallContext,
        seconds: float,
    ) -> None:
        """Hand the call to a task of its own, under a timer: `asyncio.wait_for` costs ten times as much."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._handle(call, served, request, context))
        self._running[task] = call
        timer = loop.call_later(seconds, self._deadline_passed, call, task)
        task.add_done_callback(partial(self._handler_ended, call, timer))

    async def _handle(
        self, call: Call, served: ServedCapability, request: Request | SealedRequest, context: CallContext
    ) -> None:
        """Steps 10 to 14. Author's code runs in 10, 11 and 12: whatever it raises ends here."""
        try:
            if isinstance(request, SealedRequest):
                keys = await secured.fetch_keys(request, self._keys_of(served.agent_id))  # (8)
                request = self._open(call, request, keys)  # (8)
                steps.refuse_replay(request, context.principal, self._window, self._clock.wall())  # (9)
            value = steps.validate(request, served)  # (10)
            output = await steps.invoke(value, context, served)  # (11)
            now, most = self._clock.wall(), self._limits.max_payload_bytes
            body = steps.encode(output, context, served, now=now, most=most, key=call.sealing_key)  # (12)
        except (asyncio.CancelledError, GeneratorExit):
            raise  # by the deadline or a drain, which have answered; `_handler_ended` sees to what has not
        except BaseException as error:  # noqa: BLE001 - a handler's SystemExit must not end the host (P5)
            self._free_slot(call)
            self._answers.refusal(call, self._refusal_of(call, served, error))
        else:
            self._free_slot(call)  # before the answer: whoever has it may call again at once
            if call.is_sensitive:
                await self._answers.result_when_stored(call, body)
            else:
                self._answers.result(call, body)

    @staticmethod
    def _refusal_of(call: Call, served: ServedCapability, error: BaseException) -> RefusedError:
        """What the caller is told, in the clear, of a failure from step 8 on: no word of what was sealed."""
        what = f"`{call.capability}`"
        refusal = steps.refusal_of(error, what, call.correlation_id, discreet=call.is_sensitive)
        # An agent that declared its data as sensitive sees to its own texts; another one does not know.
        is_undeclared = call.key_id is not None and served.sensitive is None
        return steps.without_details(refusal) if is_undeclared else refusal

    def _deadline_passed(self, call: Call, task: asyncio.Task[None]) -> None:
        """Tell the caller, and the handler; the slot stays taken until the handler has ended."""
        self._answers.refusal(call, RefusedError(408, "deadline"))
        task.cancel()

    def _handler_ended(self, call: Call, timer: asyncio.TimerHandle, task: asyncio.Task[None]) -> None:
        """Give everything back, however the task ended; one that was cancelled from inside is answered here."""
        del self._running[task]
        timer.cancel()
        self._free_slot(call)
        if not call.answered:
            self._answers.refusal(call, RefusedError(500, "cancelled"))

    def _free_slot(self, call: Call) -> None:
        if call.holds_slot:
            call.holds_slot = False
            self._slots.release(call.capability)
