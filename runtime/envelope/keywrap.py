"""How a data key travels: sealed to a one-time key, in an answer signed by the control plane for one request.

Sealing is HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, one shot, empty aad;
`enc` is the encapsulated key followed by the ciphertext. Its info is these lines, each ended by LF:
`GARRISON-UNWRAP-HPKE-V1`, tenant, key id, user, correlation id. The signature is Ed25519 by the control plane's account
key over the LF-terminated lines `GARRISON-UNWRAP-V1`, account, user, key id, state, correlation id, one-time key, enc,
expires_at.

Rules it keeps:
    - An answer is good for one request of one user: a copy, or one for another key, call or tenant, is refused.
    - The signature is checked before anything is decrypted.
    - Secrets don't print, and a one-time key opens one answer and is then forgotten by its owner.
    - No clock and no keys of the project: time, signing and verifying are passed in.

It does not decide who may have a key (the control plane), or keep one (`runtime.keyring`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from runtime.envelope import base64url
from runtime.envelope.datakey import KEY_BYTES, DataKey
from runtime.envelope.errors import KeyIdError, KeyWrapError
from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keyid import parse as parse_key_id
from runtime.envelope.unwrap import HeldState, UnwrapAnswer

MAGIC: Final = "GARRISON-UNWRAP-V1"
INFO_MAGIC: Final = "GARRISON-UNWRAP-HPKE-V1"

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class OneTimeKey:
    """An X25519 key for one answer. Its secret half never leaves it."""

    __slots__ = ("_secret", "public")

    def __init__(self, secret: X25519PrivateKey) -> None:
        self._secret = secret
        self.public = base64url.encode(secret.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "OneTimeKey":
        """Make one from the system's randomness."""
        return cls(X25519PrivateKey.generate())

    def decrypt(self, sealed: bytes, info: bytes) -> bytes:
        """Open what was sealed to it.

        Raises:
            KeyWrapError: It was not, or not with that info.
        """
        try:
            return _SUITE.decrypt(sealed, self._secret, info=info)
        except (InvalidTag, ValueError) as error:
            raise KeyWrapError("refused") from error

    def __repr__(self) -> str:
        return f"OneTimeKey(public={self.public!r}, secret=<redacted>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("OneTimeKey can't be pickled or copied")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnwrappedKey:
    """A key that has arrived.

    Attributes:
        dek: The key.
        state: What it may do.
        expires_at: Unix seconds; it must not be kept longer.
    """

    dek: DataKey
    state: HeldState
    expires_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UnwrapCall:
    """Which request an answer is to; each side fills it from what it knows itself.

    Attributes:
        tenant: Whose key it is.
        account: Key of the account of the caller: a host's is that of PLATFORM.
        user: Key of the caller.
        correlation_id: Of the request.
    """

    tenant: str
    account: str
    user: str
    correlation_id: str


def build_unwrap_answer(
    call: UnwrapCall,
    *,
    dek: DataKey,
    state: HeldState,
    one_time_key: str,
    expires_at: int,
    sign: Callable[[bytes], bytes],
) -> UnwrapAnswer:
    """Seal `dek` to the request's one-time key, and sign the answer.

    Args:
        call: The authenticated request.
        dek: The key.
        state: What it may do.
        one_time_key: As in the request, base64url.
        expires_at: Unix seconds.
        sign: Signs by the control plane's account key.

    Raises:
        KeyWrapError: The one-time key is not a usable public key, or a field can't be bound.
    """
    info = _info(call, dek.key_id)
    enc = base64url.encode(_encrypt(dek.reveal(), one_time_key, info))
    unsigned = UnwrapAnswer(key_id=str(dek.key_id), state=state, enc=enc, expires_at=expires_at, sig="")
    signature = sign(_signed_text(unsigned, call, one_time_key))
    return msgspec.structs.replace(unsigned, sig=base64url.encode(signature))


def open_unwrap_answer(
    answer: UnwrapAnswer,
    call: UnwrapCall,
    *,
    wanted: KeyId | KeyScope,
    one_time_key: OneTimeKey,
    now: float,
    verify: Callable[[bytes, bytes], None],
) -> UnwrappedKey:
    """Return the key in an answer to this very request.

    Args:
        answer: As parsed.
        call: The request, as it was sent.
        wanted: What it asked for.
        one_time_key: Made for it.
        now: Unix seconds.
        verify: Raises unless the signature, its second argument, is the control plane's over the first.

    Raises:
        KeyWrapError: Anything differs.
    """
    # (1) the key that was asked for, (2) not too late, (3) signed for this request, (4) opens with this one-time key
    key_id = _wanted_id(answer, wanted)
    if not now < answer.expires_at:
        raise KeyWrapError("expired")
    _verify_signature(answer, call, one_time_key.public, verify)
    secret = one_time_key.decrypt(_bytes_of(answer.enc), _info(call, key_id))
    if len(secret) != KEY_BYTES:
        raise KeyWrapError("malformed")
    return UnwrappedKey(dek=DataKey(key_id, secret), state=answer.state, expires_at=answer.expires_at)


def _wanted_id(answer: UnwrapAnswer, wanted: KeyId | KeyScope) -> KeyId:
    try:
        key_id = parse_key_id(answer.key_id)
    except KeyIdError as error:
        raise KeyWrapError("malformed") from error
    if isinstance(wanted, KeyId):
        if key_id != wanted:
            raise KeyWrapError("other-key")
    elif key_id.scope != wanted or answer.state != "active":
        raise KeyWrapError("other-key")  # asked for what seals, so a version that only opens won't do
    return key_id


def _verify_signature(
    answer: UnwrapAnswer, call: UnwrapCall, one_time_key: str, verify: Callable[[bytes, bytes], None]
) -> None:
    text = _signed_text(answer, call, one_time_key)
    signature = _bytes_of(answer.sig)
    try:
        verify(text, signature)
    except Exception as error:  # whatever stops the check from saying yes says no
        raise KeyWrapError("signature") from error


def _encrypt(secret: bytes, one_time_key: str, info: bytes) -> bytes:
    try:
        public = X25519PublicKey.from_public_bytes(base64url.decode(one_time_key))
        return _SUITE.encrypt(secret, public, info=info)
    except ValueError as error:  # not 32 bytes, or a point of low order, whose shared secret anyone knows
        raise KeyWrapError("one-time-key") from error


def _bytes_of(text: str) -> bytes:
    try:
        return base64url.decode(text)
    except ValueError as error:
        raise KeyWrapError("malformed") from error


def _info(call: UnwrapCall, key_id: KeyId) -> bytes:
    return _lines(INFO_MAGIC, call.tenant, str(key_id), call.user, call.correlation_id)


def _signed_text(answer: UnwrapAnswer, call: UnwrapCall, one_time_key: str) -> bytes:
    return _lines(
        MAGIC,
        call.account,
        call.user,
        answer.key_id,
        answer.state,
        call.correlation_id,
        one_time_key,
        answer.enc,
        str(answer.expires_at),
    )


def _lines(*lines: str) -> bytes:
    text = "\n".join(lines) + "\n"
    # INVARIANT: as many line ends as lines, so that no field can pass for two.
    if text.count("\n") != len(lines):
        raise KeyWrapError("binding")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise KeyWrapError("binding") from error
