"""Two hosts in one queue group: they share the calls, and the death of one costs its own calls in flight, no more."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host_bench import until
from running_platform import RunningPlatform, prepared, running_platform

from runtime.client import CallFailedError, Client, ClientError

pytestmark = pytest.mark.timeout(120)

PID_AGENT = """
import asyncio, os
from pathlib import Path
from runtime.agent import Agent, capability

class PidAgent(Agent):
    @capability("odd.pid", timeout=20)
    async def pid(self, request: dict) -> dict:
        return {"pid": os.getpid()}

    @capability("odd.wait", timeout=20)
    async def wait(self, request: dict) -> dict:
        Path(request["began"], str(os.getpid())).touch()
        while not Path(request["end"]).exists():
            await asyncio.sleep(0.01)
        return {"pid": os.getpid()}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path) as platform:
        prepared(platform, "clinic", "amy")
        platform.must("creds", "issue", "platform", "host2", "--role", "host", "--out", "host2")
        (tmp_path / "pid.py").write_text(PID_AGENT)
        platform.must("agent", "deploy", "clinic", "pid.py")
        yield platform


@pytest.fixture
def second(platform: RunningPlatform) -> Iterator["subprocess.Popen[str]"]:
    process = platform.begin("host", "run", "--as", "host2", "--work", "work2", "--json")
    try:
        assert process.stdout is not None
        connected = json.loads(process.stdout.readline())
        assert (connected["host"], connected["pid"]) == ("host2", process.pid)
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_calls_survive_the_death_of_one_host(
    platform: RunningPlatform, second: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    first_pid = platform.children()["host"]
    began, end = tmp_path / "began", tmp_path / "end"
    began.mkdir()
    async with Client.connect(platform.folder / "clinic-amy") as amy:
        await both_serve(amy, {first_pid, second.pid})
        waiting = [
            asyncio.create_task(amy.call("odd.wait", {"began": str(began), "end": str(end)}, timeout=4))
            for _ in range(24)
        ]
        await until(lambda: len(list(began.iterdir())) == 2)
        os.kill(second.pid, signal.SIGKILL)
        second.wait()
        for _ in range(50):
            assert (await amy.call("odd.pid", {}, timeout=5))["pid"] == first_pid
        end.touch()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    kept = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    assert {outcome["pid"] for outcome in kept} == {first_pid}
    assert lost
    assert all(isinstance(error, CallFailedError) and error.code == 408 for error in lost)


async def test_second_host_drains_on_sigterm_and_can_not_share_a_work_folder(
    platform: RunningPlatform, second: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    first_pid = platform.children()["host"]
    began, end = tmp_path / "began", tmp_path / "end"
    began.mkdir()
    async with Client.connect(platform.folder / "clinic-amy") as amy:
        await both_serve(amy, {first_pid, second.pid})
        refused = await asyncio.to_thread(platform.spawn, "host", "run", "--as", "host2", "--work", "work2")
        assert refused.code == 1
        assert f"in use by process {second.pid}" in refused.err
        waiting = [
            asyncio.create_task(amy.call("odd.wait", {"began": str(began), "end": str(end)}, timeout=15))
            for _ in range(16)
        ]
        await until(lambda: len(list(began.iterdir())) == 2)
        second.send_signal(signal.SIGTERM)
        while (await amy.call("odd.pid", {}))["pid"] != first_pid:
            pass
        end.touch()
        answers = await asyncio.gather(*waiting)
    assert {answer["pid"] for answer in answers} == {first_pid, second.pid}
    assert await asyncio.to_thread(second.wait, 20) == 0


async def both_serve(client: Client, pids: set[int]) -> None:
    """Return when each of the hosts has answered."""
    seen: set[Any] = set()
    async with asyncio.timeout(30):
        while seen != pids:
            try:
                seen.add((await client.call("odd.pid", {}, timeout=5))["pid"])
            except ClientError:
                await asyncio.sleep(0.05)
