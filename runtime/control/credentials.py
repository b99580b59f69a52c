"""The commands about credentials: issue, list, revoke; and what hosts ask for.

Rules it keeps: a seed never travels, only public keys and certificate requests do; a credential is on record before
it is handed out; a certificate lives no longer than its token (SEC-8); a derived credential no longer than its
parent, and is revoked with it. SEC-9: a revoked user key stays banned, its name may be issued again a second later at
the earliest.

Not here: how a change takes effect (`changes`).
"""

import asyncio
import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from authz.claims import UserClaims
from authz.errors import AuthzError, KeyFormatError
from authz.keys import AccountPublicKey, AccountSeed, UserPublicKey
from authz.names import user_name
from authz.permissions import SubjectPermissions
from authz.principals import Principal
from authz.tokens import encode_user
from certs.authority import Authority
from certs.errors import CertsError
from runtime.control.accounts import gate_permissions
from runtime.control.calls import Call
from runtime.control.changes import GATE, Changes
from runtime.control.errors import BusyError, ConflictError, InvalidInputError, NotFoundError
from runtime.control.lastseen import LastSeen
from runtime.control.records import CredentialKind, CredentialRecord
from runtime.control.tenantkeys import TenantKeyring
from runtime.control.views import TenantView
from runtime.control.wire import Empty, IssueCredential, RevokeCredential

PLATFORM: Final = "platform"


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedCredential:
    """What its owner puts beside the seed and the key that never left it. Nothing of it is secret."""

    jwt: str
    certificate: bytes
    authority: bytes
    expires_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """A credential to be issued."""

    view: TenantView
    name: str
    role: str
    user: UserPublicKey
    expires_at: int
    issued_by: str
    kind: CredentialKind = "issued"
    parent: str = ""


