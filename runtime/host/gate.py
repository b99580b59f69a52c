"""A tenant's GATE connection on this host: which capabilities are subscribed, and rebuilding it when it ended.

Rules it keeps:
- One connection a tenant, so that no tenant can fill another's.
- One subscription a capability, in a queue group, so that replicas share calls and an unserved capability comes
  back to its caller as "no responders" at once.
- A connection that ended for good, expired or revoked, is rebuilt with new credentials and the same subscriptions.

It does not renew before expiry: the credentials outlive a day, and a rebuild takes some milliseconds.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from runtime.host.ports import BusMessage, GateConnection, Subscription
from runtime.host.services import HostServices

log = logging.getLogger(__name__)

QUEUE_GROUP = "agents"
REBUILD_MIN_S, REBUILD_MAX_S = 0.1, 2.0
DRAIN_S = 30.0

Receive = Callable[[str, str, bytes, bytes], None]


@dataclass(kw_only=True, slots=True)
class _Link:
    connection: GateConnection
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class Gate:
    """Subscribes one tenant's capabilities; opened at the first one."""

    def __init__(self, tenant: str, account: str, services: HostServices, receive: Receive) -> None:
        self._tenant = tenant
        self._account = account
        self._services = services
        self._receive = receive
        self._served: set[str] = set()
        self._link: _Link | None = None
        self._changing = asyncio.Lock()
        self._rebuilding: asyncio.Task[None] | None = None

    def respond(self, reply: str, payload: bytes, headers: Mapping[str, str] | None) -> None:
        """Answer over the current connection."""
        if self._link is None:
            raise ConnectionError("the tenant's connection is closed")
        self._link.connection.respond(reply, payload, headers)

    async def serve(self, capabilities: Iterable[str]) -> None:
        """Subscribe those capabilities that are not yet; when it returns, the server delivers them here."""
        async with self._changing:
            self._served |= set(capabilities)
            if self._link is None:
                self._link = await self._open()
            await self._subscribe(self._link)

    async def stop_serving(self, capabilities: Collection[str]) -> None:
        """Take no new calls for these; those already delivered are handled."""
        async with self._changing:
            self._served -= set(capabilities)
            if self._link is not None:
                await _drain_subscriptions(self._link, capabilities)

    async def lame_duck(self) -> None:
        """Take no new calls at all; answers still go out."""
        await self.stop_serving(tuple(self._served))

    async def close(self) -> None:
        """Close the connection, after the answers that were queued have been sent."""
        if self._rebuilding is not None:
            self._rebuilding.cancel()
        async with self._changing:
            self._served.clear()
            link, self._link = self._link, None
            if link is not None:
                await _finish(link)

    async def _open(self) -> _Link:
        link: _Link | None = None

        def closed() -> None:
            if link is not None and link is self._link:
                self._rebuilding = asyncio.get_running_loop().create_task(self._rebuild())

        link = _Link(connection=await self._services.connector.open_gate(self._tenant, on_closed=closed))
        return link

    async def _rebuild(self) -> None:
        """The connection ended for good, expired or revoked: make a new one until it works or we are closed."""
        pause = REBUILD_MIN_S
        while True:
            async with self._changing:
                if self._link is None:
                    return
                try:
                    new = await self._open()
                    await self._subscribe(new)
                except Exception as error:  # noqa: BLE001 - whatever it is, the tenant is unserved: try again
                    log.warning("tenant `%s`: its connection could not be rebuilt yet: %s", self._tenant, error)
                else:
                    self._link = new
                    return
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            pause = min(pause * 2, REBUILD_MAX_S)

    async def _subscribe(self, link: _Link) -> None:
        for capability in sorted(self._served - link.subscriptions.keys()):
            subject = self._services.subject_of(self._account, capability)
            link.subscriptions[capability] = await link.connection.subscribe(subject, self._deliver, queue=QUEUE_GROUP)

    def _deliver(self, message: BusMessage) -> None:
        self._receive(message.subject, message.reply, message.data, message.header_block)


async def _drain_subscriptions(link: _Link, capabilities: Collection[str]) -> None:
    for capability in capabilities:
        subscription = link.subscriptions.pop(capability, None)
        if subscription is not None:
            await subscription.drain()


async def _finish(link: _Link) -> None:
    with contextlib.suppress(Exception):  # it may be gone already; nothing is left to lose
        await link.connection.flush()
    await link.connection.close()
