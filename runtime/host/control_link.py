"""The host's side of the control plane's `hosts.*` commands, over any connection that can administer."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Protocol

import msgspec

from runtime.envelope.hostsync import HostReport, SyncReply, SyncRequest
from runtime.host.errors import SnapshotError

POLL_TIMEOUT_S = 6.0  # the control plane answers within 3 s, whether or not there is news
COMMAND_TIMEOUT_S = 10.0
MAX_SNAPSHOT_BYTES = 16 * 1024 * 1024


class AdminCaller(Protocol):
    """Sends one administrative command and returns its result."""

    async def admin(
        self,
        command: str,
        target: str,
        data: Mapping[str, object],
        *,
        timeout: float,  # noqa: ASYNC109 - the wire carries it
    ) -> dict[str, object]:
        """Run `command` on `target`."""


class AdminControlLink:
    """Implements `ControlLink` for the host called `host`."""

    def __init__(self, caller: AdminCaller, *, host: str, instance: str) -> None:
        self._caller = caller
        self._host = host
        self._instance = instance

    async def sync(self, *, since: int, report: HostReport, hold: bool) -> SyncReply:
        """Poll for tenants that changed after `since`."""
        request = SyncRequest(since=since, instance=self._instance, report=report, hold=hold)
        result = await self._caller.admin(
            "hosts.sync", self._host, msgspec.to_builtins(request), timeout=POLL_TIMEOUT_S
        )
        return msgspec.convert(result, SyncReply)

    async def gate_token(self, tenant: str, user: str) -> str:
        """A user JWT for the GATE account, good for `tenant`'s requests only, for the public key `user`."""
        return await self._token("hosts.gate", tenant, {"user": user})

    async def agent_token(self, tenant: str, agent: str, user: str) -> str:
        """A user JWT in the tenant's account under the role `agent:<agent>`, for the public key `user`."""
        return await self._token("hosts.agent", tenant, {"agent": agent, "user": user})

    async def snapshot(self, digest: str) -> bytes:
        """Fetch a snapshot piece by piece and check its digest (hex SHA-256).

        Raises:
            SnapshotError: The pieces do not add up to what the digest names.
        """
        pieces = bytearray()
        while True:
            result = await self._caller.admin(
                "hosts.snapshot", digest, {"offset": len(pieces)}, timeout=COMMAND_TIMEOUT_S
            )
            size, piece = _snapshot_piece(result)
            pieces += piece
            if len(pieces) >= size:
                break
            if not piece:
                raise SnapshotError(f"snapshot `{digest}` ends early, at {len(pieces)} of {size} bytes")
        if hashlib.sha256(pieces).hexdigest() != digest:
            raise SnapshotError(f"snapshot `{digest}` does not have that digest")
        return bytes(pieces)

    async def append_audit(self, records: list[dict[str, object]]) -> None:
        """Store audit records durably."""
        await self._caller.admin("audit.append", self._host, {"records": records}, timeout=COMMAND_TIMEOUT_S)

    async def _token(self, command: str, tenant: str, data: Mapping[str, object]) -> str:
        result = await self._caller.admin(command, tenant, data, timeout=COMMAND_TIMEOUT_S)
        return str(result["jwt"])


def _snapshot_piece(result: Mapping[str, object]) -> tuple[int, bytes]:
    size, data = result.get("size"), result.get("data")
    if not isinstance(size, int) or not isinstance(data, str) or not 0 <= size <= MAX_SNAPSHOT_BYTES:
        raise SnapshotError("the control plane's snapshot answer is malformed or too large")
    try:
        return size, base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SnapshotError("the control plane's snapshot answer is not base64") from error
