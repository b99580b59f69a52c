"""Sealed requests and responses: the envelopes of `messages` with a token in place of `data` or `result`.

Rules it keeps:
    - Marked as sealed means all of `"encrypted": true`, `alg`, `key_id` and a token, or it is refused.
    - A sealed message and an opened one are two types: a token is never taken for data, nor the reverse.
    - What is opened is data and nothing else. An envelope inside, sealed or not, is refused, never read.
    - The opener states the capability, and for an answer the call, from what it knows itself; what the envelope
      says of them in the clear must agree with what was bound inside.

Choosing the key is `keyring`'s, and whether the label may be used the policy's.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from runtime.envelope.datakey import DataKey
from runtime.envelope.describing import DescribeRequest, is_describe, parse_describe
from runtime.envelope.errors import EnvelopeError, KeyIdError, SealedNotAcceptedError
from runtime.envelope.jsontext import decode, text_of
from runtime.envelope.keyid import MAX_KEY_ID, KeyId
from runtime.envelope.keyid import parse as parse_key_id
from runtime.envelope.messages import (
    CorrelationId,
    Failure,
    Request,
    Result,
    SenderId,
    outline_of,
    parse_response,
    readable_id,
    request_of,
)
from runtime.envelope.sealing import ALG, Binding, Direction, open_token, seal

KeyIdText = Annotated[str, Meta(max_length=MAX_KEY_ID)]


class SealedRequest(Struct, frozen=True, kw_only=True):
    """A request whose data is sealed; its fields are as in `messages.Request`.

    Attributes:
        key_id: What opens `token`.
        token: The sealed data.
    """

    correlation_id: str
    agent_id: str
    timestamp: float
    key_id: KeyId
    token: str


class SealedResult(Struct, frozen=True, kw_only=True):
    """A successful answer whose result is sealed; its fields are as in `messages.Result`.

    Attributes:
        key_id: What opens `token`.
        token: The sealed result.
    """

    correlation_id: str
    agent_id: str
    capability: str
    timestamp: float
    key_id: KeyId
    token: str


class _WireRequest(Struct, forbid_unknown_fields=True):
    version: Literal["1.0"]
    agent_id: SenderId
    message_type: Literal["request"]
    timestamp: float
    correlation_id: CorrelationId
    encrypted: bool
    alg: Literal["fernet"]
    key_id: KeyIdText
    data: str


class _WireResponse(Struct, forbid_unknown_fields=True):
    version: Literal["1.0"]
    agent_id: str
    capability: str
    message_type: Literal["response"]
    timestamp: float
    correlation_id: CorrelationId
    encrypted: bool
    alg: Literal["fernet"]
    key_id: KeyIdText
    result: str


_encoder: Final = msgspec.json.Encoder()
_request: Final = msgspec.json.Decoder(_WireRequest)
_response: Final = msgspec.json.Decoder(_WireResponse)
_value: Final = msgspec.json.Decoder(Raw)


def parse_any_request(body: bytes, *, fallback_id: str) -> Request | SealedRequest | DescribeRequest:
    """Read a request, sealed or not, or a question about the capability; as `messages.parse_request` does.

    Raises:
        EnvelopeError: It is neither; its `correlation_id` is the sender's where that much is readable.
    """
    text = text_of(body)
    outline = outline_of(text)
    if is_describe(outline):
        return parse_describe(text)
    if not outline.sealed:
        return request_of(body, text, outline, fallback_id=fallback_id)
    try:
        wire = decode(_request, text)
        key_id = _key_of(wire)
    except EnvelopeError as error:
        error.correlation_id = readable_id(text)
        raise
    return SealedRequest(
        correlation_id=wire.correlation_id,
        agent_id=wire.agent_id,
        timestamp=wire.timestamp,
        key_id=key_id,
        token=wire.data,
    )


def parse_any_response(
    body: bytes, *, error_code: str | None = None, error_text: str | None = None
) -> Result | SealedResult | Failure:
    """Read an answer, sealed or not; as `messages.parse_response` does.

    Raises:
        EnvelopeError: It is no answer of ours.
    """
    try:
        return parse_response(body, error_code=error_code, error_text=error_text)
    except SealedNotAcceptedError:
        wire = decode(_response, text_of(body))
    return SealedResult(
        correlation_id=wire.correlation_id,
        agent_id=wire.agent_id,
        capability=wire.capability,
        timestamp=wire.timestamp,
        key_id=_key_of(wire),
        token=wire.result,
    )


def build_sealed_request(*, agent_id: str, correlation_id: str, timestamp: float, key_id: KeyId, token: str) -> bytes:
    """Build the envelope of a sealed request around a token."""
    return _encoder.encode(
        _WireRequest(
            version="1.0",
            agent_id=agent_id,
            message_type="request",
            timestamp=timestamp,
            correlation_id=correlation_id,
            encrypted=True,
            alg=ALG,
            key_id=str(key_id),
            data=token,
        )
    )


def build_sealed_response(
    *, agent_id: str, capability: str, correlation_id: str, timestamp: float, key_id: KeyId, token: str
) -> bytes:
    """Build the envelope of a sealed answer around a token."""
    return _encoder.encode(
        _WireResponse(
            version="1.0",
            agent_id=agent_id,
            capability=capability,
            message_type="response",
            timestamp=timestamp,
            correlation_id=correlation_id,
            encrypted=True,
            alg=ALG,
            key_id=str(key_id),
            result=token,
        )
    )


def seal_request(
    *, agent_id: str, capability: str, correlation_id: str, timestamp: float, data: bytes, dek: DataKey
) -> bytes:
    """Seal `data`, one JSON object, and build its envelope.

    Raises:
        SealError: A field can't be bound.
    """
    binding = _binding(dek.key_id, "request", capability, correlation_id, timestamp)
    return build_sealed_request(
        agent_id=agent_id,
        correlation_id=correlation_id,
        timestamp=timestamp,
        key_id=dek.key_id,
        token=seal(binding, data, dek),
    )


def seal_response(
    *, agent_id: str, capability: str, correlation_id: str, timestamp: float, result: bytes, dek: DataKey
) -> bytes:
    """Seal `result`, one JSON value, and build its envelope.

    Raises:
        SealError: A field can't be bound.
    """
    binding = _binding(dek.key_id, "response", capability, correlation_id, timestamp)
    return build_sealed_response(
        agent_id=agent_id,
        capability=capability,
        correlation_id=correlation_id,
        timestamp=timestamp,
        key_id=dek.key_id,
        token=seal(binding, result, dek),
    )


def open_request(sealed: SealedRequest, *, capability: str, dek: DataKey) -> Request:
    """Open a request to `capability`, the one that was authorized.

    Raises:
        SealError: It was sealed by another key, or for something else.
        EnvelopeError: What was sealed is not data: one JSON object, and not an envelope.
    """
    binding = _binding(sealed.key_id, "request", capability, sealed.correlation_id, sealed.timestamp)
    data = open_token(sealed.token, binding, dek)
    try:
        nested = outline_of(text_of(data)).enveloped
    except EnvelopeError as error:
        error.correlation_id = sealed.correlation_id
        raise
    if nested:
        raise EnvelopeError("an envelope inside sealed data is not read", correlation_id=sealed.correlation_id)
    return Request(
        correlation_id=sealed.correlation_id,
        data=data,
        agent_id=sealed.agent_id,
        timestamp=sealed.timestamp,
        enveloped=True,
        key_id=sealed.key_id,
    )


def open_response(sealed: SealedResult, *, capability: str, correlation_id: str, dek: DataKey) -> Result:
    """Open the answer to one call of `capability`.

    Raises:
        SealError: It was sealed by another key, or for something else.
        EnvelopeError: What was sealed is not one JSON value.
    """
    binding = _binding(sealed.key_id, "response", capability, correlation_id, sealed.timestamp)
    result = open_token(sealed.token, binding, dek)
    decode(_value, text_of(result))
    return Result(
        correlation_id=correlation_id,
        agent_id=sealed.agent_id,
        capability=capability,
        timestamp=sealed.timestamp,
        result=result,
    )


def _binding(key_id: KeyId, direction: Direction, name: str, correlation_id: str, timestamp: float) -> Binding:
    return Binding(key_id=key_id, direction=direction, name=name, correlation_id=correlation_id, timestamp=timestamp)


def _key_of(wire: _WireRequest | _WireResponse) -> KeyId:
    if not wire.encrypted:
        raise EnvelopeError("`encrypted` is not true")
    try:
        return parse_key_id(wire.key_id)
    except KeyIdError as error:
        raise EnvelopeError("`key_id` is not a key id") from error
