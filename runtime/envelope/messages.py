"""The wire messages, version 1.0: request, response and failure, as JSON in UTF-8.

Rules it keeps:
    - Every reader is total: a typed value or `EnvelopeError` comes out, whatever the bytes are.
    - A body with both `version` and `message_type` is an envelope and is read strictly: nothing missing,
      nothing unknown. Any other JSON object is bare data.
    - `data` and `result` stay raw JSON, checked for well-formedness only: the handler's model reads them.
    - A request or response that is marked as sealed is refused, never taken for plaintext: `sealedmessages` reads it.

It does not seal, sign or detect replays, knows no subjects, and reads no clock: times and ids are passed in.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from runtime.envelope.errors import EnvelopeError, SealedNotAcceptedError, one_line
from runtime.envelope.jsontext import decode, text_of
from runtime.envelope.keyid import KeyId

ERROR_CODE_HEADER: Final = "Nats-Service-Error-Code"
ERROR_TEXT_HEADER: Final = "Nats-Service-Error"

_UUID = r"\A[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z"
CorrelationId = Annotated[str, Meta(pattern=_UUID)]
SenderId = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,128}\Z")]


class Request(Struct, frozen=True, kw_only=True):
    """A request as read from the wire. A struct, being built for every call.

    Attributes:
        correlation_id: The envelope's, else the one that the reader was given for bare data.
        data: The handler's input: one well-formed JSON object, not otherwise looked at.
        agent_id: What the sender calls itself; information, never identity. None for bare data.
        timestamp: The envelope's time in Unix seconds; None for bare data.
        enveloped: Whether it came in an envelope.
        key_id: The key that it was sealed with; None if it came in the clear.
    """

    correlation_id: str
    data: bytes
    agent_id: str | None = None
    timestamp: float | None = None
    enveloped: bool = False
    key_id: KeyId | None = None

    def __repr__(self) -> str:
        """The data may be what came sealed: its size only."""
        key = None if self.key_id is None else str(self.key_id)
        return f"Request(correlation_id={self.correlation_id!r}, data=<{len(self.data)} bytes>, key_id={key!r})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A successful answer; `result` is raw JSON, `timestamp` the answering agent's, in Unix seconds."""

    correlation_id: str
    agent_id: str
    capability: str
    timestamp: float
    result: bytes = field(repr=False)  # may be what came sealed


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldFault:
    """One field of the input that failed the schema: a dotted `path` and a short `message`."""

    path: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An answer that says no, and why.

    Attributes:
        code: The code of DESIGN section 5 (400 … 503).
        error: Short text for people.
        correlation_id: What to quote to the platform's operator: the host logs under it.
        agent_id: Who answered.
        required: For 400 and 403: what was missing (`call:vitals.assess`).
        role: For 403: the role that the caller's credential carries.
        retry_after: For 429: seconds.
        fields: For 422: what is wrong with the input.
    """

    code: int
    error: str
    correlation_id: str | None = None
    agent_id: str | None = None
    required: str | None = None
    role: str | None = None
    retry_after: float | None = None
    fields: tuple[FieldFault, ...] = field(default=())

    @property
    def headers(self) -> dict[str, str]:
        """The two NATS micro headers that mark a failure; nothing else is ever sent (SEC-6)."""
        return {ERROR_CODE_HEADER: str(self.code), ERROR_TEXT_HEADER: header_text(self.error)}


class Outline(Struct):
    """What tells the kinds of a JSON object apart: fields that are present or not, of whatever type."""

    version: Raw | UnsetType = UNSET
    message_type: Raw | UnsetType = UNSET
    encrypted: Raw | UnsetType = UNSET
    alg: Raw | UnsetType = UNSET
    key_id: Raw | UnsetType = UNSET

    @property
    def enveloped(self) -> bool:
        """Whether it is an envelope, of whatever kind and however malformed; else it is bare data."""
        return self.version is not UNSET and self.message_type is not UNSET

    @property
    def sealed(self) -> bool:
        """Whether it has any mark of a sealed envelope, so that it must not be read as plaintext."""
        marked = self.encrypted is not UNSET or self.alg is not UNSET or self.key_id is not UNSET
        return marked and self.enveloped


class _CorrelationOnly(Struct):
    correlation_id: CorrelationId


class _WireRequest(Struct, forbid_unknown_fields=True):
    version: Literal["1.0"]
    agent_id: SenderId
    message_type: Literal["request"]
    timestamp: float
    correlation_id: CorrelationId
    data: Raw


class _WireResponse(Struct, forbid_unknown_fields=True):
    version: Literal["1.0"]
    agent_id: str
    capability: str
    message_type: Literal["response"]
    timestamp: float
    correlation_id: CorrelationId
    result: Raw


class _WireFault(Struct):
    path: str
    message: str


class _WireFailure(Struct, omit_defaults=True):
    """Readers skip unknown fields here: a newer host must be able to explain itself to an older client."""

    agent_id: str
    error: str
    code: Annotated[int, Meta(ge=100, le=599)]
    correlation_id: str
    required: str | None = None
    role: str | None = None
    retry_after: float | None = None
    fields: list[_WireFault] = []


_encoder: Final = msgspec.json.Encoder()
_outline: Final = msgspec.json.Decoder(Outline)
_correlation: Final = msgspec.json.Decoder(_CorrelationOnly)
_request: Final = msgspec.json.Decoder(_WireRequest)
_response: Final = msgspec.json.Decoder(_WireResponse)
_failure: Final = msgspec.json.Decoder(_WireFailure)


def parse_request(body: bytes, *, fallback_id: str) -> Request:
    """Read a request: an envelope strictly, or bare data.

    Args:
        body: The payload of the message.
        fallback_id: The correlation id that bare data gets.

    Raises:
        EnvelopeError: The body is neither; its `correlation_id` is the sender's where that much is readable.
        SealedNotAcceptedError: The envelope is marked as sealed.
    """
    text = text_of(body)
    return request_of(body, text, outline_of(text), fallback_id=fallback_id)


def request_of(body: bytes, text: str, outline: Outline, *, fallback_id: str) -> Request:
    """Read a request of which text and outline have been read already; otherwise as `parse_request`."""
    if not outline.enveloped:
        return Request(correlation_id=fallback_id, data=body)
    try:
        _refuse_sealed(outline)
        wire = decode(_request, text)
        data = _object(wire.data, "data")
    except EnvelopeError as error:
        error.correlation_id = readable_id(text)
        raise
    return Request(
        correlation_id=wire.correlation_id,
        data=data,
        agent_id=wire.agent_id,
        timestamp=wire.timestamp,
        enveloped=True,
    )


def build_request(*, agent_id: str, correlation_id: str, timestamp: float, data: bytes) -> bytes:
    """Build the envelope of a request around `data`, one JSON object."""
    return _encoder.encode(
        _WireRequest(
            version="1.0",
            agent_id=agent_id,
            message_type="request",
            timestamp=timestamp,
            correlation_id=correlation_id,
            data=Raw(data),
        )
    )


def build_response(*, agent_id: str, capability: str, correlation_id: str, timestamp: float, result: bytes) -> bytes:
    """Build the envelope of a successful answer around `result`, one JSON value."""
    return _encoder.encode(
        _WireResponse(
            version="1.0",
            agent_id=agent_id,
            capability=capability,
            message_type="response",
            timestamp=timestamp,
            correlation_id=correlation_id,
            result=Raw(result),
        )
    )


def build_error(failure: Failure) -> bytes:
    """Build the body of a failed answer; `failure.headers` go with it."""
    return _encoder.encode(
        _WireFailure(
            agent_id=failure.agent_id or "",
            error=failure.error,
            code=failure.code,
            correlation_id=failure.correlation_id or "",
            required=failure.required,
            role=failure.role,
            retry_after=failure.retry_after,
            fields=[_WireFault(path=f.path, message=f.message) for f in failure.fields],
        )
    )


def parse_response(body: bytes, *, error_code: str | None = None, error_text: str | None = None) -> Result | Failure:
    """Read an answer.

    Args:
        body: The payload of the answer.
        error_code: The value of `Nats-Service-Error-Code`, None when the header is absent.
        error_text: The value of `Nats-Service-Error`.

    Raises:
        EnvelopeError: It is no answer of ours. An answer without an error header is never taken for a
            failure, nor one with it for a success.
        SealedNotAcceptedError: It is marked as sealed.
    """
    if error_code is None:
        text = text_of(body)
        _refuse_sealed(outline_of(text))
        wire = decode(_response, text)
        return Result(
            correlation_id=wire.correlation_id,
            agent_id=wire.agent_id,
            capability=wire.capability,
            timestamp=wire.timestamp,
            result=bytes(wire.result),
        )
    return _parse_failure(body, error_code, error_text)


def failure_headers_of(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Pick the two error headers, to pass to `parse_response`."""
    return headers.get(ERROR_CODE_HEADER), headers.get(ERROR_TEXT_HEADER)


