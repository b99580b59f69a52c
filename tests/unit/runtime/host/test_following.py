"""Following the control plane: the lease, the acknowledgement, and what a failure leads to."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from runtime.envelope.hostsync import HostReport, SyncReply, TenantSnapshot
from runtime.host import following
from runtime.host.following import LEASE_S, Follower


def snapshot(tenant: str) -> TenantSnapshot:
    return TenantSnapshot(tenant=tenant, account="A", revision=1, status="active", policy="", roles={}, revocations={})


class Site:
    """A control plane that answers each poll as the test scripts it, and a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.polls: list[dict[str, Any]] = []
        self.polled = asyncio.Event()
        self.answers: asyncio.Queue[SyncReply | Exception] = asyncio.Queue()
        self.applied: list[str] = []
        self.apply: Callable[[TenantSnapshot], None] = lambda each: self.applied.append(each.tenant)
        self.follower = Follower(
            self,  # type: ignore[arg-type]
            apply=lambda each: self.apply(each),  # noqa: PLW0108 - replaced while it runs
            report=HostReport,
            monotonic=lambda: self.now,
        )

    async def sync(self, **poll: Any) -> SyncReply:
        self.polls.append(poll)
        self.polled.set()
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until_polls(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.polls) < count:
                self.polled.clear()
                await self.polled.wait()


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(following, "RETRY_MIN_S", 0.0)
    site = Site()
    running = asyncio.create_task(site.follower.run())
    yield site
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


async def test_nothing_is_known_before_the_first_answer(site: Site) -> None:
    await site.until_polls(1)
    assert not site.follower.lease_holds
    assert site.polls[0]["since"] == 0


async def test_revision_is_acknowledged_by_the_poll_after_it_was_applied(site: Site) -> None:
    site.answers.put_nowait(SyncReply(revision=7, tenants=(snapshot("a"), snapshot("b"))))
    await site.until_polls(2)
    assert site.applied == ["a", "b"]
    assert [poll["since"] for poll in site.polls] == [0, 7]


async def test_revision_that_could_not_be_applied_is_not_acknowledged(site: Site) -> None:
    def refuse(_: TenantSnapshot) -> None:
        raise RuntimeError("out of memory")

    site.apply, before = refuse, site.apply
    site.answers.put_nowait(SyncReply(revision=7, tenants=(snapshot("a"),)))
    await site.until_polls(2)
    assert site.polls[1]["since"] == 0
    assert not site.follower.lease_holds
    site.apply = before
    site.answers.put_nowait(SyncReply(revision=7, tenants=(snapshot("a"),)))
    await site.until_polls(3)
    assert (site.polls[2]["since"], site.applied) == (7, ["a"])


async def test_lease_counts_from_the_question_not_the_answer(site: Site) -> None:
    await site.until_polls(1)
    site.now += 3
    site.answers.put_nowait(SyncReply(revision=1))
    await site.until_polls(2)
    site.now += LEASE_S - 3
    assert site.follower.lease_holds
    site.now += 0.001
    assert not site.follower.lease_holds


async def test_answer_that_came_after_the_lease_does_not_renew_it(site: Site) -> None:
    await site.until_polls(1)
    site.now += LEASE_S + 1
    site.answers.put_nowait(SyncReply(revision=1))
    await site.until_polls(2)
    assert not site.follower.lease_holds


async def test_failure_is_retried_and_then_an_answer_is_wanted_at_once(site: Site) -> None:
    site.answers.put_nowait(SyncReply(revision=1))
    site.answers.put_nowait(ConnectionError("gone"))
    site.answers.put_nowait(SyncReply(revision=1))
    await site.until_polls(4)
    assert [poll["hold"] for poll in site.polls] == [False, True, False, True]


async def test_changed_report_is_told_at_once(site: Site) -> None:
    site.answers.put_nowait(SyncReply(revision=1))
    await site.until_polls(2)
    site.follower.report_changed()
    await site.until_polls(3)
    assert site.polls[2]["since"] == 1
