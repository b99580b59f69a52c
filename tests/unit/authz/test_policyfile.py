"""The policy file: accepted whole, or refused with every fault and its line."""

from pathlib import Path

import pytest

from authz.policy import Grant
from authz.policyfile import MAX_BYTES, Fault, PolicyFileError, load_policy

ST_MARYS = """\
tenant: st-marys
roles:
  nurse:
    call: [vitals.*]
    subscribe: [vitals.alert]
    data: [phi]              # data labels this role may seal and open
  billing:
    call: [invoice.*]
  ward-monitor:
    inherits: [nurse]
    publish: [vitals.reading]
    deny:
      call:
        - vitals.purge
        - "*.export"
  admin:
    admin: [policy.apply, credentials.*, agents.*]
agents:
  vitals:                    # what the deployed agent itself may do, as role agent:vitals
    publish: [vitals.alert]
    data: [phi]
"""


def faults_of(text: str) -> list[tuple[int, str]]:
    with pytest.raises(PolicyFileError) as caught:
        load_policy(text)
    return [(fault.line, fault.message) for fault in caught.value.faults]


def only_fault(text: str) -> tuple[int, str]:
    faults = faults_of(text)
    assert len(faults) == 1, faults
    assert "\n" not in faults[0][1]
    return faults[0]


def in_role(lines: str) -> str:
    """A policy whose role `r` has these lines from line 4 on."""
    return f"tenant: t\nroles:\n  r:\n    {lines}\n"


def test_a_policy_is_read_with_the_line_of_each_grant() -> None:
    policy = load_policy(ST_MARYS)
    assert (policy.tenant, list(policy.roles)) == (
        "st-marys",
        ["nurse", "billing", "ward-monitor", "admin", "agent:vitals"],
    )
    ward = policy.roles["ward-monitor"]
    assert [(parent.name, parent.line) for parent in ward.inherits] == [("nurse", 10)]
    assert ward.grants == (
        Grant(effect="allow", action="publish", pattern="vitals.reading", line=11, role="ward-monitor"),
        Grant(effect="deny", action="call", pattern="vitals.purge", line=14, role="ward-monitor"),
        Grant(effect="deny", action="call", pattern="*.export", line=15, role="ward-monitor"),
    )
    assert policy.roles["agent:vitals"].grants[0].text == "agent:vitals: publish vitals.alert"


def test_the_platforms_own_policy_is_valid() -> None:
    path = Path(__file__).parents[3] / "nats-config" / "platform-policy.yaml"
    policy = load_policy(path.read_text(), source=path.name)
    assert (policy.tenant, list(policy.roles)) == ("platform", ["operator", "host"])


def test_names_that_yaml_takes_for_something_else_stay_text() -> None:
    policy = load_policy("tenant: 007\nroles:\n  no:\n    call: [on, 1.5]\n")
    assert policy.tenant == "007"
    assert [grant.pattern for grant in policy.roles["no"].grants] == ["on", "1.5"]


def test_every_fault_is_reported_in_the_order_of_the_lines() -> None:
    text = "tenant: T\nroles:\n  a b:\n    call: [x]\n  r:\n    calls: [x]\n    call: [x*]\n    call: []\nextra: 1\n"
    assert [line for line, _ in faults_of(text)] == [1, 3, 6, 8, 8, 9]


