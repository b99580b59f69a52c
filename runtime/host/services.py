"""What all tenants of a host share."""

from collections.abc import Callable
from dataclasses import dataclass

from runtime.dispatch.outcomes import AuditSink
from runtime.dispatch.ports import ParseSubject
from runtime.host.ports import Connector
from runtime.host.snapshots import SnapshotCache

SubjectOf = Callable[[str, str], str]
"""Builds the GATE subject of (account, capability)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostServices:
    """What a hosted tenant uses of its host."""

    connector: Connector
    snapshots: SnapshotCache
    audit: AuditSink
    subject_of: SubjectOf
    parse_subject: ParseSubject
    lease_holds: Callable[[], bool]
    report_changed: Callable[[], None]
