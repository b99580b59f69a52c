"""The platform's own keys, made once: operator, SYS, GATE, CONTROL, PLATFORM and the certificate authority.

Rules it keeps: all of them are one sealed document in the key store, so they exist together or not at all, whenever
the process dies; what is there is never replaced. The control plane's own credentials are made in memory, fresh for
each connection, and are never stored.

Not here: tenants' keys (`runtime.control.tenantkeys`), and everything that needs a server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from authz.claims import AccountClaims, OperatorClaims, UserClaims
from authz.creds import Creds
from authz.keys import AccountPublicKey, AccountSeed, OperatorSeed, UserSeed
from authz.permissions import SubjectPermissions
from authz.tokens import encode_account, encode_operator, encode_user
from certs.authority import Authority
from certs.errors import KeyNotFoundError
from runtime.bus import subjects
from runtime.control import accounts
from runtime.control.errors import StateDamagedError, StateVersionError
from runtime.control.ports import Clock

PLATFORM_KEY: Final = "platform"
OWN_CREDENTIALS_TTL_S: Final = 24 * 3600
_FORMAT: Final = 1


class Keys(Protocol):
    """The part of `certs.keystore.KeyStore` that is used here."""

    def get(self, name: str) -> bytes:
        """The bytes stored under `name`; raises `KeyNotFoundError`."""

    def put(self, name: str, data: bytes) -> None:
        """Store durably and all at once."""

    def put_new(self, name: str, data: bytes) -> None:
        """Like `put`, for a name that must be free; raises `KeyExistsError`."""

    def delete(self, name: str) -> None:
        """Remove; raises `KeyNotFoundError`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountKeys:
    """One of the platform's accounts: the identity names it, the signing key issues its users."""

    identity: AccountSeed
    signing: AccountSeed

    @property
    def public(self) -> AccountPublicKey:
        """The account's name for the server."""
        return self.identity.public


@dataclass(frozen=True, kw_only=True, slots=True)
class PlatformKeys:
    """Everything secret that the platform itself holds. Never prints: each part redacts itself."""

    operator_identity: OperatorSeed
    operator: OperatorSeed
    sys: AccountKeys
    gate: AccountKeys
    control: AccountKeys
    platform: AccountSeed
    authority: Authority
    created_at: int

    def operator_jwt(self) -> str:
        """The operator's token for the server's configuration; the same at every start."""
        claims = OperatorClaims(
            name="garrison",
            subject=self.operator_identity.public,
            issuer=self.operator_identity.public,
            issued_at=self.created_at,
            signing_keys=(self.operator.public,),
            system_account=self.sys.public,
            strict_signing_keys=True,
        )
        return encode_operator(claims, self.operator_identity)

    def initial_account_jwts(self) -> Mapping[AccountPublicKey, str]:
        """What the server must know before the control plane can connect: SYS and CONTROL.

        SEC-9: to be written into a resolver that does not have the account yet, never over what it has.
        """
        claims = (self.system_claims(self.created_at), self.control_claims(self.created_at))
        return {each.subject: encode_account(each, self.operator) for each in claims}

    def system_claims(self, issued_at: int) -> AccountClaims:
        """SYS, as of `issued_at`."""
        return accounts.system_account(
            account=self.sys.public,
            signing=self.sys.signing.public,
            issuer=self.operator.public,
            issued_at=issued_at,
        )

    def control_claims(self, issued_at: int) -> AccountClaims:
        """CONTROL, as of `issued_at`."""
        return accounts.control_account(
            account=self.control.public,
            signing=self.control.signing.public,
            issuer=self.operator.public,
            issued_at=issued_at,
        )

    def gate_claims(self, issued_at: int, revocations: Mapping[str, int]) -> AccountClaims:
        """GATE, as of `issued_at`."""
        return accounts.gate_account(
            account=self.gate.public,
            signing=self.gate.signing.public,
            issuer=self.operator.public,
            issued_at=issued_at,
            revocations=revocations,
        )

    def control_creds(self, now: float, ttl_s: int = OWN_CREDENTIALS_TTL_S) -> Creds:
        """Fresh credentials of the control plane in CONTROL: JetStream, its service, its inbox."""
        return _own_creds("control-plane", self.control, now, ttl_s, _control_permissions)

    def system_creds(self, now: float, ttl_s: int = OWN_CREDENTIALS_TTL_S) -> Creds:
        """Fresh credentials of the control plane in SYS: claims, nothing else."""
        return _own_creds("claims-writer", self.sys, now, ttl_s, _system_permissions)


class PlatformCredentials:
    """`PlatformKeys` with a clock: two callables to hand to the bus, which calls them at every (re)connect."""

    __slots__ = ("_clock", "_keys")

    def __init__(self, keys: PlatformKeys, clock: Clock) -> None:
        self._keys, self._clock = keys, clock

    def control_creds(self) -> Creds:
        """See `PlatformKeys.control_creds`."""
        return self._keys.control_creds(self._clock())

    def system_creds(self) -> Creds:
        """See `PlatformKeys.system_creds`."""
        return self._keys.system_creds(self._clock())