def test_the_error_shows_the_first_fault_and_how_many_more() -> None:
    with pytest.raises(PolicyFileError) as caught:
        load_policy("tenant: T\nroles: x\n", source="ward.yaml")
    assert caught.value.source == "ward.yaml"
    assert str(caught.value).startswith("ward.yaml:1: tenant name `T` must be ")
    assert str(caught.value).endswith(" (and 1 more)")
    assert caught.value.faults[1] == Fault(
        line=2, message="`roles` must hold one entry or more, each a name and its grants"
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "text"])
def test_a_file_without_a_policy_is_refused(text: str) -> None:
    assert only_fault(text) == (1, "a policy must hold `tenant` and `roles`")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("roles:\n  r: {call: [a]}\n", 1, "`tenant` is missing: say whose policy this is"),
        ("tenant: [a]\nroles:\n  r: {call: [a]}\n", 1, "`tenant` must be one name"),
        ("tenant: t\n", 1, "the policy has no role: add one under `roles`"),
        ("tenant: t\nroles: {}\n", 2, "`roles` must hold one entry or more"),
        ("tenant: t\nroles:\n", 2, "`roles` must hold one entry or more"),
        ("tenant: t\nroles:\n  r: {}\n", 3, "role `r` is empty: give it a grant"),
        ("tenant: t\nroles:\n  r:\n", 3, "role `r` is empty: give it a grant"),
        ("tenant: t\nagents:\n  r: []\n", 3, "role `agent:r` is empty: give it a grant"),
        ("tenant: t\nroles:\n  r.x: {call: [a]}\n", 3, "role name `r.x` must be"),
        ("tenant: t\nagents:\n  Vitals: {call: [a]}\n", 3, "agent name `Vitals` must be"),
        ("tenant: t\nagents:\n  v: {admin: [policy.apply]}\n", 3, "an agent has no key `admin`: it has `call`"),
        ("tenant: t\nagents:\n  v: {inherits: [r]}\n", 3, "an agent has no key `inherits`"),
        ("tenant: t\nroles:\n  r: {call: [a]}\n  r: {call: [b]}\n", 4, "`r` is here twice: line 3 has it already"),
        ("tenant: t\ntenant: t\nroles:\n  r: {call: [a]}\n", 2, "`tenant` is here twice"),
        (in_role("call: [a]\n    call: [b]"), 5, "`call` is here twice: line 4 has it already"),
        (in_role("<<: {call: [a]}"), 4, "a role has no key `<<`"),
        (
            in_role("grant: [a]"),
            4,
            "a role has no key `grant`: it has `inherits`, `call`, `publish`, `subscribe`, `admin`",
        ),
        (in_role("call: vitals.*"), 4, "`call` must be a list with something in it, as in `call: [vitals.*]`"),
        (in_role("data: []"), 4, "`data` must be a list with something in it, as in `data: [phi]`"),
        (in_role("call: [[a]]"), 4, "`call` holds a list or mapping"),
        (in_role("call: [{a: b}]"), 4, "`call` holds a list or mapping"),
        (in_role("deny: [a]"), 4, "`deny` must say what, as in `deny: {call: [vitals.purge]}`"),
        (in_role("deny: {}"), 4, "`deny` must say what"),
        (in_role("deny: {inherits: [a]}"), 4, "`deny` has no key `inherits`"),
        (in_role("call: [a..b]"), 4, "`call` pattern `a..b` has an empty token"),
        (in_role('call: [""]'), 4, "`call` pattern `` must be text of"),
        (in_role("call: [a*]"), 4, "`call` pattern `a*` has a wildcard inside a token"),
        (in_role("call: [a.>.b]"), 4, "`call` pattern `a.>.b` has `>` before its end"),
        (in_role("call: [a b]"), 4, "`call` pattern `a b` holds a space"),
        (in_role("call: [Vitals.x]"), 4, "`call` pattern `Vitals.x` has `Vitals`: tokens are"),
        (in_role("call: [vit\u0430ls]"), 4, "`call` pattern `vit\\u0430ls` has"),
        (in_role('call: ["{{name()}}"]'), 4, "`call` pattern `{{name()}}` has"),
        (in_role("call: [a.b.c.d.e]"), 4, "has 5 tokens: a capability has at most 4"),
        (in_role("call: [a.b.c.d.>]"), 4, "has 5 tokens: a capability has at most 4"),
        (in_role("publish: [a.b.c.d.e.f.g]"), 4, "has 7 tokens: an event has at most 6"),
        (in_role("call: [ai.capabilities.x]"), 4, "name a capability alone, `ai.capabilities.` is put before it"),
        (in_role("publish: [$SYS.REQ]"), 4, "name an event alone, `ai.events.` is put before it"),
        (in_role("subscribe: [ai.events.x]"), 4, "name an event alone, `ai.events.` is put before it"),
        (in_role("subscribe: [ai.capabilities.>]"), 4, "so that nobody listens in on calls"),
        (in_role("subscribe: [_INBOX.>]"), 4, "a role can only subscribe to events"),
        (in_role("subscribe: [ai.>]"), 4, "a role can only subscribe to events"),
        (in_role("admin: [policy]"), 4, "must be `<area>.<verb>`, such as `policy.apply`"),
        (in_role('admin: ["*"]'), 4, "must be `<area>.<verb>`"),
        (in_role("admin: [a.b.c]"), 4, "has 3 tokens: a command has at most 2"),
        (in_role("admin: [hosts.sync]"), 4, "has the area `hosts`, which is the platform's: a tenant has agents, "),
        (in_role("data: [p*]"), 4, "`data` pattern `p*` must be a data label"),
        (in_role("inherits: [a.b]"), 4, "role name `a.b` must be"),
        (in_role("inherits: [agent:v]"), 4, "role name `agent:v` must be"),
        ("tenant: t\nroles:\n  p: {call: [x]}\n  r: {inherits: [p, p]}\n", 4, "`p` is here twice: once is enough"),
        (in_role("inherits: [rr]"), 4, "`r` inherits from `rr`, which is not a role: did you mean `r`?"),
        (in_role("inherits: [zzz]"), 4, "`r` inherits from `zzz`, which is not a role: add it, or take this out"),
        (in_role("inherits: [r]"), 4, "roles inherit from each other: `r` > `r`; take one of these lines out"),
    ],
)
def test_each_fault_has_its_line_and_a_way_out(text: str, line: int, message: str) -> None:
    found_line, found = only_fault(text)
    assert found_line == line
    assert message in found


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("tenant: t\nroles:\n  r: {call: [*.x]}\n", 3, "if it is a wildcard, put it in quotes"),
        ("tenant: t\nroles:\n  r: {call: [*]}\n", 3, "if it is a wildcard, put it in quotes"),
        ("tenant: t\nroles:\n  r: {call: [>]}\n", 3, "if it is a wildcard, put it in quotes"),
        ("tenant: t\nroles:\n  r: {call: [*all]}\n", 3, "`*all` is a YAML alias: write the values out"),
        ("tenant: t\nroles:\n  r:\n    call:\n    - >\n", 5, "`>` begins block text here"),
        ("tenant: t\nroles:\n  r:\n    call:\n    - |\n      x\n", 5, "`|` begins block text here"),
        ("tenant: t\nroles: &r\n  r: {call: [a]}\n", 2, "`&r` is a YAML anchor"),
        ("tenant: !!str t\n", 1, "is a YAML tag: a policy has none"),
        ("tenant: !evil t\n", 1, "`!evil` is a YAML tag"),
        ("tenant: t\nroles:\n\tr: {call: [a]}\n", 3, "not valid YAML: "),
        ("tenant: t\nroles: {", 2, "not valid YAML: "),
        ("tenant: 't", 1, "not valid YAML: "),
        ("%YAML 9.9\n---\na", 1, "not valid YAML: "),
        ("tenant: t\n---\ntenant: u\n", 2, "a second document begins here"),
        ("tenant: t\n[a]: b\n", 2, "a list or mapping can't be a key"),
        ("tenant: t\nroles: \x00\n", 2, "holds a character that does not belong in text"),
        ("tenant: t\nroles: \ud800\n", 2, "can't be written as UTF-8"),
        ("[" * 100_000, 1, "nested too deeply"),
        ("tenant: t\nroles: " + "{a: " * 30_000, 2, "nested too deeply"),
        ("- " * 60_000, 1, "nested too deeply"),
        ("\n" * 10 + "x" * MAX_BYTES, 1, f"a policy has at most {MAX_BYTES}"),
    ],
)
def test_what_is_not_plain_yaml_is_one_fault(text: str, line: int, message: str) -> None:
    found_line, found = only_fault(text)
    assert message in found
    assert found_line == line


