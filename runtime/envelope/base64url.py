"""Base64url without padding, in its one canonical spelling.

Python's decoder skips characters that are not of the alphabet and ignores the unused bits of the last one, so that
many spellings mean the same bytes. Here one does: what is accepted encodes to itself.
"""

import base64
import binascii
import re
from typing import Final

_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def encode(data: bytes) -> str:
    """Spell `data`."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Read the bytes that `text` spells.

    Raises:
        ValueError: It is not the canonical spelling of anything.
    """
    if _ALPHABET.fullmatch(text) is None:
        raise ValueError("not base64url")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if encode(data) != text:
        raise ValueError("not canonical base64url")
    return data
