import json

import pytest
from envelope_keys import CID, NOW, OTHER_CID, PHI, binding, data_key

from runtime.envelope.errors import EnvelopeError, SealedNotAcceptedError, SealError
from runtime.envelope.keyid import parse
from runtime.envelope.messages import (
    Failure,
    Request,
    Result,
    build_error,
    build_request,
    build_response,
    parse_request,
    parse_response,
)
from runtime.envelope.sealedmessages import (
    SealedRequest,
    SealedResult,
    build_sealed_request,
    build_sealed_response,
    open_request,
    open_response,
    parse_any_request,
    parse_any_response,
    seal_request,
    seal_response,
)
from runtime.envelope.sealing import seal

CAPABILITY = "vitals.assess"
DATA = b'{"spo2":96}'


def sealed_body(data: bytes = DATA) -> bytes:
    return seal_request(
        agent_id="ward-3", capability=CAPABILITY, correlation_id=CID, timestamp=NOW, data=data, dek=data_key()
    )


def sealed_answer(result: bytes = DATA) -> bytes:
    return seal_response(
        agent_id="vitals", capability=CAPABILITY, correlation_id=CID, timestamp=NOW, result=result, dek=data_key()
    )


def altered(body: bytes, **changes: object) -> bytes:
    fields = {**json.loads(body), **changes}
    return json.dumps({k: v for k, v in fields.items() if v is not ...}).encode()


def request(body: bytes) -> SealedRequest:
    read = parse_any_request(body, fallback_id=OTHER_CID)
    assert isinstance(read, SealedRequest)
    return read


def result(body: bytes) -> SealedResult:
    read = parse_any_response(body)
    assert isinstance(read, SealedResult)
    return read


def test_sealed_request_has_the_documented_fields_and_opens() -> None:
    body = sealed_body()
    fields = json.loads(body)
    token = fields.pop("data")
    assert fields == {
        "version": "1.0",
        "agent_id": "ward-3",
        "message_type": "request",
        "timestamp": NOW,
        "correlation_id": CID,
        "encrypted": True,
        "alg": "fernet",
        "key_id": "phi@1",
    }
    read = request(body)
    assert read == SealedRequest(correlation_id=CID, agent_id="ward-3", timestamp=NOW, key_id=PHI, token=token)
    assert open_request(read, capability=CAPABILITY, dek=data_key()) == Request(
        correlation_id=CID, data=DATA, agent_id="ward-3", timestamp=NOW, enveloped=True, key_id=PHI
    )


def test_sealed_response_has_the_documented_fields_and_opens() -> None:
    body = sealed_answer()
    fields = json.loads(body)
    token = fields.pop("result")
    assert fields == {
        "version": "1.0",
        "agent_id": "vitals",
        "capability": CAPABILITY,
        "message_type": "response",
        "timestamp": NOW,
        "correlation_id": CID,
        "encrypted": True,
        "alg": "fernet",
        "key_id": "phi@1",
    }
    read = result(body)
    assert read.token == token
    assert open_response(read, capability=CAPABILITY, correlation_id=CID, dek=data_key()) == Result(
        correlation_id=CID, agent_id="vitals", capability=CAPABILITY, timestamp=NOW, result=DATA
    )


def test_messages_in_the_clear_are_read_as_before() -> None:
    plain = build_request(agent_id="a", correlation_id=CID, timestamp=NOW, data=DATA)
    assert parse_any_request(plain, fallback_id=OTHER_CID) == parse_request(plain, fallback_id=OTHER_CID)
    assert parse_any_request(DATA, fallback_id=OTHER_CID) == Request(correlation_id=OTHER_CID, data=DATA)
    answer = build_response(agent_id="a", capability="c", correlation_id=CID, timestamp=NOW, result=b"[]")
    assert parse_any_response(answer) == parse_response(answer)
    failure = Failure(code=400, error="no", correlation_id=CID, agent_id="a")
    assert parse_any_response(build_error(failure), error_code="400", error_text="no") == failure


