"""The state of the control plane: what is stored, held in memory by its only writer.

Rules it keeps: memory changes only after storage has; a write whose outcome is unknown (the connection went away) is
settled by reading back before anyone goes on; every write names the revision that it replaces, so that a second
writer is noticed instead of overwritten.

Not here: what the changes mean (`tenants`, `policies`, `credentials`, `deployments`), claims, keys.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterable

from runtime.bus.errors import BusError
from runtime.control.errors import ControlError, UnavailableError
from runtime.control.ports import Bucket, Storage
from runtime.control.records import (
    AccountRecord,
    CredentialRecord,
    HostRecord,
    RecordT,
    ScopeRecord,
    TenantRecord,
    decode,
    encode,
)
from runtime.control.signal import Signal
from runtime.control.views import TenantView, view_of

_SETTLE_TRIES = 10
_SETTLE_PAUSE_S = 0.3
_log = logging.getLogger(__name__)


class SecondWriterError(ControlError):
    """Somebody else changed what only this process may change."""

    def __init__(self, *, key: str) -> None:
        super().__init__(f"another control plane changed `{key}`: only one may run")
        self.key = key


class Cell:
    """One stored key: its bytes and revision (0: nothing stored), and whether both are certain."""

    __slots__ = ("_attempted", "_bucket", "key", "revision", "value")

    def __init__(self, bucket: Bucket, key: str, value: bytes = b"", revision: int = 0) -> None:
        self._bucket, self.key = bucket, key
        self.value, self.revision = value, revision
        self._attempted: bytes | None = None

    @property
    def doubtful(self) -> bool:
        """Whether the outcome of the last write is still unknown."""
        return self._attempted is not None

    async def write(self, value: bytes) -> int:
        """Store `value` in place of what this cell holds; on return it is durable.

        Raises:
            UnavailableError: it could not be stored, or nobody can tell now.
            SecondWriterError: something else was there.
        """
        await self.settle()
        before, self._attempted = self.revision, value
        try:
            self.revision = await self._store(value)
        except BusError as error:
            _log.warning("storing %s: %s; reading back", self.key, error)
            await self.settle()
            if self.revision == before:
                raise UnavailableError("the platform's storage is not available now; nothing was changed") from error
        self.value, self._attempted = value, None
        return self.revision

    async def erase(self) -> None:
        """Remove the key; repeating it does no harm."""
        try:
            await self._bucket.delete(self.key)
        except BusError as error:
            raise UnavailableError("the platform's storage is not available now; try again") from error

    async def settle(self) -> None:
        """If the last write's outcome is unknown, find out: what was there before is, or what was to be written.

        Raises:
            UnavailableError: storage does not answer.
            SecondWriterError: something else is stored.
        """
        for _ in range(_SETTLE_TRIES):
            if self._attempted is None:
                return
            try:
                entry = await self._bucket.get(self.key)
            except BusError:
                await asyncio.sleep(_SETTLE_PAUSE_S)
                continue
            self._take(entry.value if entry else b"", entry.revision if entry else 0)
            return
        raise UnavailableError("the platform's storage does not answer; look again whether this was stored")

    async def _store(self, value: bytes) -> int:
        if self.revision == 0:
            return await self._bucket.create(self.key, value)
        return await self._bucket.update(self.key, value, self.revision)

    def _take(self, value: bytes, revision: int) -> None:
        if revision != self.revision and value != self._attempted:
            raise SecondWriterError(key=self.key)
        self._attempted = None
        if revision != self.revision:
            self.value, self.revision = value, revision


class State:
    """All records, by what they are looked up by. `changed` fires after each change of a tenant."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._tenants: dict[str, TenantView] = {}
        self._accounts_of: dict[str, str] = {}
        self._credentials: dict[str, dict[str, CredentialRecord]] = {}
        self._platform: dict[str, AccountRecord] = {}
        self._scopes: dict[str, dict[str, ScopeRecord]] = {}
        self._cells: dict[tuple[str, str], Cell] = {}
        self.hosts: dict[str, HostRecord] = {}
        self.changed = Signal()

    async def load(self) -> None:
        """Read everything.

        Raises:
            StateVersionError, StateDamagedError: a record can't be read; nothing was changed.
            BusError: storage does not answer.
        """
        for key, record, revision in await self._read("tenants", self._storage.tenants, TenantRecord):
            self._hold(view_of(record, revision), key)
        for _, credential, _ in await self._read("credentials", self._storage.credentials, CredentialRecord):
            self._credentials.setdefault(credential.tenant, {})[credential.user] = credential
        for key, account, _ in await self._read("accounts", self._storage.accounts, AccountRecord):
            self._platform[key] = account
        for _, scope, _ in await self._read("datakeys", self._storage.datakeys, ScopeRecord):
            self._scopes.setdefault(scope.tenant, {})[scope.scope] = scope
        for key, host, _ in await self._read("hosts", self._storage.hosts, HostRecord):
            self.hosts[key] = host

    @property
    def revision(self) -> int:
        """The revision of the newest change of any tenant."""
        return max((view.revision for view in self._tenants.values()), default=0)

    def tenants(self) -> Iterable[TenantView]:
        """All tenants, those deleted included, in no order."""
        return tuple(self._tenants.values())

    def tenant(self, name: str) -> TenantView | None:
        """The tenant of that name, deleted or not."""
        return self._tenants.get(name)

    def tenant_of_account(self, account: str) -> TenantView | None:
        """The tenant whose account that is."""
        return self._tenants.get(self._accounts_of.get(account, ""))

    def credentials(self, tenant: str) -> tuple[CredentialRecord, ...]:
        """All credentials that are on record for a tenant (or `gate`)."""
        return tuple(self._credentials.get(tenant, {}).values())

    def all_credentials(self) -> tuple[CredentialRecord, ...]:
        """All credentials on record."""
        return tuple(record for records in self._credentials.values() for record in records.values())

    def credential(self, tenant: str, user: str) -> CredentialRecord | None:
        """The credential of one user key."""
        return self._credentials.get(tenant, {}).get(user)

    def platform_account(self, name: str) -> AccountRecord | None:
        """The record of SYS, GATE or CONTROL."""
        return self._platform.get(name)

    async def put_tenant(self, record: TenantRecord) -> TenantView:
        """Commit a tenant's new state. This is *the* commit point of every change of a tenant."""
        revision = await self._cell("tenants", self._storage.tenants, record.tenant).write(encode(record))
        view = view_of(record, revision)
        self._hold(view, record.tenant)
        self.changed.fire()
        return view

    async def settle_tenant(self, name: str) -> None:
        """Make sure that memory has what is stored of a tenant; costs nothing unless a write went wrong.

        Raises:
            UnavailableError: storage does not answer.
        """
        cell = self._cells.get(("tenants", name))
        if cell is None or not cell.doubtful:
            return
        await cell.settle()
        held = self._tenants.get(name)
        if cell.revision and (held is None or held.revision != cell.revision):
            self._hold(view_of(decode(TenantRecord, f"tenants/{name}", cell.value), cell.revision), name)
            self.changed.fire()

    async def put_credential(self, record: CredentialRecord) -> None:
        """Commit that a credential was issued, or what became of it."""
        cell = self._cell("credentials", self._storage.credentials, _credential_key(record))
        await cell.write(encode(record))
        self._credentials.setdefault(record.tenant, {})[record.user] = record

    async def drop_credential(self, record: CredentialRecord) -> None:
        """Forget a credential that can't be used any more."""
        cell = self._cell("credentials", self._storage.credentials, _credential_key(record))
        await cell.erase()
        self._cells.pop(("credentials", cell.key), None)
        self._credentials.get(record.tenant, {}).pop(record.user, None)

    async def put_platform_account(self, record: AccountRecord) -> None:
        """Commit new claims of SYS, GATE or CONTROL."""
        await self._cell("accounts", self._storage.accounts, record.name).write(encode(record))
        self._platform[record.name] = record

    def scopes(self, tenant: str) -> tuple[ScopeRecord, ...]:
        """All data keys of a tenant."""
        return tuple(self._scopes.get(tenant, {}).values())

    def scope(self, tenant: str, scope: str) -> ScopeRecord | None:
        """The data key of that name without a version."""
        return self._scopes.get(tenant, {}).get(scope)

    async def put_scope(self, record: ScopeRecord) -> None:
        """Commit a data key's new versions."""
        cell = self._cell("datakeys", self._storage.datakeys, _scope_key(record))
        await cell.write(encode(record))
        self._scopes.setdefault(record.tenant, {})[record.scope] = record

    async def drop_scope(self, record: ScopeRecord) -> None:
        """Forget a data key whose bytes can't be unwrapped any more."""
        cell = self._cell("datakeys", self._storage.datakeys, _scope_key(record))
        await cell.erase()
        self._cells.pop(("datakeys", cell.key), None)
        self._scopes.get(record.tenant, {}).pop(record.scope, None)

    async def put_host(self, record: HostRecord) -> None:
        """Note that a host lives."""
        await self._cell("hosts", self._storage.hosts, record.host).write(encode(record))
        self.hosts[record.host] = record

    async def drop_host(self, host: str) -> None:
        """Note that a host does not live any more."""
        await self._cell("hosts", self._storage.hosts, host).erase()
        self._cells.pop(("hosts", host), None)
        self.hosts.pop(host, None)

    def _hold(self, view: TenantView, name: str) -> None:
        before = self._tenants.get(name)
        if before and before.record.account != view.record.account:
            self._accounts_of.pop(before.record.account, None)
        self._tenants[name] = view
        if view.record.status == "deleted":
            self._accounts_of.pop(view.record.account, None)
        else:
            self._accounts_of[view.record.account] = name

    def _cell(self, kind: str, bucket: Bucket, key: str) -> Cell:
        return self._cells.setdefault((kind, key), Cell(bucket, key))

    async def _read(self, kind: str, bucket: Bucket, record: type[RecordT]) -> list[tuple[str, RecordT, int]]:
        found = []
        for key, entry in (await bucket.all()).items():
            self._cells[kind, key] = Cell(bucket, key, entry.value, entry.revision)
            found.append((key, decode(record, f"{kind}/{key}", entry.value), entry.revision))
        return found


def _credential_key(record: CredentialRecord) -> str:
    return f"{record.tenant}.{record.user}"


def _scope_key(record: ScopeRecord) -> str:
    # Data subjects hold characters that a bucket's keys don't.
    return f"{record.tenant}.{hashlib.sha256(record.scope.encode()).hexdigest()}"
