"""Records that an answer waits for: durable when `store` returns, grouped, each failing for itself alone."""

import asyncio
from typing import Any

import pytest

from runtime.host.auditcommits import BATCH, AuditCommits
from runtime.host.errors import CommandRefusedError


class Store:
    """Takes batches; waits for `gate`, and refuses or fails as told."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuses: set[Any] = set()
        self.error: Exception | None = None

    async def __call__(self, records: list[dict[str, object]]) -> None:
        self.batches.append([record["n"] for record in records])
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if any(record["n"] in self.refuses for record in records):
            raise CommandRefusedError("audit.append", "too large")


@pytest.fixture
async def store() -> Store:
    return Store()


async def test_store_returns_when_the_record_is_durable(store: Store) -> None:
    store.gate.clear()
    waiting = asyncio.ensure_future(AuditCommits(store).store({"n": 1}))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    store.gate.set()
    await waiting
    assert store.batches == [[1]]


async def test_what_comes_during_a_write_goes_out_together(store: Store) -> None:
    commits = AuditCommits(store)
    store.gate.clear()
    first = asyncio.ensure_future(commits.store({"n": 0}))
    await asyncio.sleep(0.01)
    others = [asyncio.ensure_future(commits.store({"n": n})) for n in range(1, BATCH + 3)]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in store.batches] == [1, BATCH, 2]
    await commits.store({"n": "later"})
    assert store.batches[-1] == ["later"]


async def test_failure_is_told_to_everyone_who_waits_and_is_not_tried_again(store: Store) -> None:
    store.error = ConnectionError("no route")
    commits = AuditCommits(store)
    outcomes = await asyncio.gather(*(commits.store({"n": n}) for n in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert store.batches == [[0, 1, 2]]


async def test_record_that_is_refused_fails_its_own_call_alone(store: Store) -> None:
    store.refuses.add(1)
    commits = AuditCommits(store)
    outcomes = await asyncio.gather(*(commits.store({"n": n}) for n in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), CommandRefusedError, type(None)]


async def test_call_that_was_given_up_does_not_disturb_the_others(store: Store) -> None:
    commits = AuditCommits(store)
    store.gate.clear()
    first, second = (asyncio.ensure_future(commits.store({"n": n})) for n in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    await second
    assert first.cancelled()
