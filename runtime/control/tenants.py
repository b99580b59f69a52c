"""The commands about tenants as such: create, show, list, suspend, resume, delete.

Rules it keeps: the steps of `changes`; a deletion leaves a tombstone, so that one cut short is completed by the next
start, and shreds the keys only after the account has gone from the server. Platform's own tenant is never touched.
"""

import asyncio
from typing import Final

from msgspec.structs import replace

from authz.errors import AuthzError
from authz.keys import AccountSeed
from authz.names import tenant_name
from runtime.control.calls import Call
from runtime.control.changes import Changes
from runtime.control.datakeys import DataKeys
from runtime.control.errors import ConflictError, InvalidInputError, UnavailableError
from runtime.control.policies import checked_policy
from runtime.control.ports import Clock
from runtime.control.records import TenantRecord, TenantStatus
from runtime.control.tenantkeys import TenantKeyring, TenantKeys
from runtime.control.views import TenantView
from runtime.control.wire import CreateTenant, Empty

PLATFORM: Final = "platform"
RESERVED: Final = frozenset({PLATFORM, "all", "sys", "gate", "control"})
FIRST_POLICY: Final = """\
tenant: {tenant}
roles:
  admin:                               # administers this tenant; grants nothing else until you do
    admin: [policy.*, credentials.*, keys.*, agents.list]
"""


class Tenants:
    """Answers `tenants.*`."""

    def __init__(self, changes: Changes, keyring: TenantKeyring, keys: DataKeys) -> None:
        self._changes, self._keyring, self._keys, self._state = changes, keyring, keys, changes.state
        self._clock: Clock = changes.clock

    async def create(self, call: Call[CreateTenant]) -> dict[str, object]:
        """Make a tenant: its account, with the policy given or one that has an administrator only."""
        name = _new_name(call.target)
        text = call.body.policy if call.body.policy is not None else FIRST_POLICY.format(tenant=name)
        policy = checked_policy(text, name, self._changes.limits)
        async with self._changes.turn(name):
            await self._refuse_taken(name)
            fresh = TenantKeys(identity=AccountSeed.generate(), roles={})
            await self.commit_new(name, text, fresh.with_roles(policy.roles, {}), fresh.identity.public.text)
        await self._changes.enforce(name, hosts_first=False)
        return self._shown(await self._changes.existing(name))

    async def commit_new(self, name: str, policy: str, keys: TenantKeys, account: str) -> TenantView:
        """Steps (1) and (2) of a new tenant."""
        await asyncio.to_thread(self._keyring.save, name, keys)  # (1)
        now = int(self._clock())
        record = TenantRecord(
            tenant=name,
            account=account,
            status="active",
            policy=policy,
            epoch=1,
            roles=keys.public(),
            revocations={},
            created_at=now,
            changed_at=now,
            claims_iat=0,
            claims="",
        )
        return await self._changes.commit(record, policy_changed=True)  # (2)

    async def show(self, call: Call[Empty]) -> dict[str, object]:
        """One tenant."""
        return self._shown(await self._changes.existing(call.target))

    async def list_all(self, _call: Call[Empty]) -> dict[str, object]:
        """All tenants by name."""
        views = sorted((v for v in self._state.tenants() if v.exists), key=lambda view: view.record.tenant)
        return {"tenants": [self._shown(view) for view in views]}

    async def suspend(self, call: Call[Empty]) -> dict[str, object]:
        """Cut all of a tenant's connections and admit no new one, until it is resumed."""
        return await self._set_status(call.target, "suspended")

    async def resume(self, call: Call[Empty]) -> dict[str, object]:
        """Undo `suspend`; credentials are as they were."""
        return await self._set_status(call.target, "active")

    async def delete(self, call: Call[Empty]) -> dict[str, object]:
        """Remove a tenant and shred its keys. There is no way back."""
        _refuse_platform(call.target)
        async with self._changes.turn(call.target):
            await self._state.settle_tenant(call.target)
            view = self._state.tenant(call.target)
            if view is None or view.record.status == "deleted":
                view = await self._changes.existing(call.target)
            if view.record.status != "deleting":
                now = int(self._clock())
                await self._changes.commit(replace(view.record, status="deleting", deployments=(), changed_at=now))
            await self.finish_deletion(call.target)
        return {"tenant": call.target, "status": "deleted"}

    async def finish_deletion(self, name: str) -> None:
        """Complete a deletion that was committed; each step may be repeated.

        Raises:
            UnavailableError: a step was not confirmed; the next start, or a repeated command, goes on.
        """
        view = self._state.tenant(name)
        if view is None or view.record.status != "deleting":
            return
        await self._changes.claims.push(view.record.claims)  # all its users are cut
        await self._changes.claims.delete(view.record.account, self._changes.deletion_jwt(view.record.account))
        await self._changes.acknowledged(view)
        await asyncio.to_thread(self._keyring.shred, name)
        await self._keys.shred_tenant(name)
        for credential in self._state.credentials(name):
            await self._state.drop_credential(credential)
        gone = replace(view.record, status="deleted", policy="", roles={}, revocations={}, claims="")
        await self._state.put_tenant(gone)

    async def _set_status(self, name: str, status: TenantStatus) -> dict[str, object]:
        _refuse_platform(name)
        async with self._changes.turn(name):
            view = await self._changes.existing(name)
            if view.record.status != status:
                await self._changes.commit(replace(view.record, status=status, changed_at=int(self._clock())))
        await self._changes.enforce(name, hosts_first=False)
        return self._shown(await self._changes.existing(name))

    async def _refuse_taken(self, name: str) -> None:
        await self._state.settle_tenant(name)
        view = self._state.tenant(name)
        if view is not None and view.exists:
            raise ConflictError(f"tenant `{name}` exists already")
        if view is not None and view.record.status == "deleting":
            raise UnavailableError(f"tenant `{name}` is still being deleted; try again")

    def _shown(self, view: TenantView) -> dict[str, object]:
        record, now = view.record, self._clock()
        credentials = self._state.credentials(record.tenant)
        return {
            "tenant": record.tenant,
            "account": record.account,
            "status": record.status,
            "epoch": record.epoch,
            "roles": sorted(record.roles),
            "agents": sorted(d.agent for d in record.deployments),
            "credentials": sum(c.kind == "issued" and c.expires_at > now and c.revoked_at is None for c in credentials),
            "created_at": record.created_at,
            "changed_at": record.changed_at,
        }


def _new_name(text: str) -> str:
    try:
        name = tenant_name(text)
    except AuthzError as error:
        raise InvalidInputError(str(error)) from error
    if name in RESERVED:
        raise InvalidInputError(f"`{name}` is reserved: choose another name")
    return name


def _refuse_platform(name: str) -> None:
    if name == PLATFORM:
        raise ConflictError("`platform` is the platform's own tenant: it can't be suspended, resumed or deleted")
