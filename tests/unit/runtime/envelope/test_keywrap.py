import copy
import dataclasses
import json
import pickle

import msgspec
import pytest
from envelope_keys import ACME, CID, CONTROL, MALLORY, NOW, NURSE, OTHER_CID, PATIENT, PHI, data_key

from runtime.envelope import base64url
from runtime.envelope.errors import EnvelopeError, KeyWrapError
from runtime.envelope.keyid import KeyId, KeyScope, parse
from runtime.envelope.keywrap import OneTimeKey, UnwrapCall, UnwrappedKey, build_unwrap_answer, open_unwrap_answer
from runtime.envelope.unwrap import (
    UnwrapAnswer,
    UnwrapRequest,
    build_unwrap_request,
    parse_unwrap_answer,
    parse_unwrap_request,
)

CALL = UnwrapCall(tenant="acme", account=ACME.public.text, user=NURSE.public.text, correlation_id=CID)
EXPIRES = int(NOW) + 300
ONE_TIME = OneTimeKey.generate()


def answer(**changes: object) -> UnwrapAnswer:
    fields = {
        "call": CALL,
        "dek": data_key(),
        "state": "active",
        "one_time_key": ONE_TIME.public,
        "expires_at": EXPIRES,
        "sign": CONTROL.sign,
    }
    return build_unwrap_answer(**{**fields, **changes})  # type: ignore[arg-type]


def opened(
    given: UnwrapAnswer,
    call: UnwrapCall = CALL,
    *,
    wanted: KeyId | KeyScope = PHI,
    one_time_key: OneTimeKey = ONE_TIME,
    now: float = NOW,
) -> UnwrappedKey:
    return open_unwrap_answer(
        given, call, wanted=wanted, one_time_key=one_time_key, now=now, verify=CONTROL.public.verify
    )


def reason_of(
    given: UnwrapAnswer,
    call: UnwrapCall = CALL,
    *,
    wanted: KeyId | KeyScope = PHI,
    one_time_key: OneTimeKey = ONE_TIME,
    now: float = NOW,
) -> str:
    with pytest.raises(KeyWrapError) as caught:
        opened(given, call, wanted=wanted, one_time_key=one_time_key, now=now)
    assert str(caught.value) == "the wrapped key is not valid"
    return caught.value.reason


def test_key_arrives_as_it_was_sent() -> None:
    key = opened(parse_unwrap_answer(answer().encode()))
    assert key.dek == data_key()
    assert (key.state, key.expires_at) == ("active", EXPIRES)


def test_the_key_itself_is_not_to_be_seen_in_its_answer() -> None:
    body = answer().encode()
    assert data_key().reveal() not in body
    assert base64url.encode(data_key().reveal()).encode() not in body
    assert answer().enc != answer().enc


def test_active_version_of_a_scope_arrives_under_its_own_id() -> None:
    assert opened(answer(), wanted=KeyScope("phi")).dek.key_id == PHI


def test_version_that_only_opens_is_no_answer_to_who_wants_to_seal() -> None:
    opening = answer(state="opening")
    assert opened(opening).state == "opening"
    assert reason_of(opening, wanted=KeyScope("phi")) == "other-key"


@pytest.mark.parametrize(
    "wanted", [parse("phi@2"), PATIENT, parse("billing@1"), KeyScope("billing"), KeyScope("phi", "patient/4711")]
)
def test_answer_for_another_key_is_refused(wanted: KeyId | KeyScope) -> None:
    assert reason_of(answer(), wanted=wanted) == "other-key"


@pytest.mark.parametrize(
    "change",
    [
        {"account": CONTROL.public.text},
        {"user": MALLORY.public.text},
        {"correlation_id": OTHER_CID},
    ],
)
def test_answer_to_another_account_user_or_call_is_refused(change: dict[str, str]) -> None:
    assert reason_of(answer(), dataclasses.replace(CALL, **change)) == "signature"


def test_answer_about_another_tenants_key_is_refused() -> None:
    assert reason_of(answer(), dataclasses.replace(CALL, tenant="globex")) == "refused"


def test_answer_replayed_to_a_later_request_is_refused_for_its_one_time_key() -> None:
    assert reason_of(answer(), one_time_key=OneTimeKey.generate()) == "signature"


@pytest.mark.parametrize("now", [EXPIRES, EXPIRES + 60, float("nan")])
def test_expired_answer_is_refused(now: float) -> None:
    assert reason_of(answer(), now=now) == "expired"


def test_answer_forged_or_signed_again_by_another_is_refused() -> None:
    assert reason_of(answer(sign=MALLORY.sign)) == "signature"
    assert reason_of(answer(sign=ACME.sign)) == "signature"
    assert reason_of(answer(sign=lambda _: bytes(64))) == "signature"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key_id": "phi@2"}, "other-key"),
        ({"key_id": "phi"}, "malformed"),
        ({"state": "opening"}, "signature"),
        ({"expires_at": EXPIRES + 1}, "signature"),
        ({"enc": "A" * 107}, "signature"),
        ({"sig": "A" * 86}, "signature"),
        ({"sig": "A" * 85 + "B"}, "malformed"),
    ],
)
def test_every_changed_field_of_an_answer_is_refused(change: dict[str, object], reason: str) -> None:
    assert reason_of(msgspec.structs.replace(answer(), **change)) == reason


