"""The control plane's storage and claims pusher in memory: for tests, and for trying a change without a server.

Rules it keeps: the contract of `ports`, revisions and compare-and-set included. What a test wants to survive a
"crash" it keeps: these objects are the disk. Nothing here is durable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from authz.tokens import decode_account
from certs.errors import KeyExistsError, KeyNotFoundError
from runtime.bus.errors import KeyExistsError as BucketKeyExistsError
from runtime.bus.errors import RevisionMismatchError


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEntry:
    """A stored value."""

    value: bytes
    revision: int


class MemoryBucket:
    """A bucket."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: dict[str, MemoryEntry] = {}
        self._last = 0

    async def get(self, key: str) -> MemoryEntry | None:
        """See `ports.Bucket`."""
        return self._entries.get(key)

    async def create(self, key: str, value: bytes) -> int:
        """See `ports.Bucket`."""
        if key in self._entries:
            raise BucketKeyExistsError(self._name, key)
        return await self.put(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """See `ports.Bucket`."""
        entry = self._entries.get(key)
        if entry is None or entry.revision != revision:
            raise RevisionMismatchError(self._name, key, revision)
        return await self.put(key, value)

    async def put(self, key: str, value: bytes) -> int:
        """See `ports.Bucket`."""
        self._last += 1
        self._entries[key] = MemoryEntry(value=value, revision=self._last)
        return self._last

    async def delete(self, key: str) -> None:
        """See `ports.Bucket`."""
        self._last += 1
        self._entries.pop(key, None)

    async def all(self) -> Mapping[str, MemoryEntry]:
        """See `ports.Bucket`."""
        return dict(self._entries)


class MemoryBlobs:
    """Blobs by name."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put_blob(self, name: str, data: bytes) -> None:
        """See `ports.Blobs`."""
        self._blobs[name] = data

    async def get_blob(self, name: str) -> bytes | None:
        """See `ports.Blobs`."""
        return self._blobs.get(name)


class MemoryJournal:
    """An append-only stream."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self._stored: dict[str, int] = {}

    async def append(self, data: bytes, *, once: str = "") -> int:
        """See `ports.Journal`."""
        if once in self._stored:
            return self._stored[once]
        if once:
            self._stored[once] = len(self.records) + 1
        self.records.append(data)
        return len(self.records)

    async def read(self, from_seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """See `ports.Journal`."""
        numbered = enumerate(self.records, start=1)
        return [(seq, data) for seq, data in numbered if seq >= from_seq][:limit]


@dataclass(kw_only=True, slots=True)
class MemoryStorage:
    """All buckets."""

    tenants: MemoryBucket = field(default_factory=lambda: MemoryBucket("tenants"))
    credentials: MemoryBucket = field(default_factory=lambda: MemoryBucket("credentials"))
    accounts: MemoryBucket = field(default_factory=lambda: MemoryBucket("accounts"))
    hosts: MemoryBucket = field(default_factory=lambda: MemoryBucket("hosts"))
    datakeys: MemoryBucket = field(default_factory=lambda: MemoryBucket("datakeys"))
    snapshots: MemoryBlobs = field(default_factory=MemoryBlobs)
    audit: MemoryJournal = field(default_factory=MemoryJournal)


class MemoryPusher:
    """A server's resolver: like the real one, it believes an older token too."""

    def __init__(self) -> None:
        self.claims: dict[str, str] = {}
        self.pushed: list[str] = []

    async def push(self, account_jwt: str) -> None:
        """See `ports.ClaimsPusher`."""
        self.claims[decode_account(account_jwt).subject.text] = account_jwt
        self.pushed.append(account_jwt)

    async def delete(self, account: str, *, operator_jwt: str) -> None:
        """See `ports.ClaimsPusher`."""
        del operator_jwt
        self.claims.pop(account, None)


class MemoryKeys:
    """A key store."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """See `bootstrap.Keys`."""
        try:
            return self._keys[name]
        except KeyError:
            raise KeyNotFoundError(name) from None

    def put(self, name: str, data: bytes) -> None:
        """See `bootstrap.Keys`."""
        self._keys[name] = data

    def put_new(self, name: str, data: bytes) -> None:
        """See `bootstrap.Keys`."""
        if name in self._keys:
            raise KeyExistsError(name)
        self._keys[name] = data

    def delete(self, name: str) -> None:
        """See `bootstrap.Keys`."""
        if self._keys.pop(name, None) is None:
            raise KeyNotFoundError(name)

    def names(self) -> tuple[str, ...]:
        """What is stored."""
        return tuple(sorted(self._keys))
