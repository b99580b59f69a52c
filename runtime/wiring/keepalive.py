"""Keeps one child process running: starts it again when it ends, with growing pauses while it keeps failing."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

PAUSE_MIN_S, PAUSE_MAX_S = 0.1, 5.0
STEADY_S = 10.0


async def keep_alive(name: str, *, start: Callable[[], Awaitable[None]], ended: Callable[[], Awaitable[int]]) -> None:
    """Watch a child that is already running; until cancelled, `start` it again each time `ended` returns."""
    pause = PAUSE_MIN_S
    while True:
        since = time.monotonic()
        code = await ended()
        if time.monotonic() - since > STEADY_S:
            pause = PAUSE_MIN_S
        log.warning("%s ended with code %d; starting it again in %.1f s", name, code, pause)
        started = False
        while not started:
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_MAX_S)
            started = await _started(name, start, pause)


async def _started(name: str, start: Callable[[], Awaitable[None]], pause: float) -> bool:
    try:
        await start()
    except Exception as error:  # noqa: BLE001 - whatever it is: without the child nothing works, so try again
        log.error("%s did not start; trying again in %.1f s: %s", name, pause, error)  # noqa: TRY400 - says it all
        return False
    log.info("%s runs again", name)
    return True
