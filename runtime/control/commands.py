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
from runtime.control.datakeys import DataKeys
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
    NameScope,
    RevokeCredential,
    SnapshotPiece,
    UploadPiece,
    read_body,
)
from runtime.envelope.errors import EnvelopeError
from runtime.envelope.hostsync import SyncRequest
from runtime.envelope.unwrap import UnwrapRequest, parse_unwrap_request

Target = Literal["tenant", "all", "host", "digest"]
Scope = Literal["platform", "tenant"]
Run = Callable[[Call[Any]], Awaitable[dict[str, object]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command.

    Attributes:
        audited: Recorded when allowed, before it is carried out (refusals always are).
        signed: Must carry the caller's own signature (SEC-11): all that change something or hand out a key.
        implied: Needs no grant of its own: `permit` decides.
        permit: Decides what depends on the input (a held label), before anything is recorded; raises `CommandError`.
    """

    target: Target
    scope: Scope
    read: Callable[[bytes], Any]
    run: Run
    audited: bool
    signed: bool = True
    implied: bool = False
    permit: Callable[[Call[Any]], Awaitable[object]] | None = None


def command_table(
    *,
    tenants: Tenants,
    policies: Policies,
    credentials: Credentials,
    deployments: Deployments,
    keys: DataKeys,
    hosts: HostCommands,
    status: Status,
) -> Mapping[str, Command]:
    """All commands by name."""
    platform, tenant, host = _maker("tenant", "platform"), _maker("tenant", "tenant"), _maker("host", "platform")
    everything = _maker("all", "platform")
    return {
        "tenants.create": platform(CreateTenant, tenants.create),
        "tenants.show": platform(Empty, tenants.show, audited=False, signed=False),
        "tenants.list": everything(Empty, tenants.list_all, audited=False, signed=False),
        "tenants.suspend": platform(Empty, tenants.suspend),
        "tenants.resume": platform(Empty, tenants.resume),
        "tenants.delete": platform(Empty, tenants.delete),
        "policy.apply": tenant(ApplyPolicy, policies.apply),
        "policy.show": tenant(Empty, policies.show, audited=False, signed=False),
        "credentials.issue": tenant(IssueCredential, credentials.issue),
        "credentials.list": tenant(Empty, credentials.list_all, audited=False, signed=False),
        "credentials.revoke": tenant(RevokeCredential, credentials.revoke),
        "agents.upload": platform(UploadPiece, deployments.upload, audited=False),
        "agents.deploy": platform(DeployAgent, deployments.deploy),
        "agents.list": tenant(Empty, deployments.list_all, audited=False, signed=False),
        "agents.stop": platform(NameAgent, deployments.stop),
        "keys.list": tenant(Empty, keys.list_all, audited=False, signed=False),
        "keys.rotate": tenant(NameScope, keys.rotate),
        "keys.unwrap": Command(
            target="tenant",
            scope="tenant",
            read=_read_unwrap,
            run=keys.unwrap,
            audited=True,
            implied=True,
            permit=keys.permit,
        ),
        "status.show": everything(Empty, status.show, audited=False, signed=False),
        "hosts.sync": Command(
            target="host", scope="platform", read=_read_sync, run=hosts.sync, audited=False, signed=False
        ),
        "hosts.unwrap": Command(
            target="tenant",
            scope="platform",
            read=_read_unwrap,
            run=keys.unwrap_for_agent,
            audited=True,
            permit=keys.permit_agent,
        ),
        "hosts.gate": platform(GateCredential, hosts.gate),
        "hosts.agent": platform(AgentCredential, hosts.agent),
        "hosts.snapshot": _maker("digest", "platform")(SnapshotPiece, hosts.snapshot, audited=False, signed=False),
        "audit.append": host(AuditBatch, hosts.append_audit, audited=False),
    }


def _maker(target: Target, scope: Scope) -> Callable[..., Command]:
    def make(body: type[Any], run: Run, *, audited: bool = True, signed: bool = True) -> Command:
        return Command(
            target=target, scope=scope, read=lambda data: read_body(body, data), run=run, audited=audited, signed=signed
        )

    return make


def _read_sync(data: bytes) -> SyncRequest:
    try:
        return msgspec.json.decode(data, type=SyncRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"not a poll: {error}") from error


def _read_unwrap(data: bytes) -> UnwrapRequest:
    try:
        return parse_unwrap_request(data)
    except EnvelopeError as error:
        raise InvalidInputError(error.message) from error
