"""Issuing credentials: to people for their own keys, and to hosts for keys of theirs.

Rules it keeps: a seed never travels, only public keys and certificate requests do; a credential is on record before it
is handed out; a certificate lives no longer than its token (SEC-8); a derived credential no longer than its parent.
SEC-9: a revoked user key stays banned; a revoked name is issued again in a later second.

Not here: revoking (`revoking`), and who may ask (`service`).
"""

import asyncio
import datetime as dt
from dataclasses import dataclass

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
from runtime.control.changes import Changes
from runtime.control.errors import BusyError, ConflictError, InvalidInputError, NotFoundError
from runtime.control.records import CredentialKind, CredentialRecord
from runtime.control.tenantkeys import TenantKeyring
from runtime.control.views import TenantView


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


class Issuing:
    """Issues credentials and keeps the record of them."""

    def __init__(self, changes: Changes, keyring: TenantKeyring, authority: Authority) -> None:
        self._changes, self._state, self._keyring = changes, changes.state, keyring
        self._authority = authority

    async def certified(
        self, tenant: str, *, role: str, name: str, user: str, csr: bytes, ttl_s: int, principal: Principal | None
    ) -> IssuedCredential:
        """A credential for a user key, and a certificate for the key of a request; `principal` asks, or the platform.

        Raises:
            CommandError: refused; nothing is on record.
        """
        checked, key = _checked_name(name), _user_key(user)
        async with self._changes.turn(tenant):
            self._changes.require_trusted(principal)
            view = await self._changes.active(tenant)
            _refuse_agents_role(role)
            await self._make_room(tenant)
            now = await self._after_revocation(view, checked)
            order = _Order(
                view=view,
                name=checked,
                role=role,
                user=key,
                expires_at=int(now) + ttl_s,
                issued_by=principal.name if principal else "control",
            )
            certificate = self._certificate(order, csr, now)
            jwt = await self._issue_scoped(order, now)
        return IssuedCredential(
            jwt=jwt, certificate=certificate, authority=self._authority.certificate_pem, expires_at=order.expires_at
        )

    async def for_gate(self, principal: Principal, tenant: str, user: str) -> dict[str, object]:
        """SEC-2: a host's leave to receive one tenant's requests in GATE."""
        key, view = _user_key(user), await self._changes.existing(tenant)
        order = self._derived(principal, view, key, name=principal.name, role="", kind="gate")
        self._refuse_reuse(order)
        gate = self._changes.platform.gate
        now = self._changes.clock()
        jwt = _user_jwt(order, now, gate.signing, gate.public, gate_permissions(view.record.account))
        await self._record(order, gate.public.text, now)
        self._changes.require_trusted(principal)  # revoked meanwhile: then this was not in the list of what to revoke
        return {"jwt": jwt, "expires_at": order.expires_at}

    async def for_agent(self, principal: Principal, tenant: str, agent: str, user: str) -> dict[str, object]:
        """A host's leave to act as a deployed agent in the tenant's account, under the agent's own role."""
        key, view = _user_key(user), await self._changes.active(tenant)
        if all(deployment.agent != agent for deployment in view.record.deployments):
            raise NotFoundError(f"tenant `{tenant}` has no agent `{agent}`")
        order = self._derived(principal, view, key, name=agent, role=f"agent:{agent}", kind="agent")
        jwt = await self._issue_scoped(order, self._changes.clock())
        self._changes.require_trusted(principal)
        return {"jwt": jwt, "expires_at": order.expires_at}

    async def _make_room(self, tenant: str) -> None:
        """Forget the oldest expired credentials where there are too many; refuse where too many are valid."""
        records, limits = self._state.credentials(tenant), self._changes.limits
        now = self._changes.clock()
        alive = len([r for r in records if r.expires_at > now])
        if alive >= limits.credentials_max:
            raise BusyError(f"tenant `{tenant}` has {alive} credentials that have not expired: more are not possible")
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

    async def _after_revocation(self, view: TenantView, name: str) -> float:
        """SEC-9: the time to issue at: in a later second than the name's last revocation, never in the same."""
        records = self._state.credentials(view.record.tenant)
        times = [view.record.revocations.get(record.user, 0) for record in records if record.name == name]
        free = max(times, default=0) + 1
        if 0 < (wait := free - self._changes.clock()) <= 1:
            await asyncio.sleep(wait)
        return max(self._changes.clock(), float(free))


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


def _refuse_agents_role(role: str) -> None:
    if role.startswith("agent:"):
        raise InvalidInputError(f"role `{role[:70]}` is its agent's own: give people a role of theirs")
