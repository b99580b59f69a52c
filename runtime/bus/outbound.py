"""The writing half of our client: one buffer, one write a loop turn, and pings in order.

Rules it keeps: all writes pass through one buffer, in order, so that the answer to a PING means that everything before
it has been processed; the socket is TLS from the first byte (SEC-8); when the server reads slower than we write,
whoever can wait is made to.

nats-py's own flusher task and its way of opening sockets are replaced.
"""

import asyncio
import logging
from typing import Any

from nats.aio.client import Client

from runtime.bus import wire
from runtime.bus.errors import ConnectionLostError, RequestTimeoutError
from runtime.bus.inflight import InFlight
from runtime.bus.transport import TlsTransport

_log = logging.getLogger(__name__)

_STREAM_BYTES = 65536
_CONGESTED_BYTES = 1 << 20
_OVERFULL_BYTES = 32 << 20


class OutboundClient(Client):
    """nats-py's client with a write path of ours."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._write_scheduled = False
        self._congested = False
        self.inflight = InFlight(self._loop)
        self.dropped_answers = 0

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

    async def _select_next_server(self) -> None:
        # One attempt; nats-py's own loops for good, and says why to the error callback only.
        server = self._server_pool.pop(0)
        self._server_pool.append(server)
        self._current_server = server
        transport = TlsTransport(self.ssl_context, server.tls_name or server.uri.hostname or "")
        self._transport = transport
        await transport.connect(server.uri, _STREAM_BYTES, float(self.options["connect_timeout"]))

    def _fail_in_flight(self) -> None:
        self.inflight.lose_all()
        for pong in self._pongs:
            _expire(pong, ConnectionLostError())
        self._pongs = []


def _expire(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more: that is no leak to warn about
