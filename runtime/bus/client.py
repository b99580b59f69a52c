r"""Our client: nats-py's, with another read and write path.

Why not nats-py's own: a header such as ``NATS/1.0 100 \xff`` ends its read loop while it goes on saying that it is
connected (SEC-7), each subscription costs a task and a queue, and each request an ``asyncio.wait_for``.

Rules it keeps:

- SEC-7: nothing a message holds can end the read loop; should it end all the same, the client reconnects at once.
- Handlers are plain functions, called from the read loop; what they raise is logged and goes no further.
- All writes pass through one buffer, in order, joined into one write a loop turn.
- Everything in flight fails the moment the connection is lost.
- It is quiet: an outage is one line in the log, not one a second.

nats-py's own subscriptions and futures keep working on top, for JetStream only. Policy (which credentials, which
deadline, what callers may rely on) is ``connection``'s.
"""

import asyncio
import base64
import logging
import random
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime.bus import wire
from runtime.bus.credentials import Credentials
from runtime.bus.errors import ConnectionLostError, NoRespondersError, RefusedError, RequestTimeoutError
from runtime.bus.inflight import InFlight
from runtime.bus.message import Message
from runtime.bus.refusals import ServerFault, read_fault
from runtime.bus.transport import TlsTransport

_log = logging.getLogger(__name__)

Handler = Callable[[Message], None]

_READ_BYTES = 65536
_CONGESTED_BYTES = 1 << 20
_OVERFULL_BYTES = 32 << 20
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 2.0
_SHUT_S = 1.0
_REFUSED_KEPT = 64
_PING_INTERVAL_S = 10


async def _hear_error(error: Exception) -> None:
    _log.debug("client reports: %s", type(error).__name__)


