"""What can be wrong with bytes that claim to be one of our messages, or one of the proofs and keys that they carry.

Those with a `reason` have two faces: a constant text, fit for anyone, and a short stable slug for log and audit alone.
"""

from typing import Literal

SealFault = Literal[
    "binding",  # what it is to be bound to can't be written
    "key-mismatch",  # the binding names another key than the one at hand
    "token-form",  # not a token in its one spelling
    "token-refused",  # altered, or sealed by another key: another tenant's, say
    "header",  # opened, but there is no bound header
    "magic",
    "alg",
    "key-id",
    "direction",
    "name",
    "correlation-id",
    "sequence",
    "time",
]
SenderFault = Literal[
    "header-size",
    "header-form",
    "header-repeated",
    "header-spelling",
    "malformed",
    "account",
    "user",
    "subject",
    "correlation-id",
    "time",
    "signature",
]
KeyWrapFault = Literal[
    "malformed",  # not an answer, or not in its one spelling
    "one-time-key",  # not a public key that one can seal to
    "destroyed",
    "other-key",  # for another key than was asked for
    "signature",  # not signed by the control plane for this very request
    "expired",
    "refused",  # signed, but it does not open with this one-time key
    "binding",  # what it is to be bound to can't be written
]


class EnvelopeError(Exception):
    """A message can't be read; the fault is its sender's.

    Attributes:
        message: Short text for the sender: one line, bounded, no control characters.
        correlation_id: The sender's own correlation id, where it could still be read.
    """

    def __init__(self, message: str, *, correlation_id: str | None = None) -> None:
        self.message = one_line(message)
        self.correlation_id = correlation_id
        super().__init__(self.message)


class SealedNotAcceptedError(EnvelopeError):
    """The message is marked as sealed, where only plaintext is read; it is never taken for plaintext."""


class KeyIdError(Exception):
    """Text that is not the id of a key, or not its scope.

    Attributes:
        text: What was given, on one line and bounded.
    """

    def __init__(self, text: str) -> None:
        self.text = one_line(text)
        super().__init__(f"`{self.text}` is not a key id such as `phi@1` or `phi/patient/4711@2`")


class SealError(Exception):
    """SEC-12: a sealed payload does not open here.

    Attributes:
        reason: For the log only.
    """

    def __init__(self, reason: SealFault) -> None:
        self.reason: SealFault = reason
        super().__init__("sealed data does not open")


class SenderError(Exception):
    """SEC-11: the sender's signature is there and is not good.

    Attributes:
        reason: For the log only.
    """

    def __init__(self, reason: SenderFault) -> None:
        self.reason: SenderFault = reason
        super().__init__("the sender's signature is not valid")


class KeyWrapError(Exception):
    """A wrapped key can't be taken, or not be made.

    Attributes:
        reason: For the log only.
    """

    def __init__(self, reason: KeyWrapFault) -> None:
        self.reason: KeyWrapFault = reason
        super().__init__("the wrapped key is not valid")


class KeyUnavailableError(Exception):
    """A keyring has no key for this; it may have to be asked for.

    Attributes:
        wanted: The key id or the scope.
    """

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        super().__init__(f"no key `{wanted}`")


class KeyDestroyedError(KeyUnavailableError):
    """This version was destroyed: what it sealed stays closed for good."""


class KeyRefusedError(KeyUnavailableError):
    """The key was asked for and not given: it does not exist, or is not for whoever asks. Asking again won't help."""


_LONGEST = 300


def one_line(text: str) -> str:
    """Return `text` on one line of at most 300 printable characters: fit for a log line or an error."""
    shown = "".join(c if c.isprintable() else " " for c in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
