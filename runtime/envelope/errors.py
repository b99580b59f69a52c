"""What can be wrong with bytes that claim to be one of our messages."""


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
    """The request is marked as sealed, which this version can't open; it is never read as plaintext."""


_LONGEST = 300


def one_line(text: str) -> str:
    """Return `text` on one line of at most 300 printable characters: fit for a log line or an error."""
    shown = "".join(c if c.isprintable() else " " for c in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
