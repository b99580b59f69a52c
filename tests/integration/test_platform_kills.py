"""P4: nats-server, the host and the platform itself are killed at random moments while it is administered and called.

Whatever was acknowledged before is there afterwards, and everything works again by itself.
"""

import asyncio
import base64
import contextlib
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from host_bench import until
from running_platform import POLICY, REPOSITORY, RunningPlatform, is_alive, running_platform

from authz.keys import UserSeed
from certs.leaves import new_client_key_and_csr
from runtime.cli.agentsource import find_agent
from runtime.client import Client, ClientError, RejectedCredentialsError

pytestmark = pytest.mark.timeout(180)

VICTIMS = ["server", "host", "platform", "server", "host"]
HELLO = find_agent(str(REPOSITORY / "examples" / "hello" / "agent.py"), working_folder=REPOSITORY)


@dataclass
class Acknowledged:
    """What was answered, and so must hold for ever after."""

    policies: dict[str, str] = field(default_factory=dict)
    deployed: set[str] = field(default_factory=set)
    issued: set[tuple[str, str]] = field(default_factory=set)
    revoked: set[tuple[str, str]] = field(default_factory=set)
    commands: int = 0


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path) as platform:
        yield platform


async def test_killed_at_random_moments_nothing_acknowledged_is_lost(platform: RunningPlatform) -> None:
    known, rng = Acknowledged(), random.Random(4711)  # noqa: S311 - moments, not keys
    for number, victim in enumerate(VICTIMS):
        work = asyncio.create_task(administer(platform, known, number))
        done_before = known.commands
        await until(lambda before=done_before: known.commands > before)  # type: ignore[misc]
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        await kill(platform, victim)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await check(platform, known)
    assert known.deployed
    assert known.revoked


async def kill(platform: RunningPlatform, victim: str) -> None:
    """Kill one of its processes, and wait until another has taken its place."""
    children = platform.children()
    if victim == "platform":
        platform.kill()
        await until(lambda: not any(is_alive(pid) for pid in children.values()))
        await asyncio.to_thread(platform.start)
        return
    os.kill(children[victim], signal.SIGKILL)
    await until(lambda: platform.children().get(victim, children[victim]) != children[victim])


async def administer(platform: RunningPlatform, known: Acknowledged, number: int) -> None:
    """Change things as fast as they are answered, noting each answer."""
    for step in range(1000):
        # What was not answered, because one of the processes is on its way back, is acknowledged to nobody.
        with contextlib.suppress(ClientError):
            async with Client.connect(platform.data / "operator") as operator:
                await administer_one(operator, known, f"t{number}-{step}")
        await asyncio.sleep(0.01)


async def administer_one(operator: Client, known: Acknowledged, tenant: str) -> None:
    policy = POLICY.format(tenant=tenant)
    await operator.admin("tenants.create", tenant, {})
    await operator.admin("policy.apply", tenant, {"policy": policy})
    known.policies[tenant] = policy
    known.commands += 1
    for name in ("ann", "bea"):
        await operator.admin("credentials.issue", tenant, request_for(name))
        known.issued.add((tenant, name))
    await operator.admin("credentials.revoke", tenant, {"name": "ann"})
    known.revoked.add((tenant, "ann"))
    known.commands += 1
    await deploy(operator, tenant)
    known.deployed.add(tenant)
    known.commands += 1


def request_for(name: str) -> dict[str, Any]:
    _, csr = new_client_key_and_csr()
    user = UserSeed.generate().public.text
    return {"name": name, "role": "nurse", "ttl_s": 600, "user": user, "csr": csr.decode()}


async def deploy(operator: Client, tenant: str) -> None:
    data = HELLO.snapshot.data
    piece = {"offset": 0, "size": len(data), "data": base64.b64encode(data).decode()}
    await operator.admin("agents.upload", tenant, {"digest": HELLO.snapshot.digest, **piece})
    wanted = {"agent": "hello", "digest": HELLO.snapshot.digest, "entry": HELLO.entry}
    await operator.admin("agents.deploy", tenant, wanted)


