"""What nats-server's error lines mean.

The server reports errors asynchronously as ``-ERR '<text>'``. nats-py hands the text over in lower case, so subjects in
it are lower-cased too. This module turns a text into one typed ``ServerFault``; it is pure and total.

It does not act on faults: the client does.
"""

import re
from dataclasses import dataclass
from typing import Literal

from runtime.bus.errors import Direction

# `final`: this user can't come back as it is, so reconnecting would only knock in vain.
FaultKind = Literal["refused", "expired", "revoked", "auth", "limit", "stale", "other"]

_REFUSED = re.compile(r'permissions violation for (publish(?: with reply of)?|subscription) to "(\S+?)"')
_REPLY_REFUSED = re.compile(r'permissions violation for publish with reply of "(\S+?)"')


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFault:
    """One error line of the server.

    Attributes:
        kind: What it means for us.
        text: The server's words, lower case, without quotes.
        subject: For ``refused``: the subject, in lower case.
        direction: For ``refused``: what was refused.
    """

    kind: FaultKind
    text: str
    subject: str = ""
    direction: Direction = "publish"

    @property
    def ends_connection(self) -> bool:
        """Whether the same credentials will go on being refused."""
        return self.kind in ("expired", "revoked", "auth")


_KINDS: tuple[tuple[str, FaultKind], ...] = (
    ("authentication expired", "expired"),
    ("authentication revoked", "revoked"),
    ("authorization violation", "auth"),
    ("authentication timeout", "auth"),
    ("maximum account active connections", "limit"),
    ("maximum connections exceeded", "limit"),
    ("maximum subscriptions exceeded", "limit"),
    ("stale connection", "stale"),
)


def read_fault(text: str) -> ServerFault:
    """Classify an error line.

    Args:
        text: What follows ``-ERR``, in any case, quoted or not.

    Returns:
        The fault; ``other`` for a text that this version doesn't know.
    """
    plain = text.strip().strip("'").lower()
    if refused := _REFUSED.search(plain):
        direction: Direction = "subscribe" if refused[1] == "subscription" else "publish"
        return ServerFault(kind="refused", text=plain, subject=refused[2], direction=direction)
    if refused := _REPLY_REFUSED.search(plain):
        return ServerFault(kind="refused", text=plain, subject=refused[1])
    for phrase, kind in _KINDS:
        if phrase in plain:
            return ServerFault(kind=kind, text=plain)
    return ServerFault(kind="other", text=plain)
