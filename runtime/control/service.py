"""The control plane's front door: every administrative request passes these steps, in this order.

    (1) receive: reply and subject (SEC-1c); what did not come through an import is dropped and counted
    (2) authenticate: the raw header block and the embedded token (SEC-1a, b)
    (3) admit: room for one more, of the tenant and in all
    (4) authorize: the caller's tenant's policy; then whether the command may be about that target
    (5) parse: envelope or bare data
    (6) verify: the sender's own signature, where the command requires one or one is there (SEC-11); each request once
    (7) read: the command's own model; decide what depends on it, such as whether a data label is held
    (8) record: a command that changes something is on record before it is carried out
    (9) carry out
    (10) answer, with the fixed headers of a failure or none (SEC-6)

Sealed requests are not accepted: nothing here is for anybody but the control plane, and TLS ends in its own server.

Rules it keeps: requests are handled concurrently and never block the connection; what goes wrong inside is a bare 500
for the caller and a log entry under its correlation id for us.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

import msgspec

from authz.decisions import Decision
from authz.errors import IdentityError
from authz.keys import UserPublicKey
from authz.principals import Principal, PrincipalCache, authenticate
from authz.requestinfo import read_request_info
from runtime.bus.message import Message
from runtime.bus.subjects import SERVICE_REPLY_PREFIX, ControlAdmin, admin, parse_control_admin
from runtime.control.auditlog import CONTROL, AuditLog, decision_record
from runtime.control.calls import Call
from runtime.control.commands import Command
from runtime.control.credentials import PLATFORM
from runtime.control.errors import (
    BusyError,
    CommandError,
    ConflictError,
    MalformedCommandError,
    NotAuthenticatedError,
    NotPermittedError,
    TooLargeError,
    UnavailableError,
)
from runtime.control.lastseen import LastSeen
from runtime.control.limits import ControlLimits
from runtime.control.ports import Clock, Respond
from runtime.control.state import State
from runtime.control.views import TenantView
from runtime.envelope.errors import EnvelopeError, SenderError, one_line
from runtime.envelope.messages import Failure, Request, build_error, build_response, parse_request
from runtime.envelope.replay import ReplayedError, ReplayWindow, StaleError, WindowFullError
from runtime.envelope.sender import read_sender, verify_sender

ALL: Final = "all"
_ANSWER_MAX: Final = 1024 * 1024 - 8 * 1024
_log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Exchange:
    """One request and what is known of it so far."""

    subject: ControlAdmin
    reply: str
    correlation_id: str
    tenant: str = ""
    principal: Principal | None = None
    decision: Decision | None = None


class ControlService:
    """Takes requests from the bus and answers them."""

    def __init__(
        self,
        *,
        state: State,
        commands: Mapping[str, Command],
        audit: AuditLog,
        seen: LastSeen,
        respond: Respond,
        clock: Clock,
        limits: ControlLimits,
    ) -> None:
        self._state, self._commands, self._audit, self._seen = state, commands, audit, seen
        self._respond, self._clock, self._limits = respond, clock, limits
        self._principals = PrincipalCache()
        self._window = ReplayWindow()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: Counter[str] = Counter()
        self._draining = False
        self.dropped = 0

    def receive(self, message: Message) -> None:
        """Take one message from the bus; never blocks, never raises."""
        if not message.reply.startswith(SERVICE_REPLY_PREFIX):  # (1)
            self.dropped += 1
            return
        subject = parse_control_admin(message.subject)
        if subject is None:
            self._refuse_subject(message.reply)
            return
        exchange = Exchange(subject=subject, reply=message.reply, correlation_id=str(uuid4()))
        try:
            view = self._authenticate(exchange, message.header_block)  # (2)
            self._admit(exchange)  # (3)
        except CommandError as error:
            self._refuse(exchange, error)
            return
        self._start(exchange, self._handle(exchange, view, message))

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, finish what was begun; what is not done in time is cut short (and is safe to be)."""
        self._draining = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _authenticate(self, exchange: Exchange, header_block: bytes) -> TenantView:
        account = exchange.subject.account
        view = self._state.tenant_of_account(account)
        try:
            if view is None or not view.exists:
                raise IdentityError("account-mismatch")  # noqa: TRY301 - one way out for all of SEC-1
            exchange.tenant = view.record.tenant
            exchange.principal = authenticate(
                read_request_info(header_block),
                subject_account=account,
                trust=view.trust,
                now=self._clock(),
                cache=self._principals,
            )
        except IdentityError as error:
            _log.info("not authenticated (%s): %s", error.reason, exchange.correlation_id)
            raise NotAuthenticatedError("not authenticated") from error
        self._seen.note(view.record.tenant, exchange.principal.user, self._clock())
        return view

    def _admit(self, exchange: Exchange) -> None:
        if self._draining:
            raise UnavailableError("the control plane is stopping")
        total, own = len(self._tasks), self._running[exchange.tenant]
        if total >= self._limits.in_flight_max or own >= self._limits.in_flight_tenant_max:
            raise BusyError("too many requests at once", retry_after=1.0)

    def _start(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running[exchange.tenant] += 1
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(exchange, done))

    def _ended(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._running[exchange.tenant] -= 1
        if not task.cancelled() and (error := task.exception()):
            _log.error("request %s ended badly", exchange.correlation_id, exc_info=error)

    async def _handle(self, exchange: Exchange, view: TenantView, message: Message) -> None:
        try:
            command = self._authorize(exchange, view)  # (4)
            request = self._parse(exchange, message.data)  # (5)
            self._verify(exchange, command, request, message)  # (6)
            call = self._read(exchange, command, request)  # (7)
            if command.permit is not None:
                await command.permit(call)  # (7)
            if command.audited:
                await self._audit.decided(self._record(exchange, effect="allow", code=200, reason="allowed"))  # (8)
            result = await command.run(call)  # (9)
            self._answer(exchange, result)  # (10)
        except CommandError as error:
            self._refuse(exchange, error)
        except Exception:  # noqa: BLE001 - whatever it is, the caller is answered
            _log.exception("command %s failed: %s", exchange.subject.command, exchange.correlation_id)
            self._refuse(exchange, CommandError("the command failed inside; the platform's log has it"))

    def _authorize(self, exchange: Exchange, view: TenantView) -> Command:
        principal, name, target = exchange.principal, exchange.subject.command, exchange.subject.target
        if principal is None or view.policy is None:
            raise NotAuthenticatedError("not authenticated")
        command = self._commands.get(name)
        exchange.decision = decision = view.policy.decide(principal, "admin", name)
        if not decision.allowed and not (command is not None and command.implied):
            raise NotPermittedError("not permitted", required=f"admin:{name}", role=principal.role)
        if command is None:
            raise MalformedCommandError(f"there is no command `{name[:70]}`")
        if principal.tenant != PLATFORM and command.scope == "platform":
            raise NotPermittedError(f"`{name}` is for the platform's operators only", role=principal.role)
        if principal.tenant not in {PLATFORM, target}:
            # The same answer whether the target exists or not: its name is not to be learned.
            raise NotPermittedError("you administer your own tenant only", role=principal.role)
        if command.target == ALL and target != ALL:
            raise MalformedCommandError(f"`{name}` is about `all`, not about one")
        return command

    def _parse(self, exchange: Exchange, data: bytes) -> Request:
        try:
            request = parse_request(data or b"{}", fallback_id=exchange.correlation_id)
        except EnvelopeError as error:
            exchange.correlation_id = error.correlation_id or exchange.correlation_id
            raise MalformedCommandError(error.message) from error
        exchange.correlation_id = request.correlation_id
        return request

    def _verify(self, exchange: Exchange, command: Command, request: Request, message: Message) -> None:
        principal, subject = exchange.principal, exchange.subject
        if principal is None:
            raise NotAuthenticatedError("not authenticated")
        try:
            sender = read_sender(message.header_block)
            if sender is None and not command.signed:
                return
            if sender is None or request.timestamp is None:
                raise NotAuthenticatedError("the sender's own signature is missing", required="signed")
            verify_sender(
                sender,
                account=principal.account,
                user=principal.user,
                subject=admin(subject.command, subject.target),
                payload=message.data,
                correlation_id=request.correlation_id,
                now=self._clock(),
                verify=UserPublicKey.parse(principal.user).verify,
            )
            self._window.admit(principal.user, request.correlation_id, timestamp=request.timestamp, now=self._clock())
        except SenderError as error:
            raise NotAuthenticatedError("the sender's own signature is refused", required="signed") from error
        except (ReplayedError, StaleError) as error:
            raise ConflictError(error.message) from error
        except WindowFullError as error:
            raise BusyError("too many requests at once", retry_after=round(error.retry_after, 3)) from error
        exchange.principal = replace(principal, assurance="signed")

    def _read(self, exchange: Exchange, command: Command, request: Request) -> Call[Any]:
        body = command.read(request.data)
        if exchange.principal is None:
            raise NotAuthenticatedError("not authenticated")
        return Call(
            principal=exchange.principal,
            command=exchange.subject.command,
            target=exchange.subject.target,
            correlation_id=exchange.correlation_id,
            body=body,
        )

    def _answer(self, exchange: Exchange, result: dict[str, object]) -> None:
        body = build_response(
            agent_id=CONTROL,
            capability=exchange.subject.command,
            correlation_id=exchange.correlation_id,
            timestamp=self._clock(),
            result=msgspec.json.encode(result),
        )
        if len(body) > _ANSWER_MAX:
            raise TooLargeError("done, but the answer is larger than a message may be")
        self._send(exchange.reply, body, None)

    def _refuse_subject(self, reply: str) -> None:
        """Answer what can't be a command: an import's reply that is never used costs the server memory."""
        text = "not a command: it is `ai.admin.<area>.<verb>.<target>`, each of A-Z a-z 0-9 _ -"
        failure = Failure(code=400, error=text, correlation_id=str(uuid4()), agent_id=CONTROL)
        self._send(reply, build_error(failure), failure.headers)

    def _refuse(self, exchange: Exchange, error: CommandError) -> None:
        failure = Failure(
            code=error.code,
            error=one_line(error.message),
            correlation_id=exchange.correlation_id,
            agent_id=CONTROL,
            required=error.required,
            role=error.role,
            retry_after=error.retry_after,
            fields=error.fields,
        )
        reason = getattr(error.__cause__, "reason", None) or one_line(error.message)
        effect = "deny" if isinstance(error, NotAuthenticatedError | NotPermittedError) else "error"
        self._audit.refused(self._record(exchange, effect=effect, code=error.code, reason=str(reason)))
        self._send(exchange.reply, build_error(failure), failure.headers)

    def _send(self, reply: str, body: bytes, headers: Mapping[str, str] | None) -> None:
        try:
            self._respond(reply, body, headers)
        except Exception:  # noqa: BLE001 - nobody is there to be told
            _log.exception("an answer could not be sent")

    def _record(self, exchange: Exchange, *, effect: str, code: int, reason: str) -> dict[str, object]:
        return decision_record(
            at=self._clock(),
            tenant=exchange.tenant,
            account=exchange.subject.account,
            principal=exchange.principal,
            command=exchange.subject.command,
            target=exchange.subject.target,
            decision=exchange.decision,
            effect=effect,
            code=code,
            reason=reason,
            correlation_id=exchange.correlation_id,
        )