def test_a_cycle_is_named_whole_at_the_line_that_closes_it() -> None:
    text = (
        "tenant: t\nroles:\n  a: {inherits: [b], call: [x]}\n  b: {inherits: [c]}\n"
        "  c: {inherits: [b]}\n  d: {inherits: [a, c]}\n  e: {inherits: [f]}\n  f: {inherits: [e]}\n"
    )
    assert faults_of(text) == [
        (5, "roles inherit from each other: `b` > `c` > `b`; take one of these lines out"),
        (8, "roles inherit from each other: `e` > `f` > `e`; take one of these lines out"),
    ]


def test_a_long_chain_and_a_diamond_are_not_cycles() -> None:
    chain = "".join(f"  r{n}: {{inherits: [r{n + 1}, r{n + 2}]}}\n" for n in range(99))
    policy = load_policy(f"tenant: t\nroles:\n{chain}  r99: {{inherits: [r100]}}\n  r100: {{call: [x]}}\n")
    assert [grant.role for grant in policy.effective_grants("r0")] == ["r100"]


def test_too_many_roles_are_refused() -> None:
    roles = "".join(f"  r{n}: {{call: [x]}}\n" for n in range(129))
    assert only_fault(f"tenant: t\nroles:\n{roles}") == (
        1,
        "the policy has 129 roles and agents: at most 128 are allowed",
    )


def test_faults_without_end_are_cut_off() -> None:
    faults = faults_of(in_role("call: [" + "A, " * 1000 + "A]") + "extra: 1\n")
    assert (4, "there are more than 100 faults: mend the first ones, then try again") in faults
    assert len(faults) <= 101


def test_too_many_inherited_grants_are_refused() -> None:
    base = "  base: {call: [" + ", ".join(f"x{n}" for n in range(200)) + "]}\n"
    roles = "".join(f"  r{n}: {{inherits: [base]}}\n" for n in range(60))
    line, message = only_fault(f"tenant: t\nroles:\n{base}{roles}")
    assert line == 1
    assert message.startswith("the roles come to 12200 grants with what they inherit: at most 10000")
