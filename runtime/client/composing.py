"""Composes requests in the clear, and reads the answers to them. Sealed ones are `sealed`'s."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from runtime.bus.message import Message
from runtime.client.answers import Answer, read_answer
from runtime.client.errors import InvalidRequestError
from runtime.client.exchange import Attempt, Outgoing
from runtime.envelope.messages import ERROR_CODE_HEADER, ERROR_TEXT_HEADER, build_request


def encoded(data: Mapping[str, Any]) -> bytes:
    """`data` as JSON. A number that JSON can't hold is an error and never becomes `null`.

    Raises:
        InvalidRequestError: It can't be written.
    """
    try:
        text = msgspec.json.encode(data)
        if b"null" in text:  # msgspec writes NaN as null; only then is the slower, strict encoder asked
            json.dumps(data, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the data can't be written as JSON: {error}"
        raise InvalidRequestError(code=400, message=message, correlation_id="") from error
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


def enveloped(attempt: Attempt, data: bytes) -> bytes:
    """The envelope of one attempt around `data`."""
    return build_request(
        agent_id=attempt.agent_id, correlation_id=attempt.correlation_id, timestamp=attempt.timestamp, data=data
    )


def error_headers(message: Message) -> tuple[str | None, str | None]:
    """The two headers that mark a failure."""
    return message.header(ERROR_CODE_HEADER), message.header(ERROR_TEXT_HEADER)
