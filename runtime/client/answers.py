"""What an answer on the wire means to the caller: a result, or the error that its code stands for.

Pure. A failure may carry another correlation id than the call's: what was refused before its body was read is known
to the host by an id of its own, and that is the one that its log has.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from runtime.client.errors import (
    BadAnswerError,
    CallFailedError,
    DeadlineError,
    DeniedError,
    HandlerFailedError,
    InvalidRequestError,
    KeyRefusedError,
    NotAuthenticatedError,
    OverLimitError,
    TooLargeError,
    UnavailableError,
)
from runtime.envelope.errors import EnvelopeError
from runtime.envelope.messages import Failure, Result, parse_response

_BAD_ANSWER = 500

_PLAIN: dict[int, type[CallFailedError]] = {
    401: NotAuthenticatedError,
    408: DeadlineError,
    413: TooLargeError,
    500: HandlerFailedError,
    503: UnavailableError,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A successful answer.

    Attributes:
        result: What the handler returned.
        agent_id: Which agent says that it answered.
        correlation_id: What the call is known by in logs and audit.
    """

    result: dict[str, Any]
    agent_id: str
    correlation_id: str


def read_answer(
    body: bytes, *, error_code: str | None, error_text: str | None, correlation_id: str, capability: str
) -> Answer:
    """Read the answer to one call.

    Args:
        body: The payload of the answer.
        error_code: The value of its error code header, or None.
        error_text: The value of its error text header, or None.
        correlation_id: The call's.
        capability: What was called.

    Raises:
        CallFailedError: The subclass says why.
    """
    answer = read_result(
        body, error_code=error_code, error_text=error_text, correlation_id=correlation_id, capability=capability
    )
    result = object_of(answer.result, correlation_id)
    return Answer(result=result, agent_id=answer.agent_id, correlation_id=correlation_id)


def read_result(
    body: bytes, *, error_code: str | None, error_text: str | None, correlation_id: str, capability: str
) -> Result:
    """Like `read_answer`, without looking into the result.

    Raises:
        CallFailedError: The subclass says why.
    """
    try:
        answer = parse_response(body, error_code=error_code, error_text=error_text)
    except EnvelopeError as error:
        raise _bad(f"the answer can't be read: {error}", correlation_id) from error
    if not isinstance(answer, Result):
        raise failure_error(answer, correlation_id)
    if answer.correlation_id != correlation_id or answer.capability != capability:
        raise _bad("the answer is to another call", correlation_id)
    return answer


def object_of(result: bytes, correlation_id: str) -> dict[str, Any]:
    """The result as an object.

    Raises:
        BadAnswerError: It is none.
    """
    try:
        return msgspec.json.decode(result, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise _bad("the answer's result is not an object", correlation_id) from error


def failure_error(failure: Failure, correlation_id: str) -> CallFailedError:
    """The error that a failure on the wire stands for."""
    code, message, known_by = failure.code, failure.error, failure.correlation_id or correlation_id
    required = failure.required or ""
    match code:
        case 400 | 422:
            fields = tuple({"path": fault.path, "message": fault.message} for fault in failure.fields)
            return InvalidRequestError(
                code=code, message=message, correlation_id=known_by, required=required, fields=fields
            )
        case 403:
            denied = KeyRefusedError if required.startswith("data:") else DeniedError
            role = failure.role or ""
            return denied(code=code, message=message, correlation_id=known_by, required=required, role=role)
        case 429:
            wait = failure.retry_after
            return OverLimitError(code=code, message=message, correlation_id=known_by, retry_after=wait)
    return _PLAIN.get(code, CallFailedError)(code=code, message=message, correlation_id=known_by, required=required)


def _bad(message: str, correlation_id: str) -> BadAnswerError:
    return BadAnswerError(code=_BAD_ANSWER, message=message, correlation_id=correlation_id)
