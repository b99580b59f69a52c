"""The wire formats once more, by nothing but primitives: the published vectors are not checked against themselves.

Everything random is an argument here (iv, ephemeral key), which makes the vectors the same in every run and these
functions unfit for anything but vectors. Formats: docs/wire.md. Shared with nothing in `runtime`, on purpose.
"""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.signing import SigningKey

_BLOCK = 16
_KEM = b"KEM" + (0x0020).to_bytes(2, "big")
_HPKE = b"HPKE" + b"".join(n.to_bytes(2, "big") for n in (0x0020, 0x0001, 0x0003))


def lines(*values: object) -> bytes:
    """Each value on a line that LF ends."""
    return "".join(f"{value}\n" for value in values).encode()


def base64url(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def nkey(prefix: int, seed: bytes) -> str:
    """The text of the public NKey of an Ed25519 seed: base32 of prefix, key and CRC-16/XMODEM, little-endian."""
    body = bytes([prefix]) + bytes(SigningKey(seed).verify_key)
    crc = 0
    for byte in body:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return base64.b32encode(body + crc.to_bytes(2, "little")).decode()


def sign(seed: bytes, text: bytes) -> str:
    """The Ed25519 signature, in base64url."""
    return base64url(SigningKey(seed).sign(text).signature)


def fernet(dek: bytes, plaintext: bytes, *, time: int, iv: bytes) -> str:
    """A Fernet token, by its specification."""
    pad = _BLOCK - len(plaintext) % _BLOCK
    encryptor = Cipher(algorithms.AES(dek[16:]), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(plaintext + bytes([pad]) * pad) + encryptor.finalize()
    body = b"\x80" + time.to_bytes(8, "big") + iv + ciphertext
    return base64.urlsafe_b64encode(body + hmac.digest(dek[:16], body, "sha256")).decode()


def x25519_public(secret: bytes) -> bytes:
    """The public key of an X25519 secret."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def hpke(plaintext: bytes, *, recipient: bytes, info: bytes, ephemeral: bytes) -> bytes:
    """Encapsulated key and ciphertext: RFC 9180, base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305, empty aad."""
    enc = x25519_public(ephemeral)
    shared = X25519PrivateKey.from_private_bytes(ephemeral).exchange(X25519PublicKey.from_public_bytes(recipient))
    prk = _extract(_KEM, b"", b"eae_prk", shared)
    secret = _expand(_KEM, prk, b"shared_secret", enc + recipient, 32)
    context = b"\0" + _extract(_HPKE, b"", b"psk_id_hash", b"") + _extract(_HPKE, b"", b"info_hash", info)
    schedule = _extract(_HPKE, secret, b"secret", b"")
    key = _expand(_HPKE, schedule, b"key", context, 32)
    nonce = _expand(_HPKE, schedule, b"base_nonce", context, 12)
    return enc + ChaCha20Poly1305(key).encrypt(nonce, plaintext, b"")


def sha256_hex(data: bytes) -> str:
    """The digest that `Agent-Sender` signs."""
    return hashlib.sha256(data).hexdigest()


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # One block of HKDF-Expand: nothing here needs more than 32 bytes.
    text = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\x01"
    return hmac.digest(prk, text, "sha256")[:length]
