"""Differences: what a role gains or loses, however the lines moved."""

from authz.diff import diff_policies
from authz.policy import Policy
from authz.policyfile import load_policy


def policy(roles: str) -> Policy:
    return load_policy(f"tenant: t\nroles:\n{roles}")


def changes(old: Policy | None, new: Policy | None) -> list[tuple[str, str, str, str, str, int, bool]]:
    return [
        (each.role, each.kind, each.effect, each.action, each.pattern, each.line, each.widens)
        for each in diff_policies(old, new)
    ]


def test_a_first_policy_adds_everything_and_no_policy_takes_it_all() -> None:
    one = policy("  r: {call: [a], deny: {call: [b]}}\n")
    assert changes(None, one) == [
        ("r", "added", "allow", "call", "a", 3, True),
        ("r", "added", "deny", "call", "b", 3, False),
    ]
    assert changes(one, None) == [
        ("r", "removed", "allow", "call", "a", 3, False),
        ("r", "removed", "deny", "call", "b", 3, True),
    ]
    assert changes(None, None) == []


def test_moving_a_line_into_a_parent_changes_nothing() -> None:
    old = policy("  p: {call: [x]}\n  r: {call: [x, y]}\n")
    new = policy("  p: {call: [x]}\n  # tidier\n  r: {inherits: [p], call: [y]}\n")
    assert changes(old, new) == []


def test_a_change_of_a_parent_shows_in_its_heirs() -> None:
    old = policy("  p: {call: [x]}\n  r: {inherits: [p], call: [y]}\n")
    new = policy("  p: {call: [z]}\n  r: {inherits: [p], call: [y]}\n")
    assert changes(old, new) == [
        ("p", "removed", "allow", "call", "x", 3, False),
        ("p", "added", "allow", "call", "z", 3, True),
        ("r", "removed", "allow", "call", "x", 3, False),
        ("r", "added", "allow", "call", "z", 3, True),
    ]


def test_a_role_that_is_gone_loses_everything() -> None:
    old = policy("  p: {call: [x]}\n  q: {data: [phi]}\n")
    assert changes(old, policy("  p: {call: [x]}\n")) == [("q", "removed", "allow", "data", "phi", 4, False)]
