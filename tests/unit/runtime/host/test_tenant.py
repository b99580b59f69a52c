"""A tenant on a host: what runs follows what is wanted, make-before-break, and its view is in force at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from host_bench import POLICY, TenantBench, agent_code, until

from runtime.host import inline, tenant


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[TenantBench]:
    bench = TenantBench(tmp_path)
    try:
        yield bench
    finally:
        await bench.tenant.close()


async def test_deployed_agent_answers_and_reports_its_capabilities(bench: TenantBench) -> None:
    report = await bench.deploy("vitals", agent_code("vitals.assess", "vitals.list", says="one"))
    assert (report.state, report.capabilities) == ("running", ("vitals.assess", "vitals.list"))
    assert await bench.says("vitals.assess") == "one"


async def test_new_version_takes_over_while_the_old_one_ends_its_calls(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    under_way, end = await bench.begin("vitals.assess")
    await bench.deploy("vitals", agent_code("vitals.assess", says="two"))
    assert await bench.says("vitals.assess") == "two"
    end.touch()
    assert (await under_way).body["result"] == {"says": "one"}


async def test_every_call_during_replacements_is_answered(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="0"))
    stop = asyncio.Event()
    seen: list[str] = []

    async def load() -> None:
        while not stop.is_set():
            seen.append(await bench.says("vitals.assess"))
            await asyncio.sleep(0)

    callers = [asyncio.create_task(load()) for _ in range(4)]
    for version in range(1, 6):
        await bench.deploy("vitals", agent_code("vitals.assess", says=str(version)))
    stop.set()
    await asyncio.gather(*callers)
    assert seen == sorted(seen)
    assert await bench.says("vitals.assess") == "5"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (agent_code(head="raise RuntimeError('no licence')\n"), "no licence"),
        (agent_code(head="import sys; sys.exit('bye')\n"), "SystemExit: bye"),
        (agent_code(head="raise KeyboardInterrupt\n"), "KeyboardInterrupt"),
        (agent_code(head="import nowhere_to_be_found\n"), "nowhere_to_be_found"),
        ("class Probe:\n    pass\n", "not an agent class"),
        (agent_code("vitals.assess", body="    def __init__(self):\n        raise SystemExit(3)\n"), "SystemExit: 3"),
        (
            agent_code(body="    def __init__(self):\n        raise asyncio.CancelledError\n"),
            "CancelledError",
        ),
        (agent_code("x", body="    async def setup(self):\n        raise ValueError('a\\nb')\n"), "ValueError: a b"),
        (agent_code("x", body="    async def setup(self):\n        raise SystemExit(9)\n"), "SystemExit: 9"),
        (agent_code("x", body="    async def setup(self):\n        raise asyncio.CancelledError\n"), "CancelledError"),
        (agent_code("x", body="    async def setup(self):\n        raise TimeoutError('db')\n"), "TimeoutError: db"),
        (agent_code("x", body="    def setup(self):\n        pass\n"), "TypeError"),
        (agent_code("NOT A NAME"), "NOT A NAME"),
    ],
    ids=[
        "import-raises",
        "import-exits",
        "import-interrupts",
        "import-missing",
        "no-agent",
        "constructor-exits",
        "constructor-cancels",
        "setup-raises",
        "setup-exits",
        "setup-cancels",
        "setup-times-out-by-itself",
        "setup-is-not-async",
        "bad-capability",
    ],
)
async def test_agent_that_does_not_start_changes_nothing(bench: TenantBench, code: str, says: str) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    report = await bench.deploy("vitals", code)
    assert report.state == "failed"
    assert says in report.error
    assert "\n" not in report.error
    assert await bench.says("vitals.assess") == "one"


@pytest.mark.parametrize("where", ["import", "setup", "setup-that-heeds-nothing"])
async def test_agent_that_hangs_is_given_up_and_changes_nothing(
    bench: TenantBench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(inline, "START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(inline, "CANCEL_GRACE_S", 0.05)
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    released = bench.folder / "released"
    code = {
        "import": agent_code(head=f"import time\nwhile not Path({str(released)!r}).exists():\n    time.sleep(0.01)\n"),
        "setup": agent_code("x", body="    async def setup(self):\n        await asyncio.Event().wait()\n"),
        "setup-that-heeds-nothing": agent_code(
            "x",
            body=(
                f"    async def setup(self):\n        while not Path({str(released)!r}).exists():\n"
                "            try:\n                await asyncio.sleep(0.01)\n"
                "            except asyncio.CancelledError:\n                pass\n"
            ),
        ),
    }[where]
    report = await bench.deploy("vitals", code)
    released.touch()
    assert report.state == "failed"
    assert "longer than" in report.error
    assert await bench.says("vitals.assess") == "one"


async def test_capability_of_another_agent_can_not_be_taken(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    report = await bench.deploy("thief", agent_code("vitals.assess", "vitals.list", says="thief"))
    assert report.state == "failed"
    assert "already served by agent `vitals`" in report.error
    assert await bench.says("vitals.assess") == "one"
    assert not bench.serves("vitals.list")


async def test_version_without_a_capability_stops_serving_it(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", "vitals.list", says="one"))
    await bench.deploy("vitals", agent_code("vitals.list", "vitals.trend", says="two"))
    assert not bench.serves("vitals.assess")
    assert await bench.says("vitals.trend") == await bench.says("vitals.list") == "two"


async def test_replacement_that_can_not_be_subscribed_keeps_the_old_version_and_is_tried_again(
    bench: TenantBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "RETRY_S", 0.02)
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    bench.connector.subscribe_fails = True
    new = bench.packed("vitals", agent_code("vitals.assess", "vitals.list", says="two"))
    bench.want(new)
    await until(lambda: any("went away" in report.error for report in bench.tenant.reports()))
    assert await bench.says("vitals.assess") == "one"
    bench.connector.subscribe_fails = False
    assert (await bench.settled("vitals", new.revision)).state == "running"
    assert await bench.says("vitals.list") == "two"


async def test_what_the_platform_could_not_do_is_tried_again(
    bench: TenantBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "RETRY_S", 0.02)
    bench.control.snapshot_fails = 2
    bench.connector.open_fails = 2
    assert (await bench.deploy("vitals", agent_code("vitals.assess"))).state == "running"


async def test_stopped_agent_takes_no_new_call_and_ends_those_it_has(bench: TenantBench) -> None:
    torn_down = bench.folder / "torn-down"
    body = f"    async def teardown(self):\n        Path({str(torn_down)!r}).touch()\n"
    await bench.deploy("vitals", agent_code("vitals.assess", says="one", body=body))
    under_way, end = await bench.begin("vitals.assess")
    bench.want()
    assert (await bench.call("vitals.assess")).code == 503
    await until(lambda: not bench.serves("vitals.assess"))
    assert not torn_down.exists()
    end.touch()
    assert (await under_way).code == 200
    await until(torn_down.exists)
    await until(lambda: not bench.connector.live)


async def test_stopped_and_deployed_again_serves(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    wanted = bench.snapshot.deployments
    bench.want()
    bench.want(*wanted)
    await until(lambda: "vitals.assess" in bench.tenant._capabilities)
    assert await bench.says("vitals.assess") == "one"
    bench.want()
    await until(lambda: not bench.connector.live)
    bench.want(*wanted)
    await bench.settled("vitals", wanted[0].revision)
    assert await bench.says("vitals.assess") == "one"


async def test_suspension_counts_from_the_next_message_and_resuming_serves_again(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    bench.apply(status="suspended")
    assert (await bench.call("vitals.assess")).code == 401
    await until(lambda: not bench.connector.live)
    assert bench.tenant.reports() == ()
    bench.apply(status="active")
    await bench.settled("vitals", bench.snapshot.deployments[0].revision)
    assert await bench.says("vitals.assess") == "one"


async def test_suspended_and_resumed_at_any_moment_serves_again(bench: TenantBench) -> None:
    await bench.deploy("one", agent_code("vitals.one", says="one"))
    await bench.deploy("two", agent_code("vitals.two", says="two"))
    for turns in range(12):
        bench.apply(status="suspended")
        for _ in range(turns):
            await asyncio.sleep(0)
        bench.apply(status="active")
        for deployed in bench.snapshot.deployments:
            await bench.settled(deployed.agent, deployed.revision)
        await until(lambda: bench.serves("vitals.one") and bench.serves("vitals.two"))
        assert (await bench.says("vitals.one"), await bench.says("vitals.two")) == ("one", "two")


async def test_policy_role_and_revocation_count_from_the_next_message(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    assert (await bench.call("vitals.assess", role=bench.clerk_key)).code == 403
    bench.apply(policy=bench.snapshot.policy.replace("invoice.*", "vitals.*"))
    assert (await bench.call("vitals.assess", role=bench.clerk_key)).code == 200
    bench.apply(roles={bench.nurse_key.public.text: "nurse"})
    assert (await bench.call("vitals.assess", role=bench.clerk_key)).code == 401
    bench.apply(revocations={bench.nurse.public.text: 4_000_000_000})
    assert (await bench.call("vitals.assess")).code == 401


async def test_policy_that_does_not_compile_serves_nobody(bench: TenantBench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    good = bench.snapshot.policy
    bench.apply(policy="tenant: [")
    assert (await bench.call("vitals.assess")).code == 503
    bench.apply(policy=good)
    assert (await bench.call("vitals.assess")).code == 200
    with monkeypatch.context() as patched:
        patched.setattr(tenant, "compile_policy", lambda _: 1 / 0)
        bench.apply(policy=good + "\n")
    assert (await bench.call("vitals.assess")).code == 503


async def test_lost_lease_refuses_everything_until_the_control_plane_is_heard(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    bench.lease = False
    assert (await bench.call("vitals.assess")).code == 503
    bench.lease = True
    assert (await bench.call("vitals.assess")).code == 200


async def test_drain_ends_accepted_calls_and_refuses_new_ones(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    under_way, end = await bench.begin("vitals.assess")
    draining = asyncio.create_task(bench.tenant.drain(20))
    await until(lambda: not bench.serves("vitals.assess"))
    bench.want(bench.packed("late", agent_code("vitals.late")))
    await asyncio.sleep(0.05)
    assert not bench.serves("vitals.late")
    end.touch()
    assert (await under_way).code == 200
    await draining
    assert bench.connector.live == []


async def test_drain_that_takes_too_long_answers_what_is_left(bench: TenantBench) -> None:
    await bench.deploy("vitals", agent_code("vitals.assess", says="one"))
    under_way, _ = await bench.begin("vitals.assess")
    await bench.tenant.drain(0.05)
    assert (await under_way).code == 500


async def test_closing_answers_open_calls_and_repeats_safely(bench: TenantBench) -> None:
    torn_down = bench.folder / "torn-down"
    body = (
        "    async def teardown(self):\n"
        f"        with Path({str(torn_down)!r}).open('a') as file:\n            file.write('x')\n"
    )
    await bench.deploy("vitals", agent_code("vitals.assess", body=body))
    under_way, _ = await bench.begin("vitals.assess")
    await asyncio.gather(bench.tenant.close(), bench.tenant.drain(5))
    assert (await under_way).code == 500
    assert torn_down.read_text() == "x"
    assert bench.connector.live == []


async def test_drain_during_a_deployment_leaves_nothing_behind(bench: TenantBench) -> None:
    began = bench.folder / "began"
    torn_down = bench.folder / "torn-down"
    body = (
        f"    async def setup(self):\n        Path({str(began)!r}).touch()\n        await asyncio.Event().wait()\n"
        f"    async def teardown(self):\n        Path({str(torn_down)!r}).touch()\n"
    )
    bench.want(bench.packed("slow", agent_code("vitals.slow", body=body)))
    await until(began.exists)
    async with asyncio.timeout(5):
        await bench.tenant.drain(5)
    assert bench.connector.gates == []


@pytest.mark.parametrize("misdeed", ["raise RuntimeError", "raise SystemExit(1)", "await asyncio.Event().wait()"])
async def test_teardown_that_fails_harms_nobody(
    bench: TenantBench, monkeypatch: pytest.MonkeyPatch, misdeed: str
) -> None:
    monkeypatch.setattr(inline, "STOP_TIMEOUT_S", 0.05)
    body = f"    async def teardown(self):\n        {misdeed}\n"
    await bench.deploy("vitals", agent_code("vitals.assess", says="one", body=body))
    await bench.deploy("vitals", agent_code("vitals.assess", says="two"))
    assert await bench.says("vitals.assess") == "two"
    bench.want()
    await until(lambda: not bench.connector.live)


# --- data keys


async def test_each_agent_has_keys_of_its_own(bench: TenantBench) -> None:
    first, second = bench.tenant._keys_of("vitals"), bench.tenant._keys_of("lab")
    assert first is not second
    assert bench.tenant._keys_of("vitals") is first
    assert set(bench.keys) == {("st-marys", "vitals"), ("st-marys", "lab")}


@pytest.mark.parametrize(
    "change",
    [
        {"policy": POLICY.replace("billing", "clerk")},
        {"roles": {}},
        {"revocations": {"U": 1}},
        {"status": "suspended"},
    ],
    ids=["policy", "roles", "revocations", "status"],
)
async def test_keys_at_hand_are_forgotten_when_rights_change(bench: TenantBench, change: dict[str, Any]) -> None:
    before = bench.tenant._keys_of("vitals")
    bench.apply(**change)
    assert bench.keys["st-marys", "vitals"][0].dropped
    assert bench.tenant._keys_of("vitals") is not before


async def test_keys_at_hand_stay_when_nothing_changes_but_the_revision(bench: TenantBench) -> None:
    before = bench.tenant._keys_of("vitals")
    bench.apply()
    assert bench.tenant._keys_of("vitals") is before


async def test_keys_go_with_the_agent(bench: TenantBench) -> None:
    await bench.deploy("probe", agent_code("vitals.assess"))
    bench.tenant._keys_of("probe")
    bench.want()
    assert bench.keys["st-marys", "probe"][0].dropped
