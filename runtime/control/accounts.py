"""The accounts of the platform as claims: SYS, GATE, CONTROL, PLATFORM and one a tenant, with their limits.

Rules it keeps: SEC-2 (GATE and CONTROL only answer: no imports, no JetStream in GATE), SEC-10 (a limit on everything
that others can use up), SEC-9 (`next_issued_at` only rises). Pure: keys, templates and time are passed in.

Not here: the policy that makes a role's template (`authz.compiler`), pushing claims (`runtime.control.claims`).
"""

from collections.abc import Mapping
from typing import Final

from authz.claims import (
    ALL_USERS,
    UNLIMITED,
    AccountClaims,
    AccountLimits,
    JetStreamLimits,
    ScopedSigningKey,
    ServiceExport,
    ServiceImport,
)
from authz.keys import AccountPublicKey, OperatorPublicKey
from authz.permissions import ResponsePermission, SubjectPermissions
from runtime.bus import subjects

MIB: Final = 1024 * 1024
REQUEST_THRESHOLD_S: Final = 31.0  # just over the longest unary deadline, 30 s
TENANT_PAYLOAD: Final = 256 * 1024
CONTROL_PAYLOAD: Final = MIB  # account claims and snapshots of many tenants travel in one message
ACCOUNT_TOKEN: Final = 2  # `tenant.<account>.…`: the server checks it against the importing account
FOREVER: Final = 2**40  # a revocation of all users that covers any issue date: a suspended account

_TENANT_LIMITS: Final = AccountLimits(
    connections=256,
    subscriptions=4096,
    payload_bytes=TENANT_PAYLOAD,
    imports=2,
    jetstream=JetStreamLimits(disk_bytes=16 * MIB, streams=8, consumers=32, max_bytes_required=True),
)
_GATE_LIMITS: Final = AccountLimits(
    connections=UNLIMITED,  # each host holds one for each tenant; only the control plane issues them
    subscriptions=UNLIMITED,
    payload_bytes=TENANT_PAYLOAD,
    exports=1,
    wildcard_exports=True,
)
_CONTROL_LIMITS: Final = AccountLimits(
    connections=16,
    subscriptions=1024,
    payload_bytes=CONTROL_PAYLOAD,
    exports=1,
    wildcard_exports=True,
    jetstream=JetStreamLimits(disk_bytes=UNLIMITED, streams=32, consumers=256),
)
_SYS_LIMITS: Final = AccountLimits(connections=16, subscriptions=1024, payload_bytes=CONTROL_PAYLOAD)

NOTHING: Final = SubjectPermissions(publish_deny=(">",), subscribe_deny=(">",))  # SEC-3: never an empty list


def next_issued_at(now: float, previous: int) -> int:
    """SEC-9: the time to put into an account's next claims: now, but later than `previous` in any case."""
    return max(int(now), previous + 1)


def system_account(
    *, account: AccountPublicKey, signing: AccountPublicKey, issuer: OperatorPublicKey, issued_at: int
) -> AccountClaims:
    """SYS: the control plane's claims updates, nobody else."""
    return AccountClaims(
        name="SYS",
        subject=account,
        issuer=issuer,
        issued_at=issued_at,
        limits=_SYS_LIMITS,
        signing_keys=(signing,),
    )


def gate_account(
    *,
    account: AccountPublicKey,
    signing: AccountPublicKey,
    issuer: OperatorPublicKey,
    issued_at: int,
    revocations: Mapping[str, int],
) -> AccountClaims:
    """GATE: where hosts receive the capability requests of all tenants (SEC-2)."""
    return AccountClaims(
        name="GATE",
        subject=account,
        issuer=issuer,
        issued_at=issued_at,
        limits=_GATE_LIMITS,
        signing_keys=(signing,),
        exports=(_export(subjects.gate_capabilities_export(), "capabilities"),),
        revocations=revocations,
    )


def control_account(
    *, account: AccountPublicKey, signing: AccountPublicKey, issuer: OperatorPublicKey, issued_at: int
) -> AccountClaims:
    """CONTROL: where the control plane answers and keeps its state."""
    return AccountClaims(
        name="CONTROL",
        subject=account,
        issuer=issuer,
        issued_at=issued_at,
        limits=_CONTROL_LIMITS,
        signing_keys=(signing,),
        exports=(_export(subjects.control_admin_all(), "administration"),),
    )


def tenant_account(
    *,
    tenant: str,
    account: AccountPublicKey,
    issuer: OperatorPublicKey,
    issued_at: int,
    roles: Mapping[str, ScopedSigningKey],
    revocations: Mapping[str, int],
    suspended: bool,
    gate: AccountPublicKey,
    control: AccountPublicKey,
) -> AccountClaims:
    """A tenant's account, PLATFORM's included: one scoped signing key a role, and the two imports.

    A suspended account revokes all its users, whatever their tokens' age: they are cut at once and kept out.
    """
    return AccountClaims(
        name=tenant,
        subject=account,
        issuer=issuer,
        issued_at=issued_at,
        limits=_TENANT_LIMITS,
        signing_keys=tuple(roles[role] for role in sorted(roles)),
        imports=(
            _import(account, gate, f"tenant.{account}.capabilities.>", subjects.capabilities_all(), "capabilities"),
            _import(account, control, f"tenant.{account}.admin.>", subjects.admin_all(), "administration"),
        ),
        revocations={**revocations, ALL_USERS: FOREVER} if suspended else revocations,
    )


def gate_permissions(account: str) -> SubjectPermissions:
    """SEC-2: what a host may do in GATE for one tenant: receive its requests, answer each once."""
    return SubjectPermissions(
        publish_deny=(">",),
        subscribe_allow=(subjects.gate_capabilities_all(account),),
        responses=ResponsePermission(max=1, ttl_s=REQUEST_THRESHOLD_S),
    )


def _export(subject: str, name: str) -> ServiceExport:
    return ServiceExport(
        subject=subject,
        account_token_position=ACCOUNT_TOKEN,
        response_threshold_s=REQUEST_THRESHOLD_S,
        name=name,
    )


def _import(
    importer: AccountPublicKey, exporter: AccountPublicKey, subject: str, local: str, name: str
) -> ServiceImport:
    if str(importer) not in subject:
        raise ValueError(f"import of {name} is not bound to its account")
    return ServiceImport(subject=subject, account=exporter, local_subject=local, share=True, name=name)
