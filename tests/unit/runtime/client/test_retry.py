from hypothesis import given
from hypothesis import strategies as st

from runtime.client.retry import RetryBudget, RetryPolicy, delay_before

POLICY = RetryPolicy(attempts=4, first_delay=0.1, longest_delay=1.0, budget=2.0, refill=0.5)


def test_waits_double_up_to_the_longest() -> None:
    bounds = [delay_before(attempt, POLICY, lambda: 1.0) for attempt in range(2, 8)]
    assert bounds == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@given(st.integers(2, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_negative_nor_longer_than_the_longest(attempt: int, random: float) -> None:
    assert 0 <= delay_before(attempt, POLICY, lambda: random) <= POLICY.longest_delay


def test_the_budget_stops_repetitions_whatever_the_number_of_callers() -> None:
    budget = RetryBudget(POLICY)
    assert [budget.take() for _ in range(4)] == [True, True, False, False]


def test_calls_refill_the_budget_up_to_its_size() -> None:
    budget = RetryBudget(POLICY)
    for _ in range(100):
        budget.called()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.called()
    assert not budget.take()
    budget.called()
    assert budget.take()
