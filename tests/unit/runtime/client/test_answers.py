import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.client import (
    BadAnswerError,
    CallFailedError,
    DeadlineError,
    DeniedError,
    HandlerFailedError,
    InvalidRequestError,
    NotAuthenticatedError,
    OverLimitError,
    TooLargeError,
    UnavailableError,
)
from runtime.client.answers import Answer, failure_error, read_answer
from runtime.envelope.messages import Failure, FieldFault, build_response

ID = "3f0c5a52-7d0e-4a56-9d3e-0d2b1f6c9a11"


def read(body: bytes, *, code: str | None = None) -> Answer:
    return read_answer(body, error_code=code, error_text=None, correlation_id=ID, capability="vitals.assess")


def response(result: bytes) -> bytes:
    return build_response(
        agent_id="vitals", capability="vitals.assess", correlation_id=ID, timestamp=1.0, result=result
    )


def test_a_result_is_returned_with_what_is_known_about_it() -> None:
    assert read(response(b'{"score": 3}')) == Answer(result={"score": 3}, agent_id="vitals", correlation_id=ID)


@pytest.mark.parametrize("result", [b"3", b"[]", b"null", b'"text"'])
def test_a_result_that_is_no_object_is_a_bad_answer(result: bytes) -> None:
    with pytest.raises(BadAnswerError):
        read(response(result))


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=8)))
def test_nothing_but_an_error_for_callers_comes_of_arbitrary_bytes(body: bytes, code: str | None) -> None:
    with pytest.raises(CallFailedError):
        read(body, code=code)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, InvalidRequestError),
        (401, NotAuthenticatedError),
        (403, DeniedError),
        (404, CallFailedError),
        (408, DeadlineError),
        (409, CallFailedError),
        (413, TooLargeError),
        (422, InvalidRequestError),
        (429, OverLimitError),
        (500, HandlerFailedError),
        (503, UnavailableError),
    ],
)
def test_each_code_is_its_own_type_of_error(code: int, kind: type[CallFailedError]) -> None:
    error = failure_error(Failure(code=code, error="no"), ID)
    assert type(error) is kind
    assert (error.code, error.message, error.correlation_id) == (code, "no", ID)


def test_the_details_of_a_failure_reach_the_caller() -> None:
    invalid = failure_error(Failure(code=422, error="no", fields=(FieldFault(path="a.b", message="missing"),)), ID)
    assert isinstance(invalid, InvalidRequestError)
    assert invalid.fields == ({"path": "a.b", "message": "missing"},)
    limited = failure_error(Failure(code=429, error="no", retry_after=1.5), ID)
    assert isinstance(limited, OverLimitError)
    assert limited.retry_after == 1.5


def test_the_correlation_id_that_the_host_logs_under_goes_before_the_callers() -> None:
    assert failure_error(Failure(code=500, error="no", correlation_id="theirs"), ID).correlation_id == "theirs"
