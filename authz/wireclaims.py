"""The JSON of NATS JWT claims, version 2, field by field, as nats-server reads it.

Rules it keeps: strict. Types and ranges are checked and fields that this project does not write are
refused, not dropped: a bearer token or an unknown limit must not pass for an ordinary token. Not here: what
the fields mean (`authz.claims`), and the way from one to the other (`authz.claimswriter`,
`authz.claimsreader`).

Format: https://github.com/nats-io/jwt (v2): `UserClaims`, `AccountClaims`, `OperatorClaims`.
"""

from typing import Annotated, Generic, Literal, TypeVar

import msgspec

NANOSECONDS = 1_000_000_000  # in a second; durations are integers of them

Time = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Limit = Annotated[int, msgspec.Meta(ge=-1, le=2**62)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all parts have in common: unknown fields are refused, defaults are left out."""


class SubjectLists(_Part, frozen=True, kw_only=True):
    """Subjects allowed and denied, in one direction."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class Responses(_Part, frozen=True, kw_only=True):
    """Leave to answer requests."""

    max: Limit = 0
    ttl: Nanoseconds = 0


class Permissions(_Part, frozen=True, kw_only=True):
    """Permissions and limits, as in a user's claims and in a scope's template. -1 is no limit."""

    pub: SubjectLists | None = None
    sub: SubjectLists | None = None
    resp: Responses | None = None
    subs: Literal[0, -1] = 0
    data: Literal[0, -1] = 0
    payload: Literal[0, -1] = 0


class User(Permissions, frozen=True, kw_only=True):
    """`nats` of a user token."""

    issuer_account: str = ""
    tags: tuple[str, ...] = ()
    type: Literal["user"]
    version: Literal[2]


class Scope(_Part, frozen=True, kw_only=True, tag_field="kind", tag="user_scope"):
    """A signing key with the template of its role."""

    key: str
    role: str = ""
    template: Permissions
    description: str = ""


class Export(_Part, frozen=True, kw_only=True):
    """A service offered to other accounts."""

    name: str = ""
    subject: str
    type: Literal["service"]
    response_type: Literal["Singleton", "Stream", "Chunked"]
    response_threshold: Nanoseconds = 0
    account_token_position: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0


class Import(_Part, frozen=True, kw_only=True):
    """A service of another account."""

    name: str = ""
    subject: str
    account: str
    local_subject: str = ""
    type: Literal["service"]
    share: bool = False


class Limits(_Part, frozen=True, kw_only=True):
    """All limits of an account in one flat object."""

    subs: Limit = 0
    data: Limit = 0
    payload: Limit = 0
    imports: Limit = 0
    exports: Limit = 0
    wildcards: bool = False
    disallow_bearer: bool = False
    conn: Limit = 0
    leaf: Limit = 0
    mem_storage: Limit = 0
    disk_storage: Limit = 0
    streams: Limit = 0
    consumer: Limit = 0
    max_ack_pending: Limit = 0
    mem_max_stream_bytes: Limit = 0
    disk_max_stream_bytes: Limit = 0
    max_bytes_required: bool = False


class Account(_Part, frozen=True, kw_only=True):
    """`nats` of an account token."""

    imports: tuple[Import, ...] = ()
    exports: tuple[Export, ...] = ()
    limits: Limits
    signing_keys: tuple[str | Scope, ...] = ()
    revocations: dict[str, Time] = {}
    tags: tuple[str, ...] = ()
    type: Literal["account"]
    version: Literal[2]


class Operator(_Part, frozen=True, kw_only=True):
    """`nats` of an operator token."""

    signing_keys: tuple[str, ...] = ()
    system_account: str = ""
    strict_signing_key_usage: bool = False
    type: Literal["operator"]
    version: Literal[2]


class AccountDeletion(_Part, frozen=True, kw_only=True):
    """`nats` of a request to remove accounts: a generic token."""

    accounts: tuple[str, ...]
    type: Literal["generic"]
    version: Literal[2]


Body = TypeVar("Body", User, Account, Operator, AccountDeletion)


class Payload(_Part, Generic[Body], frozen=True, kw_only=True):
    """A whole payload: the registered claims of a JWT, and the NATS part."""

    jti: str = ""
    iat: Time
    iss: str
    name: str = ""
    sub: str
    exp: Time = 0
    nbf: Time = 0
    nats: Body
