"""Lint: what is valid but probably not meant, each with its line."""

from pathlib import Path

import pytest

from authz.lint import Finding, lint_policy, lint_text
from authz.policy import Grant, Policy, Role

CAN_APPLY = "  admin: {admin: [policy.apply]}\n"


def findings(roles: str, tenant: str = "t") -> list[tuple[str, int, str]]:
    """Of a policy whose roles begin at line 4."""
    found = lint_text(f"tenant: {tenant}\nroles:\n{CAN_APPLY}{roles}")
    return [(finding.severity, finding.line, finding.message) for finding in found]


def test_a_sound_policy_has_no_findings() -> None:
    assert findings("  r: {call: [vitals.*], publish: [x], subscribe: [x], deny: {call: [vitals.purge]}}\n") == []


def test_the_platforms_own_policy_has_no_findings() -> None:
    path = Path(__file__).parents[3] / "nats-config" / "platform-policy.yaml"
    assert lint_text(path.read_text()) == ()


@pytest.mark.parametrize(
    ("roles", "severity", "line", "message"),
    [
        (
            '  r: {call: [vitals.purge, a], deny: {call: ["vitals.>"]}}\n',
            "warning",
            4,
            "`r: call vitals.purge` never has an effect: line 4 denies all of it",
        ),
        (
            "  p: {deny: {call: [a.*]}, call: [x]}\n  q: {call: [a.y]}\n  r: {inherits: [p, q], call: [a.b]}\n",
            "warning",
            6,
            "`r: call a.b` never has an effect: line 4 denies all of it",
        ),
        (
            '  r: {admin: [">"], deny: {admin: [agents.*, credentials.*, keys.*, policy.*]}}\n',
            "warning",
            4,
            "`r: admin >` never has an effect: line 4 denies all of it",
        ),
        (
            "  r: {call: [vitals.*, vitals.assess]}\n",
            "info",
            4,
            "`r: call vitals.assess` adds nothing: line 4 says so already (`r: call vitals.*`)",
        ),
        (
            "  r:\n    call:\n    - x\n    - x\n",
            "info",
            7,
            "`r: call x` adds nothing: line 6 says so already (`r: call x`)",
        ),
        (
            "  p: {call: [x]}\n  r: {inherits: [p], call: [x]}\n",
            "info",
            5,
            "`r: call x` adds nothing: line 4 says so already (`p: call x`)",
        ),
        (
            "  r: {call: [a.b], deny: {call: [a.c, x.y]}}\n",
            "warning",
            4,
            "`r: deny call x.y` takes nothing away: no role that has it is granted any of it",
        ),
        ('  r: {call: [">"]}\n', "warning", 4, "`r: call >` takes in everything, also what is added later"),
        ('  r: {call: ["*.>"]}\n', "warning", 4, "`r: call *.>` takes in everything"),
        ("  r: {deny: {call: [x]}}\n", "warning", 4, "role `r` grants nothing, not even by inheritance"),
        (
            "  nurse: {call: [x]}\n  Nurse: {call: [x]}\n",
            "warning",
            5,
            "role `Nurse` differs from `nurse` of line 4 in case only",
        ),
        (
            "  p: {call: [x]}\n  q: {inherits: [p]}\n  r: {inherits: [p, q]}\n",
            "info",
            6,
            "`r` inherits from `p` already, by `q`",
        ),
        (
            "  r: {publish: [vitals.reading], subscribe: [vitals.alert]}\n",
            "info",
            4,
            "nobody in this policy may publish what `r: subscribe vitals.alert` waits for",
        ),
    ],
)
def test_each_finding_names_its_line(roles: str, severity: str, line: int, message: str) -> None:
    matching = [found for found in findings(roles) if message in found[2]]
    assert [found[:2] for found in matching] == [(severity, line)]


def test_a_deny_that_serves_an_heir_is_not_idle() -> None:
    assert findings("  p: {call: [x], deny: {call: [a.purge]}}\n  r: {inherits: [p], call: [a.*]}\n") == []


def test_a_policy_that_nobody_in_the_tenant_can_apply_is_pointed_out() -> None:
    found = lint_text("tenant: t\nroles:\n  r: {call: [x], admin: [policy.show]}\n")
    message = "no role may apply a policy: only the platform's operators can change this one"
    assert found == (Finding(severity="info", line=1, message=message),)


def test_a_file_that_is_not_accepted_has_its_faults_as_errors() -> None:
    found = lint_text("tenant: T\nroles:\n  r: {inherits: [r]}\n")
    assert [(finding.severity, finding.line) for finding in found] == [("error", 1), ("error", 3)]


def test_a_pattern_that_breaks_a_rule_is_an_error_in_a_tree_made_by_hand_too() -> None:
    grant = Grant(effect="allow", action="subscribe", pattern="ai.capabilities.>", line=3, role="r")
    found = lint_policy(Policy(tenant="t", roles={"r": Role(name="r", line=2, grants=(grant,))}))
    assert ("error", 3) in [(finding.severity, finding.line) for finding in found]
