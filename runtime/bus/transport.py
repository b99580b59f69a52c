"""The socket under our client: TLS from the first byte.

Rules it keeps: SEC-8: there is no moment at which a byte of ours could go out in plaintext, since the socket is opened
with TLS and never handed out without it.
"""

import asyncio
import ssl
from typing import Any
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport

_CLOSE_S = 1.0


class TlsTransport(TcpTransport):
    """A TCP connection inside TLS.

    Args:
        context: With which to verify the server and to present ourselves.
        hostname: What the server's certificate must be for.
    """

    def __init__(self, context: ssl.SSLContext, hostname: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._context = context
        self._hostname = hostname

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        """Open the socket and shake hands."""
        async with asyncio.timeout(connect_timeout):
            self._io_reader, self._io_writer = await asyncio.open_connection(
                uri.hostname,
                uri.port,
                limit=buffer_size,
                ssl=self._context,
                server_hostname=self._hostname,
                ssl_shutdown_timeout=_CLOSE_S,
            )

    async def connect_tls(self, *_: Any) -> None:
        """Do nothing: TLS is there already, before the server has said a word."""

    def buffered_bytes(self) -> int:
        """How much waits for the server to read it."""
        return self._io_writer.transport.get_write_buffer_size() if self._io_writer is not None else 0

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()
