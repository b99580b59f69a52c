"""Composes requests in the clear, and reads the answers to them. Sealed ones are `sealed`'s."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from runtime.bus.message import Message
from runtime.client.answers import Answer, read_answer, read_result
from runtime.client.errors import BadAnswerError, InvalidRequestError, TooLargeError
from runtime.client.exchange import Attempt, Outgoing
from runtime.envelope.describing import build_describe, parse_description
from runtime.envelope.errors import EnvelopeError
from runtime.envelope.messages import ERROR_CODE_HEADER, ERROR_TEXT_HEADER, build_request

MAX_PAYLOAD = 262_144  # of a tenant's account: what is over it would cut the connection


def encoded(data: Mapping[str, Any]) -> bytes:
    """`data` as JSON. A number that JSON can't hold is an error and never becomes `null`.

    Raises:
        InvalidRequestError: It can't be written.
        TooLargeError: It can't be sent, however it is wrapped.
    """
    try:
        text = msgspec.json.encode(data)
        if b"null" in text:  # msgspec writes NaN as null; only then is the slower, strict encoder asked
            json.dumps(data, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the data can't be written as JSON: {error}"
        raise InvalidRequestError(code=400, message=message, correlation_id="") from error
    if len(text) > MAX_PAYLOAD:
        message = f"the request is {len(text)} bytes; at most {MAX_PAYLOAD} can be sent"
        raise TooLargeError(code=413, message=message, correlation_id="")
    return text


def plain_request(attempt: Attempt, name: str, data: bytes) -> Outgoing[Answer]:
    """A request in the clear, to the capability or command `name`."""

    async def read(message: Message) -> Answer:
        error_code, error_text = error_headers(message)
        return read_answer(
            message.data,
            error_code=error_code,
            error_text=error_text,
            correlation_id=attempt.correlation_id,
            capability=name,
        )

    return Outgoing(payload=enveloped(attempt, data), read=read)


def question(attempt: Attempt, capability: str) -> Outgoing[str | None]:
    """A question about what `capability` needs; the answer is the label of its data, or None."""

    async def read(message: Message) -> str | None:
        error_code, error_text = error_headers(message)
        result = read_result(
            message.data,
            error_code=error_code,
            error_text=error_text,
            correlation_id=attempt.correlation_id,
            capability=capability,
        )
        try:
            return parse_description(result.result).sensitive
        except EnvelopeError as error:
            message_text = f"the answer is no description: {error}"
            raise BadAnswerError(code=500, message=message_text, correlation_id=attempt.correlation_id) from error

    payload = build_describe(
        agent_id=attempt.agent_id, correlation_id=attempt.correlation_id, timestamp=attempt.timestamp
    )
    return Outgoing(payload=payload, read=read)


def enveloped(attempt: Attempt, data: bytes) -> bytes:
    """The envelope of one attempt around `data`."""
    return build_request(
        agent_id=attempt.agent_id, correlation_id=attempt.correlation_id, timestamp=attempt.timestamp, data=data
    )


def error_headers(message: Message) -> tuple[str | None, str | None]:
    """The two headers that mark a failure."""
    return message.header(ERROR_CODE_HEADER), message.header(ERROR_TEXT_HEADER)
