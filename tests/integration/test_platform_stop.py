"""Ending the platform: accepted calls are finished, nothing is left running, and whoever asks is told how it ended."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_bench import until
from running_platform import RunningPlatform, is_alive, prepared, running_platform

from runtime.client import Client, UnavailableError, UnreachableError

pytestmark = pytest.mark.timeout(120)

SLOW_AGENT = """
import asyncio
from runtime.agent import Agent, capability

class SlowAgent(Agent):
    @capability("odd.slow", timeout=20, concurrency=256)
    async def slow(self, request: dict) -> dict:
        open(request["began"], "a").write("x")
        await asyncio.sleep(0.4)
        return {"n": request["n"]}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path) as platform:
        prepared(platform, "clinic", "amy")
        (tmp_path / "slow.py").write_text(SLOW_AGENT)
        platform.must("agent", "deploy", "clinic", "slow.py")
        yield platform


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
async def test_signal_under_load_loses_no_accepted_call(platform: RunningPlatform, number: signal.Signals) -> None:
    began = platform.folder / "began"
    children = platform.children()
    async with Client.connect(platform.folder / "clinic-amy") as amy:
        calls = [
            asyncio.create_task(amy.call("odd.slow", {"n": n, "began": str(began)}, timeout=15)) for n in range(40)
        ]
        await until(lambda: began.exists() and began.stat().st_size == len(calls))
        platform.signal(number)
        late = asyncio.create_task(amy.call("odd.slow", {"n": -1, "began": str(began)}, timeout=3))
        answers = await asyncio.gather(*calls)
        outcome = (await asyncio.gather(late, return_exceptions=True))[0]
    assert sorted(answer["n"] for answer in answers) == list(range(40))
    # One that came after the signal is answered, or refused before its handler began; never lost on the way.
    assert outcome == {"n": -1} or isinstance(outcome, UnavailableError | UnreachableError)
    assert await asyncio.to_thread(platform.ended) == 0
    await until(lambda: not any(is_alive(pid) for pid in children.values()))
    platform.start()
    assert count_of_audited_calls(platform) >= len(calls)


async def test_killed_platform_leaves_no_process_behind_and_starts_again(platform: RunningPlatform) -> None:
    children = platform.children()
    assert set(children) == {"server", "host"}
    platform.kill()
    await until(lambda: not any(is_alive(pid) for pid in children.values()))
    platform.start()
    async with Client.connect(platform.folder / "clinic-amy") as amy:
        assert await amy.call("odd.slow", {"n": 1, "began": str(platform.folder / "began")}) == {"n": 1}


def count_of_audited_calls(platform: RunningPlatform) -> int:
    """How many calls the audit stream holds, by what lies on disk."""
    folder = platform.data / "server" / "jetstream"
    found = 0
    for path in folder.rglob("*.blk"):
        if "audit" in str(path):
            found += path.read_bytes().count(b'"resource":"odd.slow"')
    return found


def test_platform_whose_own_credentials_were_revoked_starts_with_new_ones(tmp_path: Path) -> None:
    with running_platform(tmp_path) as platform:
        platform.must("creds", "revoke", "platform", "local")
        platform.run("creds", "revoke", "platform", "operator")  # who revokes their own is cut off by it
        assert platform.run("status").code == 3
        platform.kill()
        platform.start()
        assert platform.must("status")["hosts"][0]["up_to_date"]
