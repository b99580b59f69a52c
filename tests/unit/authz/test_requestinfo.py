import json
from typing import Any

import pytest

from authz.errors import IdentityError
from authz.requestinfo import MAX_HEADER_BLOCK, RequestInfo, read_request_info

INFO = {"acc": "ACME", "user": "chosen", "name": "chosen", "rtt": 302591, "jwt": "token", "kind": "Client"}


def line(info: Any = INFO) -> bytes:
    return b"Nats-Request-Info: " + json.dumps(info, separators=(",", ":")).encode() + b"\r\n"


def block(*lines: bytes) -> bytes:
    return b"NATS/1.0\r\n" + b"".join(lines) + b"\r\n"


def reason(header_block: bytes) -> str:
    with pytest.raises(IdentityError) as caught:
        read_request_info(header_block)
    return caught.value.reason


def test_no_header_block_is_nobody() -> None:
    assert reason(b"") == "header-missing"
    assert reason(block()) == "header-missing"
    assert reason(block(b"Traceparent: 00-1\r\n")) == "header-missing"


def test_the_servers_line_is_read() -> None:
    expected = RequestInfo(account="ACME", user_jwt="token", kind="Client", service=None)
    assert read_request_info(block(line())) == expected
    assert read_request_info(block(b"Traceparent: 00-1\r\n", b"Agent-Timeout: 500\r\n", line())) == expected


def test_a_caller_by_way_of_a_service_is_told_apart() -> None:
    assert read_request_info(block(line(INFO | {"svc": "OTHER"}))).service == "OTHER"


def test_a_caller_without_a_token_is_read_without_one() -> None:
    assert read_request_info(block(line({"acc": "ACME", "kind": "Client"}))).user_jwt == ""


def test_a_block_over_the_limit_is_refused_before_it_is_read() -> None:
    padding = b"X: " + b"y" * MAX_HEADER_BLOCK + b"\r\n"
    assert reason(block(padding, line())) == "header-size"
    spare = MAX_HEADER_BLOCK - len(block(b"X: \r\n", line()))
    assert read_request_info(block(b"X: " + b"y" * spare + b"\r\n", line())).account == "ACME"
    assert reason(block(b"X: " + b"y" * (spare + 1) + b"\r\n", line())) == "header-size"


@pytest.mark.parametrize(
    "forged",
    [
        line({"acc": "EVIL", "kind": "Client"}),
        line().lower(),
        line().upper(),
        line().replace(b": ", b" : ", 1),
        line().replace(b": ", b"\t: ", 1),
        line().replace(b": ", b":", 1),
        b" " + line(),
        b"X: Nats-Request-Info" + line(),
        b"Nats-Request-Info" + line(),
        b"X: y\n" + line(),
        b"X: y\r" + line(),
        b"X: nAtS-rEqUeSt-InFo\r\n",
        b"X: y\r\n\r\n" + line(),
    ],
)
def test_a_second_line_of_that_name_in_any_spelling_is_refused(forged: bytes) -> None:
    assert reason(block(forged, line())) == "header-repeated"
    assert reason(block(line(), forged)) == "header-repeated"


@pytest.mark.parametrize(
    "odd",
    [
        b"Nats/1.0\r\n" + line() + b"\r\n",
        b"NATS/1.1\r\n" + line() + b"\r\n",
        b"NATS/1.0 503\r\n" + line() + b"\r\n",
        b"NATS/1.0\n" + line() + b"\r\n",
        b"\r\n" + block(line()),
        line() + b"\r\n",
        block(line())[:-1],
        block(line())[:-2],
        block(line())[:-4],
        block(line()) + b"x",
        block(line()) + b"\r\n",
        block(b"X: y\r\n\r\n", line()),
        block(b"\r\n", line()),
        block(line(), b"\r\nX: y\r\n"),
    ],
)
def test_a_block_that_is_not_framed_as_nats_frames_it_is_refused(odd: bytes) -> None:
    assert reason(odd) == "header-form"


@pytest.mark.parametrize(
    "odd",
    [
        block(line().lower()),
        block(b" " + line()),
        block(b"X: y" + line()),
        block(b"X: y\n" + line()),
        block(line().replace(b": ", b":", 1)),
        block(line().replace(b": ", b" : ", 1)),
        block(line().replace(b": ", b":\t", 1)),
    ],
)
def test_a_line_not_spelled_as_the_server_spells_it_is_refused(odd: bytes) -> None:
    assert reason(odd) == "header-spelling"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b'{"acc":"A"}',
        b'{"acc":1,"kind":"Client"}',
        b'{"acc":"A","kind":null}',
        b'{"acc":"A","kind":"Client","jwt":null}',
        b'{"acc":"A","kind":"Client"} x',
        b'{"acc":"A","kind":"Client"}\r\nX: y',
        b'{"acc":"\xff","kind":"Client"}',
        b"[" * 15_000,
        b'{"x":' + b"[" * 15_000,
    ],
)
def test_a_line_that_the_server_would_not_write_is_refused(value: bytes) -> None:
    assert reason(block(b"Nats-Request-Info: " + value + b"\r\n")) == "info-malformed"
