"""The limits of one tenant on one host: sizes, rate, and slots for handlers.

Pure: time is passed in, nothing waits. A request over a limit is refused at once, never queued.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchLimits:
    """What one tenant may use of one host.

    Attributes:
        max_payload_bytes: Largest request and largest answer.
        rate_per_s: Requests a second over time, all callers of the tenant together.
        burst: Requests that may come at once.
        share: Handlers of the tenant that may run at once, all capabilities together.
        slot_retry_after_s: What a caller is told to wait when no slot is free.
        principals: Verified principals that are remembered.
        unauthenticated_records_per_s: Audit records written about callers without an identity; above that they
            are only counted, so that a forger can't fill the audit log.
    """

    max_payload_bytes: int = 262_144
    rate_per_s: float = 10_000
    burst: int = 10_000
    share: int = 1_024
    slot_retry_after_s: float = 0.1
    principals: int = 4_096
    unauthenticated_records_per_s: float = 10


class TokenBucket:
    """Lets `burst` pass at once and `rate_per_s` over time."""

    def __init__(self, *, rate_per_s: float, burst: float) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._filled_at: float | None = None

    def take(self, now: float) -> float:
        """Take one token: 0 when there was one, else the seconds until there will be (monotonic `now`)."""
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + max(now - self._filled_at, 0.0) * self._rate)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class Slots:
    """Counts running handlers, by capability and in all."""

    def __init__(self, *, share: int) -> None:
        self._share = share
        self._taken: dict[str, int] = {}
        self.in_all = 0

    def take(self, capability: str, concurrency: int) -> bool:
        """Take a slot of `capability`, of which `concurrency` may run; False when none is free."""
        taken = self._taken.get(capability, 0)
        if taken >= concurrency or self.in_all >= self._share:
            return False
        self._taken[capability] = taken + 1
        self.in_all += 1
        return True

    def release(self, capability: str) -> None:
        """Give a slot back."""
        left = self._taken[capability] - 1
        self.in_all -= 1
        if left:
            self._taken[capability] = left
        else:
            del self._taken[capability]  # bounded: only capabilities with running handlers have an entry
