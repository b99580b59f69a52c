import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bus.refusals import read_fault


@pytest.mark.parametrize(
    ("text", "kind", "direction", "subject"),
    [
        ("'permissions violation for publish to \"ai.x\"'", "refused", "publish", "ai.x"),
        ("'Permissions Violation for Publish to \"AI.X\"'", "refused", "publish", "ai.x"),
        ("'permissions violation for subscription to \"a.>\"'", "refused", "subscribe", "a.>"),
        ('\'permissions violation for subscription to "a.>" using queue "q"\'', "refused", "subscribe", "a.>"),
        ("'permissions violation for publish with reply of \"_r_.x\"'", "refused", "publish", "_r_.x"),
    ],
)
def test_refusal_names_direction_and_subject(text: str, kind: str, direction: str, subject: str) -> None:
    fault = read_fault(text)
    assert (fault.kind, fault.direction, fault.subject) == (kind, direction, subject)
    assert not fault.ends_connection


@pytest.mark.parametrize(
    ("text", "kind", "final"),
    [
        ("'User Authentication Expired'", "expired", True),
        ("'Account Authentication Expired'", "expired", True),
        ("'User Authentication Revoked'", "revoked", True),
        ("'Authorization Violation'", "auth", True),
        ("'Authentication Timeout'", "auth", True),
        ("'maximum account active connections exceeded'", "limit", False),
        ("'maximum connections exceeded'", "limit", False),
        ("'stale connection'", "stale", False),
        ("'something new'", "other", False),
        ("", "other", False),
    ],
)
def test_fault_is_sorted(text: str, kind: str, final: bool) -> None:  # noqa: FBT001
    fault = read_fault(text)
    assert (fault.kind, fault.ends_connection) == (kind, final)


@given(st.text())
def test_any_text_is_a_fault(text: str) -> None:
    read_fault(text)
