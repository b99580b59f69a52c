"""A signal that many tasks may wait for, with a time limit: "something changed, look again"."""

import asyncio
import contextlib


class Signal:
    """Wakes everyone who waits at that moment. Waiters must look at the state before they wait again."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def fire(self) -> None:
        """Wake all who wait now."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when the signal fires, or after `timeout_s` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), max(timeout_s, 0))
