"""A host: follows the control plane and keeps, for each tenant, what runs equal to what is deployed.

Shutting down loses no accepted call: every tenant first takes no new ones (lame duck), then ends those it has
(drain), then closes; audit records are stored last.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from runtime.dispatch.outcomes import AuditRecord
from runtime.dispatch.ports import ParseSubject, PublishedAs
from runtime.envelope.hostsync import HostReport, TenantSnapshot
from runtime.host.auditbuffer import AuditBuffer
from runtime.host.auditcommits import AuditCommits
from runtime.host.following import Follower
from runtime.host.ports import Connector, ControlLink
from runtime.host.services import HostServices, OpenKeys, SubjectOf
from runtime.host.snapshots import SnapshotCache
from runtime.host.tenant import HostedTenant

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 30.0
AUDIT_TIMEOUT_S = 15.0


class Host:
    """Runs deployments until `stop` is called."""

    def __init__(
        self,
        *,
        link: ControlLink,
        connector: Connector,
        subject_of: SubjectOf,
        parse_subject: ParseSubject,
        published_as: PublishedAs,
        open_keys: OpenKeys,
        workdir: Path,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tenants: dict[str, HostedTenant] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._gone: Counter[str] = Counter()
        self._stopping = False
        self._buffer = AuditBuffer(link.append_audit)
        self._commits = AuditCommits(link.append_audit)
        self._follower = Follower(link, apply=self._apply, report=self._report, monotonic=monotonic)
        self._services = HostServices(
            connector=connector,
            snapshots=SnapshotCache(workdir, link),
            audit=self,
            subject_of=subject_of,
            parse_subject=parse_subject,
            published_as=published_as,
            open_keys=open_keys,
            lease_holds=lambda: self._follower.lease_holds,
            report_changed=self._follower.report_changed,
        )

    def record(self, record: AuditRecord, /) -> None:
        """Take a decision's audit record (dispatch's `AuditSink`)."""
        self._buffer.record(record.as_dict())

    async def store(self, record: AuditRecord, /) -> None:
        """Store a sensitive call's audit record; returning means durable (dispatch's `AuditSink`)."""
        await self._commits.store(record.as_dict())

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain."""
        self._buffer.start()
        following = asyncio.create_task(self._follower.run(), name="follow-control-plane")
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()  # it ends by an error only
        finally:
            stopping.cancel()
            await self._shut_down(following)

    async def _shut_down(self, following: asyncio.Task[None]) -> None:
        # The lease must hold while accepted calls end, so following goes on until they have.
        self._stopping = True
        draining = [tenant.drain(DRAIN_TIMEOUT_S) for tenant in self._tenants.values()]
        for outcome in await asyncio.gather(*draining, *self._closing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.error("a tenant was not drained", exc_info=outcome)
        following.cancel()
        await asyncio.wait({following})
        await self._buffer.close(AUDIT_TIMEOUT_S)

    def _apply(self, snapshot: TenantSnapshot) -> None:
        tenant = self._tenants.get(snapshot.tenant)
        if tenant is not None and snapshot.status == "deleted":
            del self._tenants[snapshot.tenant]
            self._gone.update(tenant.dispatcher.counters.as_dict())
            task = asyncio.get_running_loop().create_task(tenant.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        elif tenant is not None:
            tenant.apply(snapshot)
        elif snapshot.status != "deleted" and not self._stopping:
            self._tenants[snapshot.tenant] = HostedTenant(snapshot, self._services)

    def _report(self) -> HostReport:
        counters = Counter(self._gone)
        for tenant in self._tenants.values():
            counters.update(tenant.dispatcher.counters.as_dict())
        counters["audit_dropped"] = self._buffer.dropped
        agents = tuple(report for tenant in self._tenants.values() for report in tenant.reports())
        return HostReport(agents=agents, counters=dict(counters))
