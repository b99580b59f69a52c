"""SEC-1b: from what the server says of a caller to a verified principal.

Rules it keeps: the embedded user token is the only source of identity, and its signature is verified; what can
change while a token is in use (expiry, revocation, the tenant's role keys, suspension) is checked at *every* use,
cached or not. Deny by default: every doubt is an `IdentityError`. Time is passed in. Not here: what the principal
may do (`authz.decisions`).
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from authz.claims import ALL_USERS, UserClaims
from authz.errors import IdentityError, TokenError
from authz.requestinfo import RequestInfo
from authz.tokens import check_times, decode_user

CALLER_KIND: Final = "Client"


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """A verified caller.

    `assurance` says how: `asserted` by the server's witness alone, `signed` when the caller's own key was the second.
    """

    tenant: str
    account: str
    user: str
    name: str
    role: str
    tags: tuple[str, ...]
    issued_at: int
    expires_at: int | None
    assurance: Literal["asserted", "signed"] = "asserted"


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantTrust:
    """Whom to believe for one tenant, at this moment.

    Attributes:
        tenant: its name.
        account: its account's key.
        roles: each current role key, and its role's name.
        revocations: user key, or `*` for all, to a unix time: tokens issued at or before it are void.
        suspended: nobody of this tenant is let in.
    """

    tenant: str
    account: str
    roles: Mapping[str, str]
    revocations: Mapping[str, int]
    suspended: bool = False


class VerifiedClaims:
    """Claims whose signature was verified, with the principal they last gave."""

    __slots__ = ("account", "claims", "issuer", "principal", "user")

    def __init__(self, claims: UserClaims) -> None:
        self.claims = claims
        self.account = claims.account.text
        self.issuer = claims.issuer.text
        self.user = claims.subject.text
        self.principal: Principal | None = None

    def principal_as(self, tenant: str, role: str) -> Principal:
        """The principal under a role; built anew only when that changed."""
        known = self.principal
        if known is None or known.role != role or known.tenant != tenant:
            known = self.principal = Principal(
                tenant=tenant,
                account=self.account,
                user=self.user,
                name=self.claims.name,
                role=role,
                tags=self.claims.tags,
                issued_at=self.claims.issued_at,
                expires_at=self.claims.expires_at,
            )
        return known


class PrincipalCache:
    """Tokens whose signatures were verified: at most `capacity`, the least recently used go first.

    Only what can't change is kept. For one event loop: not for use by several threads.
    """

    def __init__(self, *, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._verified: OrderedDict[str, VerifiedClaims] = OrderedDict()

    def __len__(self) -> int:
        return len(self._verified)

    def verified(self, unverified_token: str) -> VerifiedClaims:
        """The token's claims, verified now or earlier. Its times are not checked.

        Raises:
            TokenError: the token is refused. Refusals are not kept.
        """
        known = self._verified.get(unverified_token)
        if known is not None:
            self._verified.move_to_end(unverified_token)
            return known
        entry = VerifiedClaims(decode_user(unverified_token, now=None))
        self._verified[unverified_token] = entry
        if len(self._verified) > self._capacity:
            self._verified.popitem(last=False)
        return entry


def authenticate(
    info: RequestInfo, *, subject_account: str, trust: TenantTrust, now: float, cache: PrincipalCache
) -> Principal:
    """Verify who is calling.

    Args:
        info: what `read_request_info` read.
        subject_account: the account in the subject that the message was delivered under.
        trust: the tenant that this message is for.
        now: unix seconds.
        cache: verified tokens of this tenant.

    Raises:
        IdentityError: any of it does not hold.
    """
    # SEC-1b: (1) an ordinary client, calling directly
    if info.kind != CALLER_KIND:
        raise IdentityError("caller-kind")
    if info.service is not None:
        raise IdentityError("caller-indirect")
    # (2) one account in the subject, in the server's line and in what we trust
    if not subject_account == info.account == trust.account:
        raise IdentityError("account-mismatch")
    # (3) the tenant is not suspended
    if trust.suspended:
        raise IdentityError("tenant-suspended")
    # (4) the token's signature, its account, its scope, its times
    verified = _verify(info.user_jwt, trust, now, cache)
    # (5) issued by a current role key of the tenant
    role = trust.roles.get(verified.issuer)
    if role is None:
        raise IdentityError("role-unknown")
    # (6) not revoked, nor all of the tenant's users
    for key in (verified.user, ALL_USERS):
        if verified.claims.issued_at <= trust.revocations.get(key, -1):
            raise IdentityError("revoked")
    return verified.principal_as(trust.tenant, role)


def _verify(unverified_token: str, trust: TenantTrust, now: float, cache: PrincipalCache) -> VerifiedClaims:
    try:
        verified = cache.verified(unverified_token)
        check_times(verified.claims, now=now)
    except TokenError as error:
        raise IdentityError(error.slug) from error
    if verified.account != trust.account:
        raise IdentityError("account-mismatch")
    if verified.claims.permissions is not None:
        raise IdentityError("token-unscoped")
    return verified
