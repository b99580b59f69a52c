"""SEC-9: one writer, forward only, until confirmed."""

import asyncio

import pytest

from authz.keys import AccountSeed
from authz.tokens import encode_account
from runtime.bus.errors import ClaimsPushError
from runtime.control.bootstrap import PlatformKeys, ensure_platform
from runtime.control.claims import ClaimsWriter
from runtime.control.errors import ClaimsRollbackError, UnavailableError
from runtime.control.memory import MemoryKeys, MemoryPusher

PLATFORM: PlatformKeys = ensure_platform(MemoryKeys(), 1_800_000_000)


class StubbornPusher(MemoryPusher):
    """Refuses some accounts, and may hold pushes back."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def push(self, account_jwt: str) -> None:
        self.asked.append(account_jwt)
        await self.gate.wait()
        if account_jwt in self.refused:
            raise ClaimsPushError("A", answered=0, expected=1)
        await super().push(account_jwt)


def gate(issued_at: int, **revocations: int) -> str:
    return encode_account(PLATFORM.gate_claims(issued_at, revocations), PLATFORM.operator)


def many(count: int) -> list[str]:
    claims = PLATFORM.control_claims(1)
    import dataclasses

    return [
        encode_account(dataclasses.replace(claims, subject=AccountSeed.generate().public), PLATFORM.operator)
        for _ in range(count)
    ]


async def test_older_claims_and_others_of_the_same_second_are_never_pushed() -> None:
    pusher = StubbornPusher()
    writer = ClaimsWriter(pusher)
    newest = gate(100)
    await writer.push(newest)
    for older in (gate(99), gate(100, **{"*": 5})):
        with pytest.raises(ClaimsRollbackError):
            await writer.push(older)
        with pytest.raises(ClaimsRollbackError):
            writer.note([older])
    assert pusher.asked == [newest]


async def test_confirmed_claims_are_not_pushed_again_until_a_server_returns() -> None:
    pusher = StubbornPusher()
    writer = ClaimsWriter(pusher)
    for _ in range(2):
        await writer.push(gate(100))
        await writer.push_pending()
    assert len(pusher.asked) == 1
    writer.doubt_all()
    await writer.push_pending()
    assert len(pusher.asked) == 2


async def test_claims_that_were_not_confirmed_are_pushed_until_they_are() -> None:
    pusher = StubbornPusher()
    writer = ClaimsWriter(pusher)
    pusher.refused = {gate(100)}
    with pytest.raises(UnavailableError):
        await writer.push(gate(100))
    await writer.push_pending()
    assert writer.pending == (PLATFORM.gate.public.text,)
    pusher.refused = set()
    await writer.push_pending()
    assert writer.pending == ()


async def test_push_that_was_overtaken_ends_when_the_newer_claims_are_confirmed() -> None:
    pusher = StubbornPusher()
    writer = ClaimsWriter(pusher)
    pusher.gate.clear()
    first = asyncio.create_task(writer.push(gate(100)))
    await asyncio.sleep(0)
    second, third = (asyncio.create_task(writer.push(gate(at))) for at in (101, 102))
    await asyncio.sleep(0)
    pusher.gate.set()
    await asyncio.gather(first, second, third)
    assert pusher.asked == [gate(100), gate(102)]
    assert writer.pending == ()


async def test_server_that_returns_during_a_push_is_told_again() -> None:
    pusher = StubbornPusher()
    writer = ClaimsWriter(pusher)
    pusher.gate.clear()
    push = asyncio.create_task(writer.push(gate(100)))
    await asyncio.sleep(0)
    writer.doubt_all()
    pusher.gate.set()
    await push
    assert writer.pending == (PLATFORM.gate.public.text,)


async def test_accounts_that_always_fail_do_not_keep_others_waiting() -> None:
    pusher = StubbornPusher()
    writer = ClaimsWriter(pusher)
    tokens = many(8)
    pusher.refused = set(tokens[:4])
    writer.note(tokens)
    for _ in range(4):
        await writer.push_pending()
    assert len(pusher.claims) == 4
    assert len(writer.pending) == 4
