"""A NATS client that sends exactly the bytes it is given: what an attacker would use. For attacks only."""

import asyncio
import base64
import json
import ssl
from typing import Self
from urllib.parse import urlsplit

from authz.creds import Creds

READ_TIMEOUT_S = 2.0


class RawClient:
    """One connection as a user; nothing in it checks or repairs what is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, creds: Creds) -> None:
        self._reader = reader
        self._writer = writer
        self._inbox = f"_INBOX.{creds.seed.public}.raw"

    @classmethod
    async def connect(cls, url: str, tls: ssl.SSLContext, creds: Creds) -> Self:
        """TLS first, then the signed CONNECT."""
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=tls)
        info = json.loads((await reader.readline()).split(b" ", 1)[1])
        signature = base64.urlsafe_b64encode(creds.seed.sign(info["nonce"].encode())).rstrip(b"=").decode()
        hello = {"jwt": creds.jwt, "sig": signature, "headers": True, "verbose": False, "pedantic": False}
        client = cls(reader, writer, creds)
        await client._send(b"CONNECT " + json.dumps(hello).encode() + b"\r\n")
        await client._send(b"SUB %b.* 1\r\nPING\r\n" % client._inbox.encode())
        await client._until(b"PONG")
        return client

    async def request(self, subject: str, header_block: bytes, payload: bytes) -> bytes:
        """Publish with these header bytes and return the raw lines of the answer."""
        reply = f"{self._inbox}.1"
        await self.publish(subject, reply, header_block, payload)
        return await self._until(b"MSG")

    async def publish(self, subject: str, reply: str, header_block: bytes, payload: bytes) -> None:
        """Publish without waiting for an answer."""
        size = len(header_block)
        command = (
            f"HPUB {subject} {reply} {size} {size + len(payload)}\r\n"
            if size
            else (f"PUB {subject} {reply} {len(payload)}\r\n")
        )
        await self._send(command.encode() + header_block + payload + b"\r\n")

    async def flush(self) -> None:
        """Return when the server has processed what was sent."""
        await self._send(b"PING\r\n")
        await self._until(b"PONG")

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _until(self, verb: bytes) -> bytes:
        """Read until a line starts with `verb`, and return it; for `MSG`, the next message's content."""
        async with asyncio.timeout(READ_TIMEOUT_S):
            while True:
                line = await self._reader.readline()
                if not line:
                    raise ConnectionError("the server closed the connection")
                if line.startswith((b"MSG", b"HMSG")):
                    line = await self._reader.readexactly(int(line.split()[-1]) + 2)
                    if verb == b"MSG":
                        return line
                elif line.startswith(verb):
                    return line
