"""Finds one header in a raw header block, where it must not be open to doubt which line it is.

The block is the caller's but for the line that nats-server appends to it, and no parser may repair it (SEC-1a). The
name of a header is looked for as the most lenient parser would: in any case, with blanks around it. If that finds
more than one line, or one that is not spelled exactly, nothing is returned but an error.

Rules it keeps: bytes only; total; nothing after the first blank line counts, and a block with anything there is
refused. Not here: `Nats-Request-Info`, whose rule is stricter still (`authz.requestinfo`).
"""

from typing import Final, Literal

HeaderFault = Literal["header-size", "header-form", "header-repeated", "header-spelling"]

MAX_HEADER_BLOCK: Final = 16 * 1024  # bytes

_START: Final = b"NATS/1.0\r\n"
_END: Final = b"\r\n\r\n"


class HeaderError(Exception):
    """The block leaves doubt about the header.

    Attributes:
        reason: A short stable slug, for the log.
    """

    def __init__(self, reason: HeaderFault) -> None:
        self.reason: HeaderFault = reason
        super().__init__(f"header refused: {reason}")


def read_header(header_block: bytes, name: bytes) -> bytes | None:
    """Return the value of the header `name`, without the blanks around it; None if it is not there.

    Args:
        header_block: Raw bytes from the version line on; may be empty or hostile.
        name: As it must be spelled, such as `b"Agent-Sender"`.

    Raises:
        HeaderError: The name is there, but not exactly once as a whole line of a well-formed block.
    """
    if len(header_block) > MAX_HEADER_BLOCK:
        raise HeaderError("header-size")
    wanted = name.lower()
    if wanted not in header_block.lower():
        return None  # the normal case
    if not header_block.startswith(_START) or header_block.find(_END) != len(header_block) - len(_END):
        raise HeaderError("header-form")
    fields = [line.partition(b":") for line in header_block[len(_START) : -len(_END)].split(b"\r\n")]
    named = [(field, value) for field, _, value in fields if field.strip().lower() == wanted]
    if not named:
        return None  # the name occurs, but inside of a value
    if len(named) > 1:
        raise HeaderError("header-repeated")
    field, value = named[0]
    if field != name:
        raise HeaderError("header-spelling")
    return value.strip(b" \t")
