"""Revoking credentials: by a command, and with the credential that they were derived from.

Rules it keeps: everybody is banned before anybody is waited for; SEC-9: a revocation is kept until the last token that
it covers has expired, and never dated before that token. Every step may be repeated.

Not here: who may ask (`service`), how a change takes effect (`changes`).
"""

import asyncio
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from runtime.control.changes import GATE, Changes
from runtime.control.records import CredentialRecord
from runtime.control.views import TenantView


class Revoking:
    """Bans user keys."""

    def __init__(self, changes: Changes) -> None:
        self._changes, self._state = changes, changes.state

    def alive(self, records: Iterable[CredentialRecord]) -> list[CredentialRecord]:
        """Those that have not expired."""
        now = self._changes.clock()
        return [record for record in records if record.expires_at > now]

    async def ban(self, view: TenantView, records: Iterable[CredentialRecord]) -> None:
        """Add to the tenant's revocations, and drop those whose last token has expired (SEC-9)."""
        now = int(self._changes.clock())
        held = view.record.revocations
        new = {r.user: max(now, r.issued_at) for r in records if r.user not in held}
        if new:
            kept = self._still_needed(view.record.tenant, held)
            await self._changes.commit(replace(view.record, revocations={**kept, **new}, changed_at=now))

    async def revoke_orphans(self, platform: str) -> None:
        """Revoke what was derived from revoked credentials of hosts. May be repeated; part of every start."""
        view = self._state.tenant(platform)
        if view is None:
            return
        banned = view.record.revocations
        orphans = [r for r in self.alive(self._state.all_credentials()) if r.parent in banned and r.revoked_at is None]
        await self._ban_in_gate([record for record in orphans if record.kind == "gate"])
        tenants = sorted({record.tenant for record in orphans if record.kind == "agent"})
        for tenant in tenants:
            await self._ban_agents(tenant, [r for r in orphans if r.kind == "agent" and r.tenant == tenant])
        # All are banned before anyone is waited for: one host that is slow must not keep another tenant's in.
        await asyncio.gather(*(self._changes.enforce(tenant, hosts_first=False) for tenant in tenants))
        for tenant in tenants:
            await self.mark_revoked(tenant)

    async def mark_revoked(self, tenant: str) -> None:
        """Write into the credentials' records what the tenant's record already says. May be repeated."""
        view = self._state.tenant(tenant)
        for record in self._state.credentials(tenant):
            at = view.record.revocations.get(record.user) if view and record.kind != "gate" else None
            if at is not None and record.revoked_at is None:
                await self._state.put_credential(replace(record, revoked_at=at))

    async def _ban_agents(self, tenant: str, orphans: list[CredentialRecord]) -> None:
        async with self._changes.turn(tenant):
            await self._state.settle_tenant(tenant)
            view = self._state.tenant(tenant)
            if view is not None and view.exists:
                await self.ban(view, orphans)

    async def _ban_in_gate(self, records: Sequence[CredentialRecord]) -> None:
        if not records:
            return
        async with self._changes.turn(GATE):
            gate, now = self._state.platform_account(GATE), int(self._changes.clock())
            held = dict(gate.revocations) if gate else {}
            last = {r.user: r.expires_at for r in self._state.all_credentials() if r.kind == "gate"}
            kept = {user: at for user, at in held.items() if last.get(user, 0) > now}
            new = {record.user: max(now, record.issued_at) for record in records}
            changed = self._changes.gate_record(gate, {**kept, **new})
            await self._state.put_platform_account(changed)
        await self._changes.claims.push(changed.claims)
        for record in records:
            await self._state.put_credential(replace(record, revoked_at=new[record.user]))

    def _still_needed(self, tenant: str, revocations: dict[str, int]) -> dict[str, int]:
        now, last = self._changes.clock(), {r.user: r.expires_at for r in self._state.credentials(tenant)}
        return {user: at for user, at in revocations.items() if last.get(user, now + 1) > now}
