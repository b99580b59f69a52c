"""Reading JSON totally: a typed value or `EnvelopeError`, whatever the bytes are.

Rules it keeps: text first, since msgspec does not check the UTF-8 of what it leaves raw; NaN, trailing bytes and
nesting too deep to read are refused like anything else that is not JSON; messages never repeat the input.

Not here: what the messages are (`messages`, `sealedmessages`, `sender`, `unwrap`).
"""

from typing import TypeVar

import msgspec

from runtime.envelope.errors import EnvelopeError

_T = TypeVar("_T")


def text_of(body: bytes) -> str:
    """Decode `body` from UTF-8.

    Raises:
        EnvelopeError: It is not UTF-8.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        at = error.start
    # Raised out here: the library's error holds the whole body, which may be an opened one, and would go with ours.
    raise EnvelopeError(f"the body is not UTF-8 at byte {at}")


def decode(decoder: msgspec.json.Decoder[_T], text: str) -> _T:
    """Read `text` by `decoder`.

    Raises:
        EnvelopeError: It is not JSON, or not of the decoder's shape.
    """
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise EnvelopeError(f"malformed message: {error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise EnvelopeError("the body is not JSON") from error
    except RecursionError as error:
        raise EnvelopeError("the body is nested too deeply") from error
