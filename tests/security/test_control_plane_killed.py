"""P4: kill -9 of the control plane, and of the server, at random moments during administrative commands."""

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from control_harness import RefusedError, policy
from fixtures_control import LivePlatform

from authz.creds import Creds, parse_creds
from runtime.bus.errors import BusError, ConnectFailedError

ROUNDS = 6
SCRIPT = Path(__file__).parents[1] / "control_process.py"


class Victim:
    """The control plane in a process that can be killed."""

    def __init__(self, live: LivePlatform) -> None:
        self._live = live
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Creds:
        """Start; the operator's credentials."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            str(self._live.folder),
            self._live.server.url,
            stdout=asyncio.subprocess.PIPE,
            cwd=SCRIPT.parents[1],
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        return parse_creds(json.loads(line))

    async def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None


@dataclass
class Acknowledged:
    """What was answered, and so must hold for ever after."""

    tenants: dict[str, str] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    valid: dict[str, Creds] = field(default_factory=dict)
    revoked: dict[str, Creds] = field(default_factory=dict)


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[LivePlatform]:
    folder = tmp_path / "platform"
    folder.mkdir(mode=0o700)
    live = LivePlatform(folder)
    try:
        await live.start_server()
        yield live
    finally:
        await live.close()


@pytest.mark.timeout(180)
async def test_killed_at_random_moments_nothing_acknowledged_is_lost(platform: LivePlatform) -> None:
    victim, known, rng = Victim(platform), Acknowledged(), random.Random(4711)  # noqa: S311 - moments, not keys
    try:
        for number in range(ROUNDS):
            operator_creds = await victim.start()
            work = asyncio.create_task(administer(platform, operator_creds, known, number))
            await asyncio.sleep(rng.uniform(0.02, 0.5))
            await victim.kill()
            if number % 3 == 2:
                await platform.server.kill()
                await platform.start_server()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        operator_creds = await victim.start()
        await check(platform, operator_creds, known)
    finally:
        await victim.kill()
    assert known.tenants
    assert known.revoked


async def administer(platform: LivePlatform, creds: Creds, known: Acknowledged, number: int) -> None:
    """Change things as fast as they are answered, noting each answer."""
    operator = await platform.connect(creds)
    for step in range(1000):
        tenant = f"t{number}-{step}"
        created = await operator.ask("tenants.create", tenant, {"policy": text(tenant, 0)}, timeout=30)
        known.tenants[tenant], known.epochs[tenant] = created["account"], 1
        for name in ("ann", "bea"):
            known.valid[f"{tenant}/{name}"] = await operator.issue(tenant, name, "nurse")
        applied = await operator.ask("policy.apply", tenant, {"policy": text(tenant, 1)}, timeout=30)
        known.epochs[tenant] = applied["epoch"]
        key = f"{tenant}/ann"
        doubtful = known.valid.pop(key)  # until it is answered nobody can say
        await operator.ask("credentials.revoke", tenant, {"name": "ann"}, timeout=30)
        known.revoked[key] = doubtful


def text(tenant: str, version: int) -> str:
    return policy(tenant, nurse=f"call: [vitals.v{version}]", admin='admin: ["policy.*"]')


async def check(platform: LivePlatform, creds: Creds, known: Acknowledged) -> None:
    operator = await platform.connect(creds)
    listed = {t["tenant"]: t for t in (await operator.ask("tenants.list", "all"))["tenants"]}
    for tenant, account in known.tenants.items():
        assert listed[tenant]["account"] == account
        assert listed[tenant]["epoch"] >= known.epochs[tenant]
    for creds_of in known.valid.values():
        await platform.connect(creds_of)
    for creds_of in known.revoked.values():
        with pytest.raises(ConnectFailedError):
            await platform.connect(creds_of)
    assert (await operator.ask("status.show", "all"))["unconfirmed_accounts"] == []
    # and it all goes on
    for tenant in known.tenants:
        with contextlib.suppress(RefusedError, BusError):
            await operator.ask("policy.apply", tenant, {"policy": text(tenant, 1)})
        assert (await operator.ask("policy.show", tenant))["policy"] == text(tenant, 1)
