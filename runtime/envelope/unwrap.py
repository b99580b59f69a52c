"""The bodies of `ai.admin.keys.unwrap.<tenant>`: what is asked for, and the answer as it travels.

Rules it keeps: strict, nothing unknown, everything bounded; total; what is parsed spells itself. A new one-time key
goes with each request, inside the payload that the caller signs.

Not here: what makes an answer true (`keywrap`), and who gets one (the control plane).
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from runtime.envelope.errors import EnvelopeError, KeyIdError, KeyWrapError
from runtime.envelope.jsontext import decode, text_of
from runtime.envelope.keyid import MAX_KEY_ID, KeyId, KeyScope
from runtime.envelope.keyid import parse as parse_key_id

HeldState = Literal["active", "opening"]

_KeyIdText = Annotated[str, Meta(max_length=MAX_KEY_ID)]
_OneTimeKeyText = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]
_AgentName = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9_-]{0,62}\Z")]


class UnwrapRequest(Struct, frozen=True, kw_only=True):
    """A key is asked for.

    Attributes:
        wanted: That version, or the scope's active one, made when there is none.
        one_time_key: Public X25519 key that the answer is sealed to, base64url.
        agent: From hosts only: the agent on whose behalf.
    """

    wanted: KeyId | KeyScope
    one_time_key: str
    agent: str | None = None


class UnwrapAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key on its way; what it says is true only after `keywrap.open_unwrap_answer`.

    Attributes:
        key_id: Which version.
        state: What it may do.
        enc: HPKE's encapsulated key and ciphertext, base64url.
        expires_at: Unix seconds; the key must not be kept longer.
        sig: By the control plane, base64url.
    """

    key_id: _KeyIdText
    state: HeldState
    enc: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{107}\Z")]
    expires_at: Annotated[int, Meta(ge=0, lt=2**53)]
    sig: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{86}\Z")]

    def encode(self) -> bytes:
        """Spell the answer as JSON, for the `result` of the response."""
        return _encoder.encode(self)


class _WireRequest(Struct, forbid_unknown_fields=True):
    one_time_key: _OneTimeKeyText
    key_id: _KeyIdText | UnsetType = UNSET
    label: _KeyIdText | UnsetType = UNSET
    subject: _KeyIdText | UnsetType | None = UNSET
    agent: _AgentName | UnsetType = UNSET


_encoder: Final = msgspec.json.Encoder()
_request: Final = msgspec.json.Decoder(_WireRequest)
_answer: Final = msgspec.json.Decoder(UnwrapAnswer)


def build_unwrap_request(request: UnwrapRequest) -> bytes:
    """Build the command's input; it goes into an envelope, and the whole is signed."""
    wanted = request.wanted
    wire = _WireRequest(one_time_key=request.one_time_key, agent=UNSET if request.agent is None else request.agent)
    if isinstance(wanted, KeyId):
        wire.key_id = str(wanted)
    else:
        wire.label, wire.subject = wanted.label, wanted.subject
    return _encoder.encode(wire)


def parse_unwrap_request(data: bytes) -> UnwrapRequest:
    """Read the command's input.

    Raises:
        EnvelopeError: It is malformed; the message names the field.
    """
    wire = decode(_request, text_of(data))
    return UnwrapRequest(
        wanted=_wanted(wire), one_time_key=wire.one_time_key, agent=None if wire.agent is UNSET else wire.agent
    )


def parse_unwrap_answer(result: bytes) -> UnwrapAnswer:
    """Read the `result` of the response.

    Raises:
        KeyWrapError: It is malformed.
    """
    try:
        return decode(_answer, text_of(result))
    except EnvelopeError as error:
        raise KeyWrapError("malformed") from error


def _wanted(wire: _WireRequest) -> KeyId | KeyScope:
    by_id = wire.key_id is not UNSET
    by_label = wire.label is not UNSET
    if by_id == by_label or (by_id and wire.subject is not UNSET):
        raise EnvelopeError("give either `key_id`, or `label` and `subject`")
    try:
        if wire.key_id is not UNSET:
            return parse_key_id(wire.key_id)
        subject = None if wire.subject is UNSET else wire.subject
        return KeyScope.of(str(wire.label), subject)
    except KeyIdError as error:
        raise EnvelopeError(str(error)) from error
