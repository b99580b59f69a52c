"""SEC-1a: reads who nats-server says is calling, from the raw header block of a message.

Requests that come through a service import with `share: true` carry a line `Nats-Request-Info: {json}`, added by
the server. The rest of the block is the caller's, and the server neither checks nor repairs it: it takes the last
two bytes off whatever it finds and appends its line. So a block that was not terminated hides the line at the end
of another one, a second line in odd case or with a space before the colon looks like it to a lenient parser, and an
early blank line ends a parser's work before it. What a caller can't do is remove or split the line itself; hence
the rule here.

Rules it keeps: bytes only, never a library's parsed headers; total (only `IdentityError` comes out); bounded in
size. Not here: whether what the line says is true (`authz.principals`).
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from authz.errors import IdentityError

MAX_HEADER_BLOCK: Final = 16 * 1024  # bytes

_START: Final = b"NATS/1.0\r\n"
_END: Final = b"\r\n\r\n"
_NAME: Final = b"nats-request-info"
_LINE: Final = b"\r\nNats-Request-Info: "


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestInfo:
    """What the server says of the caller; nothing in it is verified yet.

    Only these fields may be used. The others of the line (`user`, `name`, `tags`, …) can be chosen by the client.

    Attributes:
        account: key of the account whose user is calling.
        user_jwt: the user's token, as presented at connect; empty when there was none.
        kind: kind of connection, `Client` for an ordinary one.
        service: account by way of which the request came; None when it came directly.
    """

    account: str
    user_jwt: str
    kind: str
    service: str | None = None


class _Line(msgspec.Struct, frozen=True):
    acc: str
    kind: str
    jwt: str = ""
    svc: str = ""


_DECODER: Final = msgspec.json.Decoder(_Line)


def read_request_info(header_block: bytes) -> RequestInfo:
    """Find the server's line and read it.

    Raises:
        IdentityError: there is none, or the block leaves any doubt which line the server wrote.
    """
    # SEC-1a: (1) size
    if not header_block:
        raise IdentityError("header-missing")
    if len(header_block) > MAX_HEADER_BLOCK:
        raise IdentityError("header-size")
    # (2) the name, in any case, exactly once anywhere: the server's own line is always there whole, so a second
    # occurrence is the caller's
    occurrences = header_block.lower().count(_NAME)
    if occurrences != 1:
        raise IdentityError("header-repeated" if occurrences else "header-missing")
    # (3) framed by one start line and one blank line, which is the end
    if not header_block.startswith(_START) or header_block.find(_END) != len(header_block) - len(_END):
        raise IdentityError("header-form")
    # (4) at the start of a line, spelled as the server spells it
    _, found, value = header_block.partition(_LINE)
    if not found:
        raise IdentityError("header-spelling")
    # (5) all the rest is its value, since the server appends: anything after the JSON is an error
    return _read_line(value[: -len(_END)])


def _read_line(value: bytes) -> RequestInfo:
    try:
        line = _DECODER.decode(value.decode())
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise IdentityError("info-malformed") from error
    return RequestInfo(account=line.acc, user_jwt=line.jwt, kind=line.kind, service=line.svc or None)
