"""One delivered message, with its header block as raw bytes.

Rules it keeps: building a message never parses anything and can't fail, whatever the sender put into subject, reply or
headers (SEC-7). The header block stays as it came, for those who must read identity from the raw bytes (SEC-1a).

It does not decide whether the message may be trusted, and it can't answer: replies go through ``Connection.respond``
(SEC-6).
"""

from collections.abc import Mapping

_VERSION = b"NATS/1.0"
_STATUS_DIGITS = 3


class Message:
    """A message as it was delivered.

    A plain slotted class instead of a dataclass: it is built once for each message on the hot path.

    Attributes:
        subject: Where it was delivered; bytes that are not UTF-8 become U+FFFD.
        reply: Where an answer goes, or ``""``.
        data: The payload.
        header_block: The raw header block, from ``NATS/1.0`` on, or ``b""``.
    """

    __slots__ = ("_headers", "data", "header_block", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, header_block: bytes = b"") -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self.header_block = header_block
        self._headers: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        # Payloads may be confidential: sizes only.
        return (
            f"Message(subject={self.subject!r}, reply={self.reply!r}, data=<{len(self.data)} bytes>,"
            f" header_block=<{len(self.header_block)} bytes>)"
        )

    @property
    def status(self) -> int | None:
        """The status that the server put on the header block's first line (503: no responders), if any."""
        return inline_status(self.header_block)

    def header(self, name: str) -> str | None:
        """Look up a header by its exact name; the first of several wins.

        Never for identity: a sender can make a header look like another (SEC-1a).
        """
        if self._headers is None:
            self._headers = parse_headers(self.header_block)
        return self._headers.get(name)


def inline_status(header_block: bytes) -> int | None:
    """Read the three-digit status after ``NATS/1.0``; None for a block without one, or for anything malformed."""
    line = header_block[len(_VERSION) : len(_VERSION) + _STATUS_DIGITS + 1]
    if not header_block.startswith(_VERSION + b" ") or len(line) != _STATUS_DIGITS + 1:
        return None
    digits = line[1:]
    return int(digits) if digits.isdigit() else None


def parse_headers(header_block: bytes) -> Mapping[str, str]:
    """Parse ``Name: value`` lines; total: what is malformed is left out, nothing is raised.

    Args:
        header_block: Raw bytes, from the version line on. May be empty or hostile.

    Returns:
        The first value of each name. Values that are not UTF-8 hold U+FFFD.
    """
    headers: dict[str, str] = {}
    for line in header_block.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and name and name.isascii() and b" " not in name:
            headers.setdefault(name.decode("ascii"), value.strip(b" \t").decode("utf-8", "replace"))
    return headers
