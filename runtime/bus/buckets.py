"""Buckets: durable values by key, with compare-and-set, over JetStream (the layout of the `nats kv` command).

Rules it keeps: when a write returns it is on the server's disk, and survives the server's kill -9; `create` and
`update` are atomic, so that two writers can't both win; reads of one key come from the leader, so they are never stale.

It does not interpret values.
"""

from dataclasses import dataclass, field
from typing import Self

from nats.js import errors as js_errors
from nats.js.kv import KeyValue

from runtime.bus import subjects
from runtime.bus.connection import Connection
from runtime.bus.errors import KeyExistsError, RevisionMismatchError
from runtime.bus.jetstream import ensure_stream, our_errors, read_all, stream_config


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A stored value.

    Attributes:
        value: The bytes stored; may be confidential, so they don't print.
        revision: The number of the write that stored them: unique and rising over all keys of one bucket.
    """

    value: bytes = field(repr=False)
    revision: int


class Bucket:
    """One bucket; made by ``open``."""

    def __init__(self, connection: Connection, store: KeyValue, name: str) -> None:
        self._connection = connection
        self._store = store
        self.name = name

    @classmethod
    async def open(
        cls, connection: Connection, name: str, *, history: int = 1, max_bytes: int = -1, replicas: int = 1
    ) -> Self:
        """Open the bucket, making it first if it is not there.

        Args:
            connection: In the account that the bucket belongs to.
            name: Of the bucket; ``[A-Za-z0-9_-]``.
            history: How many values of a key are kept.
            max_bytes: Of everything together; -1: as the account's limits say.
            replicas: On how many servers.

        Raises:
            StorageUnavailableError: JetStream refuses, or is not there.
        """
        everything = f"{subjects.kv_key(name, 'x')[:-1]}>"
        js = connection.jetstream()
        settings = stream_config(
            f"KV_{name}",
            subjects=[everything],
            max_msgs_per_subject=history,
            max_bytes=max_bytes,
            num_replicas=replicas,
            allow_rollup_hdrs=True,
            deny_delete=True,
            discard="new",
        )
        await ensure_stream(js, settings)
        store = KeyValue(name=name, stream=f"KV_{name}", pre=everything[:-1], js=js, direct=False)
        return cls(connection, store, name)

    async def get(self, key: str) -> Entry | None:
        """Read a key; None if there is nothing."""
        subjects.kv_key(self.name, key)
        with our_errors(f"bucket {self.name}"):
            try:
                entry = await self._store.get(key)
            except js_errors.KeyNotFoundError:
                return None
        return Entry(value=entry.value or b"", revision=entry.revision or 0)

    async def put(self, key: str, value: bytes) -> int:
        """Store, whatever was there; returns the revision."""
        subjects.kv_key(self.name, key)
        with our_errors(f"bucket {self.name}"):
            return await self._store.put(key, value)

    async def create(self, key: str, value: bytes) -> int:
        """Store under a key that must be free; returns the revision.

        Raises:
            KeyExistsError: It is not free.
        """
        subjects.kv_key(self.name, key)
        with our_errors(f"bucket {self.name}"):
            try:
                return await self._store.create(key, value)
            except js_errors.KeyWrongLastSequenceError as error:
                raise KeyExistsError(self.name, key) from error

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Store in place of exactly `revision`; returns the new one.

        Raises:
            RevisionMismatchError: The key has changed since, or is gone.
        """
        subjects.kv_key(self.name, key)
        with our_errors(f"bucket {self.name}"):
            try:
                return await self._store.update(key, value, last=revision)
            except js_errors.KeyWrongLastSequenceError as error:
                raise RevisionMismatchError(self.name, key, revision) from error

    async def delete(self, key: str) -> None:
        """Remove a key; no error if there is nothing. Its history goes with it."""
        subjects.kv_key(self.name, key)
        with our_errors(f"bucket {self.name}"):
            await self._store.purge(key)

    async def all(self) -> dict[str, Entry]:
        """Everything stored, by key."""
        prefix = subjects.kv_key(self.name, "x")[:-1]
        entries: dict[str, Entry] = {}
        for stored in await read_all(self._connection, f"KV_{self.name}", subject=f"{prefix}>"):
            key = stored.subject.removeprefix(prefix)
            if stored.deleted:
                entries.pop(key, None)
            else:
                entries[key] = Entry(value=stored.data, revision=stored.sequence)
        return entries

    async def keys(self) -> tuple[str, ...]:
        """The keys in use, sorted."""
        return tuple(sorted(await self.all()))
