"""Decisions: deny by default, deny beats allow, an error is a deny."""

from types import SimpleNamespace
from typing import Any

import pytest

from authz import decisions
from authz.compiler import compile_policy
from authz.decisions import CompiledPolicy, Decision
from authz.policyfile import load_policy

POLICY = """\
tenant: st-marys
roles:
  nurse:
    call: [vitals.*]
    subscribe: [vitals.alert]
    data: [phi]
  trainee:
    inherits: [nurse]
    deny: {call: [vitals.purge], data: [phi]}
  admin:
    admin: [policy.apply, credentials.*]
agents:
  vitals:
    publish: ["vitals.>"]
"""


def caller(role: Any, tenant: str = "st-marys") -> Any:
    return SimpleNamespace(tenant=tenant, role=role)


@pytest.fixture
def policy() -> CompiledPolicy:
    return compile_policy(load_policy(POLICY))


def test_nothing_is_allowed_without_a_grant(policy: CompiledPolicy) -> None:
    decision = policy.decide(caller("admin"), "call", "vitals.assess")
    assert decision == Decision(allowed=False, reason="role `admin` has no grant to call `vitals.assess`")


@pytest.mark.parametrize(
    ("role", "action", "resource", "allowed"),
    [
        ("nurse", "call", "vitals.assess", True),
        ("nurse", "call", "vitals", False),
        ("nurse", "call", "vitals.assess.deep", False),
        ("nurse", "call", "invoice.create", False),
        ("nurse", "subscribe", "vitals.alert", True),
        ("nurse", "publish", "vitals.alert", False),
        ("nurse", "data", "phi", True),
        ("nurse", "data", "pii", False),
        ("nurse", "admin", "policy.apply", False),
        ("trainee", "call", "vitals.assess", True),
        ("trainee", "call", "vitals.purge", False),
        ("trainee", "data", "phi", False),
        ("admin", "admin", "policy.apply", True),
        ("admin", "admin", "credentials.issue", True),
        ("admin", "admin", "agents.deploy", False),
        ("agent:vitals", "publish", "vitals.alert", True),
        ("agent:vitals", "publish", "vitals.a.b.c.d.e", True),
        ("agent:vitals", "publish", "vitals.a.b.c.d.e.f", False),
        ("agent:vitals", "call", "vitals.assess", False),
    ],
)
def test_a_role_may_do_what_its_lines_say_and_nothing_else(
    policy: CompiledPolicy, role: str, action: str, resource: str, *, allowed: bool
) -> None:
    for _ in range(2):  # decided, then remembered
        decision = policy.decide(caller(role), action, resource)
        assert decision.allowed is bool(decision) is allowed


def test_a_decision_names_the_line_that_decided(policy: CompiledPolicy) -> None:
    granted = policy.decide(caller("trainee"), "call", "vitals.assess")
    assert (granted.rule.line, granted.rule.text) == (4, "nurse: call vitals.*")
    assert granted.reason == "line 4 lets role `nurse` call `vitals.*`"
    denied = policy.decide(caller("trainee"), "call", "vitals.purge")
    assert (denied.rule.line, denied.rule.text) == (9, "trainee: deny call vitals.purge")
    assert denied.reason == "line 9 keeps role `trainee` from it: trainee: deny call vitals.purge"


@pytest.mark.parametrize(
    ("who", "action", "resource"),
    [
        (caller("nurse", "other"), "call", "vitals.assess"),
        (caller("nobody"), "call", "vitals.assess"),
        (caller("Nurse"), "call", "vitals.assess"),
        (caller("vitals"), "publish", "vitals.alert"),
        (caller("nurse"), "Call", "vitals.assess"),
        (caller("nurse"), "", "vitals.assess"),
        (caller("nurse"), "call", "vitals.*"),
        (caller("nurse"), "call", "vitals.>"),
        (caller("nurse"), "call", "vitals."),
        (caller("nurse"), "call", "vitals.assess\n"),
        (caller("nurse"), "call", ""),
        (caller("nurse"), "call", "vitals." + "x" * 65),
        (caller("nurse"), "call", None),
        (caller("nurse"), "call", b"vitals.assess"),
        (caller("nurse"), "call", ["vitals.assess"]),
        (caller(["nurse"]), "call", "vitals.assess"),
        (caller("nurse"), None, "vitals.assess"),
        (None, "call", "vitals.assess"),
    ],
)
def test_an_error_is_a_deny(policy: CompiledPolicy, who: Any, action: str, resource: str) -> None:
    assert not policy.decide(who, action, resource)


def test_what_is_not_a_name_is_not_repeated_in_the_reason(policy: CompiledPolicy) -> None:
    assert policy.decide(caller("nurse"), "call", "\x1b[31m").reason == "that is not a name of anything"


def test_remembered_decisions_are_bounded(policy: CompiledPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "MAX_CACHED", 8)
    for number in range(100):
        assert not policy.decide(caller("nurse"), "call", f"other.n{number}")
        assert len(policy._cache) <= 8
    assert policy.decide(caller("nurse"), "call", "vitals.assess")


def test_nonsense_is_not_remembered(policy: CompiledPolicy) -> None:
    for number in range(100):
        policy.decide(caller(f"role{number}"), "call", "vitals.assess")
        policy.decide(caller("nurse"), f"action{number}", "vitals.assess")
        policy.decide(caller("nurse"), "call", f"Vitals.{number}")
    assert policy._cache == {}
