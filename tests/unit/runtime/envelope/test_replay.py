import pytest

from runtime.envelope.replay import ReplayedError, ReplayWindow, StaleError, WindowFullError

U, V = "UALICE", "UBOB"


def test_a_copy_is_refused_for_as_long_as_its_timestamp_would_pass() -> None:
    window = ReplayWindow(window_s=30, ahead_s=5)
    window.admit(U, "c", timestamp=1005, now=1000)
    for now in (1000, 1010, 1035):
        with pytest.raises(ReplayedError):
            window.admit(U, "c", timestamp=1005, now=now)
    with pytest.raises(StaleError):
        window.admit(U, "c", timestamp=1005, now=1035.1)


def test_a_copy_is_refused_wherever_the_generations_turn() -> None:
    for start in range(40):
        window = ReplayWindow(window_s=30, ahead_s=5)
        window.admit(V, "first", timestamp=1000, now=1000)
        window.admit(U, "c", timestamp=1000 + start + 5, now=1000 + start)
        for later in range(36):
            with pytest.raises(ReplayedError):
                window.admit(U, "c", timestamp=1000 + start + 5, now=1000 + start + later)


def test_senders_do_not_share_correlation_ids() -> None:
    window = ReplayWindow()
    window.admit(U, "c", timestamp=0, now=0)
    window.admit(V, "c", timestamp=0, now=0)


@pytest.mark.parametrize("timestamp", [969.9, 1005.1, 0, -1e308, 1e308])
def test_timestamp_outside_the_window_is_refused(timestamp: float) -> None:
    with pytest.raises(StaleError):
        ReplayWindow(window_s=30, ahead_s=5).admit(U, "c", timestamp=timestamp, now=1000)


def test_full_window_refuses_until_it_turns() -> None:
    window = ReplayWindow(window_s=30, ahead_s=5, capacity=1)
    window.admit(U, "a", timestamp=1000, now=1000)
    with pytest.raises(WindowFullError) as caught:
        window.admit(U, "b", timestamp=1000, now=1010)
    assert caught.value.retry_after == 25
    window.admit(U, "b", timestamp=1035, now=1035)


def test_memory_is_given_back() -> None:
    window = ReplayWindow(window_s=30, ahead_s=5)
    for number in range(100):
        window.admit(U, str(number), timestamp=number * 10, now=number * 10)
    assert len(window._newer) + len(window._older) <= 8
