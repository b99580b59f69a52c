"""One tenant on one host: its current view, its GATE connection, and the agents that serve it.

Rules it keeps:
- A new snapshot's policy, roles and revocations are in force when `apply` returns; agents follow in the background.
- Every change is make-before-break: a new version of an agent has started before the old one stops, and the old
  one stops only when its accepted calls have ended.
- A policy that does not compile here serves nobody.

It does not poll the control plane and opens no connection itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection

from authz.compiler import compile_policy
from authz.errors import AuthzError
from authz.policyfile import load_policy
from authz.principals import TenantTrust
from runtime.dispatch import Dispatcher, TenantView
from runtime.dispatch.errors import UnavailableError
from runtime.dispatch.ports import ServedCapability
from runtime.envelope.hostsync import AgentReport, AgentState, Deployed, TenantSnapshot
from runtime.host.errors import AgentLoadError, CapabilityTakenError, HostError
from runtime.host.gate import Gate
from runtime.host.inline import InlineAgent, start_inline
from runtime.host.lazycaller import LazyCaller
from runtime.host.served import InlineCapability
from runtime.host.services import HostServices

log = logging.getLogger(__name__)

REPLACE_TIMEOUT_S = 30.0


class HostedTenant:
    """Keeps what runs for one tenant equal to its latest snapshot."""

    def __init__(self, snapshot: TenantSnapshot, services: HostServices) -> None:
        self._services = services
        self._snapshot = snapshot
        self._view: TenantView | None = None
        self._capabilities: dict[str, ServedCapability] = {}
        self._agents: dict[str, InlineAgent] = {}
        self._callers: dict[str, LazyCaller] = {}
        self._reports: dict[str, AgentReport] = {}
        self._work = asyncio.Event()
        self._gate = Gate(snapshot.tenant, snapshot.account, services, self._receive)
        self.dispatcher = Dispatcher(
            view=self._current_view,
            capabilities=self._capabilities,
            parse_subject=services.parse_subject,
            respond=self._gate.respond,
            audit=services.audit,
        )
        self.apply(snapshot)
        self._task = asyncio.create_task(self._follow(), name=f"tenant-{snapshot.tenant}")

    def apply(self, snapshot: TenantSnapshot) -> None:
        """Put the snapshot's view in force now, and let its deployments follow."""
        self._view = _view_of(snapshot)
        self._snapshot = snapshot
        for deployed in snapshot.deployments if snapshot.status == "active" else ():
            report = self._reports.get(deployed.agent)
            if report is None or report.revision != deployed.revision:
                self._report(deployed, "starting")
        self._work.set()

    def reports(self) -> tuple[AgentReport, ...]:
        """How each deployment fares."""
        return tuple(self._reports.values())

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound on the accepted calls
        """Take no new calls, end those that were accepted, stop the agents, close."""
        await self._gate.lame_duck()
        await self.dispatcher.drain(timeout)
        await self.close()

    async def close(self) -> None:
        """Stop the agents and close the connections, without waiting for calls."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for agent in tuple(self._agents.values()):
            await agent.stop()
        for caller in self._callers.values():
            await caller.close()
        await self._gate.close()

    def _receive(self, subject: str, reply: str, data: bytes, header_block: bytes) -> None:
        self.dispatcher.receive(subject, reply, data, header_block)

    def _current_view(self) -> TenantView:
        if not self._services.lease_holds():
            raise UnavailableError("the control plane was not heard for too long")
        if self._view is None:
            raise UnavailableError("the tenant's policy can't be compiled here")
        return self._view

    async def _follow(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            snapshot = self._snapshot
            try:
                await self._reconcile(snapshot)
            except Exception:
                log.exception("tenant `%s`: deployments could not be brought up to date", snapshot.tenant)
            self._services.report_changed()

    async def _reconcile(self, snapshot: TenantSnapshot) -> None:
        wanted = {d.agent: d for d in snapshot.deployments} if snapshot.status == "active" else {}
        for name in [n for n in self._agents if n not in wanted]:
            await self._remove(name)
        self._reports = {name: report for name, report in self._reports.items() if name in wanted}
        for deployed in wanted.values():
            report = self._reports.get(deployed.agent)
            if report is None or report.revision != deployed.revision or report.state == "starting":
                await self._deploy(deployed)
        if not wanted:
            await self._gate.close()

    async def _deploy(self, deployed: Deployed) -> None:
        try:
            folder = await self._services.snapshots.folder_of(deployed.digest)
            agent = await start_inline(deployed, folder)
            try:
                self._refuse_taken(agent)
            except AgentLoadError:
                await agent.stop()
                raise
            await self._replace(agent)
        except Exception as error:  # noqa: BLE001 - one deployment's failure is reported and harms no other
            message = str(error) if isinstance(error, HostError) else f"{type(error).__name__}: {error}"
            log.warning("tenant `%s`: %s", self._snapshot.tenant, message)
            self._report(deployed, "failed", error=message)
            return
        self._report(deployed, "running", capabilities=agent.capabilities)

    def _refuse_taken(self, agent: InlineAgent) -> None:
        own = agent.deployed.agent
        for name, other in self._agents.items():
            taken = sorted(other.capabilities.keys() & agent.capabilities.keys()) if name != own else []
            if taken:
                raise CapabilityTakenError(own, f"capability `{taken[0]}` is already served by agent `{name}`")

    async def _replace(self, agent: InlineAgent) -> None:
        name = agent.deployed.agent
        old = self._agents.get(name)
        old_served = [self._capabilities[c] for c in old.capabilities] if old else []
        caller = self._callers.setdefault(name, LazyCaller(self._services.connector, self._snapshot.tenant, name))
        for capability, spec in agent.capabilities.items():
            self._capabilities[capability] = InlineCapability(spec=spec, agent_id=name, caller=caller)
        self._agents[name] = agent
        try:
            await self._gate.serve(self._capabilities.keys())
        finally:
            if old is not None:
                await self._retire(old, old_served, keep=agent.capabilities.keys())

    async def _remove(self, name: str) -> None:
        agent = self._agents.pop(name)
        await self._retire(agent, [self._capabilities[c] for c in agent.capabilities], keep=())
        caller = self._callers.pop(name, None)
        if caller is not None:
            await caller.close()

    async def _retire(self, agent: InlineAgent, served: list[ServedCapability], *, keep: Collection[str]) -> None:
        gone = agent.capabilities.keys() - set(keep)
        await self._gate.stop_serving(gone)
        for capability in gone:
            del self._capabilities[capability]
        await self.dispatcher.drain(REPLACE_TIMEOUT_S, only=served)
        await agent.stop()

    def _report(
        self, deployed: Deployed, state: AgentState, *, error: str = "", capabilities: Collection[str] = ()
    ) -> None:
        self._reports[deployed.agent] = AgentReport(
            tenant=self._snapshot.tenant,
            agent=deployed.agent,
            digest=deployed.digest,
            revision=deployed.revision,
            state=state,
            error=error,
            capabilities=tuple(sorted(capabilities)),
        )


def _view_of(snapshot: TenantSnapshot) -> TenantView | None:
    trust = TenantTrust(
        tenant=snapshot.tenant,
        account=snapshot.account,
        roles=snapshot.roles,
        revocations=snapshot.revocations,
        suspended=snapshot.status != "active",
    )
    try:
        policy = compile_policy(load_policy(snapshot.policy, source=snapshot.tenant))
    except AuthzError:
        log.exception("tenant `%s`: policy refused; nobody is served", snapshot.tenant)
        return None
    return TenantView(trust=trust, policy=policy, epoch=snapshot.revision)
