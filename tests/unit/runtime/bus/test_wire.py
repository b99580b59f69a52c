import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.api import Header

from runtime.bus import wire
from runtime.bus.errors import InvalidSubjectError
from runtime.bus.message import parse_headers

BAD_SUBJECTS = ["", " ", "a b", "a\r\nPUB x 0\r\n", "a\tb", "a\x00", "a\ud800", "x" * 1025]


@pytest.mark.parametrize("subject", BAD_SUBJECTS)
def test_subject_that_could_end_its_line_is_refused(subject: str) -> None:
    with pytest.raises(InvalidSubjectError):
        wire.publish(subject, "", b"")
    with pytest.raises(InvalidSubjectError):
        wire.subscribe(subject, "", 1)
    if subject:
        with pytest.raises(InvalidSubjectError):
            wire.publish("ok", subject, b"")
        with pytest.raises(InvalidSubjectError):
            wire.subscribe("ok", subject, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("A B", "x"),
        ("A:", "x"),
        ("A\r\nB", "x"),
        ("A", "x\r\nB: y"),
        ("A", "x\n"),
        ("A", "\x00"),
        ("É", "x"),
    ],
)
def test_header_that_could_become_two_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidSubjectError):
        wire.publish("s", "", b"", {name: value})


def test_commands_are_exactly_these() -> None:
    assert wire.publish("s", "", b"ab") == b"PUB s  2\r\nab\r\n"
    assert wire.publish("s", "r", b"ab") == b"PUB s r 2\r\nab\r\n"
    assert wire.publish("s", "r", b"ab", {"A": "b"}) == b"HPUB s r 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nab\r\n"
    assert wire.subscribe("s.>", "", 7) == b"SUB s.>  7\r\n"
    assert wire.subscribe("s.>", "q", 7) == b"SUB s.> q 7\r\n"
    assert wire.unsubscribe(7) == b"UNSUB 7\r\n"


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_whatever_is_accepted_is_one_command(subject: str, reply: str, headers: dict[str, str]) -> None:
    try:
        command = wire.publish(subject, reply, b"", headers)
    except InvalidSubjectError:
        return
    line, _, rest = command.partition(b"\r\n")
    assert line.count(b" ") == 3 + bool(headers)
    if headers:
        assert set(parse_headers(rest[:-2])) == set(headers)


def test_header_name_of_an_enumeration_is_written_as_its_value() -> None:
    assert wire.header_block({Header.MSG_ID: "1"}) == b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"
