"""What the control plane knows of a tenant, ready for use: its record, compiled policy and trust, built once a change.

Rules it keeps: a view is immutable and replaced as a whole, so that a decision never mixes two versions. Pure.
"""

from dataclasses import dataclass
from functools import lru_cache

from authz.compiler import compile_policy
from authz.decisions import CompiledPolicy
from authz.policyfile import load_policy
from authz.principals import TenantTrust
from runtime.control.records import TenantRecord
from runtime.envelope.hostsync import Deployed, TenantSnapshot

GONE = frozenset({"deleting", "deleted"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantView:
    """A tenant as of `revision` of its record; `policy` is None once it is deleted."""

    record: TenantRecord
    revision: int
    policy: CompiledPolicy | None
    trust: TenantTrust

    @property
    def exists(self) -> bool:
        """False once its deletion has begun."""
        return self.record.status not in GONE


def view_of(record: TenantRecord, revision: int) -> TenantView:
    """Compile what is needed to authenticate and authorize callers of this tenant."""
    return TenantView(
        record=record,
        revision=revision,
        policy=None if record.status in GONE else compiled(record.policy),
        trust=TenantTrust(
            tenant=record.tenant,
            account=record.account,
            roles={key: role for role, key in record.roles.items()},
            revocations=record.revocations,
            suspended=record.status != "active",
        ),
    )


@lru_cache(maxsize=256)
def compiled(policy: str) -> CompiledPolicy:
    """Compile a policy text that is known to be good: it was loaded before it was stored."""
    return compile_policy(load_policy(policy))


def snapshot_of(view: TenantView) -> TenantSnapshot:
    """What hosts are told about a tenant."""
    record = view.record
    gone = not view.exists
    return TenantSnapshot(
        tenant=record.tenant,
        account=record.account,
        revision=view.revision,
        status="deleted" if gone else "suspended" if record.status == "suspended" else "active",
        policy="" if gone else record.policy,
        roles={} if gone else {key: role for role, key in record.roles.items()},
        revocations={} if gone else record.revocations,
        deployments=()
        if gone
        else tuple(
            Deployed(agent=d.agent, digest=d.wanted.digest, entry=d.wanted.entry, revision=d.wanted.number)
            for d in record.deployments
        ),
    )
