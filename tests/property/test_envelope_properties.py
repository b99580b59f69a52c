"""Whatever the bytes are, a reader gives a typed value or `EnvelopeError`, never anything else."""

import json
import string

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.envelope.errors import EnvelopeError
from runtime.envelope.messages import (
    Failure,
    Request,
    Result,
    build_request,
    build_response,
    parse_request,
    parse_response,
)

CID = "7d0f1a52-6c1b-4a44-9d0e-0f4e5f6a7b8c"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        "version",
        "message_type",
        "agent_id",
        "timestamp",
        "correlation_id",
        "data",
        "encrypted",
        "result",
        "code",
    ]
)
near_envelopes = st.dictionaries(
    keys, json_values | st.sampled_from(["1.0", "request", "response", CID, {}]), max_size=9
).map(lambda value: json.dumps(value).encode())
names = st.text(string.ascii_letters + string.digits + "-_.", min_size=1, max_size=40)
stamps = st.floats(min_value=0, max_value=1e12)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are shared
bodies = st.binary(max_size=300) | near_envelopes


@unhurried
@given(bodies)
def test_any_body_is_a_request_or_an_envelope_error(body: bytes) -> None:
    try:
        request = parse_request(body, fallback_id=CID)
    except EnvelopeError:
        pass
    else:
        assert isinstance(request, Request)
        assert isinstance(json.loads(request.data), dict)


@unhurried
@given(bodies, st.none() | st.text(max_size=6) | st.integers(0, 999).map(str), st.none() | st.text())
def test_any_answer_is_typed_or_an_envelope_error(body: bytes, error_code: str | None, error_text: str | None) -> None:
    try:
        answer = parse_response(body, error_code=error_code, error_text=error_text)
    except EnvelopeError:
        pass
    else:
        assert isinstance(answer, Result if error_code is None else Failure)


@unhurried
@given(names, stamps, st.uuids(), st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_a_request_read_back_builds_the_same_bytes(
    name: str, stamp: float, cid: object, data: dict[str, object]
) -> None:
    built = build_request(agent_id=name, correlation_id=str(cid), timestamp=stamp, data=json.dumps(data).encode())
    read = parse_request(built, fallback_id=CID)
    assert read.agent_id is not None
    assert read.timestamp is not None
    again = build_request(
        agent_id=read.agent_id, correlation_id=read.correlation_id, timestamp=read.timestamp, data=read.data
    )
    assert again == built


@unhurried
@given(names, stamps, st.uuids(), json_values)
def test_a_response_read_back_builds_the_same_bytes(name: str, stamp: float, cid: object, value: object) -> None:
    built = build_response(
        agent_id=name,
        capability=name,
        correlation_id=str(cid),
        timestamp=stamp,
        result=json.dumps(value).encode(),
    )
    read = parse_response(built)
    assert isinstance(read, Result)
    assert built == build_response(
        agent_id=read.agent_id,
        capability=read.capability,
        correlation_id=read.correlation_id,
        timestamp=read.timestamp,
        result=read.result,
    )