class Credentials:
    """Answers `credentials.*`, and issues what `hosts.gate` and `hosts.agent` ask for."""

    def __init__(self, changes: Changes, keyring: TenantKeyring, authority: Authority, seen: LastSeen) -> None:
        self._changes, self._state, self._keyring = changes, changes.state, keyring
        self._authority, self._seen = authority, seen

    async def issue(self, call: Call[IssueCredential]) -> dict[str, object]:
        """A credential for a user key, and a certificate for the key of a request."""
        body = call.body
        if body.ttl_s > self._changes.limits.issued_ttl_max_s:
            raise InvalidInputError(f"a credential may live {self._changes.limits.issued_ttl_max_s} s at most")
        issued = await self.issue_certified(
            call.target,
            role=body.role,
            name=body.name,
            user=body.user,
            csr=body.csr.encode(),
            ttl_s=body.ttl_s,
            issued_by=call.principal.name,
        )
        return {
            "jwt": issued.jwt,
            "certificate": issued.certificate.decode(),
            "ca": issued.authority.decode(),
            "expires_at": issued.expires_at,
        }

    async def issue_certified(
        self, tenant: str, *, role: str, name: str, user: str, csr: bytes, ttl_s: int, issued_by: str
    ) -> IssuedCredential:
        """See `issue`.

        Raises:
            CommandError: refused; nothing is on record.
        """
        checked, key = _checked_name(name), _user_key(user)
        async with self._changes.turn(tenant):
            view = await self._changes.active(tenant)
            self._refuse_agents_role(role)
            await self._make_room(tenant)
            now = await self._after_revocation(view, checked)
            order = _Order(
                view=view, name=checked, role=role, user=key, expires_at=int(now) + ttl_s, issued_by=issued_by
            )
            certificate = self._certificate(order, csr, now)
            jwt = await self._issue_scoped(order, now)
        return IssuedCredential(
            jwt=jwt, certificate=certificate, authority=self._authority.certificate_pem, expires_at=order.expires_at
        )

    async def list_all(self, call: Call[Empty]) -> dict[str, object]:
        """Every credential on record, newest first."""
        view = await self._changes.existing(call.target)
        records = [r for r in self._state.credentials(call.target) if r.kind != "gate"]
        records.sort(key=lambda record: (-record.issued_at, record.name, record.user))
        return {"credentials": [self._shown(view, record) for record in records]}

    async def revoke(self, call: Call[RevokeCredential]) -> dict[str, object]:
        """Cut a user, or all of a name, off; answers when the server and every living host have."""
        name, body = call.target, call.body
        if (body.name is None) == (body.user is None):
            raise InvalidInputError("give either `name` or `user`")
        async with self._changes.turn(name):
            view = await self._changes.existing(name)
            matching = self._matching(name, body)
            await self._ban(view, matching)
        for record in matching:
            self._changes.hosts.forget_user(record.user)
        await self._changes.enforce(name, hosts_first=False)
        if name == PLATFORM:
            await self.revoke_orphans()
        await self.mark_revoked(name)
        return {"revoked": [record.user for record in matching]}

    async def issue_gate(self, principal: Principal, tenant: str, user: str) -> dict[str, object]:
        """SEC-2: a host's leave to receive one tenant's requests in GATE."""
        key, view = _user_key(user), await self._changes.existing(tenant)
        order = self._derived(principal, view, key, name=principal.name, role="", kind="gate")
        self._refuse_reuse(order)
        gate = self._changes.platform.gate
        now = self._changes.clock()
        jwt = _user_jwt(order, now, gate.signing, gate.public, gate_permissions(view.record.account))
        await self._record(order, gate.public.text, now)
        return {"jwt": jwt, "expires_at": order.expires_at}

    async def issue_agent(self, principal: Principal, tenant: str, agent: str, user: str) -> dict[str, object]:
        """A host's leave to act as a deployed agent in the tenant's account, under the agent's own role."""
        key, view = _user_key(user), await self._changes.active(tenant)
        if all(deployment.agent != agent for deployment in view.record.deployments):
            raise NotFoundError(f"tenant `{tenant}` has no agent `{agent}`")
        order = self._derived(principal, view, key, name=agent, role=f"agent:{agent}", kind="agent")
        return {"jwt": await self._issue_scoped(order, self._changes.clock()), "expires_at": order.expires_at}

    async def revoke_orphans(self) -> None:
        """Revoke what was derived from revoked credentials of hosts. May be repeated; part of every start."""
        platform = self._state.tenant(PLATFORM)
        if platform is None:
            return
        banned = platform.record.revocations
        orphans = [r for r in self._alive(self._state.all_credentials()) if r.parent in banned and r.revoked_at is None]
        await self._ban_in_gate([record for record in orphans if record.kind == "gate"])
        tenants = sorted({record.tenant for record in orphans if record.kind == "agent"})
        for tenant in tenants:
            await self._ban_agents(tenant, [r for r in orphans if r.kind == "agent" and r.tenant == tenant])
        # All are banned before anyone is waited for: one host that is slow must not keep another tenant's in.
        await asyncio.gather(*(self._changes.enforce(tenant, hosts_first=False) for tenant in tenants))
        for tenant in tenants:
            await self.mark_revoked(tenant)

    async def _ban_agents(self, tenant: str, orphans: list[CredentialRecord]) -> None:
        async with self._changes.turn(tenant):
            await self._state.settle_tenant(tenant)
            view = self._state.tenant(tenant)
            if view is not None and view.exists:
                await self._ban(view, orphans)

    async def mark_revoked(self, tenant: str) -> None:
        """Write into the credentials' records what the tenant's record already says. May be repeated."""
        view = self._state.tenant(tenant)
        for record in self._state.credentials(tenant):
            at = view.record.revocations.get(record.user) if view and record.kind != "gate" else None
            if at is not None and record.revoked_at is None:
                await self._state.put_credential(replace(record, revoked_at=at))

    def _refuse_agents_role(self, role: str) -> None:
        if role.startswith("agent:"):
            raise InvalidInputError(f"role `{role[:70]}` is its agent's own: give people a role of theirs")

    async def _make_room(self, tenant: str) -> None:
        """Forget the oldest expired credentials where there are too many; refuse where too many are valid."""
        records, limits = self._state.credentials(tenant), self._changes.limits
        alive = len(self._alive(records))
        if alive >= limits.credentials_max:
            raise BusyError(f"tenant `{tenant}` has {alive} credentials that have not expired: more are not possible")
        now = self._changes.clock()
        expired = sorted((r for r in records if r.expires_at <= now), key=lambda record: record.expires_at)
        for record in expired[: max(0, len(records) + 1 - limits.credentials_kept_max)]:
            await self._state.drop_credential(record)

    def _derived(
        self,
        principal: Principal,
        view: TenantView,
        user: UserPublicKey,
        *,
        name: str,
        role: str,
        kind: CredentialKind,
    ) -> _Order:
        ends = int(self._changes.clock()) + self._changes.limits.derived_ttl_s
        return _Order(
            view=view,
            name=name,
            role=role,
            user=user,
            expires_at=ends if principal.expires_at is None else min(ends, principal.expires_at),
            issued_by=principal.name,
            kind=kind,
            parent=principal.user,
        )

    async def _issue_scoped(self, order: _Order, now: float) -> str:
        record = order.view.record
        if order.role not in record.roles:
            known = ", ".join(f"`{role}`" for role in sorted(record.roles)[:10])
            raise NotFoundError(f"tenant `{record.tenant}` has no role `{order.role[:70]}`: it has {known}")
        self._refuse_reuse(order)
        keys = await asyncio.to_thread(self._keyring.load, record.tenant, record.roles)
        jwt = _user_jwt(order, now, keys.roles[order.role], AccountPublicKey.parse(record.account), None)
        await self._record(order, record.account, now)  # the commit point
        return jwt

    def _refuse_reuse(self, order: _Order) -> None:
        tenant, user = order.view.record.tenant, order.user.text
        known = self._state.credential(tenant, user)
        if user in order.view.record.revocations or (known and known.revoked_at is not None):
            raise ConflictError(f"user key `{user}` was revoked: make a new key")
        if known and (known.name, known.role, known.kind) != (order.name, order.role, order.kind):
            raise ConflictError(f"user key `{user}` has a credential of another name or role: make a new key")

    async def _record(self, order: _Order, account: str, now: float) -> None:
        tenant, user = order.view.record.tenant, order.user.text
        known = self._state.credential(tenant, user)
        await self._state.put_credential(
            CredentialRecord(
                tenant=tenant,
                account=account,
                user=user,
                name=order.name,
                role=order.role,
                kind=order.kind,
                issued_at=int(now),
                # INVARIANT: a revocation must outlive every token of this key, so the latest end counts.
                expires_at=max(order.expires_at, known.expires_at if known else 0),
                issued_by=order.issued_by,
                parent=order.parent,
            )
        )

    def _certificate(self, order: _Order, csr: bytes, now: float) -> bytes:
        try:
            return self._authority.sign_client_request(
                csr,
                uri=f"spiffe://garrison/{order.view.record.tenant}/{order.name}",
                now=now,
                lifetime=dt.timedelta(seconds=order.expires_at - now),
            )
        except CertsError as error:
            raise InvalidInputError(f"the certificate request is refused: {error}") from error

    def _matching(self, tenant: str, body: RevokeCredential) -> list[CredentialRecord]:
        issued = [r for r in self._alive(self._state.credentials(tenant)) if r.kind == "issued"]
        matching = [r for r in issued if body.name in (None, r.name) and body.user in (None, r.user)]
        if not matching:
            what = f"name `{body.name}`" if body.name is not None else f"user key `{body.user}`"
            raise NotFoundError(f"tenant `{tenant}` has no valid credential of {what[:90]}")
        return matching

    def _alive(self, records: Iterable[CredentialRecord]) -> list[CredentialRecord]:
        now = self._changes.clock()
        return [record for record in records if record.expires_at > now]

    async def _ban(self, view: TenantView, records: Iterable[CredentialRecord]) -> None:
        """Add to the tenant's revocations, and drop those whose last token has expired (SEC-9)."""
        now = int(self._changes.clock())
        held = view.record.revocations
        new = {r.user: max(now, r.issued_at) for r in records if r.user not in held}
        if new:
            kept = self._still_needed(view.record.tenant, held)
            await self._changes.commit(replace(view.record, revocations={**kept, **new}, changed_at=now))

    async def _ban_in_gate(self, records: list[CredentialRecord]) -> None:
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

    async def _after_revocation(self, view: TenantView, name: str) -> float:
        """SEC-9: the time to issue at: in a later second than the name's last revocation, never in the same."""
        records = self._state.credentials(view.record.tenant)
        times = [view.record.revocations.get(record.user, 0) for record in records if record.name == name]
        free = max(times, default=0) + 1
        if 0 < (wait := free - self._changes.clock()) <= 1:
            await asyncio.sleep(wait)
        return max(self._changes.clock(), float(free))

    def _shown(self, view: TenantView, record: CredentialRecord) -> dict[str, object]:
        revoked_at = view.record.revocations.get(record.user, record.revoked_at)
        if revoked_at is not None:
            status = "revoked"
        elif record.expires_at <= self._changes.clock():
            status = "expired"
        else:
            status = "active" if record.role in view.record.roles else "role removed"
        return {
            "name": record.name,
            "role": record.role,
            "user": record.user,
            "kind": record.kind,
            "status": status,
            "issued_at": record.issued_at,
            "issued_by": record.issued_by,
            "expires_at": record.expires_at,
            "revoked_at": revoked_at,
            "last_seen": self._seen.of(record.tenant, record.user),
        }


def _user_jwt(
    order: _Order,
    now: float,
    signer: AccountSeed,
    account: AccountPublicKey,
    permissions: SubjectPermissions | None,
) -> str:
    claims = UserClaims(
        name=order.name,
        subject=order.user,
        issuer=signer.public,
        issuer_account=account,
        issued_at=int(now),
        expires_at=order.expires_at,
        permissions=permissions,
    )
    return encode_user(claims, signer)


def _checked_name(text: str) -> str:
    try:
        return user_name(text)
    except AuthzError as error:
        raise InvalidInputError(str(error)) from error


def _user_key(text: str) -> UserPublicKey:
    try:
        return UserPublicKey.parse(text)
    except KeyFormatError as error:
        raise InvalidInputError(f"`user` is {error}") from error
