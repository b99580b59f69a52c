"""A child that ends is started again; one that can't be started is tried until it can."""

import asyncio

import pytest

from runtime.wiring import keepalive
from runtime.wiring.keepalive import keep_alive


class Child:
    """Ends when told to; its next starts fail as often as told to."""

    def __init__(self) -> None:
        self.failures = 0
        self.starts = 0
        self.started = asyncio.Event()
        self.end = asyncio.Event()

    async def start(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no memory")
        self.starts += 1
        self.end = asyncio.Event()
        self.started.set()

    async def ended(self) -> int:
        await self.end.wait()
        return -9


async def test_child_is_started_again_each_time_however_often_a_start_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keepalive, "PAUSE_MIN_S", 0.0)
    child = Child()
    keeping = asyncio.create_task(keep_alive("the child", start=child.start, ended=child.ended))
    for failures in (0, 3, 1):
        child.failures = failures
        child.started.clear()
        child.end.set()
        async with asyncio.timeout(10):
            await child.started.wait()
    keeping.cancel()
    await asyncio.wait({keeping})
    assert child.starts == 3
    assert caplog.text.count("the child ended with code -9") == 3
    assert caplog.text.count("no memory") == 4
