"""The replay window: an enveloped request is taken once.

Rules it keeps:
    - A timestamp outside the window is refused: what is no longer remembered is too old to be taken.
    - Nothing is forgotten while its timestamp would still pass, and memory is bounded: when full, it refuses.

It is per process. A copy sent to another replica is a matter for the handler's own idempotence; with a sender's
signature the same window applies to the nonce, which is the correlation id.
"""

from runtime.envelope.errors import EnvelopeError

WINDOW_S = 30.0
AHEAD_S = 5.0  # clocks differ; a timestamp may lie this far in the future
CAPACITY = 400_000


class ReplayedError(EnvelopeError):
    """This sender has used this correlation id within the window."""


class StaleError(EnvelopeError):
    """The timestamp lies outside the window: an old copy, or a clock that is wrong."""


class WindowFullError(Exception):
    """So many requests came within the window that another can't be remembered, so it can't be taken.

    Attributes:
        retry_after: Seconds until the older half is forgotten.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__("the replay window is full")


class ReplayWindow:
    """Remembers (sender, correlation id) in two generations, each as long as an entry may stay valid."""

    def __init__(self, *, window_s: float = WINDOW_S, ahead_s: float = AHEAD_S, capacity: int = CAPACITY) -> None:
        self._window_s = window_s
        self._ahead_s = ahead_s
        self._capacity = capacity
        self._newer: set[tuple[str, str]] = set()
        self._older: set[tuple[str, str]] = set()
        self._turns_at = float("-inf")

    def admit(self, sender: str, correlation_id: str, *, timestamp: float, now: float) -> None:
        """Take a request, once.

        Args:
            sender: The public key of the authenticated user.
            correlation_id: As in the envelope; letter case does not make it another one.
            timestamp: As in the envelope, Unix seconds.
            now: Unix seconds.

        Raises:
            StaleError: The timestamp lies outside the window.
            ReplayedError: It was taken before.
            WindowFullError: No room to remember it.
        """
        if not -self._ahead_s <= now - timestamp <= self._window_s:
            raise StaleError(f"the timestamp is not within {self._window_s:g} s of the host's clock")
        self._turn(now)
        key = (sender, correlation_id.lower())
        if key in self._newer or key in self._older:
            raise ReplayedError("this correlation id was used before")
        if len(self._newer) >= self._capacity:
            raise WindowFullError(max(self._turns_at - now, 0.0))
        self._newer.add(key)

    def _turn(self, now: float) -> None:
        # INVARIANT: an entry is valid for at most ahead + window seconds and is kept for at least that long.
        generation_s = self._ahead_s + self._window_s
        if now < self._turns_at:
            return
        idle = now >= self._turns_at + generation_s
        self._older = set() if idle else self._newer
        self._newer = set()
        self._turns_at = now + generation_s