async def check(platform: RunningPlatform, known: Acknowledged) -> None:
    async with Client.connect(platform.data / "operator") as operator:
        for tenant, policy in known.policies.items():
            assert (await patiently(operator, "policy.show", tenant))["policy"] == policy
            listed = (await patiently(operator, "credentials.list", tenant))["credentials"]
            states = {(tenant, row["name"]): row["status"] for row in listed}
            for key in known.issued:
                if key[0] == tenant and key not in known.revoked:
                    assert states[key] in {"active", "revoked"}  # a revocation may have been under way
            assert all(states[key] == "revoked" for key in known.revoked if key[0] == tenant)
        for tenant in known.deployed:
            agents = (await patiently(operator, "agents.list", tenant))["agents"]
            assert [(row["agent"], row["digest"]) for row in agents] == [("hello", HELLO.snapshot.digest)]
        # and all of it serves
        tenant = min(known.deployed)
        await asyncio.to_thread(platform.must, "creds", "issue", tenant, "zoe", "--role", "nurse", "--out", "zoe")
    async with Client.connect(platform.folder / "zoe") as zoe:
        await until_greeted(zoe)
    assert audited(platform) >= known.commands


async def patiently(operator: Client, command: str, target: str) -> dict[str, Any]:
    """Ask until the platform has come back from what was done to it."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(ClientError):
                return await operator.admin(command, target, {})
            await asyncio.sleep(0.05)


async def until_greeted(client: Client, times: int = 1) -> None:
    """Call until the host serves again, and has answered `times` times."""
    answered = 0
    async with asyncio.timeout(30):
        while answered < times:
            with contextlib.suppress(ClientError):
                answered += "World" in str(await client.call("greeting", {"name": "World"}, timeout=2))


def audited(platform: RunningPlatform) -> int:
    """How many administrative records the audit stream holds, by what lies on disk."""
    folder = platform.data / "server" / "jetstream"
    blocks = [path for path in folder.rglob("*.blk") if "audit" in path.parts]
    return sum(path.read_bytes().count(b'"action":"admin"') for path in blocks)


async def test_server_killed_under_load_comes_back_and_calls_go_on(platform: RunningPlatform) -> None:
    await asyncio.to_thread(prepare_greeting, platform)
    async with Client.connect(platform.folder / "zoe") as zoe:
        before = platform.children()["server"]
        os.kill(before, signal.SIGKILL)
        await until_greeted(zoe, 20)
    async with Client.connect(platform.data / "operator") as operator:
        await patiently(operator, "status.show", "all")
        await operator.admin("credentials.revoke", "clinic", {"name": "zoe"})
    with pytest.raises(RejectedCredentialsError):
        await Client.connect(platform.folder / "zoe").__aenter__()


def prepare_greeting(platform: RunningPlatform) -> None:
    platform.must("tenant", "create", "clinic")
    (platform.folder / "clinic.yaml").write_text(POLICY.format(tenant="clinic"))
    platform.must("policy", "apply", "clinic.yaml")
    platform.must("creds", "issue", "clinic", "zoe", "--role", "nurse", "--out", "zoe")
    platform.must("agent", "deploy", "clinic", str(REPOSITORY / "examples" / "hello" / "agent.py"), "--name", "hello")


async def test_host_cut_off_from_the_control_plane_refuses_after_its_lease(platform: RunningPlatform) -> None:
    await asyncio.to_thread(prepare_greeting, platform)
    async with Client.connect(platform.folder / "zoe") as zoe:
        assert await zoe.call("greeting", {"name": "World"})
        platform.signal(signal.SIGSTOP)
        try:
            code = 0
            async with asyncio.timeout(20):
                while code != 503:
                    code = await code_of(zoe)
            assert await code_of(zoe) == 503
        finally:
            platform.signal(signal.SIGCONT)
        async with asyncio.timeout(20):
            while await code_of(zoe):  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.05)


async def code_of(client: Client) -> int:
    """0 when a call is answered, else the refusal's code."""
    try:
        await client.call("greeting", {"name": "World"}, timeout=1)
    except ClientError as error:
        return int(getattr(error, "code", -1))
    return 0
