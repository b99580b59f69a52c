"""NKeys by kind: an operator's, an account's, a user's; public and secret; never swapped for one another.

Rules it keeps: an instance is always well formed (kind, length, checksum and spelling are checked once,
when it is made); a seed never prints, pickles or copies, and leaves only through `reveal()`. It does not
store keys: `certs.keystore` does.

Format: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/nkey_auth (base32
of prefix, 32 bytes and a CRC-16 checksum).
"""

import base64
import binascii
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Generic, NoReturn, Self, TypeVar

import nkeys
from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from authz.errors import KeyFormatError, SignatureInvalidError

_PUBLIC_TEXT = re.compile(r"[A-Z2-7]{56}")
_SEED_TEXT = re.compile(r"S[A-Z2-7]{57}")
_RAW_BYTES = 32


def _encode_public(prefix: int, raw: bytes) -> str:
    body = bytes([prefix]) + raw
    checksum: bytes = nkeys.crc16_checksum(body)
    return base64.b32encode(body + checksum).decode()


@lru_cache(maxsize=4096)  # public, and read for each signature that is checked
def _decode_public(prefix: int, kind: str, text: str) -> bytes:
    """The 32 bytes of the public key; anything but its one canonical spelling is refused."""
    if not _PUBLIC_TEXT.fullmatch(text):
        raise KeyFormatError(expected=kind, fault="it must be 56 characters of A-Z and 2-7")
    decoded = base64.b32decode(text)
    if decoded[0] != prefix:
        raise KeyFormatError(expected=kind, fault="it is a key of another kind")
    raw = decoded[1 : 1 + _RAW_BYTES]
    if _encode_public(prefix, raw) != text:
        raise KeyFormatError(expected=kind, fault="its checksum is wrong")
    return raw


def _decode_seed(prefix: int, kind: str, text: str) -> bytes:
    """The 32 secret bytes. Messages never repeat the input."""
    if not _SEED_TEXT.fullmatch(text):
        raise KeyFormatError(expected=kind, fault="it must be S and 57 characters of A-Z and 2-7")
    try:
        found, raw = nkeys.decode_seed(text.encode())
    except (nkeys.NkeysError, binascii.Error) as error:
        raise KeyFormatError(expected=kind, fault="it is not a seed") from error
    if found != prefix:
        raise KeyFormatError(expected=kind, fault="it is a seed of another kind")
    # The library reads seeds without looking at their checksum: spell it again and compare.
    if nkeys.encode_seed(raw, prefix).decode() != text:
        raise KeyFormatError(expected=kind, fault="its checksum is wrong")
    return bytes(raw)


@dataclass(frozen=True, slots=True)
class _PublicKey:
    """A public key in its text form."""

    text: str

    kind: ClassVar[str]
    prefix: ClassVar[int]

    def __post_init__(self) -> None:
        _decode_public(self.prefix, self.kind, self.text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key of this kind.

        Raises:
            KeyFormatError: it is not one, or one of another kind, or mistyped.
        """
        return cls(text)

    def verify(self, data: bytes, signature: bytes) -> None:
        """Return when this key signed exactly `data`.

        Raises:
            SignatureInvalidError: it did not.
        """
        raw = _decode_public(self.prefix, self.kind, self.text)
        try:
            VerifyKey(raw).verify(data, signature)
        except (CryptoError, ValueError) as error:
            raise SignatureInvalidError(key=self.text) from error

    def __str__(self) -> str:
        return self.text


class OperatorPublicKey(_PublicKey):
    """Names an operator, or one of its signing keys (`O…`)."""

    __slots__ = ()
    kind = "operator public key"
    prefix = nkeys.PREFIX_BYTE_OPERATOR


class AccountPublicKey(_PublicKey):
    """Names an account, or one of its signing keys (`A…`)."""

    __slots__ = ()
    kind = "account public key"
    prefix = nkeys.PREFIX_BYTE_ACCOUNT


class UserPublicKey(_PublicKey):
    """Names a user (`U…`)."""

    __slots__ = ()
    kind = "user public key"
    prefix = nkeys.PREFIX_BYTE_USER


PublicKeyT = TypeVar("PublicKeyT", bound=_PublicKey)


class _Seed(Generic[PublicKeyT]):
    """A secret key. Immutable; equal when of one kind and one public key."""

    __slots__ = ("_public", "_raw")

    kind: ClassVar[str]
    prefix: ClassVar[int]
    public_type: ClassVar[type[_PublicKey]]

    _raw: bytes
    _public: PublicKeyT

    def __init__(self, raw: bytes) -> None:
        verify_key = bytes(SigningKey(raw).verify_key)
        object.__setattr__(self, "_raw", raw)
        object.__setattr__(self, "_public", self.public_type(_encode_public(self.prefix, verify_key)))

    @classmethod
    def generate(cls) -> Self:
        """A new key from the system's randomness."""
        return cls(secrets.token_bytes(_RAW_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a seed of this kind.

        Raises:
            KeyFormatError: it is not one, or one of another kind, or mistyped. Never holds the input.
        """
        return cls(_decode_seed(cls.prefix, cls.kind, text))

    @property
    def public(self) -> PublicKeyT:
        """The public half."""
        return self._public

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `data`."""
        return SigningKey(self._raw).sign(data).signature

    def reveal(self) -> str:
        """The seed's text, `S…`: for the key store and the holder's credentials file, nothing else."""
        text: bytes = nkeys.encode_seed(self._raw, self.prefix)
        return text.decode()

    def __eq__(self, other: object) -> bool:
        return self._public == other._public if isinstance(other, _Seed) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._public)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(public={self._public.text!r}, secret=<redacted>)"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} can't be pickled or copied")


class OperatorSeed(_Seed[OperatorPublicKey]):
    """Signs operator and account claims (`SO…`)."""

    __slots__ = ()
    kind = "operator seed"
    prefix = nkeys.PREFIX_BYTE_OPERATOR
    public_type = OperatorPublicKey


class AccountSeed(_Seed[AccountPublicKey]):
    """Signs user claims (`SA…`)."""

    __slots__ = ()
    kind = "account seed"
    prefix = nkeys.PREFIX_BYTE_ACCOUNT
    public_type = AccountPublicKey


class UserSeed(_Seed[UserPublicKey]):
    """Answers the server's challenge and signs what its user sends (`SU…`)."""

    __slots__ = ()
    kind = "user seed"
    prefix = nkeys.PREFIX_BYTE_USER
    public_type = UserPublicKey
