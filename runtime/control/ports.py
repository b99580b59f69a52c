"""What the control plane needs from the outside, as small Protocols: storage, claims, a way to answer, time.

Rules it keeps: each is exactly what `runtime.bus` offers, so that the real thing needs no adapter and an in-memory
one is a page (`runtime.control.memory`). Durability is part of the contract: when a write returns, it survives a
crash.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

Clock = Callable[[], float]
Respond = Callable[[str, bytes, Mapping[str, str] | None], None]


class Entry(Protocol):
    """A stored value and its revision: unique and rising over all keys of one bucket."""

    @property
    def value(self) -> bytes:
        """The bytes stored."""

    @property
    def revision(self) -> int:
        """The number of the write that stored them."""


class Bucket(Protocol):
    """Durable values by key, with compare-and-set."""

    async def get(self, key: str) -> Entry | None:
        """What is stored under `key`, if anything."""

    async def create(self, key: str, value: bytes) -> int:
        """Store under a key that must be free; returns the revision."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Store in place of exactly `revision`; returns the new one."""

    async def put(self, key: str, value: bytes) -> int:
        """Store whatever was there; returns the revision."""

    async def delete(self, key: str) -> None:
        """Remove; no error if there is nothing."""

    async def all(self) -> Mapping[str, Entry]:
        """Everything stored."""


class Blobs(Protocol):
    """Durable large values by name."""

    async def put_blob(self, name: str, data: bytes) -> None:
        """Store all of `data`, or nothing."""

    async def get_blob(self, name: str) -> bytes | None:
        """All of it, or None."""


class Journal(Protocol):
    """A durable stream that is only appended to."""

    async def append(self, data: bytes, *, once: str = "") -> int:
        """Store a record after all others; returns its number. Repeated soon under the same `once`: stored once."""

    async def read(self, from_seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Up to `limit` records from number `from_seq` on."""


class ClaimsPusher(Protocol):
    """Takes account claims to every server."""

    async def push(self, account_jwt: str) -> None:
        """Return when every expected server has confirmed them."""

    async def delete(self, account: str, *, operator_jwt: str) -> None:
        """Remove an account's claims; `operator_jwt` is the operator-signed request to."""


class Storage(Protocol):
    """The buckets of the control plane."""

    @property
    def tenants(self) -> Bucket:
        """One record a tenant: the commit point of everything about it."""

    @property
    def credentials(self) -> Bucket:
        """One record a credential issued."""

    @property
    def accounts(self) -> Bucket:
        """The claims of the platform's own accounts."""

    @property
    def hosts(self) -> Bucket:
        """The hosts known to live."""

    @property
    def datakeys(self) -> Bucket:
        """One record a data key, wrapped."""

    @property
    def snapshots(self) -> Blobs:
        """Agents' code by digest."""

    @property
    def audit(self) -> Journal:
        """The audit records."""