def test_readers_of_plaintext_never_take_a_token_for_data_or_result() -> None:
    with pytest.raises(SealedNotAcceptedError):
        parse_request(sealed_body(), fallback_id=OTHER_CID)
    with pytest.raises(SealedNotAcceptedError):
        parse_response(sealed_answer())
    for mark in ({"encrypted": ...}, {"alg": ...}, {"key_id": ...}):
        with pytest.raises(EnvelopeError):
            parse_any_response(altered(sealed_answer(), **mark))


def test_answer_with_an_error_header_is_a_failure_however_sealed_it_looks() -> None:
    assert isinstance(parse_any_response(sealed_answer(), error_code="500", error_text="no"), Failure)


@pytest.mark.parametrize(
    "changes",
    [
        {"encrypted": False},
        {"encrypted": ...},
        {"encrypted": 1},
        {"encrypted": "true"},
        {"alg": "none"},
        {"alg": "aes-256-gcm"},
        {"alg": "Fernet"},
        {"alg": None},
        {"alg": ...},
        {"key_id": "phi"},
        {"key_id": "phi@0"},
        {"key_id": "phi@1\n"},
        {"key_id": "k" * 500},
        {"key_id": None},
        {"key_id": ...},
        {"data": {"spo2": 96}},
        {"data": None},
        {"data": ...},
        {"version": "1.1"},
        {"timestamp": "now"},
        {"unknown": 1},
    ],
)
def test_half_sealed_or_altered_envelope_is_refused_with_the_senders_id(changes: dict[str, object]) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_any_request(altered(sealed_body(), **changes), fallback_id=OTHER_CID)
    assert caught.value.correlation_id == CID


