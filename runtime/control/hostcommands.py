"""The commands that hosts send: sync, gate and agent credentials, snapshots, audit records.

Rules it keeps: a host speaks for itself only (its target is its own name); a poll is answered at once when there is
news, else held for a short time; answers are bounded, so a host that is far behind gets several.
"""

import base64
from collections import OrderedDict
from typing import Final

import msgspec

from runtime.bus.errors import BusError
from runtime.control.auditlog import AuditLog
from runtime.control.calls import Call
from runtime.control.changes import Changes
from runtime.control.credentials import PLATFORM
from runtime.control.errors import NotFoundError, NotPermittedError, UnavailableError
from runtime.control.issuing import Issuing
from runtime.control.ports import Blobs
from runtime.control.records import HostRecord
from runtime.control.views import TenantView, snapshot_of
from runtime.control.wire import AgentCredential, AuditBatch, GateCredential, SnapshotPiece
from runtime.envelope.hostsync import SyncReply, SyncRequest, TenantSnapshot

_CACHED_SNAPSHOTS: Final = 4


class HostCommands:
    """Answers `hosts.*` and `audit.append`."""

    def __init__(self, changes: Changes, issuing: Issuing, snapshots: Blobs, audit: AuditLog) -> None:
        self._changes, self._state, self._hosts = changes, changes.state, changes.hosts
        self._issuing, self._snapshots, self._audit = issuing, snapshots, audit
        self._cache: OrderedDict[str, bytes] = OrderedDict()

    async def sync(self, call: Call[SyncRequest]) -> dict[str, object]:
        """A poll: note what the host says, answer what it does not know yet."""
        _require_itself(call.principal.name, call.target)
        body = call.body
        # A host that knows more than we do saw a state that is no more: it starts over.
        since = body.since if body.since <= self._state.revision else 0
        new = self._hosts.heard_from(
            call.target,
            instance=body.instance,
            user=call.principal.user,
            at=self._changes.clock(),
            since=since,
            report=body.report,
        )
        if new:
            await self._state.put_host(HostRecord(host=call.target, instance=body.instance, user=call.principal.user))
        if body.hold and self._state.revision <= since:
            await self._state.changed.wait(self._changes.limits.poll_hold_s)
            self._hosts.extend(call.target, body.instance)
        reply: dict[str, object] = msgspec.to_builtins(self._news(since))
        return reply

    async def gate(self, call: Call[GateCredential]) -> dict[str, object]:
        """A credential to receive one tenant's requests."""
        return await self._issuing.for_gate(call.principal, call.target, call.body.user)

    async def agent(self, call: Call[AgentCredential]) -> dict[str, object]:
        """A credential to act as one of a tenant's agents."""
        return await self._issuing.for_agent(call.principal, call.target, call.body.agent, call.body.user)

    async def snapshot(self, call: Call[SnapshotPiece]) -> dict[str, object]:
        """A piece of an agent's code."""
        data, offset = await self._snapshot(call.target), call.body.offset
        piece = data[offset : offset + self._changes.limits.piece_bytes]
        return {"data": base64.b64encode(piece).decode(), "size": len(data)}

    async def append_audit(self, call: Call[AuditBatch]) -> dict[str, object]:
        """Store audit records; answers when they are durable."""
        _require_itself(call.principal.name, call.target)
        last = await self._audit.store(call.principal, call.body.records)
        return {"stored": len(call.body.records), "seq": last}

    def _news(self, since: int) -> SyncReply:
        """What changed after `since`: oldest first, as much as fits, and up to which revision that is all."""
        newer = sorted((v for v in self._state.tenants() if v.revision > since), key=lambda view: view.revision)
        tenants: list[TenantSnapshot] = []
        size, complete_to = 0, self._state.revision
        for view in newer:
            snapshot = snapshot_of(view)
            size += len(msgspec.json.encode(snapshot))
            if tenants and size > self._changes.limits.sync_bytes_max:
                complete_to = tenants[-1].revision
                break
            if _concerns_hosts(view, since):
                tenants.append(snapshot)
        return SyncReply(revision=complete_to, tenants=tuple(tenants))

    async def _snapshot(self, digest: str) -> bytes:
        data = self._cache.get(digest)
        if data is None:
            try:
                data = await self._snapshots.get_blob(digest)
            except BusError as error:
                raise UnavailableError("the snapshot can't be read now; try again") from error
            if data is None:
                raise NotFoundError(f"there is no snapshot `{digest[:12]}`")
            self._cache[digest] = data
        self._cache.move_to_end(digest)
        if len(self._cache) > _CACHED_SNAPSHOTS:
            self._cache.popitem(last=False)
        return data


def _concerns_hosts(view: TenantView, since: int) -> bool:
    if view.record.tenant == PLATFORM:
        return bool(view.record.deployments) or since > 0  # once it had any, their end is news too
    return view.exists or since > 0


def _require_itself(name: str, target: str) -> None:
    if name != target:
        raise NotPermittedError(f"a host speaks for itself only: this is `{name}`")
