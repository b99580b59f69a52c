import asyncio

import pytest

from runtime.bus.errors import ConnectionLostError, NoRespondersError, RefusedError, RequestTimeoutError
from runtime.bus.inflight import InFlight
from runtime.bus.message import Message


@pytest.fixture
async def table() -> InFlight:
    return InFlight(asyncio.get_running_loop())


async def test_tokens_are_long_and_never_repeat(table: InFlight) -> None:
    tokens = {table.open("s")[0] for _ in range(1000)}
    assert len(tokens) == 1000
    assert {len(token) for token in tokens} == {32}


async def test_answer_under_a_guessed_token_is_ignored(table: InFlight) -> None:
    _, future = table.open("s")
    table.answer("0" * 32, Message("x", "", b"forged"))
    assert not future.done()


async def test_first_answer_counts(table: InFlight) -> None:
    token, future = table.open("s")
    table.answer(token, Message("x", "", b"1"))
    table.answer(token, Message("x", "", b"2"))
    assert future.result().data == b"1"


async def test_no_responders_is_an_error_and_a_503_with_a_body_is_an_answer(table: InFlight) -> None:
    token, future = table.open("s")
    table.answer(token, Message("x", "", b"", b"NATS/1.0 503\r\n\r\n"))
    with pytest.raises(NoRespondersError):
        future.result()
    token, future = table.open("s")
    table.answer(token, Message("x", "", b"{}", b"NATS/1.0 503\r\n\r\n"))
    assert future.result().data == b"{}"


async def test_refusal_fails_only_what_waits_on_that_subject(table: InFlight) -> None:
    (_, one), (_, other) = table.open("A.b"), table.open("a.c")
    assert table.refuse("a.b")
    assert not table.refuse("a.x")
    assert isinstance(one.exception(), RefusedError)
    assert not other.done()


async def test_lost_connection_fails_everything(table: InFlight) -> None:
    futures = [table.open("s")[1] for _ in range(3)]
    table.lose_all()
    assert all(isinstance(future.exception(), ConnectionLostError) for future in futures)


async def test_deadline_after_the_answer_changes_nothing(table: InFlight) -> None:
    token, future = table.open("s")
    table.answer(token, Message("x", "", b"1"))
    table.time_out(token, 1)
    assert future.result().data == b"1"
    token, future = table.open("s")
    table.time_out(token, 1)
    table.time_out("unknown", 1)
    assert isinstance(future.exception(), RequestTimeoutError)


async def test_emptied_waits_for_the_last_to_close(table: InFlight) -> None:
    tokens = [table.open("s")[0] for _ in range(2)]
    waiting = asyncio.create_task(table.emptied())
    for token in tokens:
        await asyncio.sleep(0)
        assert not waiting.done()
        table.close(token)
    await waiting
    assert len(table) == 0
