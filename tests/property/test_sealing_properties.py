"""What was sealed or signed for one thing never passes for another, whichever byte is changed; readers are total."""

import json
import string
from contextlib import suppress
from dataclasses import replace
from itertools import product

import pytest
from envelope_keys import ACME, CID, CONTROL, NOW, NURSE, OTHER_CID, PHI, binding, data_key
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from runtime.envelope import base64url
from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import EnvelopeError, KeyIdError, KeyWrapError, SealError, SenderError
from runtime.envelope.headerlines import HeaderError, read_header
from runtime.envelope.keyid import KeyId, KeyScope, parse, parse_scope
from runtime.envelope.keywrap import OneTimeKey, UnwrapCall, build_unwrap_answer, open_unwrap_answer
from runtime.envelope.messages import Failure, Request, Result
from runtime.envelope.sealedmessages import (
    SealedRequest,
    SealedResult,
    build_sealed_request,
    build_sealed_response,
    open_request,
    parse_any_request,
    parse_any_response,
)
from runtime.envelope.sealing import Binding, open_token, seal
from runtime.envelope.sender import Sender, parse_sender, read_sender, sign_sender, verify_sender
from runtime.envelope.unwrap import UnwrapRequest, build_unwrap_request, parse_unwrap_answer, parse_unwrap_request

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared

