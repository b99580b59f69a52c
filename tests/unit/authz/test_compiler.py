"""The compiler: what each role's template holds, and that it is closed where nothing is granted."""

import dataclasses

import pytest

from authz.compiler import compile_policy
from authz.decisions import CompiledPolicy
from authz.guards import UnsafeGrantError, check_template, empty_means_deny
from authz.patterns import PatternFormatError
from authz.permissions import SubjectPermissions
from authz.policy import Grant, Parent, Policy, Role, UnknownRoleError
from authz.policyfile import load_policy

OWN_INBOX = "_INBOX.{{subject()}}.>"
USER_INFO = "$SYS.REQ.USER.INFO"


def compiled(roles: str, tenant: str = "st-marys") -> CompiledPolicy:
    return compile_policy(load_policy(f"tenant: {tenant}\nroles:\n{roles}"))


def permissions(grants: str, tenant: str = "st-marys") -> SubjectPermissions:
    return compiled(f"  r: {grants}", tenant).roles["r"].permissions


def test_a_role_that_holds_a_label_may_ask_for_its_keys_and_has_its_inbox() -> None:
    assert permissions("{data: [phi]}") == SubjectPermissions(
        publish_allow=(USER_INFO, "ai.admin.keys.unwrap.st-marys"), subscribe_allow=(OWN_INBOX,)
    )


def test_a_denied_label_does_not_hide_the_keys_of_another() -> None:
    template = permissions("{data: [phi, pii], deny: {data: [phi]}}")
    assert "ai.admin.keys.unwrap.st-marys" in template.publish_allow
    assert template.publish_deny == ()


def test_an_empty_allow_list_denies_everything() -> None:
    # SEC-3: nats-server reads an empty allow list as "everything".
    assert empty_means_deny(SubjectPermissions()) == SubjectPermissions(publish_deny=(">",), subscribe_deny=(">",))


@pytest.mark.parametrize(
    ("grants", "publish", "subscribe"),
    [
        ("{call: [vitals.*]}", ["ai.capabilities.vitals.*"], []),
        ('{call: [">"]}', ["ai.capabilities.>"], []),
        ("{publish: [vitals.reading]}", ["ai.events.vitals.reading"], []),
        ('{subscribe: ["vitals.>"]}', [], ["ai.events.vitals.>"]),
        ("{admin: [policy.apply]}", ["ai.admin.policy.apply.st-marys"], []),
        ("{admin: [credentials.*]}", ["ai.admin.credentials.*.st-marys"], []),
        ('{admin: ["credentials.>"]}', ["ai.admin.credentials.*.st-marys"], []),
        (
            '{admin: [">"]}',
            [f"ai.admin.{area}.*.st-marys" for area in ("agents", "credentials", "keys", "policy")],
            [],
        ),
        (
            '{admin: ["*.show"]}',
            [f"ai.admin.{area}.show.st-marys" for area in ("agents", "credentials", "keys", "policy")],
            [],
        ),
    ],
)
def test_each_action_has_its_subjects(grants: str, publish: list[str], subscribe: list[str]) -> None:
    template = permissions(grants)
    assert template.publish_allow == tuple(sorted([USER_INFO, *publish]))
    assert template.subscribe_allow == tuple(sorted([OWN_INBOX, *subscribe]))
    assert (template.publish_deny, template.subscribe_deny, template.responses) == ((), (), None)


@pytest.mark.parametrize(
    ("grants", "publish"),
    [
        ('{admin: [">"]}', "ai.admin.>"),
        ("{admin: [hosts.*]}", "ai.admin.hosts.*.*"),
        ('{admin: ["hosts.>"]}', "ai.admin.hosts.*.*"),
        ("{admin: [audit.append]}", "ai.admin.audit.append.*"),
        ('{admin: ["*.show"]}', "ai.admin.*.show.*"),
    ],
)
def test_the_platform_administers_every_target(grants: str, publish: str) -> None:
    assert permissions(grants, "platform").publish_allow == (USER_INFO, publish)


def test_a_deny_becomes_a_deny_of_the_template() -> None:
    template = permissions(
        "{call: [vitals.*], subscribe: [vitals.*], admin: [policy.*], "
        "deny: {call: [vitals.purge], subscribe: [vitals.secret], publish: [x], admin: [policy.apply], data: [phi]}}"
    )
    assert template.publish_deny == ("ai.admin.policy.apply.st-marys", "ai.capabilities.vitals.purge", "ai.events.x")
    assert template.subscribe_deny == ("ai.events.vitals.secret",)


