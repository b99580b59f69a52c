"""NATS JWT claims (version 2) as typed records: what an operator, an account and a user are.

Rules it keeps: plain immutable data; keys are typed by kind; times are whole unix seconds. It models what
this project issues, not all that NATS knows: `authz.claimsreader` refuses a token that carries anything else
rather than dropping it. Not here: signing and verifying (`authz.tokens`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from authz.keys import AccountPublicKey, OperatorPublicKey, UserPublicKey
from authz.permissions import SubjectPermissions

UNLIMITED = -1
ALL_USERS = "*"  # the key in `AccountClaims.revocations` that covers every user


@dataclass(frozen=True, kw_only=True, slots=True)
class UserClaims:
    """One user's right to connect to one account.

    `permissions` is None for a scoped user: the template of the signing key `issuer` then applies. `jti` is
    a hash of the other claims; it is filled in by encoding and takes no part in comparison.
    """

    name: str
    subject: UserPublicKey
    issuer: AccountPublicKey
    issuer_account: AccountPublicKey | None
    issued_at: int
    expires_at: int | None
    not_before: int | None = None
    permissions: SubjectPermissions | None = None
    tags: tuple[str, ...] = ()
    jti: str = field(default="", compare=False)

    @property
    def account(self) -> AccountPublicKey:
        """The account this user belongs to: `issuer` may be one of its signing keys."""
        return self.issuer_account or self.issuer


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopedSigningKey:
    """An account's signing key bound to a role: users it signs have exactly `template`."""

    key: AccountPublicKey
    role: str
    template: SubjectPermissions
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceExport:
    """A subject on which an account answers the requests of others.

    `account_token_position` (1-based; 0: none) is the wildcard that must hold the importing account's key;
    `response_threshold_s` is how long the server keeps the way back open.
    """

    subject: str
    account_token_position: int
    response_threshold_s: float
    response_type: Literal["Singleton", "Stream", "Chunked"] = "Singleton"
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceImport:
    """Another account's service, reached on `local_subject`; `share` adds the caller's identity."""

    subject: str
    account: AccountPublicKey
    local_subject: str
    share: bool
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JetStreamLimits:
    """What an account may store, in bytes and counts; the default is: nothing, JetStream off."""

    memory_bytes: int = 0
    disk_bytes: int = 0
    streams: int = 0
    consumers: int = 0
    max_ack_pending: int = 0
    memory_max_stream_bytes: int = 0
    disk_max_stream_bytes: int = 0
    max_bytes_required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountLimits:
    """SEC-10: what an account may use. `UNLIMITED` lifts a limit; 0 allows none."""

    connections: int
    subscriptions: int
    payload_bytes: int
    data: int = UNLIMITED
    imports: int = 0
    exports: int = 0
    wildcard_exports: bool = False
    leaf_nodes: int = 0
    disallow_bearer: bool = True
    jetstream: JetStreamLimits = JetStreamLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountClaims:
    """One account: its limits, its signing keys, and what it shares with other accounts.

    `revocations` maps a user's key, or `ALL_USERS`, to a time: user tokens issued at or before it are
    refused.
    """

    name: str
    subject: AccountPublicKey
    issuer: OperatorPublicKey
    issued_at: int
    limits: AccountLimits
    signing_keys: tuple[AccountPublicKey | ScopedSigningKey, ...] = ()
    exports: tuple[ServiceExport, ...] = ()
    imports: tuple[ServiceImport, ...] = ()
    revocations: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    tags: tuple[str, ...] = ()
    jti: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorClaims:
    """The root of trust of one platform.

    With `strict_signing_keys` the server accepts only accounts and users issued by signing keys, never by
    identity keys.
    """

    name: str
    subject: OperatorPublicKey
    issuer: OperatorPublicKey
    issued_at: int
    signing_keys: tuple[OperatorPublicKey, ...] = ()
    system_account: AccountPublicKey | None = None
    strict_signing_keys: bool = False
    jti: str = field(default="", compare=False)
