"""Deploys an agent: uploads its snapshot piece by piece, then has it run."""

import base64
from typing import Any, Protocol

from runtime.client.client import Client

# Base64 makes 4 of 3: a piece and what is around it stay below the largest payload, 256 KiB.
PIECE_BYTES = 128 * 1024


class Snapshot(Protocol):
    """An agent's packed code."""

    @property
    def data(self) -> bytes:
        """The archive."""

    @property
    def digest(self) -> str:
        """Its SHA-256 in hexadecimal."""


async def deploy_snapshot(client: Client, *, tenant: str, agent: str, entry: str, snapshot: Snapshot) -> dict[str, Any]:
    """Deploy `entry` (`module:Class`) of the snapshot; returns when every live host runs it.

    Raises:
        ClientError: The platform refuses, a host cannot run it, or nobody can be reached.
    """
    size = len(snapshot.data)
    for offset in range(0, size, PIECE_BYTES):
        piece = base64.b64encode(snapshot.data[offset : offset + PIECE_BYTES]).decode()
        data = {"digest": snapshot.digest, "offset": offset, "size": size, "data": piece}
        stored = await client.admin("agents.upload", tenant, data)
        if stored.get("complete"):  # it may be there from before: then the first piece was enough
            break
    data = {"digest": snapshot.digest, "entry": entry, "agent": agent}
    return await client.admin("agents.deploy", tenant, data)