class _Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the keys are stored. Its repr would show secrets: it never leaves this module."""

    v: int
    created_at: int
    operator_identity: str
    operator: str
    sys: tuple[str, str]
    gate: tuple[str, str]
    control: tuple[str, str]
    platform: str
    authority_certificate: str
    authority_key: str


def ensure_platform(keystore: Keys, now: float) -> PlatformKeys:
    """The platform's keys; made and stored first if there are none.

    Raises:
        StateVersionError: they were stored by a newer version.
        StateDamagedError: what is stored is not the platform's keys.
        CertsError: the key store can't be used.
    """
    try:
        stored = keystore.get(PLATFORM_KEY)
    except KeyNotFoundError:
        keys = _generate(now)
        keystore.put(PLATFORM_KEY, msgspec.json.encode(_to_document(keys)))
        return keys
    return _read(stored)


def _generate(now: float) -> PlatformKeys:
    return PlatformKeys(
        operator_identity=OperatorSeed.generate(),
        operator=OperatorSeed.generate(),
        sys=AccountKeys(identity=AccountSeed.generate(), signing=AccountSeed.generate()),
        gate=AccountKeys(identity=AccountSeed.generate(), signing=AccountSeed.generate()),
        control=AccountKeys(identity=AccountSeed.generate(), signing=AccountSeed.generate()),
        platform=AccountSeed.generate(),
        authority=Authority.create("Garrison platform authority", now=now),
        created_at=int(now),
    )


def _to_document(keys: PlatformKeys) -> _Document:
    return _Document(
        v=_FORMAT,
        created_at=keys.created_at,
        operator_identity=keys.operator_identity.reveal(),
        operator=keys.operator.reveal(),
        sys=(keys.sys.identity.reveal(), keys.sys.signing.reveal()),
        gate=(keys.gate.identity.reveal(), keys.gate.signing.reveal()),
        control=(keys.control.identity.reveal(), keys.control.signing.reveal()),
        platform=keys.platform.reveal(),
        authority_certificate=keys.authority.certificate_pem.decode(),
        authority_key=keys.authority.key_pem().decode(),
    )


def _read(stored: bytes) -> PlatformKeys:
    try:
        version = msgspec.json.decode(stored, type=dict[str, object]).get("v")
        if version != _FORMAT:
            raise StateVersionError(key=PLATFORM_KEY, found=version)
        document = msgspec.json.decode(stored, type=_Document)
    except (msgspec.MsgspecError, ValueError):
        # `from None`: the library's message may quote what it could not read, and that is secret.
        raise StateDamagedError(key=PLATFORM_KEY, fault="it is not the platform's keys") from None
    return _from_document(document)


def _from_document(document: _Document) -> PlatformKeys:
    return PlatformKeys(
        operator_identity=OperatorSeed.parse(document.operator_identity),
        operator=OperatorSeed.parse(document.operator),
        sys=_account_keys(document.sys),
        gate=_account_keys(document.gate),
        control=_account_keys(document.control),
        platform=AccountSeed.parse(document.platform),
        authority=Authority.load(document.authority_certificate.encode(), document.authority_key.encode()),
        created_at=document.created_at,
    )


def _account_keys(seeds: tuple[str, str]) -> AccountKeys:
    return AccountKeys(identity=AccountSeed.parse(seeds[0]), signing=AccountSeed.parse(seeds[1]))


def _own_creds(name: str, account: AccountKeys, now: float, ttl_s: int, permissions: "_PermissionsOf") -> Creds:
    seed = UserSeed.generate()
    claims = UserClaims(
        name=name,
        subject=seed.public,
        issuer=account.signing.public,
        issuer_account=account.public,
        issued_at=int(now),
        expires_at=int(now) + ttl_s,
        permissions=permissions(seed.public.text),
    )
    return Creds(jwt=encode_user(claims, account.signing), seed=seed)


class _PermissionsOf(Protocol):
    def __call__(self, user: str, /) -> SubjectPermissions: ...


def _control_permissions(user: str) -> SubjectPermissions:
    return SubjectPermissions(
        publish_allow=("$JS.API.>", "$JS.ACK.>", "$KV.>", "$O.>", "audit.>", subjects.SERVICE_REPLY_PREFIX + ">"),
        subscribe_allow=(subjects.control_admin_all(), f"{subjects.inbox_prefix(user)}.>"),
    )


def _system_permissions(user: str) -> SubjectPermissions:
    return SubjectPermissions(
        publish_allow=(
            "$SYS.REQ.CLAIMS.>",
            "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",
            "$SYS.REQ.SERVER.>",
            subjects.USER_INFO,
        ),
        subscribe_allow=(f"{subjects.inbox_prefix(user)}.>", "$SYS.SERVER.>", "$SYS.ACCOUNT.>"),
    )