async def _hear_nothing() -> None:
    """Be the callback that nats-py must not fill with one of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Direct:
    """A subscription whose handler the read loop calls."""

    subject: str
    queue: str
    handler: Handler


class BusClient(Client):
    """One connection to one server, under one user; see the module's rules.

    Args:
        credentials: Gives the current creds; called before each attempt to connect. May raise.
        fatal: Tells which errors of an attempt to reconnect mean that there is no use in going on.
        events: What the owner wants to hear: ``lost``, ``restored``, ``ended``.
    """

    def __init__(
        self,
        *,
        credentials: Callable[[], Credentials],
        inbox_of: Callable[[Credentials], str],
        on_lost: Callable[[], None],
        on_restored: Callable[[], None],
        on_ended: Callable[[Exception | None], None],
        give_up: Callable[[Exception, int], bool],
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._read_credentials = credentials
        self._inbox_of = inbox_of
        self._on_lost, self._on_restored, self._on_ended = on_lost, on_restored, on_ended
        self._give_up = give_up
        self._creds: Credentials | None = None
        self._direct: dict[int, Direct] = {}
        self._mux_sid = 0
        self._mux_prefix = ""
        self._connection_token = secrets.token_hex(8)
        self._write_scheduled = False
        self._congested = False
        self._fault: ServerFault | None = None
        self._closing: asyncio.Task[None] | None = None
        self._refused: dict[str, ServerFault] = {}
        self.inflight = InFlight(self._loop)
        self.dropped_answers = 0

    # --- identity -------------------------------------------------------------------------------------------------

    def load_credentials(self) -> Credentials:
        """Read the creds for the next attempt; nats-py asks for the parts through the two callbacks below."""
        self._creds = creds = self._read_credentials()
        self._inbox_prefix = bytearray(self._inbox_of(creds).encode())
        return creds

    def jwt_for_connect(self) -> bytes:
        """The user JWT of the creds that were read for this attempt."""
        assert self._creds is not None  # noqa: S101  # INVARIANT: load_credentials precedes each attempt
        return self._creds.jwt.encode()

    def sign_for_connect(self, nonce: str) -> bytes:
        """Sign the server's challenge."""
        assert self._creds is not None  # noqa: S101  # INVARIANT: load_credentials precedes each attempt
        return base64.b64encode(self._creds.seed.sign(nonce.encode()))

    async def open(self, *, name: str, url: str, tls: ssl.SSLContext, seconds: float) -> None:
        """Connect, once; raises whatever the attempt raises."""
        await self.connect(
            url,
            name=name,
            tls=tls,
            tls_handshake_first=True,  # SEC-8
            user_jwt_cb=self.jwt_for_connect,
            signature_cb=self.sign_for_connect,
            allow_reconnect=False,
            error_cb=_hear_error,
            disconnected_cb=_hear_nothing,
            closed_cb=_hear_nothing,
            reconnected_cb=_hear_nothing,
            inbox_prefix=bytes(self._inbox_prefix),
            connect_timeout=seconds,  # type: ignore[arg-type]  # passed on to the loop: any number will do
            ping_interval=_PING_INTERVAL_S,
        )
        if "nonce" not in self._server_info:
            raise nats.errors.ProtocolError  # whoever asks for no proof of identity is not our server
        self.open_mux()

    def abandon(self) -> None:
        """Drop everything at once, after a failed attempt."""
        self._status = Client.CLOSED
        self._drop_transport()

    # --- writing --------------------------------------------------------------------------------------------------

    def enqueue(self, command: bytes) -> None:
        """Buffer a command; it is written in this turn of the loop, together with what else comes up."""
        self._pending.append(command)
        if not self._write_scheduled:
            self._write_scheduled = True
            self._loop.call_soon(self._write_pending)

    def _write_pending(self) -> None:
        self._write_scheduled = False
        if not self._pending or not self.is_connected or self._transport is None:
            return
        pending, self._pending, self._pending_data_size = self._pending, [], 0
        try:
            self._transport.write(b"".join(pending))
        except (OSError, RuntimeError, AttributeError) as error:
            # The transport is closing under us: the read loop sees the same and reconnects.
            _log.debug("write failed: %s", type(error).__name__)
            return
        self._congested = self._buffered_bytes() > _CONGESTED_BYTES

    def _buffered_bytes(self) -> int:
        return self._transport.buffered_bytes() if isinstance(self._transport, TlsTransport) else 0

    @property
    def overfull(self) -> bool:
        """Whether so much waits to be written that answers must be dropped."""
        return self._congested and self._buffered_bytes() > _OVERFULL_BYTES

    async def yield_to_writer(self) -> None:
        """Wait, when the server reads slower than we write."""
        if self._congested and self._transport is not None:
            await self._transport.drain()  # type: ignore[no-untyped-call]
            self._congested = self._buffered_bytes() > _CONGESTED_BYTES

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        self.enqueue(cmd)
        await self.yield_to_writer()

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: FBT001, FBT002
        self._write_pending()
        if force_flush:
            await self.yield_to_writer()
        done = self._loop.create_future()
        done.set_result(None)
        return done

    async def _flusher(self) -> None:
        # Writing is done by _write_pending; nats-py only asks whether this task is alive.
        await self._loop.create_future()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # In order with what was buffered before it, so that PONG means: all of that has been processed.
        self._pongs.append(future if future is not None else self._loop.create_future())
        self.enqueue(wire.PING)

    async def round_trip(self, seconds: float) -> None:
        """Wait until the server has processed everything sent so far.

        Raises:
            ConnectionLostError: There is no connection, or it goes away meanwhile.
            RequestTimeoutError: The server takes too long.
        """
        if not self.is_connected:
            raise ConnectionLostError(sent=False)
        pong = self._loop.create_future()
        timer = self._loop.call_later(seconds, _expire, pong, RequestTimeoutError("PING", seconds))
        try:
            await self._send_ping(pong)
            await pong
        finally:
            timer.cancel()

    # --- requests -------------------------------------------------------------------------------------------------

    async def ask(
        self, subject: str, payload: bytes, seconds: float, headers: Mapping[str, str] | None = None
    ) -> Message:
        """Send a request and wait for its answer.

        Raises:
            NoRespondersError, RequestTimeoutError, RefusedError, ConnectionLostError, InvalidSubjectError.
        """
        if not self.is_connected:
            raise ConnectionLostError(sent=False)
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

    # --- subscriptions --------------------------------------------------------------------------------------------

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

    # --- reading --------------------------------------------------------------------------------------------------

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

    # --- losing, restoring, ending --------------------------------------------------------------------------------

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_closed or self.is_reconnecting or self._closing is not None:
            return
        self._status = Client.RECONNECTING
        _log.info("connection lost: %s", type(e).__name__)
        self._reconnection_task = self._loop.create_task(self._attempt_reconnect())

    async def _attempt_reconnect(self) -> None:
        self._drop_transport()
        self._fail_in_flight()
        self._on_lost()
        attempt = 0
        while not self.is_closed:
            ceiling = min(_FIRST_DELAY_S * 2**attempt, _LONGEST_DELAY_S)
            await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311  # jitter, not a secret
            try:
                await self._restore()
            except Exception as error:  # noqa: BLE001  # each failure is judged by give_up; none may end the task
                self._status = Client.RECONNECTING
                self._drop_transport()
                attempt += 1
                if self._give_up(error, attempt):
                    _log.warning("gave up reconnecting: %s", error)
                    self._end(error)
                    return
                continue
            _log.info("connection restored")
            self._on_restored()
            return

    async def _restore(self) -> None:
        self.load_credentials()
        await self._select_next_server()
        await self._process_connect_init()
        self._pending, self._pending_data_size = [], 0
        self._replay()
        await self.round_trip(float(self.options["connect_timeout"]))

    def _replay(self) -> None:
        self.forget_direct(self._mux_sid)
        self.open_mux()
        for sid, direct in self._direct.items():
            if sid != self._mux_sid:
                self.enqueue(wire.subscribe(direct.subject, direct.queue, sid))
        for sid, sub in self._subs.items():
            self.enqueue(wire.subscribe(sub.subject, sub.queue, sid))

    async def _select_next_server(self) -> None:
        # One attempt; nats-py's own loops for good, and says why to the error callback only.
        server = self._server_pool.pop(0)
        self._server_pool.append(server)
        self._current_server = server
        transport = TlsTransport(self.ssl_context, server.tls_name or server.uri.hostname or "")
        self._transport = transport
        await transport.connect(server.uri, _READ_BYTES, float(self.options["connect_timeout"]))

    def _drop_transport(self) -> None:
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._ps.reset()
        self._congested = False
        if isinstance(self._transport, TlsTransport):
            self._transport.abort()

    def _fail_in_flight(self) -> None:
        self.inflight.lose_all()
        for pong in self._pongs:
            _expire(pong, ConnectionLostError())
        self._pongs = []

    def _end(self, cause: ServerFault | Exception) -> None:
        if self._closing is None:
            self._closing = self._loop.create_task(self._end_for_good(cause))

    async def _end_for_good(self, cause: ServerFault | Exception) -> None:
        error = RuntimeError(cause.text) if isinstance(cause, ServerFault) else cause
        await self.shut()
        self._on_ended(error)

    async def shut(self) -> None:
        """Write what is buffered and close, within a second, for good."""
        if self.is_closed:
            return
        self._write_pending()
        try:
            async with asyncio.timeout(_SHUT_S):
                await self._close(Client.CLOSED, do_cbs=False)
        except (TimeoutError, OSError):
            _log.debug("the server did not take part in closing")
        self._drop_transport()
        self._fail_in_flight()
        self._direct.clear()


def _expire(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more: that is no leak to warn about
