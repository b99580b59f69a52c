"""Explain: each permission and each decision is traced to its line."""

import pytest

from authz.compiler import compile_policy
from authz.explain import PermissionTrace, explain, explain_decision
from authz.policy import Policy, UnknownRoleError
from authz.policyfile import load_policy

TEXT = """\
tenant: st-marys
roles:
  staff:
    call: [directory.find]
    deny: {call: [vitals.purge]}
  nurse:
    inherits: [staff]
    call: [vitals.*]
    subscribe: [vitals.alert]
    data: [phi]
  ward:
    inherits: [nurse]
    admin: ["*.show"]
agents:
  vitals: {publish: [vitals.alert]}
"""


@pytest.fixture
def policy() -> Policy:
    return load_policy(TEXT)


def test_each_permission_has_its_line_its_role_and_the_way_it_came(policy: Policy) -> None:
    traces = explain(policy, "ward")
    assert [(trace.direction, trace.effect, trace.subject, trace.line, trace.granted_in_role) for trace in traces] == [
        ("publish", "allow", "$SYS.REQ.USER.INFO", None, None),
        ("subscribe", "allow", "_INBOX.{{subject()}}.>", None, None),
        ("publish", "allow", "ai.admin.agents.show.st-marys", 13, "ward"),
        ("publish", "allow", "ai.admin.credentials.show.st-marys", 13, "ward"),
        ("publish", "allow", "ai.admin.keys.show.st-marys", 13, "ward"),
        ("publish", "allow", "ai.admin.policy.show.st-marys", 13, "ward"),
        ("publish", "allow", "ai.capabilities.vitals.*", 8, "nurse"),
        ("subscribe", "allow", "ai.events.vitals.alert", 9, "nurse"),
        ("data", "allow", "phi", 10, "nurse"),
        ("publish", "allow", "ai.admin.keys.unwrap.st-marys", 10, "nurse"),
        ("publish", "allow", "ai.capabilities.directory.find", 4, "staff"),
        ("publish", "deny", "ai.capabilities.vitals.purge", 5, "staff"),
    ]
    assert traces[-1] == PermissionTrace(
        direction="publish",
        effect="deny",
        subject="ai.capabilities.vitals.purge",
        line=5,
        granted_in_role="staff",
        grant="staff: deny call vitals.purge",
        route=("ward", "nurse", "staff"),
    )


def test_what_is_explained_is_what_is_enforced(policy: Policy) -> None:
    for name, role in compile_policy(policy).roles.items():
        traced = {(trace.direction, trace.effect, trace.subject) for trace in explain(policy, name)}
        enforced = {("publish", "allow", each) for each in role.permissions.publish_allow}
        enforced |= {("publish", "deny", each) for each in role.permissions.publish_deny}
        enforced |= {("subscribe", "allow", each) for each in role.permissions.subscribe_allow}
        enforced |= {("subscribe", "deny", each) for each in role.permissions.subscribe_deny}
        assert {trace for trace in traced if trace[0] != "data"} == enforced


def test_a_role_that_is_not_there_is_named(policy: Policy) -> None:
    with pytest.raises(UnknownRoleError, match="no role `nurze` in the policy: did you mean `nurse`"):
        explain(policy, "nurze")
    with pytest.raises(UnknownRoleError, match="it has `staff`, `nurse`, `ward`, `agent:vitals`"):
        explain_decision(policy, "x", "call", "vitals.assess")
    with pytest.raises(UnknownRoleError, match=r"no role `x` in the policy$"):
        Policy(tenant="t", roles={}).role("x")


def test_an_allowed_call_is_traced_to_its_line(policy: Policy) -> None:
    trace = explain_decision(policy, "ward", "call", "vitals.assess")
    assert trace.decision.allowed
    assert [grant.line for grant in trace.considered] == [8]
    assert (trace.route, trace.also_allowed, trace.way_out) == (("ward", "nurse"), ("nurse",), None)


def test_a_deny_is_shown_before_the_grant_that_it_beats(policy: Policy) -> None:
    trace = explain_decision(policy, "ward", "call", "vitals.purge")
    assert not trace.decision
    assert [(grant.effect, grant.line) for grant in trace.considered] == [("deny", 5), ("allow", 8)]
    assert trace.route == ("ward", "nurse", "staff")
    assert trace.way_out == "a deny beats every grant: take out line 5 (`staff: deny call vitals.purge`)"


def test_what_nobody_granted_comes_with_the_line_to_add(policy: Policy) -> None:
    trace = explain_decision(policy, "staff", "call", "vitals.assess")
    assert (trace.considered, trace.route, trace.also_allowed) == ((), (), ("nurse", "ward"))
    assert trace.way_out == "add `call: [vitals.assess]` to role `staff`"


def test_what_can_not_be_asked_is_said(policy: Policy) -> None:
    assert explain_decision(policy, "staff", "call", "vitals.*").way_out == "ask about one name, without wildcards"
    unknown = explain_decision(policy, "staff", "read", "vitals.assess")  # type: ignore[arg-type]
    assert unknown.way_out == "ask about one of call, publish, subscribe, admin, data"
