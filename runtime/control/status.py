"""The command `status.show`: what the control plane knows of the platform, at a glance."""

from collections import Counter
from typing import Final

from runtime.control.auditlog import AuditLog
from runtime.control.calls import Call
from runtime.control.changes import Changes
from runtime.control.hosts import LiveHost
from runtime.control.wire import Empty

_FRESH_WITHIN_S: Final = 1.0


class Status:
    """Answers `status.*`."""

    def __init__(self, changes: Changes, audit: AuditLog) -> None:
        self._changes, self._state, self._audit = changes, changes.state, audit
        self._started_at = changes.clock()

    async def show(self, _call: Call[Empty]) -> dict[str, object]:
        """Tenants by status, hosts with what they run now, and what is not confirmed yet."""
        await self._hear_from_hosts()
        views = [view for view in self._state.tenants() if view.exists]
        return {
            "started_at": self._started_at,
            "revision": self._state.revision,
            "tenants": dict(Counter(view.record.status for view in views)),
            "agents": sum(len(view.record.deployments) for view in views),
            "hosts": [self._host(host) for host in sorted(self._changes.hosts.live(), key=lambda host: host.name)],
            "unconfirmed_accounts": list(self._changes.claims.pending),
            "unsettled_agents": [
                f"{view.record.tenant}/{deployment.agent}"
                for view in views
                for deployment in view.record.deployments
                if not deployment.settled
            ],
            "audit_records_dropped": self._audit.dropped,
        }

    async def _hear_from_hosts(self) -> None:
        """End the hosts' open polls, so that they report anew, and wait a moment for that."""
        asked_at = self._changes.clock()
        self._state.changed.fire()
        await self._changes.hosts.until(lambda host: host.seen_at > asked_at, _FRESH_WITHIN_S)

    def _host(self, host: LiveHost) -> dict[str, object]:
        return {
            "host": host.name,
            "revision": host.acknowledged,
            "up_to_date": host.acknowledged >= self._state.revision,
            "seen_at": host.seen_at or None,
            "agents": [
                {"tenant": a.tenant, "agent": a.agent, "state": a.state, "error": a.error} for a in host.report.agents
            ],
            "counters": dict(host.report.counters),
        }
