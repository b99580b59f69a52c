"""The commands about agents: upload, deploy, list, stop.

Rules it keeps: a deployment is on record, with what ran before it, before any host hears of it; it is settled when
every living host runs it, or taken back when one reports that it failed. One that a crash left unsettled is settled
by the next start. Nobody waits for hosts while holding the tenant's turn.
"""

import asyncio
import logging
from typing import Literal

from msgspec.structs import replace

from authz.errors import AuthzError
from authz.names import agent_name
from runtime.bus.errors import BusError
from runtime.control.calls import Call
from runtime.control.changes import Changes
from runtime.control.errors import (
    CommandError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from runtime.control.hosts import LiveHost
from runtime.control.ports import Blobs
from runtime.control.records import Deployment, Running, TenantRecord
from runtime.control.uploads import Uploads
from runtime.control.views import TenantView
from runtime.control.wire import DeployAgent, Empty, NameAgent, UploadPiece
from runtime.envelope.hostsync import AgentReport

_log = logging.getLogger(__name__)


class Deployments:
    """Answers `agents.*`."""

    def __init__(self, changes: Changes, snapshots: Blobs, uploads: Uploads) -> None:
        self._changes, self._state, self._hosts = changes, changes.state, changes.hosts
        self._snapshots, self._uploads = snapshots, uploads

    async def upload(self, call: Call[UploadPiece]) -> dict[str, object]:
        """A piece of a snapshot; the last one stores it."""
        body, digest = call.body, plain_digest(call.body.digest)
        if body.offset == 0 and await self._stored(digest):
            return {"received": body.size, "complete": True}
        received, data = self._uploads.add(
            call.principal.user, digest, offset=body.offset, size=body.size, data=body.data
        )
        if data is not None:
            try:
                await self._snapshots.put_blob(digest, data)
            except BusError as error:
                raise UnavailableError("the snapshot could not be stored; try again") from error
        return {"received": received, "complete": data is not None}

    async def deploy(self, call: Call[DeployAgent]) -> dict[str, object]:
        """Run an agent; answers when every living host runs it, or says why one can't."""
        name, agent, digest = call.target, _checked_agent(call.body.agent), plain_digest(call.body.digest)
        async with self._changes.turn(name):
            view = await self._changes.active(name)
            if not await self._stored(digest):
                raise NotFoundError(f"no snapshot `{digest[:12]}` was uploaded")
            number = view.record.deployed + 1
            await self._commit_wanted(view, agent, Running(digest=digest, entry=call.body.entry, number=number))
        await self._hosts.someone(self._changes.limits.first_host_s)
        hosts = await self.settle(name, agent, number)
        return {"agent": agent, "digest": digest, "revision": number, "hosts": hosts}

    async def settle(self, tenant: str, agent: str, number: int) -> list[dict[str, object]]:
        """Wait for the hosts to run deployment `number`; settle it, or take it back.

        Raises:
            InvalidInputError: a host reports that it failed; what ran before runs again.
            UnavailableError: a host did not say in time; it stays deployed, and is settled when it does.
            ConflictError: another deployment or a stop took its place.
        """
        answers: dict[str, AgentReport] = {}

        def answered(host: LiveHost) -> bool:
            report = host.agent(tenant, agent)
            if report is not None and report.revision == number and report.state != "starting":
                answers[host.name] = report
            return host.name in answers or any(r.state == "failed" for r in answers.values())

        waiting = await self._hosts.until(answered, self._changes.limits.deploy_s)
        failed = [(host, report) for host, report in answers.items() if report.state == "failed"]
        if failed:
            await self._take_back(tenant, agent, number)
            host, report = failed[0]
            raise InvalidInputError(f"agent `{agent}` did not start on host `{host}`: {report.error[:300]}")
        if waiting:
            raise UnavailableError(f"agent `{agent}` is deployed, but host `{waiting[0]}` has not started it yet")
        await self._confirm(tenant, agent, number)
        return [
            {"host": host, "state": report.state, "capabilities": list(report.capabilities)}
            for host, report in sorted(answers.items())
        ]

    async def list_all(self, call: Call[Empty]) -> dict[str, object]:
        """What is deployed for a tenant, and how it fares on each living host."""
        view = await self._changes.existing(call.target)
        return {"agents": [self._shown(view.record, deployment) for deployment in view.record.deployments]}

    async def stop(self, call: Call[NameAgent]) -> dict[str, object]:
        """Stop an agent; answers when every living host has."""
        name, agent = call.target, call.body.agent
        async with self._changes.turn(name):
            view = await self._changes.existing(name)
            rest = tuple(d for d in view.record.deployments if d.agent != agent)
            if len(rest) == len(view.record.deployments):
                raise NotFoundError(f"tenant `{name}` has no agent `{agent[:70]}`")
            view = await self._changes.commit(
                replace(view.record, deployments=rest, changed_at=int(self._changes.clock()))
            )
        await self._changes.enforce(name, hosts_first=True)
        return {"agent": agent, "status": "stopped"}

    async def settle_left_over(self) -> None:
        """Settle what a crash left unsettled; failures are logged."""
        left = [
            self.settle(view.record.tenant, deployment.agent, deployment.wanted.number)
            for view in self._state.tenants()
            if view.exists
            for deployment in view.record.deployments
            if not deployment.settled
        ]
        for outcome in await asyncio.gather(*left, return_exceptions=True):
            if isinstance(outcome, CommandError):
                _log.warning("settling a deployment: %s", outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _stored(self, digest: str) -> bool:
        try:
            return await self._snapshots.get_blob(digest) is not None
        except BusError as error:
            raise UnavailableError("the platform's storage is not available now; try again") from error

    async def _commit_wanted(self, view: TenantView, agent: str, wanted: Running) -> None:
        before = _find(view.record, agent)
        # What comes back on failure is the last version that did run, not one that was still starting.
        previous = (before.wanted if before.settled else before.previous) if before else None
        entry = Deployment(agent=agent, wanted=wanted, settled=False, previous=previous)
        await self._commit(view.record, agent, entry, deployed=wanted.number)

    async def _confirm(self, tenant: str, agent: str, number: int) -> None:
        async with self._changes.turn(tenant):
            view, deployment = await self._current(tenant, agent, number)
            if not deployment.settled:
                await self._commit(view.record, agent, replace(deployment, settled=True, previous=None))

    async def _take_back(self, tenant: str, agent: str, number: int) -> None:
        async with self._changes.turn(tenant):
            view, deployment = await self._current(tenant, agent, number)
            again = deployment.previous
            # A new number, so that hosts which had given it up start it again.
            number = view.record.deployed + 1
            entry = Deployment(agent=agent, wanted=replace(again, number=number)) if again else None
            view = await self._commit(view.record, agent, entry, deployed=number)
        await self._hosts.acknowledged(view.revision, self._changes.limits.take_back_s)

    async def _current(self, tenant: str, agent: str, number: int) -> tuple[TenantView, Deployment]:
        view = await self._changes.existing(tenant)
        deployment = _find(view.record, agent)
        if deployment is None or deployment.wanted.number != number:
            raise ConflictError(f"agent `{agent}` was deployed again or stopped in the meantime")
        return view, deployment

    async def _commit(
        self, record: TenantRecord, agent: str, entry: Deployment | None, *, deployed: int | None = None
    ) -> TenantView:
        """Deployments don't show in claims, so the claims stay as they are."""
        rest = [d for d in record.deployments if d.agent != agent]
        entries = sorted([*rest, entry] if entry else rest, key=lambda deployment: deployment.agent)
        return await self._state.put_tenant(
            replace(
                record,
                deployments=tuple(entries),
                deployed=record.deployed if deployed is None else deployed,
                changed_at=int(self._changes.clock()),
            )
        )

    def _shown(self, record: TenantRecord, deployment: Deployment) -> dict[str, object]:
        reports = [(host.name, host.agent(record.tenant, deployment.agent)) for host in self._hosts.live()]
        return {
            "agent": deployment.agent,
            "digest": deployment.wanted.digest,
            "entry": deployment.wanted.entry,
            "revision": deployment.wanted.number,
            "settled": deployment.settled,
            "hosts": [_shown_report(host, report) for host, report in reports if report is not None],
        }


def plain_digest(text: str) -> str:
    """The 64 hex digits, with or without `sha256:` before them."""
    return text.removeprefix("sha256:")


_State = Literal["starting", "running", "failed"]


def _shown_report(host: str, report: AgentReport) -> dict[str, object]:
    state: _State = report.state
    return {"host": host, "state": state, "error": report.error, "capabilities": list(report.capabilities)}


def _find(record: TenantRecord, agent: str) -> Deployment | None:
    return next((d for d in record.deployments if d.agent == agent), None)


def _checked_agent(text: str) -> str:
    try:
        return agent_name(text)
    except AuthzError as error:
        raise InvalidInputError(str(error)) from error
