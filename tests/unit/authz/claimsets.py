"""Claims made at run time, for the tests of `authz`."""

from typing import Any

from authz.claims import (
    AccountClaims,
    AccountLimits,
    JetStreamLimits,
    OperatorClaims,
    ScopedSigningKey,
    ServiceExport,
    ServiceImport,
    UserClaims,
)
from authz.keys import AccountSeed, OperatorSeed, UserSeed
from authz.permissions import ResponsePermission, SubjectPermissions

OPERATOR = OperatorSeed.generate()
ACCOUNT = AccountSeed.generate()
ROLE_KEY = AccountSeed.generate()
USER = UserSeed.generate()
NOW = 1_800_000_000

PERMISSIONS = SubjectPermissions(
    publish_allow=("ai.capabilities.vitals.*", "$SYS.REQ.USER.INFO"),
    publish_deny=("ai.capabilities.vitals.delete",),
    subscribe_allow=("_INBOX.{{subject()}}.>",),
    responses=ResponsePermission(max=1, ttl_s=30.5),
)
LIMITS = AccountLimits(
    connections=10,
    subscriptions=100,
    payload_bytes=262144,
    imports=2,
    jetstream=JetStreamLimits(memory_bytes=0, disk_bytes=1 << 20, streams=4, consumers=-1),
)


def user_claims(**changes: Any) -> UserClaims:
    fields: dict[str, Any] = {
        "name": "alice",
        "subject": USER.public,
        "issuer": ROLE_KEY.public,
        "issuer_account": ACCOUNT.public,
        "issued_at": NOW,
        "expires_at": NOW + 3600,
        "tags": ("ward-3",),
    }
    return UserClaims(**fields | changes)


def account_claims(**changes: Any) -> AccountClaims:
    fields: dict[str, Any] = {
        "name": "st-marys",
        "subject": ACCOUNT.public,
        "issuer": OPERATOR.public,
        "issued_at": NOW,
        "limits": LIMITS,
        "signing_keys": (
            AccountSeed.generate().public,
            ScopedSigningKey(key=ROLE_KEY.public, role="nurse", template=PERMISSIONS, description="wards"),
        ),
        "exports": (
            ServiceExport(
                subject="tenant.*.capabilities.>", account_token_position=2, response_threshold_s=31, name="c"
            ),
        ),
        "imports": (
            ServiceImport(
                subject=f"tenant.{ACCOUNT.public}.capabilities.>",
                account=AccountSeed.generate().public,
                local_subject="ai.capabilities.>",
                share=True,
                name="capabilities",
            ),
        ),
        "revocations": {USER.public.text: NOW - 10, "*": NOW - 1000},
        "tags": ("hospital",),
    }
    return AccountClaims(**fields | changes)


def operator_claims(**changes: Any) -> OperatorClaims:
    fields: dict[str, Any] = {
        "name": "garrison",
        "subject": OPERATOR.public,
        "issuer": OPERATOR.public,
        "issued_at": NOW,
        "signing_keys": (OperatorSeed.generate().public,),
        "system_account": ACCOUNT.public,
        "strict_signing_keys": True,
    }
    return OperatorClaims(**fields | changes)
