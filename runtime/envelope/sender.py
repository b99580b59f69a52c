"""`Agent-Sender`, the second witness: the caller's own signature over what it sends (SEC-11).

The header's value is compact JSON, `{"v":1,"account","user","name","sub","ts","nonce","sig"}`. `sig` is the Ed25519
signature by the user's NKey, base64url without padding, over these lines, each ended by LF: `AGENT-SENDER-V1`,
account, user, subject as the sender published it, ts, nonce, and the payload's sha256 in hex. The form is that of the
Synadia Agent Protocol 0.3, section 13.

Rules it keeps:
    - Read from the raw header block, once and spelled exactly, or not at all.
    - All that it says is compared with what the verifier knows by other ways, and the signature comes last.
    - `name` is not signed, so nobody uses it.
    - Why it was refused is for the log; the error's text is constant.

It knows no keys: signing and verifying are passed in. A copy is `replay`'s to find: the nonce is the correlation id.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from runtime.envelope import base64url
from runtime.envelope.errors import EnvelopeError, SenderError
from runtime.envelope.headerlines import HeaderError, read_header
from runtime.envelope.jsontext import decode, text_of

HEADER: Final = "Agent-Sender"
MAGIC: Final = "AGENT-SENDER-V1"
WINDOW_S: Final = 30.0

_NAME: Final = HEADER.encode()
_LONGEST: Final = 4096  # characters of a value
_LINES: Final = 7

_LINE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,1024}")

# Only bounded when read, since each is then compared with what the verifier knows; expressions cost a microsecond each.
_Line = Annotated[str, Meta(min_length=1, max_length=1024)]


class Sender(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signed what and when, as claimed by the header: true only after `verify_sender`.

    Attributes:
        account: Key of the sender's account.
        user: Key of the sender, which signed.
        name: What the sender is called; not covered by the signature.
        subject: As published.
        ts: Unix seconds.
        nonce: The correlation id.
        sig: 64 bytes in base64url.
    """

    v: Literal[1]
    account: _Line
    user: _Line
    name: Annotated[str, Meta(max_length=128)]
    subject: _Line = msgspec.field(name="sub")
    ts: Annotated[int, Meta(ge=0, lt=2**53)]
    nonce: _Line
    sig: Annotated[str, Meta(min_length=86, max_length=86)]

    def encode(self) -> str:
        """Spell the header's value."""
        return _encoder.encode(self).decode()


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Sender)


def sign_sender(
    *,
    account: str,
    user: str,
    name: str,
    subject: str,
    ts: int,
    nonce: str,
    payload: bytes,
    sign: Callable[[bytes], bytes],
) -> str:
    """Return the header's value for one message.

    Args:
        account: Key of the sender's account.
        user: Key of the sender.
        name: What the sender is called.
        subject: As it will be published.
        ts: Unix seconds.
        nonce: The correlation id.
        payload: All of it, as published.
        sign: Signs by the user's NKey.

    Raises:
        SenderError: A field does not fit on a line, so no verifier would take it.
    """
    if not all(_LINE.fullmatch(line) for line in (account, user, subject, nonce)):
        raise SenderError("malformed")
    unsigned = Sender(v=1, account=account, user=user, name=name, subject=subject, ts=ts, nonce=nonce, sig="")
    signature = sign(_signed_text(unsigned, payload))
    sender = msgspec.structs.replace(unsigned, sig=base64url.encode(signature))
    value = sender.encode()
    parse_sender(value)
    return value


def read_sender(header_block: bytes) -> Sender | None:
    """Read the header from a raw header block; None if there is none.

    Raises:
        SenderError: There is one, but it is open to doubt or malformed.
    """
    try:
        value = read_header(header_block, _NAME)
    except HeaderError as error:
        raise SenderError(error.reason) from error
    if value is None:
        return None
    try:
        return parse_sender(text_of(value))
    except EnvelopeError as error:
        raise SenderError("malformed") from error


def parse_sender(value: str) -> Sender:
    """Read the header's value.

    Raises:
        SenderError: It is malformed.
    """
    if len(value) > _LONGEST:
        raise SenderError("malformed")
    try:
        return decode(_decoder, value)
    except EnvelopeError as error:
        raise SenderError("malformed") from error


def verify_sender(
    sender: Sender,
    *,
    account: str,
    user: str,
    subject: str,
    payload: bytes,
    correlation_id: str,
    now: float,
    window_s: float = WINDOW_S,
    verify: Callable[[bytes, bytes], None],
) -> None:
    """Return when `sender` signed exactly this message, just now.

    Args:
        sender: As read.
        account: Key of the account that the first witness names.
        user: Key of the user that the first witness names.
        subject: As the sender published it, worked out from where it was delivered.
        payload: As delivered.
        correlation_id: As in the payload's envelope.
        now: Unix seconds.
        window_s: How far `ts` may be from `now`, either way.
        verify: Raises unless the signature, its second argument, is the user's over the first.

    Raises:
        SenderError: Anything differs.
    """
    # (1) the two witnesses agree on who, (2) on what, (3) on which call, (4) it is fresh, (5) it is signed
    if sender.account != account:
        raise SenderError("account")
    if sender.user != user:
        raise SenderError("user")
    if sender.subject != subject:
        raise SenderError("subject")
    if sender.nonce != correlation_id:
        raise SenderError("correlation-id")
    if not abs(now - sender.ts) <= window_s:
        raise SenderError("time")
    _verify_signature(sender, payload, verify)


def _verify_signature(sender: Sender, payload: bytes, verify: Callable[[bytes, bytes], None]) -> None:
    text = _signed_text(sender, payload)
    try:
        verify(text, base64url.decode(sender.sig))
    except Exception as error:  # whatever stops the check from saying yes says no
        raise SenderError("signature") from error


def _signed_text(sender: Sender, payload: bytes) -> bytes:
    s, digest = sender, hashlib.sha256(payload).hexdigest()
    text = f"{MAGIC}\n{s.account}\n{s.user}\n{s.subject}\n{s.ts}\n{s.nonce}\n{digest}\n"
    # INVARIANT: seven lines, so that no field can pass for two.
    if text.count("\n") != _LINES:
        raise SenderError("malformed")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SenderError("malformed") from error
