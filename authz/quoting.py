"""How text from outside is shown in a message: in backticks, bounded, with nothing in it that could mislead.

Control characters and everything outside printable ASCII appear as escapes, so a look-alike letter is visible as one
and a message stays on one line. This module decides nothing.
"""

_SHOWN = 64


def quoted(text: object) -> str:
    """Return ``text`` in backticks, escaped to printable ASCII and cut after 64 characters."""
    raw = text if isinstance(text, str) else repr(text)
    shown = raw[:_SHOWN].encode("unicode_escape").decode("ascii").replace("\\\\", "\\").replace("`", "'")
    return f"`{shown}...`" if len(raw) > _SHOWN else f"`{shown}`"
