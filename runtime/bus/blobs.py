"""Blobs: durable large values by name, over JetStream (the layout of the `nats object` command).

Rules it keeps: a blob is there whole or not at all, since its description is stored after its last piece; what is read
is checked against the digest stored with it; storing the same name again replaces the blob in one step.

Blobs have no revisions: name them by their content.
"""

import base64
import binascii
import hashlib
import json
from typing import Any, Self

from nats.js import errors as js_errors
from nats.js.object_store import ObjectStore

from runtime.bus.connection import Connection
from runtime.bus.errors import StorageError
from runtime.bus.jetstream import ensure_stream, our_errors, read_all, stream_config

# Pieces of 128 KiB (nats-py's choice) stay under the account's payload limit; this many fit one batch of a read.
_PIECES = 24


class BlobStore:
    """One store of blobs; made by ``open``."""

    def __init__(self, connection: Connection, store: ObjectStore, name: str) -> None:
        self._connection = connection
        self._store = store
        self.name = name

    @classmethod
    async def open(cls, connection: Connection, name: str, *, max_bytes: int = -1, replicas: int = 1) -> Self:
        """Open the store, making it first if it is not there.

        Raises:
            StorageUnavailableError: JetStream refuses, or is not there.
        """
        js = connection.jetstream()
        settings = stream_config(
            f"OBJ_{name}",
            subjects=[f"$O.{name}.C.>", f"$O.{name}.M.>"],
            max_bytes=max_bytes,
            num_replicas=replicas,
            allow_rollup_hdrs=True,
            discard="new",
        )
        await ensure_stream(js, settings)
        return cls(connection, ObjectStore(name=name, stream=f"OBJ_{name}", js=js), name)

    async def put_blob(self, name: str, data: bytes) -> None:
        """Store all of it, or nothing.

        Raises:
            StorageUnavailableError: JetStream refuses (no space left, say); nothing is left behind.
        """
        with our_errors(f"blob `{name}`"):
            await self._store.put(name, data)

    async def get_blob(self, name: str) -> bytes | None:
        """Read all of it; None if there is none.

        Raises:
            StorageError: It is damaged.
            StorageUnavailableError: JetStream did not answer.
        """
        with our_errors(f"blob `{name}`"):
            try:
                info = await self._store.get_info(name)
            except js_errors.NotFoundError:
                return None
        pieces = await read_all(
            self._connection, f"OBJ_{self.name}", subject=f"$O.{self.name}.C.{info.nuid}", page=_PIECES
        )
        data = b"".join(piece.data for piece in pieces)
        if not _matches(data, info.digest):
            raise StorageError(f"blob `{name}` is damaged: its digest is another")
        return data

    async def delete_blob(self, name: str) -> None:
        """Remove it; no error if there is none."""
        with our_errors(f"blob `{name}`"):
            try:
                await self._store.delete(name)
            except js_errors.NotFoundError:
                return

    async def names(self) -> tuple[str, ...]:
        """The names in use, sorted."""
        newest: dict[str, Any] = {}
        for stored in await read_all(self._connection, f"OBJ_{self.name}", subject=f"$O.{self.name}.M.>"):
            newest[stored.subject] = json.loads(stored.data)
        return tuple(sorted(info["name"] for info in newest.values() if not info.get("deleted")))


def _matches(data: bytes, digest: str | None) -> bool:
    try:
        expected = base64.urlsafe_b64decode((digest or "").upper().removeprefix("SHA-256=") and (digest or "")[8:])
    except (ValueError, binascii.Error):
        return False
    return hashlib.sha256(data).digest() == expected
