import json

import pytest
from envelope_keys import ACME, CID, MALLORY, NURSE, OTHER_CID

from runtime.envelope.errors import SenderError
from runtime.envelope.sender import Sender, parse_sender, read_sender, sign_sender, verify_sender

TS = 1_700_000_000
SUBJECT = "ai.capabilities.vitals.assess"
PAYLOAD = b'{"version":"1.0"}'
KNOWN = {"account": ACME.public.text, "user": NURSE.public.text, "subject": SUBJECT, "correlation_id": CID}


def signed(**changes: object) -> str:
    fields = {
        "account": ACME.public.text,
        "user": NURSE.public.text,
        "name": "ada",
        "subject": SUBJECT,
        "ts": TS,
        "nonce": CID,
        "payload": PAYLOAD,
        "sign": NURSE.sign,
    }
    return sign_sender(**{**fields, **changes})  # type: ignore[arg-type]


def verify(sender: Sender, *, now: float = TS, payload: bytes = PAYLOAD, **changes: str) -> None:
    known = {**KNOWN, **changes}
    verify_sender(sender, **known, payload=payload, now=now, verify=NURSE.public.verify)


def reason_of(sender: Sender, *, now: float = TS, payload: bytes = PAYLOAD, **changes: str) -> str:
    with pytest.raises(SenderError) as caught:
        verify(sender, now=now, payload=payload, **changes)
    assert str(caught.value) == "the sender's signature is not valid"
    return caught.value.reason


def test_value_is_compact_json_of_the_documented_fields_and_verifies() -> None:
    value = signed()
    assert list(json.loads(value)) == ["v", "account", "user", "name", "sub", "ts", "nonce", "sig"]
    assert " " not in value
    sender = parse_sender(value)
    assert sender.encode() == value
    verify(sender)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"account": "A" * 56}, "account"),
        ({"user": MALLORY.public.text}, "user"),
        ({"subject": "ai.capabilities.vitals.export"}, "subject"),
        ({"correlation_id": OTHER_CID}, "correlation-id"),
    ],
)
def test_signature_that_disagrees_with_the_first_witness_or_the_call_is_refused(
    changes: dict[str, str], reason: str
) -> None:
    assert reason_of(parse_sender(signed()), **changes) == reason


@pytest.mark.parametrize("now", [TS - 60, TS - 30.1, TS + 30.1, TS + 60, float("nan"), float("inf")])
def test_signature_out_of_its_window_is_refused_either_way(now: float) -> None:
    assert reason_of(parse_sender(signed()), now=now) == "time"


@pytest.mark.parametrize("now", [TS - 30, TS, TS + 30])
def test_signature_within_its_window_is_good(now: float) -> None:
    verify(parse_sender(signed()), now=now)


def test_signature_over_another_payload_is_refused() -> None:
    assert reason_of(parse_sender(signed()), payload=PAYLOAD + b" ") == "signature"


@pytest.mark.parametrize(
    "field", [{"account": "A" * 56}, {"user": "U" * 56}, {"sub": "x"}, {"ts": TS + 1}, {"nonce": OTHER_CID}]
)
def test_every_field_but_the_name_is_covered_by_the_signature(field: dict[str, object]) -> None:
    sender = parse_sender(json.dumps({**json.loads(signed()), **field}))
    with pytest.raises(SenderError) as caught:
        verify_sender(
            sender,
            account=sender.account,
            user=sender.user,
            subject=sender.subject,
            payload=PAYLOAD,
            correlation_id=sender.nonce,
            now=sender.ts,
            verify=NURSE.public.verify,
        )
    assert caught.value.reason == "signature"
    verify(parse_sender(json.dumps({**json.loads(signed()), "name": "someone else"})))


def test_signature_of_another_user_under_this_users_name_is_refused() -> None:
    assert reason_of(parse_sender(signed(sign=MALLORY.sign))) == "signature"


def test_whatever_stops_the_check_from_saying_yes_says_no() -> None:
    def broken(_data: bytes, _signature: bytes) -> None:
        raise RuntimeError("library")

    with pytest.raises(SenderError) as caught:
        verify_sender(parse_sender(signed()), **KNOWN, payload=PAYLOAD, now=TS, verify=broken)
    assert caught.value.reason == "signature"


