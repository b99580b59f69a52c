"""When each user was last seen: from the control plane's own requests, and from what hosts record.

Rules it keeps: bounded; kept in memory only, since it is a convenience: the audit records are the evidence.
"""

from collections import OrderedDict
from typing import Final

_CAPACITY: Final = 100_000


class LastSeen:
    """Unix times by tenant and user key; the ones not seen for longest are forgotten first."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str], float] = OrderedDict()

    def note(self, tenant: str, user: str, at: float) -> None:
        """Note that a user was seen; an older time than is known changes nothing."""
        key = (tenant, user)
        self._times[key] = max(at, self._times.get(key, 0.0))
        self._times.move_to_end(key)
        if len(self._times) > _CAPACITY:
            self._times.popitem(last=False)

    def of(self, tenant: str, user: str) -> float | None:
        """When the user was last seen, if at all since our start."""
        return self._times.get((tenant, user))
