r"""The reading half of our client: handlers called from the read loop, requests, subscriptions.

Rules it keeps:

- SEC-7: nothing a message holds can end the read loop: headers are never parsed on the way to a handler, and what ends
  the loop all the same (a header such as ``NATS/1.0 100 \xff`` ends nats-py's) leads to a new connection.
- Handlers are plain functions; what they raise is logged and goes no further.
- A publish that the server refuses fails the requests that wait on it at once, though it is reported asynchronously.

nats-py's own subscriptions keep working beside ours, for JetStream only.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from runtime.bus import wire
from runtime.bus.errors import ConnectionLostError, NoRespondersError, RefusedError, RequestTimeoutError
from runtime.bus.message import Message
from runtime.bus.outbound import OutboundClient
from runtime.bus.refusals import ServerFault, read_fault

_log = logging.getLogger(__name__)

Handler = Callable[[Message], None]

_READ_BYTES = 65536
_REFUSED_KEPT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Direct:
    """A subscription whose handler the read loop calls."""

    subject: str
    queue: str
    handler: Handler


class InboundClient(OutboundClient):
    """Requests, subscriptions and the read loop."""

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[int, Direct] = {}
        self._mux_sid = 0
        self._mux_prefix = ""
        self._connection_token = secrets.token_hex(8)
        self._refused: dict[str, ServerFault] = {}

    def _end(self, cause: ServerFault | Exception) -> None:
        """End the connection for good; the subclass does."""
        raise NotImplementedError

    # --- requests ----------------------------------------------------------------------------------------------------

    async def ask(
        self, subject: str, payload: bytes, seconds: float, headers: Mapping[str, str] | None = None
    ) -> Message:
        """Send a request and wait for its answer.

        Raises:
            NoRespondersError, RequestTimeoutError, RefusedError, ConnectionLostError, InvalidSubjectError.
        """
        if not self.is_connected:
            raise ConnectionLostError(sent=False)
        if not self._mux_prefix:
            raise RuntimeError("this connection was made to hear no answers")
        token, answer = self.inflight.open(subject)
        timer = None
        try:
            command = wire.publish(subject, self._mux_prefix + token, payload, headers)
            timer = self._loop.call_later(seconds, self.inflight.time_out, token, seconds)
            self.enqueue(command)
            if self._congested:
                await self.yield_to_writer()
            return await answer
        finally:
            if timer is not None:
                timer.cancel()
            self.inflight.close(token)

    def _receive_answer(self, message: Message) -> None:
        self.inflight.answer(message.subject[len(self._mux_prefix) :], message)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,  # noqa: ASYNC109
        old_style: bool = False,  # noqa: ARG002, FBT001, FBT002
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Serve nats-py's JetStream client through our own path, in its types and errors."""
        try:
            answer = await self.ask(subject, payload, timeout, headers)
        except NoRespondersError as error:
            raise nats.errors.NoRespondersError from error
        except RequestTimeoutError as error:
            raise nats.errors.TimeoutError from error
        parsed = await self._process_headers(answer.header_block)
        return Msg(self, subject=answer.subject, reply=answer.reply, data=answer.data, headers=parsed)

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def open_direct(self, direct: Direct) -> int:
        """Subscribe; the server's refusal, if any, precedes its answer to the next PING."""
        command = wire.subscribe(direct.subject, direct.queue, self._sid + 1)
        self._sid += 1
        self._direct[self._sid] = direct
        self._refused.pop(direct.subject.lower(), None)
        self.enqueue(command)
        return self._sid

    def stop_direct(self, sid: int) -> None:
        """Ask the server for no more; what is on its way is still handled."""
        if self.is_connected:
            self.enqueue(wire.unsubscribe(sid))

    def forget_direct(self, sid: int) -> None:
        """Drop the handler."""
        self._direct.pop(sid, None)

    def direct_sids(self) -> tuple[int, ...]:
        """The open subscriptions, without the one for answers."""
        return tuple(sid for sid in self._direct if sid != self._mux_sid)

    def refused_subscription(self, subject: str) -> RefusedError | None:
        """Tell whether the server refused a subscription since it was opened."""
        fault = self._refused.pop(subject.lower(), None)
        return RefusedError(subject, "subscribe") if fault is not None else None

    def open_mux(self) -> None:
        """Open the one subscription that all answers come by."""
        prefix = f"{self._inbox_prefix.decode()}.{self._connection_token}."
        self._mux_prefix = prefix
        self._mux_sid = self.open_direct(Direct(subject=prefix + "*", queue="", handler=self._receive_answer))

    # --- reading -----------------------------------------------------------------------------------------------------

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        direct = self._direct.get(sid)
        if direct is None:
            if sid in self._subs:
                await super()._process_msg(sid, subject, reply, data, headers)
            return
        try:
            direct.handler(
                Message(subject.decode("utf-8", "replace"), reply.decode("utf-8", "replace"), data, headers or b"")
            )
        except Exception:  # noqa: BLE001  # SEC-7: what a handler raises must not end the read loop
            _log.exception("a handler of `%s` failed", direct.subject)

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        # SEC-7: nats-py's own parser raises on a description that is not UTF-8, and on a block cut short.
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError):
            return None

    async def _process_pong(self) -> None:
        if self._pongs:
            pong = self._pongs.pop(0)
            if not pong.done():
                pong.set_result(True)
            self._pings_outstanding = 0

    async def _read_loop(self) -> None:
        error: Exception = nats.errors.UnexpectedEOF()
        try:
            while self._transport is not None and not self._transport.at_eof():
                data = await self._transport.read(_READ_BYTES)
                await self._ps.parse(data)
        except Exception as raised:  # noqa: BLE001  # SEC-7: whatever ends the read loop leads to a new connection
            error = raised
        await self._process_op_err(error)

    async def _process_err(self, err_msg: str) -> None:
        fault = read_fault(err_msg)
        if fault.kind == "refused":
            self._process_refusal(fault)
        elif fault.ends_connection:
            self._end(fault)
        else:
            # The server closes the connection itself where it must; we reconnect then.
            _log.warning("server reports: %s", fault.text)

    def _process_refusal(self, fault: ServerFault) -> None:
        if fault.direction == "publish":
            if not self.inflight.refuse(fault.subject):
                _log.warning("server refused a publish: %s", fault.text)
            return
        if len(self._refused) >= _REFUSED_KEPT:
            self._refused.clear()
        self._refused[fault.subject] = fault
        _log.warning("server refused a subscription: %s", fault.text)
