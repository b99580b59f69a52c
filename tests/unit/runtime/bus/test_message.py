import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bus.message import Message, inline_status, parse_headers


def test_message_prints_sizes_only() -> None:
    text = repr(Message("s", "r", b"secret", b"NATS/1.0\r\nA: secret\r\n\r\n"))
    assert "secret" not in text
    assert "6 bytes" in text


def test_header_is_found_by_its_exact_name_and_the_first_wins() -> None:
    message = Message("s", "", b"", b"NATS/1.0\r\nA: 1\r\na: 2\r\nA: 3\r\n\r\n")
    assert (message.header("A"), message.header("a"), message.header("B")) == ("1", "2", None)


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503),
        (b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", 100),
        (b"NATS/1.0\r\nA: b\r\n\r\n", None),
        (b"NATS/1.0 \xff\xff\xff\r\n\r\n", None),
        (b"NATS/1.0 50", None),
        (b"", None),
    ],
)
def test_status_is_read_from_the_first_line_only(block: bytes, status: int | None) -> None:
    assert inline_status(block) == status


def test_malformed_lines_are_left_out() -> None:
    block = b"NATS/1.0\r\nno colon\r\n: no name\r\nspace : x\r\n\xff: y\r\nGood: z\r\n\r\n"
    assert parse_headers(block) == {"Good": "z"}


@given(st.binary(max_size=200))
def test_any_block_can_be_read(block: bytes) -> None:
    message = Message("s", "", b"", block)
    message.header("A")
    assert message.status is None or 0 <= message.status <= 999
