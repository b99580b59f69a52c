"""An agent's own way to call: a connection in its tenant's account, opened when it is first used."""

import asyncio
from collections.abc import Mapping
from typing import Any

from runtime.agent import Caller, CallRefusedError
from runtime.host.ports import Connector, OpenCaller


class LazyCaller(Caller):
    """Asks for a connection of role `agent:<name>` at the first call, and keeps it until it is closed for good."""

    def __init__(self, connector: Connector, tenant: str, agent: str) -> None:
        self._connector = connector
        self._tenant = tenant
        self._agent = agent
        self._opening = asyncio.Lock()
        self._caller: OpenCaller | None = None
        self._closed = False

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - a deadline to pass on
        correlation_id: str,
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Call under the agent's own role; see `runtime.agent.Caller`."""
        async with self._opening:
            if self._closed:
                raise CallRefusedError(capability, 503, "the agent has been stopped")
            if self._caller is None:
                self._caller = await self._connector.open_caller(self._tenant, self._agent)
        return await self._caller.call(
            capability, data, timeout=timeout, correlation_id=correlation_id, seal=seal, subject=subject
        )

    async def close(self) -> None:
        """Close the connection, if it was ever opened; a call that is still made is refused."""
        async with self._opening:
            self._closed = True
            caller, self._caller = self._caller, None
        if caller is not None:
            await caller.close()
