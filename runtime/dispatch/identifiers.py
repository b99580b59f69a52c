"""Correlation ids that a host gives: unique, in the form of a UUID, cheap enough for every request.

Not secret and not random each time: they are found in logs and answers, and nothing may rely on their being hard to
guess.
"""

import itertools
import secrets


class CorrelationIds:
    """Makes ids from a random prefix, drawn once, and a counter of 48 bits."""

    def __init__(self) -> None:
        drawn = secrets.token_hex(9)
        self._prefix = f"{drawn[:8]}-{drawn[8:12]}-8{drawn[12:15]}-8{drawn[15:18]}-"  # RFC 9562: version 8, custom
        self._counter = itertools.count(secrets.randbits(40))

    def next(self) -> str:
        """Return an id that this process has not given before and no other is likely to give."""
        return f"{self._prefix}{next(self._counter) & 0xFFFF_FFFF_FFFF:012x}"
