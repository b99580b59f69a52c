"""The commands that we put on the wire, as bytes.

Rules it keeps: nothing that a caller passes in can end a line early and so smuggle in a second command or header;
what could is refused before anything is sent. Only the headers passed in are written (SEC-6).

It covers publishing and subscribing: the rest of the NATS protocol is nats-py's.
"""

import functools
import re
from collections.abc import Mapping

from runtime.bus.errors import InvalidSubjectError

PING = b"PING\r\n"

_SUBJECT = re.compile(r"[^\s\x00-\x20\x7f\ud800-\udfff]{1,1024}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_HEADER_VALUE = re.compile(r"[^\r\n\x00\ud800-\udfff]*")


def checked_subject(subject: str) -> str:
    """Return the subject if it can stand on a command line.

    Raises:
        InvalidSubjectError: It is empty, over 1024 characters, or has spaces or control characters.
    """
    if not _SUBJECT.fullmatch(subject):
        raise InvalidSubjectError(subject)
    return subject


# Requests go to a few subjects, again and again; replies never repeat.
_known_subject = functools.lru_cache(maxsize=1024)(checked_subject)


def publish(subject: str, reply: str, payload: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Build PUB, or HPUB when there are headers.

    Raises:
        InvalidSubjectError: Subject, reply or a header can't be put on the wire.
    """
    _known_subject(subject)
    if reply:
        checked_subject(reply)
    if not headers:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(payload), payload)
    block = header_block(headers)
    total = len(block) + len(payload)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), len(block), total, block, payload)


def header_block(headers: Mapping[str, str]) -> bytes:
    """Build a header block.

    Raises:
        InvalidSubjectError: A name is not a token, or a value would end its line.
    """
    lines = ["NATS/1.0"]
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidSubjectError(f"{name}: {value}")
        # Joined, not formatted: nats-py's names are members of an enumeration, and would print as such.
        lines.append(name + ": " + value)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def subscribe(subject: str, queue: str, sid: int) -> bytes:
    """Build SUB."""
    checked_subject(subject)
    if queue:
        checked_subject(queue)
    return f"SUB {subject} {queue} {sid}\r\n".encode()


def unsubscribe(sid: int) -> bytes:
    """Build UNSUB, without a limit."""
    return f"UNSUB {sid}\r\n".encode()
