"""Writes whose outcome is unknown, and a second writer."""

import dataclasses
from typing import Any

import pytest
from control_harness import Caller, Process, RefusedError, Site, policy

from runtime.bus.errors import RequestTimeoutError
from runtime.control.errors import StateDamagedError, StateVersionError
from runtime.control.memory import MemoryBucket
from runtime.control.state import Cell, SecondWriterError


class LossyBucket(MemoryBucket):
    """Answers get lost: before or after the write was done; reads may fail too."""

    def __init__(self) -> None:
        super().__init__("lossy")
        self.lose = ""
        self.unreadable = 0

    async def put(self, key: str, value: bytes) -> int:
        if self.lose == "request":
            raise RequestTimeoutError(key, 1)
        revision = await super().put(key, value)
        if self.lose == "answer":
            raise RequestTimeoutError(key, 1)
        return revision

    async def get(self, key: str) -> Any:
        if self.unreadable:
            self.unreadable -= 1
            raise RequestTimeoutError(key, 1)
        return await super().get(key)


async def test_write_whose_answer_was_lost_counts_as_written() -> None:
    bucket = LossyBucket()
    cell = Cell(bucket, "k")
    bucket.lose = "answer"
    assert await cell.write(b"one") == 1
    assert await cell.write(b"two") == 2
    assert (cell.value, cell.revision, cell.doubtful) == (b"two", 2, False)


async def test_write_that_did_not_arrive_changes_nothing_and_can_be_repeated() -> None:
    bucket = LossyBucket()
    cell = Cell(bucket, "k")
    await cell.write(b"one")
    bucket.lose = "request"
    with pytest.raises(Exception, match="nothing was changed"):
        await cell.write(b"two")
    assert (cell.value, cell.doubtful) == (b"one", False)
    bucket.lose = ""
    assert await cell.write(b"two") == 2


async def test_doubt_remains_until_storage_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.control.state._SETTLE_PAUSE_S", 0)
    bucket = LossyBucket()
    cell = Cell(bucket, "k")
    bucket.lose, bucket.unreadable = "answer", 10
    with pytest.raises(Exception, match="look again"):
        await cell.write(b"one")
    assert cell.doubtful
    bucket.lose = ""
    await cell.settle()
    assert (cell.value, cell.revision, cell.doubtful) == (b"one", 1, False)


async def test_second_writer_is_noticed_and_not_overwritten() -> None:
    bucket = MemoryBucket("b")
    ours, theirs = Cell(bucket, "k"), Cell(bucket, "k")
    await theirs.write(b"theirs")
    with pytest.raises(SecondWriterError):
        await ours.write(b"ours")
    entry = await bucket.get("k")
    assert entry is not None
    assert entry.value == b"theirs"


async def test_change_that_was_stored_though_nobody_knew_is_built_upon_not_lost(
    site: Site, process: Process, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation of unknown outcome must not be undone by the change that follows it."""
    monkeypatch.setattr("runtime.control.state._SETTLE_PAUSE_S", 0)
    await process.ask(operator, "tenants.create", "st-marys", {"policy": policy("st-marys", nurse="call: [x]")})
    nurse = await process.issue(operator, "st-marys", "ann", "nurse")
    bucket = site.storage.tenants
    update, get = bucket.update, bucket.get

    async def lost(*args: Any) -> int:
        await update(*args)
        raise RequestTimeoutError("k", 1)

    async def unreadable(_key: str) -> Any:
        raise RequestTimeoutError("k", 1)

    monkeypatch.setattr(bucket, "update", lost)
    monkeypatch.setattr(bucket, "get", unreadable)
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "credentials.revoke", "st-marys", {"name": "ann"})
    assert refused.value.code == 503
    monkeypatch.setattr(bucket, "update", update)
    monkeypatch.setattr(bucket, "get", get)

    await process.ask(operator, "policy.apply", "st-marys", {"policy": policy("st-marys", nurse="call: [y]")})

    view = process.plane.state.tenant("st-marys")
    assert view is not None
    assert nurse.user in view.record.revocations


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (b'{"v": 2, "anything": 1}', StateVersionError),
        (b'{"v": 1, "tenant": "st-marys"}', StateDamagedError),
        (b'{"v": 1', StateDamagedError),
        (b"", StateDamagedError),
    ],
)
async def test_state_of_a_newer_version_or_half_written_stops_the_start_and_is_left_alone(
    stored: bytes, error: type[Exception]
) -> None:
    site = Site()
    await site.storage.tenants.put("st-marys", stored)
    before = dataclasses.replace(site.storage)
    with pytest.raises(error):
        await site.start()
    assert (await site.storage.tenants.get("st-marys")).value == stored
    assert site.pusher.pushed == []
    assert before.tenants is site.storage.tenants
