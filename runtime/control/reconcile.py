"""What every start does first: make the rest of the world agree with what is stored, whatever went wrong before.

Before the first request is taken:
    (1) the platform's own accounts and tenant exist, and their claims are what this release would write
    (2) every tenant's claims are what its record says; keys that no record names are dropped
    (3) all claims are pushed, newest `iat` only (SEC-9)
Then, since these wait for hosts, who must be able to poll:
    (4) what was derived from revoked credentials is revoked; records of revoked credentials say so
    (5) deletions that were begun are completed
    (6) credentials long expired are forgotten

Rules it keeps: each step may be repeated, and be cut short, at any point.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from authz.tokens import decode_account, encode_account
from certs.errors import CertsError
from runtime.bus.errors import BusError
from runtime.control.bootstrap import PlatformKeys
from runtime.control.changes import GATE, Changes
from runtime.control.credentials import PLATFORM
from runtime.control.errors import ControlError
from runtime.control.policies import Policies, checked_policy
from runtime.control.records import AccountRecord
from runtime.control.revoking import Revoking
from runtime.control.tenantkeys import TenantKeyring, TenantKeys
from runtime.control.tenants import Tenants
from runtime.control.views import TenantView

_log = logging.getLogger(__name__)
_OWN: Final = ("SYS", "CONTROL", GATE)


class Reconciliation:
    """One start's."""

    def __init__(
        self,
        *,
        changes: Changes,
        keyring: TenantKeyring,
        tenants: Tenants,
        policies: Policies,
        revoking: Revoking,
        platform_policy: str,
    ) -> None:
        self._changes, self._state, self._keyring = changes, changes.state, keyring
        self._tenants, self._policies, self._revoking = tenants, policies, revoking
        self._platform_policy = platform_policy

    async def before_serving(self) -> None:
        """(1) to (3); claims that the server does not confirm now are pushed again later."""
        for name in _OWN:
            await self._own_account(name)
        await self._platform_tenant()
        for view in self._state.tenants():
            await self._refresh(view)
        await self._changes.claims.push_pending()

    async def after_serving(self) -> None:
        """(4) to (6); what can't be done now is logged, and done by a later start."""
        try:
            await self._revoking.revoke_orphans(PLATFORM)
            await self.forget_expired()
        except (BusError, ControlError) as error:
            _log.warning("reconciling: %s", error)
        for view in self._state.tenants():
            await self._tidy(view)

    async def forget_expired(self) -> None:
        """(6) in the list above: what no one can use any more, and no one needs listed."""
        horizon = self._changes.clock() - self._changes.limits.keep_expired_s
        now = self._changes.clock()
        for record in self._state.all_credentials():
            if record.expires_at <= (horizon if record.kind == "issued" else now):
                await self._state.drop_credential(record)

    async def _own_account(self, name: str) -> None:
        """(1) SYS, CONTROL and GATE: keep the claims on record unless this release would write others."""
        record = self._state.platform_account(name)
        if record is None or not self._same_claims(record):
            record = self._new_record(name, record)
            await self._state.put_platform_account(record)
        self._changes.claims.note([record.claims])

    def _same_claims(self, record: AccountRecord) -> bool:
        would = self._own_claims(record.name, record.claims_iat, record.revocations)
        return decode_account(record.claims) == decode_account(would)

    def _new_record(self, name: str, before: AccountRecord | None) -> AccountRecord:
        keys = self._changes.platform
        if name == GATE:
            return self._changes.gate_record(before, before.revocations if before else {})
        # The first claims are those that the server was started with.
        iat = max(int(self._changes.clock()), before.claims_iat + 1) if before else keys.created_at
        account = keys.sys if name == "SYS" else keys.control
        return AccountRecord(
            name=name,
            account=account.public.text,
            revocations={},
            claims_iat=iat,
            claims=self._own_claims(name, iat, {}),
        )

    def _own_claims(self, name: str, issued_at: int, revocations: Mapping[str, int]) -> str:
        keys: PlatformKeys = self._changes.platform
        if name == GATE:
            return encode_account(keys.gate_claims(issued_at, revocations), keys.operator)
        claims = keys.system_claims(issued_at) if name == "SYS" else keys.control_claims(issued_at)
        return encode_account(claims, keys.operator)

    async def _platform_tenant(self) -> None:
        """(1) The tenant `platform`, with this release's policy."""
        view, text = self._state.tenant(PLATFORM), self._platform_policy
        policy = checked_policy(text, PLATFORM, self._changes.limits)
        if view is None:
            identity = self._changes.platform.platform
            keys = TenantKeys(identity=identity, roles={}).with_roles(policy.roles, {})
            await self._tenants.commit_new(PLATFORM, text, keys, identity.public.text)
        elif view.record.policy != text:
            await self._policies.commit(view, text, policy)

    async def _refresh(self, view: TenantView) -> None:
        """(2) and (3) for one tenant."""
        record = view.record
        if record.status == "deleted":
            return
        would = self._changes.with_claims(record, issued_at=record.claims_iat)
        if decode_account(would.claims) != decode_account(record.claims):
            _log.info("this release writes other claims for tenant %s", record.tenant)
            record = (await self._changes.commit(record)).record
        self._changes.claims.note([record.claims])
        if record.status == "deleting":
            return  # its keys may be gone already
        try:
            await asyncio.to_thread(self._keyring.prune, record.tenant, record.roles)
        except (ControlError, CertsError) as error:  # one tenant's damage must not keep the others from starting
            _log.error("the keys of tenant %s can't be used: %s", record.tenant, error)

    async def _tidy(self, view: TenantView) -> None:
        """(4) and (5) for one tenant."""
        try:
            await self._revoking.mark_revoked(view.record.tenant)
            async with self._changes.turn(view.record.tenant):
                await self._tenants.finish_deletion(view.record.tenant)
        except (BusError, ControlError) as error:
            _log.warning("reconciling tenant %s: %s", view.record.tenant, error)