def test_key_relabelled_by_who_can_not_sign_is_refused_even_if_it_was_asked_for() -> None:
    assert reason_of(msgspec.structs.replace(answer(), key_id="phi@2"), wanted=parse("phi@2")) == "signature"


def signed_again(enc: str) -> UnwrapAnswer:
    lines = ["GARRISON-UNWRAP-V1", CALL.account, CALL.user, "phi@1", "active", CID, ONE_TIME.public, enc, str(EXPIRES)]
    signature = CONTROL.sign(("\n".join(lines) + "\n").encode())
    return UnwrapAnswer(key_id="phi@1", state="active", enc=enc, expires_at=EXPIRES, sig=base64url.encode(signature))


def test_what_is_signed_is_the_documented_lines() -> None:
    assert signed_again(answer().enc).sig is not None
    assert opened(signed_again(answer().enc)).dek == data_key()


@pytest.mark.parametrize(("enc", "reason"), [("A" * 107, "refused"), ("", "refused"), ("A" * 106 + "B", "malformed")])
def test_what_was_not_sealed_to_the_one_time_key_is_refused_even_if_it_is_signed(enc: str, reason: str) -> None:
    assert reason_of(signed_again(enc)) == reason


class ShortKey(type(data_key())):  # type: ignore[misc]
    def reveal(self) -> bytes:
        return b"short"


def test_key_of_another_length_is_refused() -> None:
    assert reason_of(answer(dek=ShortKey(PHI, bytes(32)))) == "malformed"


@pytest.mark.parametrize(
    "key", ["", "A" * 42, "A" * 43, "A" * 44, "A" * 42 + "B", "é" * 43, base64url.encode(b"\1" + bytes(31))]
)
def test_one_time_key_that_nobody_may_seal_to_is_refused(key: str) -> None:
    with pytest.raises(KeyWrapError) as caught:
        answer(one_time_key=key)
    assert caught.value.reason == "one-time-key"


@pytest.mark.parametrize("text", ["two\nlines", "\ud800"])
def test_what_can_not_stand_on_its_line_is_never_bound(text: str) -> None:
    for field in ("tenant", "account", "user", "correlation_id"):
        with pytest.raises(KeyWrapError) as caught:
            answer(call=dataclasses.replace(CALL, **{field: text}))
        assert caught.value.reason == "binding"


def test_one_time_key_never_prints_pickles_or_copies() -> None:
    assert "redacted" in repr(ONE_TIME)
    assert "redacted" in repr(opened(answer()))
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(ONE_TIME)


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"state": "destroyed"},
        {"state": None},
        {"expires_at": 1.5},
        {"expires_at": -1},
        {"expires_at": 2**53},
        {"enc": "A" * 106},
        {"enc": "+" * 107},
        {"sig": "A" * 87},
        {"key_id": "k" * 401},
        {"key_id": 1},
    ],
)
def test_malformed_answer_is_refused(change: dict[str, object]) -> None:
    body = json.dumps({**json.loads(answer().encode()), **change}).encode()
    with pytest.raises(KeyWrapError) as caught:
        parse_unwrap_answer(body)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"NaN", b"[" * 100_000])
def test_body_that_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(KeyWrapError):
        parse_unwrap_answer(body)


@pytest.mark.parametrize("agent", [None, "vitals"])
@pytest.mark.parametrize("wanted", [PHI, PATIENT, KeyScope("phi"), KeyScope("phi", "patient/4711")])
def test_request_is_read_back_as_it_was_built(wanted: KeyId | KeyScope, agent: str | None) -> None:
    request = UnwrapRequest(wanted=wanted, one_time_key=ONE_TIME.public, agent=agent)
    assert parse_unwrap_request(build_unwrap_request(request)) == request


def test_request_spells_what_it_wants_as_documented() -> None:
    by_id = json.loads(build_unwrap_request(UnwrapRequest(wanted=PHI, one_time_key=ONE_TIME.public)))
    assert by_id == {"one_time_key": ONE_TIME.public, "key_id": "phi@1"}
    scope = UnwrapRequest(wanted=KeyScope("phi"), one_time_key=ONE_TIME.public, agent="vitals")
    assert json.loads(build_unwrap_request(scope)) == {
        "one_time_key": ONE_TIME.public,
        "label": "phi",
        "subject": None,
        "agent": "vitals",
    }
    assert parse_unwrap_request(
        json.dumps({"one_time_key": ONE_TIME.public, "label": "phi"}).encode()
    ).wanted == KeyScope("phi")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"key_id": "phi@1", "label": "phi"},
        {"key_id": "phi@1", "subject": None},
        {"subject": "patient/4711"},
        {"key_id": "phi"},
        {"label": "phi@1"},
        {"label": "phi/patient"},
        {"label": "phi", "subject": "../x"},
        {"label": None},
        {"key_id": "phi@1", "agent": "Vitals"},
        {"key_id": "phi@1", "agent": None},
        {"key_id": "phi@1", "extra": 1},
        {"key_id": "phi@1", "one_time_key": "short"},
        {"key_id": "phi@1", "one_time_key": None},
        {"key_id": "phi@" + "9" * 500},
    ],
)
def test_malformed_request_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(EnvelopeError):
        parse_unwrap_request(json.dumps({"one_time_key": ONE_TIME.public, **fields}).encode())
