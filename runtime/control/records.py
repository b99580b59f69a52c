"""What the control plane stores: one typed record for each kind, as JSON with a version in it.

Rules it keeps: unknown fields and unknown versions are refused, not guessed at (an older release must not write over
a newer one's state); everything of a tenant that must change together is in one record, so that one write commits it.
No secrets: seeds are in the key store.
"""

from typing import Final, Literal, TypeVar

import msgspec

from runtime.control.errors import StateDamagedError, StateVersionError

FORMAT: Final = 1

TenantStatus = Literal["active", "suspended", "deleting", "deleted"]
CredentialKind = Literal["issued", "gate", "agent"]


class Running(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of an agent that shall run; `number` rises with each deployment of the tenant."""

    digest: str
    entry: str
    number: int


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent deployed; while not `settled`, `previous` is what comes back should it fail."""

    agent: str
    wanted: Running
    settled: bool = True
    previous: Running | None = None


class TenantRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant: `roles` maps role to public signing key, `claims` is its account's current token.

    INVARIANT: `claims` says the same as the rest of the record, and `claims_iat` never falls (SEC-9).
    """

    v: int = FORMAT
    tenant: str
    account: str
    status: TenantStatus
    policy: str
    epoch: int
    roles: dict[str, str]
    revocations: dict[str, int]
    deployments: tuple[Deployment, ...] = ()
    deployed: int = 0
    created_at: int
    changed_at: int
    claims_iat: int
    claims: str


class CredentialRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A credential issued: `account` is whose claims revoke it, `parent` the user key that asked for a derived one."""

    v: int = FORMAT
    tenant: str
    account: str
    user: str
    name: str
    role: str
    kind: CredentialKind
    issued_at: int
    expires_at: int
    issued_by: str
    parent: str = ""
    revoked_at: int | None = None


class AccountRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The claims of one of the platform's own accounts."""

    v: int = FORMAT
    name: str
    account: str
    revocations: dict[str, int]
    claims_iat: int
    claims: str


class HostRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host that polled not long ago: after a restart its acknowledgement is waited for."""

    v: int = FORMAT
    host: str
    instance: str
    user: str


class KeyVersionRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a data key: `wrapped` in base64, "" once it is destroyed."""

    version: int
    state: Literal["active", "opening", "destroyed"]
    wrapped: str
    created_at: int


class ScopeRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data key of a tenant with all its versions, in the order in which they were made."""

    v: int = FORMAT
    tenant: str
    label: str
    subject: str | None
    versions: tuple[KeyVersionRecord, ...]

    @property
    def scope(self) -> str:
        """The key's name without a version."""
        return self.label if self.subject is None else f"{self.label}/{self.subject}"


class _Version(msgspec.Struct):
    v: int


RecordT = TypeVar("RecordT", TenantRecord, CredentialRecord, AccountRecord, HostRecord, ScopeRecord)


def encode(record: msgspec.Struct) -> bytes:
    """The bytes to store."""
    return msgspec.json.encode(record)


def decode(kind: type[RecordT], key: str, data: bytes) -> RecordT:
    """Read what is stored under `key`.

    Raises:
        StateVersionError: it has another version.
        StateDamagedError: it is not a record of that kind.
    """
    try:
        version = msgspec.json.decode(data, type=_Version).v
        if version != FORMAT:
            raise StateVersionError(key=key, found=version)
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StateDamagedError(key=key, fault=str(error)) from error
