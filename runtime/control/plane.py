"""The control plane put together: storage, claims, commands, the service; started and stopped here.

Rules it keeps: what is stored is reconciled with the server before the first request is taken; what needs hosts is
reconciled afterwards, since they can only answer then. Stopping drains; being killed instead loses nothing.

Not here: connections, the server, the key store: they are handed in.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from certs.authority import Authority
from runtime.bus.errors import BusError
from runtime.bus.message import Message
from runtime.bus.subjects import control_admin_all
from runtime.control.auditlog import AuditLog
from runtime.control.bootstrap import Keys, PlatformKeys
from runtime.control.changes import Changes
from runtime.control.claims import ClaimsWriter
from runtime.control.commands import command_table
from runtime.control.credentials import PLATFORM, Credentials
from runtime.control.datakeys import DataKeys
from runtime.control.deployments import Deployments
from runtime.control.errors import ControlError
from runtime.control.hostcommands import HostCommands
from runtime.control.hosts import HostRegistry
from runtime.control.issuing import IssuedCredential, Issuing
from runtime.control.kek import KeyWrapper
from runtime.control.lastseen import LastSeen
from runtime.control.limits import DEFAULT_LIMITS, ControlLimits
from runtime.control.policies import Policies
from runtime.control.ports import ClaimsPusher, Clock, Respond, Storage
from runtime.control.reconcile import Reconciliation
from runtime.control.revoking import Revoking
from runtime.control.service import ControlService
from runtime.control.signal import Signal
from runtime.control.state import State
from runtime.control.status import Status
from runtime.control.tenantkeys import TenantKeyring
from runtime.control.tenants import Tenants
from runtime.control.uploads import Uploads

_DRAIN_S = 5.0
_TIDY_EVERY_S = 600.0
_log = logging.getLogger(__name__)

Subscribe = Callable[[str, Callable[[Message], None]], Coroutine[Any, Any, "Stoppable"]]


class Stoppable(Protocol):
    """A subscription."""

    async def drain(self) -> None:
        """Take nothing new."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """Everything outside that the control plane uses."""

    storage: Storage
    pusher: ClaimsPusher
    subscribe: Subscribe
    respond: Respond
    keys: Keys
    clock: Clock = time.time
    monotonic: Callable[[], float] = time.monotonic


class ControlPlane:
    """One control plane; there may be only one at a time."""

    def __init__(
        self,
        ports: Ports,
        *,
        platform: PlatformKeys,
        authority: Authority,
        platform_policy: str,
        limits: ControlLimits = DEFAULT_LIMITS,
    ) -> None:
        self._ports, self._limits = ports, limits
        self.storage = ports.storage
        self._seen = LastSeen()
        self.state = State(ports.storage)
        self._claims = ClaimsWriter(ports.pusher)
        self._hosts = HostRegistry(lease_s=limits.host_lease_s, monotonic=ports.monotonic)
        self._changes = Changes(
            state=self.state,
            platform=platform,
            claims=self._claims,
            hosts=self._hosts,
            clock=ports.clock,
            limits=limits,
        )
        self._audit = AuditLog(ports.storage.audit, clock=ports.clock, limits=limits, seen=self._seen)
        self._background: set[asyncio.Task[None]] = set()
        self._subscription: Stoppable | None = None
        self._wake = Signal()
        self._build(TenantKeyring(ports.keys), authority, platform_policy)

    def _build(self, keyring: TenantKeyring, authority: Authority, platform_policy: str) -> None:
        ports, changes, limits = self._ports, self._changes, self._limits
        policies = Policies(changes, keyring)
        keys = DataKeys(changes, KeyWrapper(ports.keys), changes.platform.control.identity.sign)
        tenants = Tenants(changes, keyring, keys)
        self._issuing, self._revoking = Issuing(changes, keyring, authority), Revoking(changes)
        self._deployments = Deployments(changes, ports.storage.snapshots, Uploads(limits, ports.monotonic))
        self._reconciliation = Reconciliation(
            changes=changes,
            keyring=keyring,
            tenants=tenants,
            policies=policies,
            revoking=self._revoking,
            platform_policy=platform_policy,
        )
        table = command_table(
            tenants=tenants,
            policies=policies,
            credentials=Credentials(changes, self._issuing, self._revoking, self._seen),
            deployments=self._deployments,
            keys=keys,
            hosts=HostCommands(changes, self._issuing, ports.storage.snapshots, self._audit),
            status=Status(changes, self._audit),
        )
        self._service = ControlService(
            state=self.state,
            commands=table,
            audit=self._audit,
            seen=self._seen,
            respond=ports.respond,
            clock=ports.clock,
            limits=limits,
        )

    async def start(self) -> None:
        """Load, reconcile, serve.

        Raises:
            StateVersionError, StateDamagedError: the stored state can't be read; nothing was changed.
            BusError, UnavailableError: the server or its storage does not answer.
        """
        await self.state.load()
        for host in self.state.hosts.values():
            self._hosts.expect(host.host, instance=host.instance, user=host.user)
        await self._reconciliation.before_serving()
        self._subscription = await self._ports.subscribe(control_admin_all(), self._service.receive)
        self._run(self._after_serving())
        self._run(self._maintain())

    async def stop(self) -> None:
        """Take nothing new, finish what was begun, end."""
        if self._subscription is not None:
            with contextlib.suppress(BusError):
                await self._subscription.drain()
        self.state.changed.fire()  # hosts' polls end now, not at the end of their time
        await self._service.drain(_DRAIN_S)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._audit.flush()

    def server_returned(self) -> None:
        """A server joined or came back: all claims are pushed to it again, at once (SEC-9)."""
        self._claims.doubt_all()
        self._wake.fire()

    async def issue_platform_credential(
        self, *, role: str, name: str, user: str, csr: bytes, ttl_s: int
    ) -> IssuedCredential:
        """A credential of the tenant `platform`, for the first operator and the local host; no request, no caller.

        Raises:
            CommandError: refused.
        """
        return await self._issuing.certified(
            PLATFORM, role=role, name=name, user=user, csr=csr, ttl_s=ttl_s, principal=None
        )

    def honours(self, user: str) -> bool:
        """Whether a credential of the tenant `platform` is known and has not been revoked."""
        view, record = self.state.tenant(PLATFORM), self.state.credential(PLATFORM, user)
        if view is None or record is None or record.revoked_at is not None:
            return False
        revocations = view.record.revocations
        return record.issued_at > max(revocations.get(user, 0), revocations.get("*", 0))

    async def host_ready(self, name: str, *, timeout_s: float, starting_is_ready: bool = False) -> bool:
        """Wait until the host `name` has polled, knows everything and has started what is deployed; whether it did.

        With `starting_is_ready` its agents are not waited for.
        """
        return await self._hosts.until_ready(name, self.state.revision, timeout_s, starting_too=starting_is_ready)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("background work of the control plane ended badly", exc_info=error)

    async def _after_serving(self) -> None:
        await self._reconciliation.after_serving()
        await self._deployments.settle_left_over()

    async def _maintain(self) -> None:
        tidied = self._ports.monotonic()
        while True:
            await self._wake.wait(self._limits.maintenance_s)
            await self._attempt(self._claims.push_pending)
            await self._attempt(self._settle_doubts)
            await self._attempt(self._audit.flush)
            await self._attempt(self._drop_dead_hosts)
            if self._ports.monotonic() - tidied > _TIDY_EVERY_S:
                tidied = self._ports.monotonic()
                await self._attempt(lambda: self._revoking.revoke_orphans(PLATFORM))
                await self._attempt(self._reconciliation.forget_expired)

    async def _attempt(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A step of upkeep: when it fails the others go on, and it is tried again next time."""
        try:
            await step()
        except (BusError, ControlError) as error:
            _log.warning("upkeep: %s", error)
        except Exception:  # noqa: BLE001 - upkeep must go on
            _log.exception("upkeep")

    async def _settle_doubts(self) -> None:
        for view in self.state.tenants():
            await self.state.settle_tenant(view.record.tenant)

    async def _drop_dead_hosts(self) -> None:
        for name in self._hosts.bury():
            await self.state.drop_host(name)
