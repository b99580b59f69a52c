"""When to repeat a call, and how long to wait first: exponential backoff with full jitter, within a budget.

Only what is safe is repeated: a call that reached nobody, and a call that its caller declared idempotent. The budget
is shared by all calls of one client, so that many callers of a failing agent don't multiply its load: each call adds
a fraction of a token, each repetition takes a whole one.

Pure: time and randomness are passed in.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is repeated.

    Attributes:
        attempts: Most attempts in all, the first included.
        first_delay: Upper bound of the first wait, in seconds; each further bound is twice the one before.
        longest_delay: Upper bound of every wait, in seconds.
        budget: Most repetitions at once over all calls of a client.
        refill: What each call adds to the budget.
    """

    attempts: int = 4
    first_delay: float = 0.05
    longest_delay: float = 2.0
    budget: float = 10.0
    refill: float = 0.2


class RetryBudget:
    """The repetitions that a client may still make."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = policy.budget

    def called(self) -> None:
        """A call was made for the first time."""
        self._tokens = min(self._policy.budget, self._tokens + self._policy.refill)

    def take(self) -> bool:
        """Whether one more repetition is within the budget; it is then taken."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def delay_before(attempt: int, policy: RetryPolicy, random: Callable[[], float]) -> float:
    """Seconds to wait before `attempt` (2 is the first repetition); `random` gives a number in [0, 1)."""
    bound = min(policy.longest_delay, policy.first_delay * 2.0 ** min(attempt - 2, 32))
    return bound * random()
