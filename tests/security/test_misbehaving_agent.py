"""P5, as far as it is built: an agent in the host's own process that misbehaves in a handler harms that call only.

Each misdeed is committed while an honest call is under way, and the next honest call is answered as if nothing had
been. What a hostile agent could do on purpose (read the host's memory, block its loop) takes the sandbox to prevent.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runtime import testing
from runtime.agent import Agent, capability
from runtime.client.errors import CallFailedError

SECRET = "patient 4711 is Jane Doe"
MISDEEDS = {
    "raise": 500,
    "raise-group": 500,
    "exit": 500,
    "interrupt": 500,
    "cancel": 500,
    "recurse": 500,
    "huge": 500,
    "wrong-type": 500,
    "not-json": 500,
    "not-finite": 500,
    "endless-type": 500,
    "hang": 408,
    "hang-on": 408,
    "exit-in-thread": 500,
}


class Endless(dict[str, Any]):
    """Claims to be a dict, and raises wherever it is looked at."""

    def __iter__(self) -> Any:
        raise RuntimeError(SECRET)

    def items(self) -> Any:
        raise RuntimeError(SECRET)


class UnsoundAgent(Agent):
    """Does what it is told, however bad."""

    released: asyncio.Event

    async def setup(self) -> None:
        self.released = asyncio.Event()

    async def teardown(self) -> None:
        self.released.set()

    @capability("honest.wait", timeout=20)
    async def wait(self, request: dict[str, Any]) -> dict[str, Any]:
        await self.released.wait()
        return request

    @capability("honest.echo")
    async def echo(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    @capability("unsound.thread")
    def thread(self, request: dict[str, Any]) -> dict[str, Any]:
        assert threading.current_thread() is not threading.main_thread()
        sys.exit(f"{SECRET} {request}")

    @capability("unsound.do", timeout=0.2)
    async def do(self, request: dict[str, Any]) -> dict[str, Any]:
        return await getattr(self, "_" + request["what"].replace("-", "_"))()

    async def _raise(self) -> None:
        raise RuntimeError(SECRET)

    async def _raise_group(self) -> None:
        raise BaseExceptionGroup(SECRET, [SystemExit(SECRET), ValueError(SECRET)])

    async def _exit(self) -> None:
        sys.exit(SECRET)

    async def _interrupt(self) -> None:
        raise KeyboardInterrupt(SECRET)

    async def _cancel(self) -> None:
        raise asyncio.CancelledError(SECRET)

    async def _recurse(self) -> None:
        await self._recurse()

    async def _huge(self) -> dict[str, str]:
        return {"x": "x" * 50_000_000}

    async def _wrong_type(self) -> list[int]:
        return [1]

    async def _not_json(self) -> dict[str, object]:
        return {"x": object()}

    async def _not_finite(self) -> dict[str, float]:
        return {"x": float("nan")}

    async def _endless_type(self) -> Endless:
        return Endless(x=1)

    async def _hang(self) -> None:
        await asyncio.Event().wait()

    async def _hang_on(self) -> None:
        """Takes no notice of being cancelled, until the agent goes."""
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                continue


@pytest.fixture
async def harness() -> AsyncIterator[testing.Harness]:
    agent = UnsoundAgent()
    async with testing.run(agent) as harness:
        yield harness
        agent.released.set()


@pytest.mark.parametrize("misdeed", MISDEEDS)
async def test_p5_a_handler_that_misbehaves_ends_its_own_call_and_no_other(
    harness: testing.Harness, misdeed: str
) -> None:
    under_way = asyncio.ensure_future(harness.call("honest.wait", {"n": 1}))
    await harness.call("honest.echo", {})
    target = "unsound.thread" if misdeed == "exit-in-thread" else "unsound.do"
    with pytest.raises(CallFailedError) as failed:
        await harness.call(target, {"what": misdeed})
    assert failed.value.code == MISDEEDS[misdeed]
    assert SECRET not in f"{failed.value} {vars(failed.value)}"
    assert await harness.call("honest.echo", {"n": 2}) == {"n": 2}
    assert not under_way.done()
    under_way.cancel()


async def test_p5_an_agent_that_hangs_in_every_slot_leaves_others_theirs(harness: testing.Harness) -> None:
    hanging = [asyncio.ensure_future(harness.call("unsound.do", {"what": "hang-on"})) for _ in range(200)]
    codes = {failed.code for failed in await asyncio.gather(*hanging, return_exceptions=True)}
    assert codes == {408, 429}
    assert await harness.call("honest.echo", {"n": 3}) == {"n": 3}
