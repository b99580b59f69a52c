"""Asking what a capability needs, before anything is sent to it: `"message_type": "describe"`, and its answer.

A caller that does not know a capability asks first, so that sensitive data never leaves it in the clear only to be
refused. Whoever may call may ask; nobody else learns anything.

Rules it keeps: strict, total; a question carries no data. The answer is an ordinary response whose result is a
description: `{"capability", "agent", "sensitive", "timeout"}`, `sensitive` a label or null, `timeout` in seconds.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from runtime.envelope.errors import EnvelopeError, KeyIdError
from runtime.envelope.jsontext import decode, text_of
from runtime.envelope.keyid import KeyScope
from runtime.envelope.messages import CorrelationId, Outline, SenderId, readable_id

MESSAGE_TYPE: Final = "describe"
_TYPE_TEXT: Final = b'"describe"'

_Text = Annotated[str, Meta(max_length=256)]


class DescribeRequest(Struct, frozen=True, kw_only=True):
    """What does this capability need? The fields are as in `messages.Request`."""

    correlation_id: str
    agent_id: str
    timestamp: float


class Description(Struct, frozen=True, kw_only=True):
    """What a capability needs.

    Attributes:
        capability: Its name.
        agent: Which agent serves it.
        sensitive: The label under which its data must be sealed, or None.
        timeout: Seconds that a call may take.
    """

    capability: _Text
    agent: _Text
    sensitive: _Text | None
    timeout: float


class _WireDescribe(Struct, forbid_unknown_fields=True):
    version: Literal["1.0"]
    agent_id: SenderId
    message_type: Literal["describe"]
    timestamp: float
    correlation_id: CorrelationId


_encoder: Final = msgspec.json.Encoder()
_question: Final = msgspec.json.Decoder(_WireDescribe)
_description: Final = msgspec.json.Decoder(Description)


def build_describe(*, agent_id: str, correlation_id: str, timestamp: float) -> bytes:
    """Build the envelope of a question."""
    return _encoder.encode(
        _WireDescribe(
            version="1.0",
            agent_id=agent_id,
            message_type=MESSAGE_TYPE,
            timestamp=timestamp,
            correlation_id=correlation_id,
        )
    )


def is_describe(outline: Outline) -> bool:
    """Whether an object is meant as a question, well-formed or not."""
    return outline.enveloped and bytes(outline.message_type or b"") == _TYPE_TEXT


def parse_describe(text: str) -> DescribeRequest:
    """Read a question.

    Raises:
        EnvelopeError: It is malformed; its `correlation_id` is the sender's where that much is readable.
    """
    try:
        wire = decode(_question, text)
    except EnvelopeError as error:
        error.correlation_id = readable_id(text)
        raise
    return DescribeRequest(correlation_id=wire.correlation_id, agent_id=wire.agent_id, timestamp=wire.timestamp)


def encode_description(description: Description) -> bytes:
    """Spell a description, for the `result` of the response."""
    return _encoder.encode(description)


def parse_description(result: bytes) -> Description:
    """Read the `result` of the response.

    Raises:
        EnvelopeError: It is none, or names a label that can't be: never to be taken for no label.
    """
    description = decode(_description, text_of(result))
    try:
        if description.sensitive is not None:
            KeyScope.of(description.sensitive)
    except KeyIdError as error:
        raise EnvelopeError("`sensitive` is not a label") from error
    return description
