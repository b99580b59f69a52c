"""What all tenants of a host share."""

from collections.abc import Callable
from dataclasses import dataclass

from runtime.dispatch.outcomes import AuditSink
from runtime.dispatch.ports import ParseSubject, PublishedAs
from runtime.host.ports import Connector, HeldKeys
from runtime.host.snapshots import SnapshotCache

SubjectOf = Callable[[str, str], str]
"""Builds the GATE subject of (account, capability)."""

OpenKeys = Callable[[str, str], HeldKeys]
"""Gives the keys of (tenant, agent), none at hand yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostServices:
    """What a hosted tenant uses of its host."""

    connector: Connector
    snapshots: SnapshotCache
    audit: AuditSink
    subject_of: SubjectOf
    parse_subject: ParseSubject
    published_as: PublishedAs
    open_keys: OpenKeys
    lease_holds: Callable[[], bool]
    report_changed: Callable[[], None]