def test_sealed_marks_of_bare_data_are_data() -> None:
    bare = altered(sealed_body(), version=...)
    assert parse_any_request(bare, fallback_id=OTHER_CID) == Request(correlation_id=OTHER_CID, data=bare)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"correlation_id": OTHER_CID}, "correlation-id"),
        ({"timestamp": NOW + 60}, "time"),
        ({"timestamp": NOW - 60}, "time"),
        ({"timestamp": -1}, "binding"),
        ({"key_id": "phi@2"}, "key-mismatch"),
        ({"data": ""}, "token-form"),
    ],
)
def test_sealed_request_with_an_altered_envelope_does_not_open(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(SealError) as caught:
        open_request(request(altered(sealed_body(), **changes)), capability=CAPABILITY, dek=data_key())
    assert caught.value.reason == reason


def test_sealed_request_does_not_open_for_another_capability_or_under_another_key() -> None:
    for capability, dek in (("vitals.export", data_key()), (CAPABILITY, data_key(fill=8))):
        with pytest.raises(SealError):
            open_request(request(sealed_body()), capability=capability, dek=dek)
    renamed = altered(sealed_body(), key_id="phi@2")
    with pytest.raises(SealError) as caught:
        open_request(request(renamed), capability=CAPABILITY, dek=data_key(parse("phi@2")))
    assert caught.value.reason == "key-id"


def test_request_sent_back_as_its_answer_does_not_open_nor_the_reverse() -> None:
    reflected = altered(sealed_answer(), result=json.loads(sealed_body())["data"])
    with pytest.raises(SealError) as caught:
        open_response(result(reflected), capability=CAPABILITY, correlation_id=CID, dek=data_key())
    assert caught.value.reason == "direction"
    again = altered(sealed_body(), data=json.loads(sealed_answer())["result"])
    with pytest.raises(SealError) as caught:
        open_request(request(again), capability=CAPABILITY, dek=data_key())
    assert caught.value.reason == "direction"


@pytest.mark.parametrize(("capability", "cid"), [("vitals.export", CID), (CAPABILITY, OTHER_CID)])
def test_answer_to_another_call_does_not_open_whatever_its_envelope_says(capability: str, cid: str) -> None:
    renamed = altered(sealed_answer(), capability=capability, correlation_id=cid)
    with pytest.raises(SealError):
        open_response(result(renamed), capability=capability, correlation_id=cid, dek=data_key())
    with pytest.raises(SealError):
        open_response(result(sealed_answer()), capability=capability, correlation_id=cid, dek=data_key())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b'{"a":NaN}',
        b'{"a":1',
        b"{}{}",
        b"\xff",
        b'{"a":"\xc3\x28"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_sealed_request_that_holds_no_json_object_is_malformed(data: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        open_request(request(sealed_body(data)), capability=CAPABILITY, dek=data_key())
    assert caught.value.correlation_id == CID


@pytest.mark.parametrize("data", [b"", b"NaN", b"{", b"\xff", b"[" * 100_000])
def test_sealed_answer_that_holds_no_json_is_malformed(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        open_response(result(sealed_answer(data)), capability=CAPABILITY, correlation_id=CID, dek=data_key())


@pytest.mark.parametrize(
    "inner", [sealed_body(), build_request(agent_id="a", correlation_id=CID, timestamp=NOW, data=DATA)]
)
def test_envelope_inside_a_sealed_body_is_never_read(inner: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        open_request(request(sealed_body(inner)), capability=CAPABILITY, dek=data_key())
    assert caught.value.correlation_id == CID


def test_time_without_a_fraction_is_the_same_time() -> None:
    body = altered(
        sealed_body(), timestamp=1_700_000_000, data=seal(binding(timestamp=1_700_000_000), DATA, data_key())
    )
    assert open_request(request(body), capability=CAPABILITY, dek=data_key()).data == DATA


def test_messages_around_a_ready_token_are_read_back() -> None:
    built = build_sealed_request(agent_id="a", correlation_id=CID, timestamp=NOW, key_id=PHI, token="t")
    assert request(built).token == "t"
    answer = build_sealed_response(
        agent_id="a", capability=CAPABILITY, correlation_id=CID, timestamp=NOW, key_id=PHI, token="t"
    )
    assert result(answer).token == "t"


def everything_in(error: BaseException | None) -> str:
    text = ""
    while error is not None:
        text += repr(error) + repr(vars(error))
        error = error.__cause__ or error.__context__
    return text


def test_p6_what_was_opened_never_prints() -> None:
    secret = b'{"name":"Marked Secret"}'
    opened = open_request(request(sealed_body(secret)), capability=CAPABILITY, dek=data_key())
    assert opened.data == secret
    assert repr(opened) == f"Request(correlation_id='{CID}', data=<24 bytes>, key_id='phi@1')"
    answer = open_response(result(sealed_answer(secret)), capability=CAPABILITY, correlation_id=CID, dek=data_key())
    assert answer.result == secret
    assert "Marked" not in repr(answer) + repr(Request(correlation_id=CID, data=secret))


@pytest.mark.parametrize("ending", [b"\xff", b"", b"NaN}", b'"}x', b'","version":1,"message_type":"Marked Secret"}'])
def test_p6_errors_about_what_was_opened_hold_none_of_it(ending: bytes) -> None:
    bad = b'{"name":"Marked Secret' + ending
    with pytest.raises(EnvelopeError) as caught:
        open_request(request(sealed_body(bad)), capability=CAPABILITY, dek=data_key())
    assert "Marked" not in everything_in(caught.value)
    with pytest.raises((EnvelopeError, SealError)) as caught:
        open_response(result(sealed_answer(bad + b"\xff")), capability=CAPABILITY, correlation_id=CID, dek=data_key())
    assert "Marked" not in everything_in(caught.value)
    with pytest.raises(SealError) as caught:
        open_request(request(sealed_body(bad)), capability="vitals.export", dek=data_key())
    assert "Marked" not in everything_in(caught.value)
