"""Kills a control plane, in memory, at an exact step: before or after any one of its writes, pushes or key changes.

A process whose power is cut does nothing more: what it awaits never comes, what it answers is not heard. What it had
written stays written, as on a disk.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from control_harness import Process, Site

_CHANGES = frozenset({"create", "update", "put", "delete", "put_blob", "append", "push"})


class PowerCutError(Exception):
    """Seen by the dying process only."""


class Power:
    """Counts steps once armed, and is cut at one of them. Step 2n-1 is just before change n, step 2n just after."""

    def __init__(self) -> None:
        self.armed = False
        self.steps = 0
        self.cut_at: int | None = None
        self.is_cut = False
        self.cut = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def arm(self, cut_at: int | None) -> None:
        self.armed, self.steps, self.cut_at = True, 0, cut_at

    def step(self) -> bool:
        """Pass one step; False if the power is gone."""
        if self.armed:
            self.steps += 1
            if self.steps == self.cut_at:
                self.is_cut = True
                self._loop.call_soon_threadsafe(self.cut.set)
        return not self.is_cut


class Powered:
    """A port that works while there is power."""

    def __init__(self, inner: Any, power: Power) -> None:
        self._inner, self._power = inner, power

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return self._changing(method) if name in _CHANGES else self._reading(method)

    def _changing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def change(*args: Any, **options: Any) -> Any:
            if not self._power.step():
                await asyncio.Future()
            result = await method(*args, **options)
            if not self._power.step():
                await asyncio.Future()
            return result

        return change

    def _reading(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def read(*args: Any, **options: Any) -> Any:
            if self._power.is_cut:
                await asyncio.Future()
            return await method(*args, **options)

        return read


class PoweredKeys:
    """The key store likewise; it is synchronous, so a dead one raises."""

    def __init__(self, inner: Any, power: Power) -> None:
        self._inner, self._power = inner, power

    def get(self, name: str) -> bytes:
        if self._power.is_cut:
            raise PowerCutError
        data: bytes = self._inner.get(name)
        return data

    def put(self, name: str, data: bytes) -> None:
        self._change(lambda: self._inner.put(name, data))

    def put_new(self, name: str, data: bytes) -> None:
        self._change(lambda: self._inner.put_new(name, data))

    def delete(self, name: str) -> None:
        self._change(lambda: self._inner.delete(name))

    def _change(self, change: Callable[[], None]) -> None:
        if not self._power.step():
            raise PowerCutError
        change()
        if not self._power.step():
            raise PowerCutError


class _PoweredStorage:
    def __init__(self, inner: Any, power: Power) -> None:
        for name in ("tenants", "credentials", "accounts", "hosts", "datakeys", "snapshots", "audit"):
            setattr(self, name, Powered(getattr(inner, name), power))


class FragileProcess(Process):
    """A process that runs on a `Power`."""

    def __init__(self, site: Site, power: Power) -> None:
        super().__init__(site)
        self.power = power

    def respond(self, reply: str, payload: bytes, headers: Any) -> None:
        if not self.power.is_cut:
            super().respond(reply, payload, headers)

    async def until_answered_or_cut(self, work: Any) -> Any:
        """The answer, or None when the power went first."""
        task, cut = asyncio.ensure_future(work), asyncio.ensure_future(self.power.cut.wait())
        await asyncio.wait({task, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if not self.power.is_cut:
            return task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, PowerCutError):
            await task
        return None

    async def vanish(self) -> None:
        """The process is gone, without a word."""
        self.power.is_cut = True
        tasks = [*self.plane._background, *self.plane._service._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.site.processes.remove(self)


async def start_fragile(site: Site, *, cut_at: int | None = None, armed: bool = False) -> FragileProcess:
    """Start a process on a power that can be cut; `armed` counts from the start on."""
    power = Power()
    if armed:
        power.arm(cut_at)
    process = FragileProcess(site, power)
    ports = site.ports(process)
    process.plane = site.plane(
        ports,
        storage=_PoweredStorage(site.storage, power),
        pusher=Powered(site.pusher, power),
        keys=PoweredKeys(site.keys, power),
    )
    site.processes.append(process)
    await process.until_answered_or_cut(process.plane.start())
    return process
