from runtime.dispatch.identifiers import CorrelationIds
from runtime.dispatch.limits import Slots, TokenBucket


def test_bucket_lets_a_burst_pass_and_then_the_rate() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=2)
    assert [bucket.take(5.0) for _ in range(3)] == [0.0, 0.0, 0.1]
    assert bucket.take(5.125) == 0.0
    assert bucket.take(5.125) > 0.0


def test_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=2)
    bucket.take(0.0)
    assert [bucket.take(1e9) == 0.0 for _ in range(3)] == [True, True, False]


def test_bucket_gains_nothing_from_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=1)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(0.0) > 0.0


def test_slots_are_bounded_by_capability_and_by_the_share() -> None:
    slots = Slots(share=3)
    assert [slots.take("a", 2) for _ in range(3)] == [True, True, False]
    assert [slots.take("b", 2) for _ in range(2)] == [True, False]
    slots.release("a")
    assert slots.take("b", 2)
    for name in ("a", "b", "b"):
        slots.release(name)
    assert slots.in_all == 0
    assert slots._taken == {}


def test_correlation_ids_differ_within_and_between_processes() -> None:
    one, other = CorrelationIds(), CorrelationIds()
    drawn = [one.next() for _ in range(1000)] + [other.next() for _ in range(1000)]
    assert len(set(drawn)) == 2000
    assert {len(text) for text in drawn} == {36}
