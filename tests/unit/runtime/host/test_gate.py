"""A tenant's connection: rebuilt when it ends, renewed before it does, and answers go back the way they came."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from host_bench import TenantBench, agent_code, until

from runtime.host import gate


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[TenantBench]:
    bench = TenantBench(tmp_path)
    try:
        await bench.deploy("vitals", agent_code("vitals.assess", "vitals.list", says="one"))
        yield bench
    finally:
        await bench.tenant.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "REBUILD_MIN_S", 0.001)
    monkeypatch.setattr(gate, "REBUILD_MAX_S", 0.002)


def renew(bench: TenantBench) -> None:
    """Have the connection's next maker give it a short life, and make it anew now."""
    bench.connector.lifetime_s = 0.05
    bench.connector.gates[-1].end()


@pytest.mark.usefixtures("hurried")
async def test_connection_that_ended_is_rebuilt_with_its_subscriptions(bench: TenantBench) -> None:
    bench.connector.open_fails = 3
    bench.connector.gates[0].end()
    await until(lambda: bench.serves("vitals.assess") and bench.serves("vitals.list"))
    assert await bench.says("vitals.assess") == "one"
    assert len(bench.connector.live) == 1


@pytest.mark.usefixtures("hurried")
async def test_connection_that_could_not_subscribe_is_closed(bench: TenantBench) -> None:
    bench.connector.subscribe_fails = True
    bench.connector.gates[0].end()
    await until(lambda: len(bench.connector.gates) > 3)
    bench.connector.subscribe_fails = False
    await until(lambda: bench.serves("vitals.assess") and bench.serves("vitals.list"))
    assert len(bench.connector.live) == 1


@pytest.mark.usefixtures("hurried")
async def test_closing_during_a_rebuild_leaves_no_connection(bench: TenantBench) -> None:
    bench.connector.open_fails = 1_000_000
    bench.connector.gates[0].end()
    await until(lambda: bench.connector.open_fails < 999_999)
    await bench.tenant.close()
    left = bench.connector.open_fails
    await asyncio.sleep(0.05)
    assert bench.connector.open_fails == left
    assert bench.connector.live == []


async def test_renewal_serves_without_a_gap_and_answers_by_the_connection_that_asked(bench: TenantBench) -> None:
    under_way, end = await bench.begin("vitals.assess")
    old = bench.connector.gates[0]
    link = bench.tenant._gate._link
    assert link is not None
    replacing = asyncio.create_task(bench.tenant._gate._replace(link))
    while not replacing.done():
        assert bench.serves("vitals.assess")
        await asyncio.sleep(0)
    await until(lambda: not old.handlers)
    assert len(bench.connector.live) == 2
    fresh = await bench.call("vitals.assess")
    assert fresh.by is not old
    assert not old.closed
    end.touch()
    assert (await under_way).by is old
    await until(lambda: old.closed)
    assert len(bench.connector.live) == 1


@pytest.mark.usefixtures("hurried")
async def test_credentials_are_renewed_before_they_end_and_no_call_is_lost(bench: TenantBench) -> None:
    renew(bench)
    await until(lambda: len(bench.connector.gates) == 2)
    while len(bench.connector.gates) < 6:
        await until(lambda: bench.serves("vitals.assess"))
        assert await bench.says("vitals.assess") == "one"
        await asyncio.sleep(0.001)


@pytest.mark.usefixtures("hurried")
async def test_renewal_that_fails_keeps_the_old_connection(bench: TenantBench) -> None:
    renew(bench)
    await until(lambda: len(bench.connector.gates) == 2 and bench.serves("vitals.assess"))
    bench.connector.open_fails = 3
    await until(lambda: bench.connector.open_fails == 0)
    assert bench.serves("vitals.assess")


async def test_answer_to_an_unknown_reply_subject_goes_nowhere(bench: TenantBench) -> None:
    with pytest.raises(ConnectionError):
        bench.tenant._gate.respond("_R_.forged", b"{}", None)


async def test_what_is_dropped_unanswered_leaves_nothing_behind(bench: TenantBench) -> None:
    from host_bench import Message

    subject = next(iter(bench.connector.gates[0].handlers))
    bench.connector.gates[0].handlers[subject](Message(subject, "_INBOX.deputy", b"{}", b""))
    assert bench.tenant._gate._came_by == {}
    assert bench.tenant.dispatcher.counters.dropped == 1
