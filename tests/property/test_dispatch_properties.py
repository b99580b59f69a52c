"""Whatever is delivered, `receive` drops it or answers it once with a documented code, and never raises."""

import asyncio

from dispatch_bench import Bench, envelope
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

CODES = {200, 400, 401, 403, 408, 409, 413, 422, 429, 500, 503}
unhurried = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])

LINE = b"Nats-Request-Info: "
pieces = st.sampled_from(
    [
        b"NATS/1.0\r\n",
        b"NATS/1.0",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        LINE,
        LINE.lower(),
        b"Nats-Request-Info",
        b"Nats-Request-Info : ",
        b"X: y\r\n",
        b"Agent-Timeout: 5\r\n",
        b"<INFO>",
        b"<FORGED>",
        b"\xff",
        b"\x00",
    ]
)
blocks = st.lists(pieces | st.binary(max_size=6), max_size=10).map(b"".join)
bodies = st.binary(max_size=60) | st.just(envelope()) | st.just(b'{"a":1}')
replies = st.sampled_from(["_R_.a.b", "_R_.", "", "_INBOX.x", "$JS.ACK.x"]) | st.text(max_size=8)


def filled(bench: Bench, block: bytes) -> bytes:
    """Put the server's true line, and another role's, where the block has its marks."""
    forged = bench.info(token=bench.token(signer=bench.clerk_key))
    return block.replace(b"<INFO>", bench.info()).replace(b"<FORGED>", forged)


def delivered(subject: str | None, reply: str, data: bytes, block: bytes) -> Bench:
    async def deliver() -> Bench:
        bench = Bench()
        whole = subject if subject is not None else bench.subject()
        bench.dispatcher.receive(whole, reply, data, filled(bench, block))
        await bench.settled()
        return bench

    return asyncio.run(deliver())


def assert_documented(bench: Bench, reply: str) -> None:
    assert bench.dispatcher.counters.in_flight == 0
    assert bench.dispatcher._slots.in_all == 0
    if not reply.startswith("_R_."):
        assert (bench.answers, bench.served.reached) == ([], [])
        assert bench.dispatcher.counters.dropped == 1
        return
    assert [answer.reply for answer in bench.answers] == [reply]
    assert bench.answers[0].code in CODES


@unhurried
@given(blocks, bodies, replies)
def test_any_header_block_has_a_documented_outcome(block: bytes, data: bytes, reply: str) -> None:
    bench = delivered(None, reply, data, block)
    assert_documented(bench, reply)


@unhurried
@given(blocks)
@example(b"NATS/1.0\r\n" + LINE + b"<INFO>\r\n\r\n")
@example(b"NATS/1.0\r\nX: y\r\n" + LINE + b"<INFO>\r\n\r\n")
@example(b"NATS/1.0\r\n" + LINE + b"<INFO>\r\nX: " + LINE + b"<FORGED>\r\n\r\n")
def test_handler_is_reached_only_by_the_one_well_formed_line(block: bytes) -> None:
    """P1: an independent reading of the block agrees that exactly one true line, and no other, was in it."""
    bench = delivered(None, "_R_.a", b"{}", block)
    if not bench.served.reached:
        assert bench.answers[0].code in {400, 401, 403}
        return
    whole = filled(bench, block)
    lines = whole.split(b"\r\n")
    assert lines[0] == b"NATS/1.0"
    assert lines[-2:] == [b"", b""]
    assert all(lines[1:-2])
    named = [line for line in lines if b"nats-request-info" in line.lower()]
    assert len(named) == 1
    assert bench.served.reached[0].principal.role == "nurse"


@unhurried
@given(st.text(max_size=40), bodies)
def test_any_subject_has_a_documented_outcome(subject: str, data: bytes) -> None:
    bench = delivered(subject, "_R_.a", data, b"NATS/1.0\r\n" + LINE + b"<INFO>\r\n\r\n")
    assert_documented(bench, "_R_.a")
    assert bench.served.reached == []


@unhurried
@given(st.binary(max_size=200))
def test_any_body_of_a_granted_caller_has_a_documented_outcome(data: bytes) -> None:
    bench = delivered(None, "_R_.a", data, b"NATS/1.0\r\n" + LINE + b"<INFO>\r\n\r\n")
    assert_documented(bench, "_R_.a")
