"""Sealing: a payload that opens only where, when and for what it was sealed (SEC-12).

The plaintext of a sealed token is a bound header and then the payload. The header is these lines, each ended by LF:
`GARRISON-SEAL-V1`, alg, key id, direction, capability or subject, correlation id, sequence, time. The opener states
what it expects, from what it knows itself, and every line is compared. The tenant is bound by the key, which no two
tenants share.

Rules it keeps:
    - The algorithm is bound inside, so that it can't be swapped outside.
    - Why a token did not open is for the log; the error's text is constant.
    - No clock: times are passed in. How old a message may be is for `replay`.

It does not choose keys (`keyring`) or know envelopes (`sealedmessages`). Vectors: tests/vectors/sealing.json.
"""

import re
from typing import Final, Literal

from msgspec import Struct

from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import SealError, SealFault
from runtime.envelope.keyid import KeyId

Direction = Literal["request", "response", "chunk", "event", "record"]

ALG: Final = "fernet"
MAGIC: Final = "GARRISON-SEAL-V1"

_LINES: Final = 8
_TIME_BELOW: Final = float(2**53)
_TIME: Final = re.compile(rb"(?=.{1,40}\Z)(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_FAULTS: Final[tuple[SealFault, ...]] = (
    "magic",
    "alg",
    "key-id",
    "direction",
    "name",
    "correlation-id",
    "sequence",
)


class Binding(Struct, frozen=True, kw_only=True):
    """What a sealed payload is bound to. A struct, being built for every call.

    Attributes:
        key_id: The key that seals.
        direction: Which way it goes, and in what kind of message.
        name: The capability, or the subject of an event or record.
        correlation_id: The call's.
        timestamp: The envelope's time, Unix seconds.
        sequence: Of a chunk; 0 in all that has none.
        alg: `fernet`, the only one.
    """

    key_id: KeyId
    direction: Direction
    name: str
    correlation_id: str
    timestamp: float
    sequence: int = 0
    alg: str = ALG


def seal(binding: Binding, payload: bytes, dek: DataKey) -> str:
    """Seal `payload` under `dek`, bound to `binding`.

    Raises:
        SealError: The binding can't be written (a line break, a time before 1970), or names another key.
    """
    header = _header(binding)
    _check_key(binding, dek)
    return dek.encrypt(header + payload, at=int(binding.timestamp))


def open_token(token: str, expected: Binding, dek: DataKey) -> bytes:
    """Return the payload of `token`, if it was sealed by `dek` for exactly `expected`.

    Raises:
        SealError: It was not; `reason` says in what it differs, for the log only.
    """
    header = _header(expected)
    _check_key(expected, dek)
    plaintext = dek.decrypt(token)
    if plaintext.startswith(header):  # the normal case
        return plaintext[len(header) :]
    return _payload_by_fields(plaintext, header, expected.timestamp)


def _header(binding: Binding) -> bytes:
    b = binding
    if b.alg != ALG:
        raise SealError("alg")
    if not 0 <= b.timestamp < _TIME_BELOW or b.sequence < 0:
        raise SealError("binding")
    text = f"{MAGIC}\n{b.alg}\n{b.key_id}\n{b.direction}\n{b.name}\n{b.correlation_id}\n{b.sequence}\n{b.timestamp!r}\n"
    # INVARIANT: eight lines, so that no field can pass for two.
    if text.count("\n") != _LINES:
        raise SealError("binding")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SealError("binding") from error


def _check_key(binding: Binding, dek: DataKey) -> None:
    if dek.key_id != binding.key_id:
        raise SealError("key-mismatch")


def _payload_by_fields(plaintext: bytes, header: bytes, timestamp: float) -> bytes:
    """Name the first line that differs; a time may be spelled otherwise (`1.5e9`) if it is the same number."""
    found = plaintext.split(b"\n", _LINES)
    if len(found) != _LINES + 1:
        raise SealError("header")
    for line, wanted, fault in zip(found, header.split(b"\n"), _FAULTS, strict=False):
        if line != wanted:
            raise SealError(fault)
    time = found[_LINES - 1]
    if _TIME.fullmatch(time) is None or float(time) != timestamp:
        raise SealError("time")
    return found[_LINES]
