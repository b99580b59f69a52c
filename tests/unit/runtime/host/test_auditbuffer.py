"""The audit buffer: bounded, in order, and never held up by one record."""

import asyncio

import pytest

from runtime.host import auditbuffer
from runtime.host.auditbuffer import AuditBuffer, Record
from runtime.host.errors import CommandRefusedError


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditbuffer, "LINGER_S", 0.0)
    monkeypatch.setattr(auditbuffer, "RETRY_S", 0.0)


class Store:
    """What the control plane has stored; fails as often, and refuses what, it is told to."""

    def __init__(self, *, failures: int = 0, refused: frozenset[int] = frozenset()) -> None:
        self.failures, self.refused = failures, refused
        self.batches: list[list[Record]] = []

    @property
    def numbers(self) -> list[object]:
        return [record["n"] for batch in self.batches for record in batch]

    async def append(self, records: list[Record]) -> None:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("not now")
        if any(record["n"] in self.refused for record in records):
            raise CommandRefusedError("audit.append", "too long")
        self.batches.append(records)


async def test_records_are_stored_in_order_and_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditbuffer, "BATCH", 4)
    store = Store()
    buffer = AuditBuffer(store.append)
    for number in range(10):
        buffer.record({"n": number})
    buffer.start()
    await buffer.close(5)
    assert store.numbers == list(range(10))
    assert max(len(batch) for batch in store.batches) == 4
    assert buffer.dropped == 0


async def test_failure_keeps_the_records_until_they_are_stored() -> None:
    store = Store(failures=5)
    buffer = AuditBuffer(store.append)
    buffer.start()
    buffer.record({"n": 1})
    buffer.record({"n": 2})
    await buffer.close(5)
    assert (store.numbers, buffer.dropped) == ([1, 2], 0)


async def test_refused_record_is_dropped_and_holds_up_no_other() -> None:
    store = Store(refused=frozenset({3, 6}))
    buffer = AuditBuffer(store.append)
    for number in range(8):
        buffer.record({"n": number})
    buffer.start()
    await buffer.close(5)
    assert (store.numbers, buffer.dropped) == ([0, 1, 2, 4, 5, 7], 2)


async def test_full_buffer_keeps_the_oldest_and_counts_the_rest() -> None:
    store = Store()
    buffer = AuditBuffer(store.append, capacity=3)
    for number in range(5):
        buffer.record({"n": number})
    assert buffer.dropped == 2
    buffer.start()
    await buffer.close(5)
    assert store.numbers == [0, 1, 2]


async def test_close_is_bounded_and_counts_what_it_leaves() -> None:
    async def never(_: list[Record]) -> None:
        await asyncio.Event().wait()

    buffer = AuditBuffer(never)
    buffer.start()
    buffer.record({"n": 1})
    await buffer.close(0.05)
    assert buffer.dropped == 1


async def test_close_without_records_or_start_ends_at_once() -> None:
    await AuditBuffer(Store().append).close(5)
