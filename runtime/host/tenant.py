"""One tenant on one host: its current view, its GATE connection, and the agents that serve it.

Rules it keeps:
- A new snapshot's policy, roles and revocations are in force when `apply` returns, and a stopped agent takes no new
  call from then on; new versions of agents follow in the background.
- Every change is make-before-break: a new version of an agent has started and is subscribed before the old one takes
  no more calls, and the old one stops only when its accepted calls have ended. One that does not start changes
  nothing: what ran before goes on.
- Keys at hand are forgotten whenever policy, roles, revocations or the tenant's status change, or an agent goes.
- A policy that does not compile here serves nobody.

It does not poll the control plane and opens no connection itself.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from authz.compiler import compile_policy
from authz.policyfile import load_policy
from authz.principals import TenantTrust
from runtime.dispatch import Dispatcher, TenantView
from runtime.dispatch.errors import UnavailableError
from runtime.dispatch.ports import KeySource, ServedCapability
from runtime.envelope.hostsync import AgentReport, AgentState, Deployed, TenantSnapshot
from runtime.host.errors import CapabilityTakenError, HostError, one_line
from runtime.host.gate import Gate
from runtime.host.inline import InlineAgent, start_inline
from runtime.host.lazycaller import LazyCaller
from runtime.host.ports import HeldKeys
from runtime.host.served import InlineCapability
from runtime.host.services import HostServices

log = logging.getLogger(__name__)

RETIRE_TIMEOUT_S = 30.0
RETRY_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Running:
    """A started agent, with its capabilities as dispatch sees them."""

    agent: InlineAgent
    served: Mapping[str, InlineCapability]


class HostedTenant:
    """Keeps what runs for one tenant equal to its latest snapshot."""

    def __init__(self, snapshot: TenantSnapshot, services: HostServices) -> None:
        self._services = services
        self._snapshot = snapshot
        self._view: TenantView | None = None
        self._capabilities: dict[str, ServedCapability] = {}
        self._agents: dict[str, _Running] = {}
        self._callers: dict[str, LazyCaller] = {}
        self._reports: dict[str, AgentReport] = {}
        self._keys: dict[str, HeldKeys] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._work = asyncio.Event()
        self._gate = Gate(snapshot.tenant, snapshot.account, services, self._receive)
        self.dispatcher = Dispatcher(
            view=self._current_view,
            capabilities=self._capabilities,
            parse_subject=services.parse_subject,
            published_as=services.published_as,
            keys_of=self._keys_of,
            respond=self._gate.respond,
            audit=services.audit,
        )
        self.apply(snapshot)
        self._following = asyncio.create_task(self._follow(), name=f"tenant-{snapshot.tenant}")

    def apply(self, snapshot: TenantSnapshot) -> None:
        """Put the snapshot's view in force now, and let its deployments follow."""
        if _rights(snapshot) != _rights(self._snapshot):
            self._forget_keys()
        self._view = _view_of(snapshot)
        self._snapshot = snapshot
        wanted = _wanted(snapshot)
        for name in self._agents.keys() - wanted.keys():
            self._forget(self._agents[name], self._agents[name].served)
            self._reports.pop(name, None)
            self._forget_keys()
        for deployed in wanted.values():
            report = self._reports.get(deployed.agent)
            if report is None or report.revision != deployed.revision:
                self._report(deployed, "starting")
        self._work.set()

    def reports(self) -> tuple[AgentReport, ...]:
        """How each deployment fares."""
        return tuple(self._reports.values())

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound on the accepted calls
        """Take no new calls, end those that were accepted, stop the agents, close."""
        await self._end_following()
        try:
            await self._gate.lame_duck()
            await self.dispatcher.drain(timeout)
        finally:
            await self.close()

    async def close(self) -> None:
        """End everything now: calls that are still open are answered 500 and cancelled."""
        await self._end_following()
        await self.dispatcher.drain(0)
        await self._gate.close()
        agents, self._agents = self._agents, {}
        stopping = [running.agent.stop() for running in agents.values()]
        closing = [caller.close() for caller in self._callers.values()]
        for outcome in await asyncio.gather(*stopping, *closing, *self._retiring, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.error("tenant `%s`: closing failed", self._snapshot.tenant, exc_info=outcome)

    async def _end_following(self) -> None:
        self._following.cancel()
        await asyncio.wait({self._following})

    def _receive(self, subject: str, reply: str, data: bytes, header_block: bytes) -> None:
        self.dispatcher.receive(subject, reply, data, header_block)

    def _keys_of(self, agent_id: str) -> KeySource:
        """The keys that an agent may use: each has its own, so that none is opened by another's."""
        keys = self._keys.get(agent_id)
        if keys is None:
            keys = self._keys[agent_id] = self._services.open_keys(self._snapshot.tenant, agent_id)
        return keys

    def _forget_keys(self) -> None:
        """Who may use which key has changed: what is at hand, and what is on its way, was given under what was."""
        keys, self._keys = self._keys, {}
        for held in keys.values():
            held.drop()

    def _current_view(self) -> TenantView:
        if not self._services.lease_holds():
            raise UnavailableError("the control plane was not heard for too long")
        if self._view is None:
            raise UnavailableError("the tenant's policy can't be compiled here")
        return self._view

    async def _follow(self) -> None:
        again = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if again else None):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._reconcile()
            except Exception:
                log.exception("tenant `%s`: deployments could not be brought up to date", self._snapshot.tenant)
            again = any(report.state == "starting" for report in self._reports.values())
            self._services.report_changed()

    async def _reconcile(self) -> None:
        wanted = _wanted(self._snapshot)
        for name in self._agents.keys() - wanted.keys():
            await self._remove(name)
        self._reports = {name: report for name, report in self._reports.items() if name in _wanted(self._snapshot)}
        for deployed in wanted.values():
            report = self._reports.get(deployed.agent)
            running = self._agents.get(deployed.agent)
            if running is not None and running.agent.deployed.revision == deployed.revision:
                self._capabilities.update(running.served)  # it may have been stopped and wanted again meanwhile
                self._report(deployed, "running", capabilities=running.served)
            elif report is None or report.revision != deployed.revision or report.state != "failed":
                await self._deploy(deployed)
        if not wanted and not self._retiring:
            await self._gate.close()

    async def _deploy(self, deployed: Deployed) -> None:
        """Start a deployment. Its own failure is final; what the platform could not do now is tried again."""
        self._report(deployed, "starting")
        try:
            agent = await self._started(deployed)
        except HostError as error:
            log.warning("tenant `%s`: %s", self._snapshot.tenant, error)
            self._report(deployed, "failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - one deployment's failure is reported and harms no other
            log.warning("tenant `%s`: `%s` waits: %s", self._snapshot.tenant, deployed.agent, one_line(error))
            self._report(deployed, "starting", error=one_line(error))
        else:
            self._report(deployed, "running", capabilities=agent.capabilities)

    async def _started(self, deployed: Deployed) -> InlineAgent:
        folder = await self._services.snapshots.folder_of(deployed.digest)
        agent = await start_inline(deployed, folder)
        try:
            await self._replace(agent)
        except BaseException:
            await agent.stop()
            raise
        return agent

    async def _replace(self, agent: InlineAgent) -> None:
        """Let a started agent take over from the version before it, or change nothing."""
        name = agent.deployed.agent
        self._refuse_taken(agent)
        caller = self._callers.setdefault(name, LazyCaller(self._services.connector, self._snapshot.tenant, name))
        served = {
            c: InlineCapability(spec=spec, agent_id=name, caller=caller) for c, spec in agent.capabilities.items()
        }
        running, old = _Running(agent=agent, served=served), self._agents.get(name)
        added = {c: each for c, each in served.items() if c not in self._capabilities}
        self._capabilities.update(added)
        try:
            await self._gate.serve(served)
        except BaseException:
            self._forget(running, added)
            await self._unsubscribe(added)
            raise
        self._capabilities.update(served)
        self._agents[name] = running
        if old is not None:
            await self._retire(old)

    def _refuse_taken(self, agent: InlineAgent) -> None:
        own = agent.deployed.agent
        for name, other in self._agents.items():
            taken = sorted(other.served.keys() & agent.capabilities.keys()) if name != own else []
            if taken:
                raise CapabilityTakenError(own, f"capability `{taken[0]}` is already served by agent `{name}`")

    async def _remove(self, name: str) -> None:
        caller = self._callers.pop(name, None)
        await self._retire(self._agents.pop(name), caller)

    async def _retire(self, old: _Running, caller: LazyCaller | None = None) -> None:
        """Take an agent out of service now; it stops, in the background, when its accepted calls have ended."""
        self._forget(old, old.served)
        await self._unsubscribe(old.served)
        task = asyncio.create_task(self._stop_when_idle(old, caller))
        self._retiring.add(task)
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        self._work.set()  # the last one lets the tenant's connection be closed

    async def _stop_when_idle(self, old: _Running, caller: LazyCaller | None) -> None:
        await self.dispatcher.drain(RETIRE_TIMEOUT_S, only=tuple(old.served.values()))
        await old.agent.stop()
        if caller is not None:
            await caller.close()

    def _forget(self, running: _Running, capabilities: Collection[str]) -> None:
        for capability in capabilities:
            if self._capabilities.get(capability) is running.served[capability]:
                del self._capabilities[capability]

    async def _unsubscribe(self, capabilities: Collection[str]) -> None:
        try:
            await self._gate.stop_serving([c for c in capabilities if c not in self._capabilities])
        except Exception as error:  # noqa: BLE001 - nothing serves them any more, subscribed or not
            log.warning("tenant `%s`: unsubscribing failed: %s", self._snapshot.tenant, one_line(error))

    def _report(
        self, deployed: Deployed, state: AgentState, *, error: str = "", capabilities: Collection[str] = ()
    ) -> None:
        if _wanted(self._snapshot).get(deployed.agent) != deployed:
            return  # another snapshot came meanwhile: what it wants is reported instead
        self._reports[deployed.agent] = AgentReport(
            tenant=self._snapshot.tenant,
            agent=deployed.agent,
            digest=deployed.digest,
            revision=deployed.revision,
            state=state,
            error=error,
            capabilities=tuple(sorted(capabilities)),
        )


def _wanted(snapshot: TenantSnapshot) -> dict[str, Deployed]:
    return {deployed.agent: deployed for deployed in snapshot.deployments} if snapshot.status == "active" else {}


def _rights(snapshot: TenantSnapshot) -> tuple[object, ...]:
    """What decides who may use which key."""
    return snapshot.policy, snapshot.roles, snapshot.revocations, snapshot.status


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
    except Exception:  # whatever it is: nobody can be let in by a policy that is not understood
        log.exception("tenant `%s`: policy refused; nobody is served", snapshot.tenant)
        return None
    return TenantView(trust=trust, policy=policy, epoch=snapshot.revision)
