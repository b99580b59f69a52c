"""The commands: one table that says of each what it is about, what it reads, who may send it, and who answers.

Rules it keeps: a command that is not in the table does not exist; `platform` commands are for principals of the
tenant `platform` alone, whatever a tenant's own policy grants; only `tenant` commands may be sent by the tenant they
are about.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from runtime.control.calls import Call
from runtime.control.credentials import Credentials
from runtime.control.deployments import Deployments
from runtime.control.errors import InvalidInputError
from runtime.control.hostcommands import HostCommands
from runtime.control.policies import Policies
from runtime.control.status import Status
from runtime.control.tenants import Tenants
from runtime.control.wire import (
    AgentCredential,
    ApplyPolicy,
    AuditBatch,
    CreateTenant,
    DeployAgent,
    Empty,
    GateCredential,
    IssueCredential,
    NameAgent,
    RevokeCredential,
    SnapshotPiece,
    UploadPiece,
    read_body,
)
from runtime.envelope.hostsync import SyncRequest

Target = Literal["tenant", "all", "host", "digest"]
Scope = Literal["platform", "tenant"]
Run = Callable[[Call[Any]], Awaitable[dict[str, object]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command. `audited`: recorded when allowed, before it is carried out (refusals always are)."""

    target: Target
    scope: Scope
    read: Callable[[bytes], Any]
    run: Run
    audited: bool


def command_table(
    *,
    tenants: Tenants,
    policies: Policies,
    credentials: Credentials,
    deployments: Deployments,
    hosts: HostCommands,
    status: Status,
) -> Mapping[str, Command]:
    """All commands by name."""
    platform, tenant, host = _maker("tenant", "platform"), _maker("tenant", "tenant"), _maker("host", "platform")
    everything = _maker("all", "platform")
    return {
        "tenants.create": platform(CreateTenant, tenants.create),
        "tenants.show": platform(Empty, tenants.show, audited=False),
        "tenants.list": everything(Empty, tenants.list_all, audited=False),
        "tenants.suspend": platform(Empty, tenants.suspend),
        "tenants.resume": platform(Empty, tenants.resume),
        "tenants.delete": platform(Empty, tenants.delete),
        "policy.apply": tenant(ApplyPolicy, policies.apply),
        "policy.show": tenant(Empty, policies.show, audited=False),
        "credentials.issue": tenant(IssueCredential, credentials.issue),
        "credentials.list": tenant(Empty, credentials.list_all, audited=False),
        "credentials.revoke": tenant(RevokeCredential, credentials.revoke),
        "agents.upload": platform(UploadPiece, deployments.upload, audited=False),
        "agents.deploy": platform(DeployAgent, deployments.deploy),
        "agents.list": tenant(Empty, deployments.list_all, audited=False),
        "agents.stop": platform(NameAgent, deployments.stop),
        "status.show": everything(Empty, status.show, audited=False),
        "hosts.sync": Command(target="host", scope="platform", read=_read_sync, run=hosts.sync, audited=False),
        "hosts.gate": platform(GateCredential, hosts.gate),
        "hosts.agent": platform(AgentCredential, hosts.agent),
        "hosts.snapshot": _maker("digest", "platform")(SnapshotPiece, hosts.snapshot, audited=False),
        "audit.append": host(AuditBatch, hosts.append_audit, audited=False),
    }


def _maker(target: Target, scope: Scope) -> Callable[..., Command]:
    def make(body: type[Any], run: Run, *, audited: bool = True) -> Command:
        return Command(target=target, scope=scope, read=lambda data: read_body(body, data), run=run, audited=audited)

    return make


def _read_sync(data: bytes) -> SyncRequest:
    try:
        return msgspec.json.decode(data, type=SyncRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"not a poll: {error}") from error