labels = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")
parts = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=64).filter(lambda p: p.strip("."))
subjects = st.none() | st.lists(parts, min_size=1, max_size=4).map("/".join)
scopes = st.builds(KeyScope, labels, subjects)
key_ids = st.builds(KeyId, labels, subjects, st.integers(1, 999_999_999))
names = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=60)
lines = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=60)
stamps = st.floats(min_value=0, max_value=1e12)
bindings = st.builds(
    Binding,
    key_id=key_ids,
    direction=st.sampled_from(["request", "response", "chunk", "event", "record"]),
    name=lines,
    correlation_id=lines,
    timestamp=stamps | st.integers(0, 2**40),
    sequence=st.integers(0, 2**63),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
deep = st.integers(1, 5).map(lambda n: b'{"a":' * 10**n) | st.integers(1, 5).map(lambda n: b"[" * 10**n)


def near(*fields: str, also: object = None) -> st.SearchStrategy[bytes]:
    """JSON objects with some of these fields, or any bytes."""
    value = json_values | st.sampled_from(["1.0", "request", "response", CID, True, "fernet", "phi@1", also])
    objects = st.dictionaries(st.sampled_from(fields), value, max_size=len(fields))
    return st.binary(max_size=300) | deep | objects.map(lambda v: json.dumps(v).encode())


@unhurried
@given(bindings, st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens_to_itself(bound: Binding, payload: bytes, secret: bytes) -> None:
    dek = DataKey(bound.key_id, secret)
    assert open_token(seal(bound, payload, dek), bound, dek) == payload


@unhurried
@given(bindings, bindings, st.binary(max_size=50))
def test_no_token_opens_for_another_binding_even_under_one_key(
    sealed: Binding, expected: Binding, payload: bytes
) -> None:
    assume(sealed != expected)
    token = seal(sealed, payload, data_key(sealed.key_id))
    with pytest.raises(SealError):
        open_token(token, expected, data_key(expected.key_id))


TOKEN = seal(binding(), b'{"name":"Ada"}', data_key())


def test_a_changed_character_at_any_place_of_a_token_keeps_it_shut() -> None:
    for at, character in enumerate(TOKEN):
        before, after = TOKEN[:at], TOKEN[at + 1 :]
        others = {chr(ord(character) ^ 1 << bit) for bit in range(8)} | set("A=+/-_ \n\u00e9") | {"", "A" + character}
        for other in others - {character}:
            assert not opens(before + other + after), (at, other)


def opens(token: str) -> bool:
    try:
        open_token(token, binding(), data_key())
    except SealError:
        return False
    return True


@unhurried
@given(st.text(max_size=200) | st.binary(max_size=200).map(base64url.encode))
def test_any_text_for_a_token_is_a_seal_error(token: str) -> None:
    assert not opens(token)


@unhurried
@given(st.text(max_size=30) | st.from_regex(r"\A[a-z/.@0-9]{0,30}\Z"))
def test_any_text_is_a_key_id_that_spells_itself_or_a_key_id_error(text: str) -> None:
    for read in (parse, parse_scope):
        try:
            named = read(text)
        except KeyIdError:
            continue
        assert str(named) == text


@unhurried
@given(key_ids)
def test_key_ids_and_scopes_read_back_are_the_same(key_id: KeyId) -> None:
    assert parse(str(key_id)) == key_id
    assert parse_scope(str(key_id.scope)) == KeyScope.of(key_id.label, key_id.subject) == key_id.scope


@unhurried
@given(names, stamps, st.uuids().map(str), key_ids, lines)
def test_sealed_messages_read_back_build_the_same_bytes(
    name: str, stamp: float, cid: str, key_id: KeyId, token: str
) -> None:
    built = build_sealed_request(agent_id=name, correlation_id=cid, timestamp=stamp, key_id=key_id, token=token)
    asked = parse_any_request(built, fallback_id=CID)
    assert asked == SealedRequest(correlation_id=cid, agent_id=name, timestamp=stamp, key_id=key_id, token=token)
    answer = build_sealed_response(
        agent_id=name, capability=name, correlation_id=cid, timestamp=stamp, key_id=key_id, token=token
    )
    assert parse_any_response(answer) == SealedResult(
        correlation_id=cid, agent_id=name, capability=name, timestamp=stamp, key_id=key_id, token=token
    )


ENVELOPE = ("version", "message_type", "agent_id", "timestamp", "correlation_id", "data", "encrypted", "alg", "key_id")
SEALED = build_sealed_request(agent_id="a", correlation_id=CID, timestamp=NOW, key_id=PHI, token=TOKEN)
nearly_sealed = st.dictionaries(st.sampled_from(ENVELOPE), json_values, min_size=1, max_size=2).map(
    lambda changes: json.dumps({**json.loads(SEALED), **changes}).encode()
)


@unhurried
@given(near(*ENVELOPE) | nearly_sealed)
def test_any_body_is_a_request_sealed_or_not_or_an_envelope_error(body: bytes) -> None:
    try:
        request = parse_any_request(body, fallback_id=OTHER_CID)
    except EnvelopeError:
        return
    assert isinstance(request, Request | SealedRequest)
    fields = json.loads(body)
    marked = fields.keys() & {"encrypted", "alg", "key_id"} and {"version", "message_type"} <= fields.keys()
    assert isinstance(request, SealedRequest) == bool(marked)  # never taken for plaintext


@unhurried
@given(near(*ENVELOPE, "capability", "result"), st.none() | st.text(max_size=4))
def test_any_answer_is_typed_or_an_envelope_error(body: bytes, error_code: str | None) -> None:
    try:
        answer = parse_any_response(body, error_code=error_code)
    except EnvelopeError:
        return
    assert isinstance(answer, Result | SealedResult if error_code is None else Failure)


@unhurried
@given(near("a", "version", "message_type"))
def test_any_sealed_payload_is_data_or_an_envelope_error(payload: bytes) -> None:
    token = seal(binding(), payload, data_key())
    sealed = SealedRequest(correlation_id=CID, agent_id="a", timestamp=NOW, key_id=PHI, token=token)
    try:
        data = open_request(sealed, capability="vitals.assess", dek=data_key()).data
    except EnvelopeError:
        return
    assert data == payload
    assert isinstance(json.loads(data), dict)


PAYLOAD = b'{"version":"1.0","data":{}}'
SUBJECT = "ai.capabilities.vitals.assess"


def signed() -> str:
    return sign_sender(
        account=ACME.public.text,
        user=NURSE.public.text,
        name="ada",
        subject=SUBJECT,
        ts=int(NOW),
        nonce=CID,
        payload=PAYLOAD,
        sign=NURSE.sign,
    )


def verify(sender: Sender, payload: bytes = PAYLOAD) -> None:
    verify_sender(
        sender,
        account=ACME.public.text,
        user=NURSE.public.text,
        subject=SUBJECT,
        payload=payload,
        correlation_id=CID,
        now=NOW,
        verify=NURSE.public.verify,
    )


VALUE = signed()


def test_a_flipped_bit_at_any_place_of_a_signature_header_is_refused_or_changes_the_name_alone() -> None:
    good = parse_sender(VALUE)
    for at, bit in product(range(len(VALUE)), range(8)):
        changed = VALUE[:at] + chr(ord(VALUE[at]) ^ 1 << bit) + VALUE[at + 1 :]
        try:
            sender = parse_sender(changed)
            verify(sender)
        except SenderError:
            continue
        assert (sender.ts, sender.sig, sender.nonce) == (good.ts, good.sig, good.nonce)
        assert sender.name != good.name


@unhurried
@given(st.integers(0, len(PAYLOAD) - 1), st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_the_payload_is_refused(at: int, bit: int) -> None:
    changed = bytearray(PAYLOAD)
    changed[at] ^= 1 << bit
    with pytest.raises(SenderError):
        verify(parse_sender(VALUE), bytes(changed))


@unhurried
@given(lines, lines, lines, st.text(max_size=100), st.integers(0, 2**53 - 1), st.binary(max_size=50))
def test_signature_header_read_back_is_the_same_and_verifies(  # noqa: PLR0917 - drawn
    account: str, subject: str, nonce: str, name: str, ts: int, payload: bytes
) -> None:
    user = NURSE.public.text
    value = sign_sender(
        account=account,
        user=user,
        name=name,
        subject=subject,
        ts=ts,
        nonce=nonce,
        payload=payload,
        sign=NURSE.sign,
    )
    sender = parse_sender(value)
    assert sender.encode() == value
    verify_sender(
        sender,
        account=account,
        user=user,
        subject=subject,
        payload=payload,
        correlation_id=nonce,
        now=ts,
        verify=NURSE.public.verify,
    )


@unhurried
@given(near("v", "account", "user", "name", "sub", "ts", "nonce", "sig").map(lambda b: b.decode("utf-8", "replace")))
def test_any_value_is_a_sender_or_a_sender_error(value: str) -> None:
    try:
        sender = parse_sender(value)
    except SenderError:
        return
    with pytest.raises(SenderError):
        verify(sender)


header_blocks = st.lists(
    st.sampled_from(
        [
            b"NATS/1.0",
            b"\r\n",
            b"\r\n\r\n",
            b"Agent-Sender",
            b"agent-sender",
            b": ",
            b":",
            b" ",
            b"X: 1",
            b"{}",
            b"\xff",
        ]
    ),
    max_size=12,
).map(b"".join)


@unhurried
@given(st.binary(max_size=100) | header_blocks)
def test_any_header_block_has_one_sender_or_none_or_is_a_sender_error(block: bytes) -> None:
    try:
        value = read_header(block, b"Agent-Sender")
    except HeaderError:
        value = None
    else:
        assert value is None or block.count(b"Agent-Sender") >= 1
    with suppress(SenderError):
        assert (read_sender(block) is None) == (value is None)


CALL = UnwrapCall(tenant="acme", account=ACME.public.text, user=NURSE.public.text, correlation_id=CID)
ONE_TIME = OneTimeKey.generate()
ANSWER = build_unwrap_answer(
    CALL,
    dek=data_key(),
    state="active",
    one_time_key=ONE_TIME.public,
    expires_at=int(NOW) + 300,
    sign=CONTROL.sign,
).encode()


def unwrap(answer: bytes, call: UnwrapCall = CALL) -> DataKey:
    parsed = parse_unwrap_answer(answer)
    verify = CONTROL.public.verify
    return open_unwrap_answer(parsed, call, wanted=PHI, one_time_key=ONE_TIME, now=NOW, verify=verify).dek


def test_a_flipped_bit_at_any_place_of_an_unwrap_answer_is_refused() -> None:
    for at, bit in product(range(len(ANSWER)), range(8)):
        changed = ANSWER[:at] + bytes([ANSWER[at] ^ 1 << bit]) + ANSWER[at + 1 :]
        with pytest.raises(KeyWrapError):
            unwrap(changed)


@unhurried
@given(st.sampled_from(["tenant", "account", "user", "correlation_id"]), lines)
def test_unwrap_answer_opens_for_no_other_call(field: str, text: str) -> None:
    other = replace(CALL, **{field: text})
    assume(other != CALL)
    with pytest.raises(KeyWrapError):
        unwrap(ANSWER, other)


@unhurried
@given(near("key_id", "state", "enc", "expires_at", "sig"))
def test_any_answer_is_an_unwrap_answer_or_a_key_wrap_error(body: bytes) -> None:
    with pytest.raises(KeyWrapError):
        unwrap(body)


@unhurried
@given(near("key_id", "label", "subject", "agent", "one_time_key", also=ONE_TIME.public))
def test_any_unwrap_request_is_read_and_spells_itself_or_is_an_envelope_error(body: bytes) -> None:
    try:
        request = parse_unwrap_request(body)
    except EnvelopeError:
        return
    assert parse_unwrap_request(build_unwrap_request(request)) == request


@unhurried
@given(key_ids | scopes, st.none() | labels)
def test_unwrap_request_read_back_builds_the_same_bytes(wanted: KeyId | KeyScope, agent: str | None) -> None:
    built = build_unwrap_request(UnwrapRequest(wanted=wanted, one_time_key=ONE_TIME.public, agent=agent))
    assert build_unwrap_request(parse_unwrap_request(built)) == built


@unhurried
@given(st.text(max_size=20) | st.from_regex(r"\A[A-Za-z0-9_-]{0,9}={0,2}\Z"))
def test_base64url_that_is_read_spells_itself(text: str) -> None:
    try:
        data = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(data) == text
