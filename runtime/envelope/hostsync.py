"""What a host and the control plane tell each other: the body of `ai.admin.hosts.sync.<host>`.

A host polls with the highest revision that it has applied (which acknowledges it) and a report of what it runs.
The control plane holds the poll until it knows something newer. Pure data; unknown fields are ignored, so that a
host one version older than its control plane keeps working.
"""

from typing import Literal

import msgspec

AgentState = Literal["starting", "running", "failed"]


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that shall run for a tenant: `entry` is `module:Class` inside the snapshot with that digest."""

    agent: str
    digest: str
    entry: str
    revision: int


class TenantSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a host needs to know of one tenant, as of `revision`.

    `roles` maps a role's public signing key to its name; `revocations` maps a user key, or `*`, to the unix time
    up to which its credentials are void.
    """

    tenant: str
    account: str
    revision: int
    status: Literal["active", "suspended", "deleted"]
    policy: str
    roles: dict[str, str]
    revocations: dict[str, int]
    deployments: tuple[Deployed, ...] = ()


class AgentReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one deployment fares on one host; `error` is one line for the operator when it failed."""

    tenant: str
    agent: str
    digest: str
    revision: int
    state: AgentState
    error: str = ""
    capabilities: tuple[str, ...] = ()


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a host runs, and its counters by name since it started."""

    agents: tuple[AgentReport, ...] = ()
    counters: dict[str, int] = {}


class SyncRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One poll: `since` is the highest revision applied, `instance` distinguishes a restarted host.

    With `hold` the answer waits for news; without, it comes at once: a host that was cut off knows so that it is not.
    """

    since: int
    instance: str
    report: HostReport
    hold: bool = True


class SyncReply(msgspec.Struct, frozen=True, kw_only=True):
    """The tenants that changed after `since`, complete up to `revision`."""

    revision: int
    tenants: tuple[TenantSnapshot, ...] = ()
