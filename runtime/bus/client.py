"""Our client: nats-py's, with another read and write path, and another way of coming back.

Why not nats-py's own: one header ends its read loop while it goes on saying that it is connected (SEC-7), each
subscription costs a task and a queue, each request an ``asyncio.wait_for``, and on a refusal at reconnecting it either
knocks for minutes or gives up at once.

Rules it keeps: everything in flight fails the moment the connection is lost; a lost connection is tried again with
growing, jittered delays, until the owner says that there is no use; credentials are read anew each time; it is quiet:
an outage is two lines in the log, not one a second.

Policy (which deadline, what callers may rely on) is ``connection``'s.
"""

import asyncio
import base64
import logging
import random
import ssl
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client

from runtime.bus import wire
from runtime.bus.credentials import Credentials
from runtime.bus.inbound import InboundClient
from runtime.bus.refusals import ServerFault
from runtime.bus.transport import TlsTransport

_log = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 2.0
_SHUT_S = 1.0
_PING_INTERVAL_S = 10


async def _hear_error(error: Exception) -> None:
    _log.debug("client reports: %s", type(error).__name__)


async def _hear_nothing() -> None:
    """Be the callback that nats-py must not fill with one of its own."""


class BusClient(InboundClient):
    """One connection to one server, under one user; see the module's rules.

    Args:
        credentials: Gives the current creds; called before each attempt to connect. May raise.
        inbox_of: The private inbox prefix that goes with creds.
        on_lost: Called when the connection breaks.
        on_restored: Called when it is back.
        on_ended: Called once, when it ends for good by itself, with the reason.
        give_up: Tells, from an attempt's error and number, whether there is no use in going on.
        hears_answers: Whether to subscribe the private inbox.
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
        hears_answers: bool,
    ) -> None:
        super().__init__()
        self._hears_answers = hears_answers
        self._read_credentials = credentials
        self._inbox_of = inbox_of
        self._on_lost, self._on_restored, self._on_ended = on_lost, on_restored, on_ended
        self._give_up = give_up
        self._creds: Credentials | None = None
        self._closing: asyncio.Task[None] | None = None

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
        if self._hears_answers:
            self.open_mux()

    def abandon(self) -> None:
        """Drop everything at once, after a failed attempt."""
        self._status = Client.CLOSED
        self._drop_transport()

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
        if self._hears_answers:
            self.open_mux()
        for sid, direct in self._direct.items():
            if sid != self._mux_sid:
                self.enqueue(wire.subscribe(direct.subject, direct.queue, sid))
        for sid, sub in self._subs.items():
            self.enqueue(wire.subscribe(sub.subject, sub.queue, sid))

    def _drop_transport(self) -> None:
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._ps.reset()
        self._congested = False
        if isinstance(self._transport, TlsTransport):
            self._transport.abort()

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
