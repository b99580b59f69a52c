"""A tenant's GATE connection on this host: which capabilities are subscribed, and keeping it open.

Rules it keeps:
- One connection a tenant, so that no tenant can fill another's.
- One subscription a capability, in a queue group, so that replicas share calls and an unserved capability comes
  back to its caller as "no responders" at once.
- Credentials are renewed make-before-break: the new connection takes calls before the old one takes no more, and the
  old one closes when its last call is answered. A connection that ended for good, expired or revoked, is rebuilt.
- An answer goes out by the connection that its request came in by: nowhere else does the server let it through.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from runtime.dispatch.steps import is_answerable
from runtime.host.ports import BusMessage, GateConnection, Subscription
from runtime.host.services import HostServices

log = logging.getLogger(__name__)

QUEUE_GROUP = "agents"
RENEW_AT = 2 / 3  # of the credentials' life
REBUILD_MIN_S, REBUILD_MAX_S = 0.1, 2.0
RENEW_RETRY_MAX_S = 60.0
DRAIN_S = 31.0  # just over the longest unary deadline

Receive = Callable[[str, str, bytes, bytes], None]


@dataclass(kw_only=True, slots=True, eq=False)
class _Link:
    """One connection; `ended` is set when it is gone for good, `idle` while no call that came by it is open."""

    connection: GateConnection
    renew_after_s: float
    ended: asyncio.Event
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    open_calls: int = 0
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
        self._came_by: dict[str, _Link] = {}
        self._changing = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    def respond(self, reply: str, payload: bytes, headers: Mapping[str, str] | None) -> None:
        """Answer by the connection that the request came in by."""
        link = self._came_by.pop(reply, None)
        if link is None:
            raise ConnectionError("no open call has this reply subject")
        link.open_calls -= 1
        if not link.open_calls:
            link.idle.set()
        link.connection.respond(reply, payload, headers)

    async def serve(self, capabilities: Iterable[str]) -> None:
        """Subscribe those capabilities that are not yet; when it returns, the server delivers them here."""
        async with self._changing:
            self._served |= set(capabilities)
            if self._link is None:
                self._link = await self._open()
                self._keeper = asyncio.create_task(self._keep(), name=f"gate-{self._tenant}")
            else:
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
        """Close the connection, after the answers that were queued have been sent; `serve` opens another."""
        ending = [*self._retiring, *([self._keeper] if self._keeper is not None else [])]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        async with self._changing:
            self._keeper = None
            self._served.clear()
            link, self._link = self._link, None
        if link is not None:
            await _finish(link)

    async def _open(self) -> _Link:
        """A connection with everything subscribed, or none."""
        ended = asyncio.Event()
        opened = await self._services.connector.open_gate(self._tenant, on_closed=ended.set)
        link = _Link(connection=opened.connection, renew_after_s=opened.lifetime_s * RENEW_AT, ended=ended)
        link.idle.set()
        try:
            await self._subscribe(link)
        except BaseException:
            await link.connection.close()
            raise
        return link

    async def _keep(self) -> None:
        """Renew or rebuild the connection, whenever it is time, until we are closed."""
        while (link := self._link) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(link.renew_after_s):
                    await link.ended.wait()
            await self._replace(link)

    async def _replace(self, old: _Link) -> None:
        """Put a new connection in the place of `old`; tried again until it works or we are closed."""
        pause = REBUILD_MIN_S
        while True:
            try:
                async with self._changing:
                    self._link = await self._open()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the tenant is or will be unserved: try again
                log.warning("tenant `%s`: its connection could not be made anew yet: %s", self._tenant, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                    # While the old one works there is time; from the moment it does not, there is none.
                    await (asyncio.Event() if old.ended.is_set() else old.ended).wait()
            pause = min(pause * 2, REBUILD_MAX_S if old.ended.is_set() else RENEW_RETRY_MAX_S)
        retiring = asyncio.create_task(_retire(old))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _subscribe(self, link: _Link) -> None:
        def deliver(message: BusMessage) -> None:
            self._deliver(link, message)

        for capability in sorted(self._served - link.subscriptions.keys()):
            subject = self._services.subject_of(self._account, capability)
            link.subscriptions[capability] = await link.connection.subscribe(subject, deliver, queue=QUEUE_GROUP)

    def _deliver(self, link: _Link, message: BusMessage) -> None:
        # INVARIANT: the dispatcher answers each answerable message exactly once, so every entry is taken out again.
        if is_answerable(message.reply):
            self._came_by[message.reply] = link
            link.open_calls += 1
            link.idle.clear()
        self._receive(message.subject, message.reply, message.data, message.header_block)


async def _drain_subscriptions(link: _Link, capabilities: Collection[str]) -> None:
    for capability in capabilities:
        subscription = link.subscriptions.pop(capability, None)
        if subscription is not None:
            await subscription.drain()


async def _retire(link: _Link) -> None:
    """Let a connection end that has been replaced: no new calls, then the answers to those it brought, then close."""
    try:
        await _drain_subscriptions(link, tuple(link.subscriptions))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await link.idle.wait()
    finally:
        await _finish(link)


async def _finish(link: _Link) -> None:
    with contextlib.suppress(Exception):  # it may be gone already; nothing is left to lose
        await link.connection.flush()
    await link.connection.close()