def test_a_role_has_its_parents_grants_and_denies_each_once() -> None:
    policy = compiled(
        "  a: {call: [x.a], deny: {call: [x.z]}}\n"
        "  b: {inherits: [a], call: [x.b], data: [phi]}\n"
        "  c: {inherits: [a, b], call: [x.c, x.z], data: [pii]}\n"
    )
    role = policy.roles["c"]
    assert [subject for subject in role.permissions.publish_allow if subject != USER_INFO] == [
        "ai.admin.keys.unwrap.st-marys",
        *(f"ai.capabilities.x.{each}" for each in "abcz"),
    ]
    assert role.permissions.publish_deny == ("ai.capabilities.x.z",)
    assert role.labels == {"phi", "pii"}


def test_a_denied_label_is_not_held() -> None:
    assert compiled("  r: {data: [phi, pii], deny: {data: [phi]}}").roles["r"].labels == {"pii"}


def test_agents_are_roles_of_their_own() -> None:
    policy = compile_policy(load_policy("tenant: t\nagents:\n  vitals: {publish: [vitals.alert]}"))
    assert list(policy.roles) == ["agent:vitals"]


def test_the_digest_is_of_the_meaning() -> None:
    one = compiled("  r:\n    call: [a, b]\n    data: [x, y]  # why\n")
    same = compiled("  r:\n    data: [y, x]\n    call: [b, a, a]\n")
    assert one.digest == same.digest
    assert len({one.digest, compiled("  r: {call: [a]}").digest, compiled("  r: {call: [a]}", "u").digest}) == 3


def hand_made(*grants: Grant, inherits: tuple[Parent, ...] = ()) -> Policy:
    roles = {"r": Role(name="r", line=1, grants=grants, inherits=inherits)}
    return Policy(tenant="t", roles=roles)


@pytest.mark.parametrize("pattern", ["x\r\nPUB", "{{name()}}", "a.>.b", "$SYS.>"])
def test_a_tree_made_by_hand_is_checked_too(pattern: str) -> None:
    grant = Grant(effect="allow", action="subscribe", pattern=pattern, line=1, role="r")
    with pytest.raises(PatternFormatError):
        compile_policy(hand_made(grant))


def test_a_parent_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownRoleError, match="no role `rr` in the policy: did you mean `r`") as caught:
        compile_policy(hand_made(inherits=(Parent(name="rr", line=1),)))
    assert caught.value.known == ("r",)


SAFE = SubjectPermissions(publish_allow=(USER_INFO,), subscribe_allow=(OWN_INBOX,))


@pytest.mark.parametrize(
    ("subject", "rule"),
    [
        ("_INBOX.>", "SEC-3"),
        ("_INBOX.*.x", "SEC-3"),
        (">", "SEC-3"),
        ("*.>", "SEC-3"),
        ("$SYS.REQ.>", "SEC-4"),
        ("$JS.EVENT.>", "SEC-4"),
        ("$KV.b.k", "SEC-4"),
        ("ai.>", "SEC-5"),
        ("ai.*.vitals.assess", "SEC-5"),
        ("ai.capabilities.vitals.assess", "SEC-5"),
        ("ai.streams.>", "SEC-5"),
        ("ai.admin.*.*.t", "SEC-5"),
        ("_R_.>", "SEC-1"),
    ],
)
def test_no_template_lets_anyone_listen_where_nobody_may(subject: str, rule: str) -> None:
    with pytest.raises(UnsafeGrantError) as caught:
        check_template("r", dataclasses.replace(SAFE, subscribe_allow=(OWN_INBOX, subject)))
    assert (caught.value.rule, caught.value.subject, caught.value.role) == (rule, subject, "r")


@pytest.mark.parametrize(
    ("subject", "rule"),
    [
        ("$JS.API.>", "SEC-4"),
        ("$JS.API.STREAM.CREATE.x", "SEC-4"),
        ("$SYS.REQ.USER.*", "SEC-4"),
        ("$SYS.REQ.SERVER.PING.CONNZ", "SEC-4"),
        (">", "SEC-3"),
        ("_INBOX.x", "SEC-3"),
        ("_R_.x", "SEC-1"),
        ("*.API.>", "SEC-3"),
    ],
)
def test_no_template_lets_anyone_publish_where_nobody_may(subject: str, rule: str) -> None:
    with pytest.raises(UnsafeGrantError) as caught:
        check_template("r", dataclasses.replace(SAFE, publish_allow=(USER_INFO, subject)))
    assert caught.value.rule == rule


def test_a_template_that_is_open_by_being_empty_is_refused() -> None:
    with pytest.raises(UnsafeGrantError, match="SEC-3"):
        check_template("r", SubjectPermissions(publish_allow=("a",)))
    check_template("r", empty_means_deny(SubjectPermissions()))
