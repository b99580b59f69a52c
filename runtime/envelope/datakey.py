"""A data key (DEK): 32 random bytes with the name they go by.

Rules it keeps:
    - It never prints, pickles or copies; the bytes leave only through `reveal()`, to be wrapped.
    - The cipher is built once, here, and not for each message.
    - What opens has one spelling: Python's base64 would ignore foreign characters and the unused last bits of a
      token, so that changed tokens would still open.

Format: Fernet, https://github.com/fernet/spec/blob/master/Spec.md: AES-128-CBC, then HMAC-SHA256. Nothing is bound
here; `sealing` binds.
"""

import base64
import secrets
from typing import Final, NoReturn

from cryptography.fernet import Fernet, InvalidToken

from runtime.envelope.errors import SealError
from runtime.envelope.keyid import KeyId

KEY_BYTES: Final = 32

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# The characters whose unused low bits are zero, before no, one and two `=`.
_LAST: Final = {b"": _ALPHABET, b"=": _ALPHABET[::4], b"==": _ALPHABET[::16]}


class DataKey:
    """One version of a data key; equal when name and bytes are.

    Attributes:
        key_id: The name it goes by.
    """

    __slots__ = ("_fernet", "_secret", "key_id")

    def __init__(self, key_id: KeyId, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes")
        self.key_id = key_id
        self._secret = bytes(secret)
        self._fernet = Fernet(base64.urlsafe_b64encode(secret))

    @classmethod
    def generate(cls, key_id: KeyId) -> "DataKey":
        """Make a new one from the system's randomness; never derived from another, so that it can die alone."""
        return cls(key_id, secrets.token_bytes(KEY_BYTES))

    def reveal(self) -> bytes:
        """The 32 bytes: to be wrapped, and for nothing else."""
        return self._secret

    def encrypt(self, plaintext: bytes, *, at: int) -> str:
        """Return a Fernet token. `at`, Unix seconds, stands in it in the clear; nothing of ours relies on it."""
        return self._fernet.encrypt_at_time(plaintext, at).decode("ascii")

    def decrypt(self, token: str) -> bytes:
        """Open a Fernet token, of any age.

        Raises:
            SealError: It is none, or not of this key, or altered in any character.
        """
        if not _is_canonical(token):
            raise SealError("token-form")
        try:
            return self._fernet.decrypt(token)
        except InvalidToken as error:
            raise SealError("token-refused") from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DataKey):
            return NotImplemented
        return self.key_id == other.key_id and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.key_id)

    def __repr__(self) -> str:
        return f"DataKey({str(self.key_id)!r}, secret=<redacted>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("DataKey can't be pickled or copied")


def _is_canonical(token: str) -> bool:
    """Whether the token is the padded base64url that its bytes encode to."""
    if not token.isascii():
        return False
    raw = token.encode("ascii")
    padding = raw.translate(None, _ALPHABET)  # ten times as fast as an expression, for long tokens
    if padding not in _LAST or not raw or len(raw) % 4 or not raw.endswith(padding):
        return False
    return raw[-len(padding) - 1] in _LAST[padding]
