"""A leaf node's side of the protocol, byte for byte: what somebody who runs a leaf node can send, whatever it is."""

import base64
import json
import socket
from types import TracebackType
from typing import Self

from authz.creds import Creds


class RawLeaf:
    """A leaf node at the server's port for them; raises `ConnectionError` with the server's word if refused."""

    def __init__(self, port: int, creds: Creds) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._read = self._socket.makefile("rb")
        try:
            self._sign_in(creds)
        except BaseException:
            self.close()
            raise

    def _sign_in(self, creds: Creds) -> None:
        nonce = json.loads(self._read.readline().removeprefix(b"INFO "))["nonce"]
        signature = base64.urlsafe_b64encode(creds.seed.sign(nonce.encode())).rstrip(b"=").decode()
        hello = {"jwt": creds.jwt, "sig": signature, "headers": True, "name": "leaf", "server_id": "NLEAF"}
        self._socket.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\n")
        self.flush()

    def publish(self, subject: str, payload: bytes, *, block: bytes = b"NATS/1.0\r\n\r\n", reply: str) -> None:
        """Send a message as one that came from behind the leaf node."""
        sizes = f"{len(block)} {len(block) + len(payload)}"
        self._socket.sendall(f"HMSG {subject} {reply} {sizes}\r\n".encode() + block + payload + b"\r\n")

    def flush(self) -> None:
        """Return when the server has handled all that was sent."""
        self._socket.sendall(b"PING\r\n")
        while (line := self._read.readline().rstrip(b"\r\n")) != b"PONG":
            if not line or line.startswith(b"-ERR"):
                raise ConnectionError(line.decode() or "closed")

    def close(self) -> None:
        self._read.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