@pytest.mark.parametrize("field", ["account", "user", "subject", "nonce"])
@pytest.mark.parametrize("text", ["", "two\nlines", "a\r", "\x00", "x" * 1025, "\ud800"])
def test_what_does_not_fit_on_a_line_is_never_signed(field: str, text: str) -> None:
    with pytest.raises((SenderError, UnicodeEncodeError)) as caught:
        signed(**{field: text})
    assert isinstance(caught.value, SenderError)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": "1"},
        {"extra": 1},
        {"ts": 1.5},
        {"ts": -1},
        {"ts": 2**53},
        {"ts": "1700000000"},
        {"ts": True},
        {"account": ""},
        {"sig": ""},
        {"sig": "A" * 85},
        {"sig": "A" * 88},
        {"name": "n" * 129},
        {"name": None},
    ],
)
def test_malformed_value_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SenderError) as caught:
        parse_sender(json.dumps({**json.loads(signed()), **change}))
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("sig", ["A" * 85 + "=", "A" * 85 + "+", "A" * 85 + "\n", "A" * 85 + "\u00e9", "A" * 86])
def test_signature_that_is_no_signature_is_refused(sig: str) -> None:
    assert reason_of(parse_sender(json.dumps({**json.loads(signed()), "sig": sig}))) == "signature"


def test_line_end_smuggled_into_a_field_is_refused() -> None:
    sender = parse_sender(json.dumps({**json.loads(signed()), "nonce": f"{CID}\nx"}))
    assert reason_of(sender, correlation_id=f"{CID}\nx") == "malformed"
    sender = parse_sender(json.dumps({**json.loads(signed()), "name": "\n"}))
    verify(sender)


@pytest.mark.parametrize("value", ["", "{}", "[]", "{", "NaN", "{}" * 5000, "[" * 4000, "\ud800"])
def test_value_that_is_no_such_json_is_refused(value: str) -> None:
    with pytest.raises(SenderError):
        parse_sender(value)


def test_every_field_is_needed() -> None:
    whole = json.loads(signed())
    for name in whole:
        with pytest.raises(SenderError):
            parse_sender(json.dumps({k: v for k, v in whole.items() if k != name}))


def test_signature_in_another_spelling_of_the_same_bytes_is_refused() -> None:
    value = signed()
    last = json.loads(value)["sig"][-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(last) + 1]  # differs in bits that Python's decoder ignores
    assert reason_of(parse_sender(value.replace(last + '"}', other + '"}'))) == "signature"


def block(*lines: str) -> bytes:
    return ("NATS/1.0\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def test_header_is_read_from_the_raw_block() -> None:
    value = signed()
    read = parse_sender(value)
    assert read_sender(block(f"Agent-Sender: {value}", "Nats-Request-Info: {}")) == read
    assert read_sender(block("X: 1", f"Agent-Sender:{value} ")) == read


@pytest.mark.parametrize(
    "header_block",
    [b"", block(), block("X: Agent-Sender"), block("X-Agent-Sender: {}"), block('I: {"name":"agent-sender"}')],
)
def test_block_without_the_header_has_no_sender(header_block: bytes) -> None:
    assert read_sender(header_block) is None


@pytest.mark.parametrize(
    ("header_block", "reason"),
    [
        (block("Agent-Sender: {}", "Agent-Sender: {}"), "header-repeated"),
        (block("Agent-Sender: {}", "agent-sender: {}"), "header-repeated"),
        (block("Agent-Sender: {}", "AGENT-SENDER : {}"), "header-repeated"),
        (block("agent-sender: {}"), "header-spelling"),
        (block("Agent-Sender : {}"), "header-spelling"),
        (block(" Agent-Sender: {}"), "header-spelling"),
        (block("Agent-Sender"), "malformed"),
        (block("Agent-Sender: "), "malformed"),
        (block("Agent-Sender: {}"), "malformed"),
        (b"NATS/1.0\r\nAgent-Sender: \xff\r\n\r\n", "malformed"),
        (b"NATS/1.0\r\nAgent-Sender: {}\r\n", "header-form"),
        (b"NATS/1.0\r\n\r\nAgent-Sender: {}\r\n\r\n", "header-form"),
        (b"NATS/1.1\r\nAgent-Sender: {}\r\n\r\n", "header-form"),
        (b"Agent-Sender", "header-form"),
        (block("Agent-Sender: {}", "X: " + "y" * 17_000), "header-size"),
    ],
)
def test_block_that_leaves_doubt_about_the_header_is_refused(header_block: bytes, reason: str) -> None:
    with pytest.raises(SenderError) as caught:
        read_sender(header_block)
    assert caught.value.reason == reason
