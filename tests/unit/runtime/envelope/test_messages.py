import json

import pytest

from runtime.envelope.errors import EnvelopeError, SealedNotAcceptedError
from runtime.envelope.messages import (
    Failure,
    FieldFault,
    Result,
    build_error,
    build_request,
    build_response,
    failure_headers_of,
    field_faults,
    parse_request,
    parse_response,
)

CID = "7d0f1a52-6c1b-4a44-9d0e-0f4e5f6a7b8c"
OURS = "00000000-0000-4000-8000-000000000001"


def envelope(**changes: object) -> bytes:
    fields = {
        "version": "1.0",
        "agent_id": "ward-3",
        "message_type": "request",
        "timestamp": 1700000000.5,
        "correlation_id": CID,
        "data": {"name": "World"},
    }
    fields.update(changes)
    return json.dumps({k: v for k, v in fields.items() if v is not ...}).encode()


def test_plain_object_is_data_itself_and_gets_the_fallback_id() -> None:
    request = parse_request(b'{"name":"World"}', fallback_id=OURS)
    assert request.data == b'{"name":"World"}'
    assert request.correlation_id == OURS
    assert not request.enveloped


def test_envelope_is_read_with_its_own_correlation_id() -> None:
    request = parse_request(envelope(), fallback_id=OURS)
    assert json.loads(request.data) == {"name": "World"}
    assert (request.correlation_id, request.agent_id) == (CID, "ward-3")
    assert request.timestamp == 1700000000.5
    assert request.enveloped


@pytest.mark.parametrize("missing", ["version", "message_type"])
def test_object_with_only_one_of_the_two_marks_is_bare_data(missing: str) -> None:
    body = envelope(**{missing: ...})
    request = parse_request(body, fallback_id=OURS)
    assert request.data == body
    assert request.correlation_id == OURS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"null",
        b'"text"',
        b'{"a":1} trailing',
        b'{"a":NaN}',
        b'{"a":1',
        b"\xff\xfe",
        b'{"a":"\xc3\x28"}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(EnvelopeError):
        parse_request(body, fallback_id=OURS)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "1.1"},
        {"version": 1.0},
        {"message_type": "response"},
        {"message_type": 7},
        {"agent_id": ...},
        {"agent_id": ""},
        {"agent_id": "a" * 129},
        {"agent_id": "two\nlines"},
        {"timestamp": ...},
        {"timestamp": "now"},
        {"correlation_id": ...},
        {"correlation_id": "not-a-uuid"},
        {"correlation_id": CID + "\n"},
        {"data": ...},
        {"data": [1]},
        {"data": None},
        {"data": "text"},
        {"unknown": 1},
    ],
)
def test_envelope_is_read_strictly(changes: dict[str, object]) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_request(envelope(**changes), fallback_id=OURS)
    assert "\n" not in str(caught.value)
    assert caught.value.correlation_id == (None if "correlation_id" in changes else CID)


@pytest.mark.parametrize("mark", [{"encrypted": True}, {"encrypted": False}, {"alg": "fernet"}, {"key_id": "k"}])
def test_request_marked_as_sealed_is_never_read_as_plaintext(mark: dict[str, object]) -> None:
    with pytest.raises(SealedNotAcceptedError) as caught:
        parse_request(envelope(**mark), fallback_id=OURS)
    assert caught.value.correlation_id == CID


def test_what_build_request_builds_is_read_back() -> None:
    body = build_request(agent_id="cli", correlation_id=CID, timestamp=12.5, data=b'{"a":[1,2]}')
    request = parse_request(body, fallback_id=OURS)
    assert (request.agent_id, request.correlation_id, request.timestamp) == ("cli", CID, 12.5)
    assert request.data == b'{"a":[1,2]}'


def test_response_has_the_documented_fields_and_is_read_back() -> None:
    body = build_response(
        agent_id="vitals", capability="vitals.assess", correlation_id=CID, timestamp=1.5, result=b'{"n":1}'
    )
    assert json.loads(body) == {
        "version": "1.0",
        "agent_id": "vitals",
        "capability": "vitals.assess",
        "message_type": "response",
        "timestamp": 1.5,
        "correlation_id": CID,
        "result": {"n": 1},
    }
    assert parse_response(body) == Result(
        correlation_id=CID, agent_id="vitals", capability="vitals.assess", timestamp=1.5, result=b'{"n":1}'
    )


def test_failure_carries_only_the_two_micro_headers_and_is_read_back() -> None:
    failure = Failure(
        code=403,
        error="not permitted",
        correlation_id=CID,
        agent_id="vitals",
        required="call:vitals.assess",
        role="billing",
        retry_after=0.5,
        fields=(FieldFault(path="a.b", message="is missing"),),
    )
    assert failure.headers == {"Nats-Service-Error-Code": "403", "Nats-Service-Error": "not permitted"}
    code, text = failure_headers_of(failure.headers)
    assert parse_response(build_error(failure), error_code=code, error_text=text) == failure


def test_failure_body_omits_what_does_not_apply() -> None:
    body = build_error(Failure(code=500, error="handler failed", correlation_id=CID, agent_id="x"))
    assert json.loads(body) == {
        "agent_id": "x",
        "error": "handler failed",
        "code": 500,
        "correlation_id": CID,
    }


def test_answer_that_marks_itself_as_failed_is_never_a_result() -> None:
    body = build_response(agent_id="a", capability="c", correlation_id=CID, timestamp=1.0, result=b"{}")
    assert isinstance(parse_response(body, error_code="500", error_text="no"), Failure)


def test_failure_body_without_the_header_is_never_a_failure_nor_a_result() -> None:
    with pytest.raises(EnvelopeError):
        parse_response(build_error(Failure(code=500, error="x", correlation_id=CID)))


def test_failure_whose_header_and_body_disagree_is_refused() -> None:
    with pytest.raises(EnvelopeError):
        parse_response(build_error(Failure(code=500, error="x", correlation_id=CID)), error_code="403")


@pytest.mark.parametrize("code", ["", "abc", "99", "1000", "-400", "٤٠٠", "400\n"])
def test_error_code_that_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(EnvelopeError):
        parse_response(b"{}", error_code=code)


def test_failure_of_another_service_is_known_by_its_headers_alone() -> None:
    assert parse_response(b"", error_code="503", error_text="busy") == Failure(code=503, error="busy")
    assert parse_response(b"", error_code="503") == Failure(code=503, error="no reason given")


def test_text_in_headers_is_one_bounded_ascii_line() -> None:
    text = Failure(code=422, error="café\r\nNats-Request-Info: x" + "y" * 500).headers["Nats-Service-Error"]
    assert text.isascii()
    assert "\r" not in text
    assert "\n" not in text
    assert len(text) <= 300


def test_faults_reported_by_models_are_typed() -> None:
    assert field_faults([{"path": "a", "message": "b"}, {}]) == (
        FieldFault(path="a", message="b"),
        FieldFault(path="", message=""),
    )
