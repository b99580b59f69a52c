"""How a change of a tenant takes effect: keys, record, claims, hosts; in this order, whatever dies in between.

    (1) seeds of new signing keys go to the key store
    (2) the record, with the account's new claims in it, is stored: *the* commit point
    (3) hosts see the new revision at once; the claims are pushed to the server
    (4) the change is answered when the server and every living host have confirmed

Rules it keeps: before (2) nothing has changed, after it the change is completed by whoever starts next (`reconcile`);
changes of one tenant are committed one after another, but nobody waits for hosts while holding the tenant's turn: a
revocation never queues behind a deployment that is starting.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from msgspec.structs import replace

from authz.claims import ScopedSigningKey
from authz.keys import AccountPublicKey
from authz.principals import Principal
from authz.tokens import encode_account, encode_account_deletion
from runtime.control.accounts import next_issued_at, tenant_account
from runtime.control.bootstrap import PlatformKeys
from runtime.control.claims import ClaimsWriter
from runtime.control.errors import ConflictError, NotAuthenticatedError, NotFoundError, TooLargeError, UnavailableError
from runtime.control.hosts import HostRegistry
from runtime.control.limits import ControlLimits
from runtime.control.ports import Clock
from runtime.control.records import AccountRecord, TenantRecord, encode
from runtime.control.state import State
from runtime.control.views import TenantView, compiled

GATE = "GATE"


class Changes:
    """Commits changes of tenants and brings them into force."""

    def __init__(
        self,
        *,
        state: State,
        platform: PlatformKeys,
        claims: ClaimsWriter,
        hosts: HostRegistry,
        clock: Clock,
        limits: ControlLimits,
    ) -> None:
        self.state, self.platform, self.claims, self.hosts = state, platform, claims, hosts
        self.clock, self.limits = clock, limits
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def turn(self, tenant: str) -> asyncio.Lock:
        """One change of a tenant at a time."""
        return self._turns[tenant]

    async def existing(self, tenant: str) -> TenantView:
        """The tenant, as stored.

        Raises:
            NotFoundError: there is no such tenant, or it is being deleted.
            UnavailableError: storage does not answer, and what it has is in doubt.
        """
        await self.state.settle_tenant(tenant)
        view = self.state.tenant(tenant)
        if view is None or not view.exists:
            raise NotFoundError(f"there is no tenant `{tenant}`")
        return view

    async def active(self, tenant: str) -> TenantView:
        """Like `existing`, for what a suspended tenant may not have done.

        Raises:
            ConflictError: it is suspended.
        """
        view = await self.existing(tenant)
        if view.record.status != "active":
            raise ConflictError(f"tenant `{tenant}` is suspended")
        return view

    def require_trusted(self, principal: Principal | None) -> None:
        """A request may have waited its turn: whoever was revoked meanwhile must not have it carried out.

        Args:
            principal: Who asked; None for the platform itself.

        Raises:
            NotAuthenticatedError: the asker's credential, role or tenant is not valid any more.
        """
        if principal is None:
            return
        view = self.state.tenant(principal.tenant)
        current = view is not None and view.record.status == "active" and view.record.account == principal.account
        if view is None or not current or principal.role not in view.record.roles:
            raise NotAuthenticatedError("not authenticated")
        if principal.issued_at <= view.record.revocations.get(principal.user, -1):
            raise NotAuthenticatedError("not authenticated")

    async def commit(self, record: TenantRecord, *, policy_changed: bool = False) -> TenantView:
        """Step (2): issue claims for what the record says, and store both.

        Raises:
            TooLargeError: the record is larger than may be stored; nothing was changed.
            UnavailableError: storage does not answer.
        """
        sealed, limits = self.with_claims(record), self.limits
        size = len(encode(sealed))
        if policy_changed and size - limits.revocation_bytes * len(record.revocations) > limits.policy_record_bytes_max:
            raise TooLargeError("the policy needs more room in the account's claims than there is: use fewer grants")
        if size > limits.record_bytes_max:
            raise TooLargeError(f"the tenant would need {size} bytes, at most {limits.record_bytes_max} are possible")
        return await self.state.put_tenant(sealed)

    async def enforce(self, tenant: str, *, hosts_first: bool) -> tuple[str, ...]:
        """Steps (3) and (4) for the tenant's newest state; returns the hosts that acknowledged.

        Raises:
            UnavailableError: stored, but not confirmed by the server, or by a host.
        """
        view = self.state.tenant(tenant)
        if view is None:
            raise NotFoundError(f"there is no tenant `{tenant}`")
        if hosts_first:
            await self.hosts.acknowledged(view.revision, self.limits.narrow_first_s)
        await self.claims.push(view.record.claims)
        return await self.acknowledged(view)

    async def acknowledged(self, view: TenantView) -> tuple[str, ...]:
        """Wait for the hosts; returns those that acknowledged.

        Raises:
            UnavailableError: one lives, but did not.
        """
        waiting = await self.hosts.acknowledged(view.revision, self.limits.acknowledge_s)
        if waiting:
            raise UnavailableError(f"stored, but host `{waiting[0]}` has not acknowledged it yet")
        return tuple(sorted(h.name for h in self.hosts.live() if h.acknowledged >= view.revision))

    def with_claims(self, record: TenantRecord, *, issued_at: int | None = None) -> TenantRecord:
        """The record with claims that say the same, newer than those it had unless `issued_at` is given."""
        iat = issued_at if issued_at is not None else next_issued_at(self.clock(), record.claims_iat)
        claims = tenant_account(
            tenant=record.tenant,
            account=AccountPublicKey.parse(record.account),
            issuer=self.platform.operator.public,
            issued_at=iat,
            roles=_signing_keys(record),
            revocations=record.revocations,
            suspended=record.status != "active",
            gate=self.platform.gate.public,
            control=self.platform.control.public,
        )
        return replace(record, claims_iat=iat, claims=encode_account(claims, self.platform.operator))

    def deletion_jwt(self, account: str) -> str:
        """The request to remove an account from the servers, signed by the operator."""
        key = AccountPublicKey.parse(account)
        return encode_account_deletion([key], self.platform.operator, issued_at=int(self.clock()))

    def gate_record(self, record: AccountRecord | None, revocations: Mapping[str, int]) -> AccountRecord:
        """GATE's next record, with newer claims."""
        iat = next_issued_at(self.clock(), record.claims_iat if record else 0)
        claims = self.platform.gate_claims(iat, revocations)
        return AccountRecord(
            name=GATE,
            account=self.platform.gate.public.text,
            revocations=dict(revocations),
            claims_iat=iat,
            claims=encode_account(claims, self.platform.operator),
        )


def _signing_keys(record: TenantRecord) -> dict[str, ScopedSigningKey]:
    policy = compiled(record.policy)
    return {
        role: ScopedSigningKey(key=AccountPublicKey.parse(key), role=role, template=policy.roles[role].permissions)
        for role, key in record.roles.items()
    }