def field_faults(faults: Iterable[Mapping[str, object]]) -> tuple[FieldFault, ...]:
    """Type the `{"path", "message"}` mappings that input models report."""
    return tuple(FieldFault(path=str(f.get("path", "")), message=str(f.get("message", ""))) for f in faults)


def header_text(text: str) -> str:
    """Make `text` fit for the value of a header: one line, printable ASCII, bounded."""
    return one_line(text).encode("ascii", "replace").decode("ascii")


def outline_of(text: str) -> Outline:
    """Tell what kind of a JSON object `text` is.

    Raises:
        EnvelopeError: It is not a JSON object.
    """
    return decode(_outline, text)


def readable_id(text: str) -> str | None:
    """Return the correlation id of a message that is otherwise malformed, where that much can be read."""
    try:
        return decode(_correlation, text).correlation_id
    except EnvelopeError:
        return None


def _parse_failure(body: bytes, error_code: str, error_text: str | None) -> Failure:
    if re.fullmatch(r"[1-5][0-9]{2}", error_code, re.ASCII) is None:
        raise EnvelopeError(f"error code `{error_code}` is not a code")
    code = int(error_code)
    try:
        wire = decode(_failure, text_of(body))
    except EnvelopeError:  # another service's failure: its headers say all there is
        return Failure(code=code, error=one_line(error_text or "no reason given"))
    if wire.code != code:
        raise EnvelopeError(f"the header says {code}, the body says {wire.code}")
    return Failure(
        code=code,
        error=one_line(wire.error),
        correlation_id=wire.correlation_id or None,
        agent_id=wire.agent_id or None,
        required=wire.required,
        role=wire.role,
        retry_after=wire.retry_after,
        fields=tuple(FieldFault(path=f.path, message=f.message) for f in wire.fields),
    )


def _refuse_sealed(outline: Outline) -> None:
    if outline.sealed:
        raise SealedNotAcceptedError("sealed messages are not accepted here")


def _object(raw: Raw, name: str) -> bytes:
    data = bytes(raw)
    if not data.startswith(b"{"):
        raise EnvelopeError(f"`{name}` is not an object")
    return data
