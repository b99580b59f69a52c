"""The hosts that live, what each has acknowledged and what each runs.

Rules it keeps: a host lives from a poll until its lease runs out; a poll with `since` acknowledges every change up to
that revision; whoever waits for the hosts waits for those that live, and no longer than their leases. A host of one
name has one instance: a newer one takes its place.

Leases use the monotonic clock. Not here: what a poll is answered with (`runtime.control.hostcommands`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.control.signal import Signal
from runtime.envelope.hostsync import AgentReport, HostReport


@dataclass(kw_only=True, slots=True)
class LiveHost:
    """One host while it lives; `lease_ends` is monotonic, `seen_at` unix seconds (0: not since our restart)."""

    name: str
    instance: str
    user: str
    lease_ends: float
    acknowledged: int = 0
    seen_at: float = 0
    report: HostReport = field(default_factory=HostReport)

    def agent(self, tenant: str, agent: str) -> AgentReport | None:
        """What it says about one deployment."""
        return next((a for a in self.report.agents if a.tenant == tenant and a.agent == agent), None)


class HostRegistry:
    """The living hosts by name."""

    def __init__(self, *, lease_s: float, monotonic: Callable[[], float]) -> None:
        self._lease_s, self._monotonic = lease_s, monotonic
        self._hosts: dict[str, LiveHost] = {}
        self._heard = Signal()

    def heard_from(self, name: str, *, instance: str, user: str, at: float, since: int, report: HostReport) -> bool:
        """Take note of a poll; True when this instance was not known."""
        host = self._hosts.get(name)
        known = host is not None and host.instance == instance
        if host is None or not known:
            host = self._admit(name, instance, user)
        host.user, host.seen_at, host.report = user, at, report
        host.lease_ends = self._monotonic() + self._lease_s
        host.acknowledged = since
        self._heard.fire()
        return not known

    def expect(self, name: str, *, instance: str, user: str) -> None:
        """Wait for a host that lived before our restart, for one lease."""
        self._admit(name, instance, user)

    def extend(self, name: str, instance: str) -> None:
        """A poll is still open: the host lives."""
        host = self._hosts.get(name)
        if host and host.instance == instance:
            host.lease_ends = self._monotonic() + self._lease_s

    def forget_user(self, user: str) -> None:
        """A host whose credential is revoked is not waited for."""
        for name in [host.name for host in self._hosts.values() if host.user == user]:
            del self._hosts[name]
        self._heard.fire()

    def live(self) -> tuple[LiveHost, ...]:
        """The hosts whose lease has not run out."""
        now = self._monotonic()
        return tuple(host for host in self._hosts.values() if host.lease_ends > now)

    def bury(self) -> tuple[str, ...]:
        """Forget the hosts whose lease has run out, and name them."""
        now = self._monotonic()
        dead = tuple(host.name for host in self._hosts.values() if host.lease_ends <= now)
        for name in dead:
            del self._hosts[name]
        return dead

    async def acknowledged(self, revision: int, timeout_s: float) -> tuple[str, ...]:
        """Wait until every living host has acknowledged `revision`; the names of those that did not in time."""
        return await self.until(lambda host: host.acknowledged >= revision, timeout_s)

    async def until(self, done: Callable[[LiveHost], bool], timeout_s: float) -> tuple[str, ...]:
        """Wait until `done` of every living host, or `timeout_s` passes; the names of those for which it isn't."""
        ends = self._monotonic() + timeout_s
        while waiting := [host for host in self.live() if not done(host)]:
            now = self._monotonic()
            if now >= ends:
                return tuple(sorted(host.name for host in waiting))
            await self._heard.wait(min(ends, *(host.lease_ends for host in waiting)) - now)
        return ()

    async def until_ready(self, name: str, revision: int, timeout_s: float, *, starting_too: bool = False) -> bool:
        """Wait until `name` has acknowledged `revision` and no agent is starting any more; whether in time.

        With `starting_too`, agents that are starting are not waited for.
        """
        ends = self._monotonic() + timeout_s
        while not self._is_ready(name, revision, starting_too) and (left := ends - self._monotonic()) > 0:
            await self._heard.wait(left)
        return self._is_ready(name, revision, starting_too)

    def _is_ready(self, name: str, revision: int, starting_too: bool) -> bool:  # noqa: FBT001
        host = self._hosts.get(name)
        if host is None or not host.seen_at or host.acknowledged < revision:
            return False
        return starting_too or all(agent.state != "starting" for agent in host.report.agents)

    async def someone(self, timeout_s: float) -> bool:
        """Wait for the first living host, but not longer than `timeout_s`; whether there is one."""
        ends = self._monotonic() + timeout_s
        while not self.live() and (left := ends - self._monotonic()) > 0:
            await self._heard.wait(left)
        return bool(self.live())

    def _admit(self, name: str, instance: str, user: str) -> LiveHost:
        host = LiveHost(name=name, instance=instance, user=user, lease_ends=self._monotonic() + self._lease_s)
        self._hosts[name] = host
        return host
