"""Policies, whatever is in them: trie against scan, templates against decisions, readers that never fall over."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from authz.compiler import compile_policy
from authz.diff import diff_policies
from authz.explain import explain, explain_decision
from authz.lint import Finding, lint_policy, lint_text
from authz.names import PLATFORM_TENANT
from authz.patterns import PatternFormatError, check_pattern, is_resource, publish_subjects, subscribe_subjects
from authz.permissions import SubjectPermissions
from authz.policy import ACTIONS, Action, Grant, Parent, Policy, Role
from authz.policyfile import Fault, PolicyFileError, load_policy
from authz.subjects import covers, matches, overlaps
from authz.trie import PatternTrie

PATTERN = st.builds(
    lambda heads, last: ".".join([*heads, last]),
    st.lists(st.sampled_from("abc*"), max_size=3),
    st.sampled_from("abc*>"),
)
SUBJECTS = [".".join(tokens) for n in range(1, 6) for tokens in itertools.product("abd", repeat=n)]
"""Every subject up to one token longer than any pattern; `d` is in none of them."""

RANK = {"*": 1, ">": 2}


@dataclass(frozen=True)
class Caller:
    tenant: str
    role: str


def means(pattern: str, subject: str) -> bool:
    """The rule of NATS, as plainly as it can be written."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(given) >= len(wanted) and all(
            w in ("*", g) for w, g in zip(wanted[:-1], given[: len(wanted) - 1], strict=True)
        )
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


def scan(patterns: Sequence[str], subject: str) -> int | None:
    """The index of the most specific pattern that means the subject, found by looking at each."""
    hits = [
        ([RANK.get(token, 0) for token in pattern.split(".")], index)
        for index, pattern in enumerate(patterns)
        if means(pattern, subject)
    ]
    return min(hits)[1] if hits else None


@given(PATTERN, PATTERN)
def test_matching_covering_and_overlapping_are_what_they_say_of_every_subject(left: str, right: str) -> None:
    lefts = {subject for subject in SUBJECTS if means(left, subject)}
    rights = {subject for subject in SUBJECTS if means(right, subject)}
    assert {subject for subject in SUBJECTS if matches(left, subject)} == lefts
    if "c" not in left + right:  # `c` is in no subject, so it would make patterns look empty
        assert covers(left, right) == (rights <= lefts)
        assert overlaps(left, right) == overlaps(right, left) == bool(lefts & rights)


@given(st.lists(PATTERN, max_size=30))
def test_the_trie_finds_what_a_scan_finds(patterns: list[str]) -> None:
    trie = PatternTrie((pattern, (index,)) for index, pattern in enumerate(patterns))
    for subject in SUBJECTS:
        expected = scan(patterns, subject)
        assert trie.find(subject) == (None if expected is None else (expected,))


@given(st.lists(PATTERN, max_size=30), PATTERN)
def test_the_trie_covers_and_overlaps_as_its_patterns_do(patterns: list[str], asked: str) -> None:
    trie = PatternTrie((pattern, pattern) for pattern in patterns)
    assert sorted(trie.covering(asked)) == sorted({pattern for pattern in patterns if covers(pattern, asked)})
    assert trie.overlaps(asked) == any(overlaps(pattern, asked) for pattern in patterns)


TENANTS = st.sampled_from(["st-marys", PLATFORM_TENANT])
COMMAND = st.sampled_from([">", "policy.apply", "*.apply", "policy.*", "policy.>", "*.*", "agents.list", "*.>"])
LABEL = st.sampled_from(["phi", "pii"])
BY_ACTION: dict[Action, st.SearchStrategy[str]] = {
    "call": PATTERN,
    "publish": PATTERN,
    "subscribe": PATTERN,
    "admin": COMMAND,
    "data": LABEL,
}
RESOURCES: dict[Action, list[str]] = {
    "call": SUBJECTS[:120],
    "publish": SUBJECTS[:120],
    "subscribe": SUBJECTS[:120],
    "admin": ["policy.apply", "policy.show", "agents.list", "hosts.sync", "credentials.issue"],
    "data": ["phi", "pii", "other"],
}


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    roles: dict[str, Role] = {}
    for number in range(draw(st.integers(1, 4))):
        name, grants = f"r{number}", []
        for line in range(draw(st.integers(0, 6))):
            action = draw(st.sampled_from(ACTIONS))
            effect = draw(st.sampled_from(["allow", "allow", "deny"]))
            pattern = draw(BY_ACTION[action])
            grants.append(Grant(effect=effect, action=action, pattern=pattern, line=number * 10 + line, role=name))
        parents = draw(st.lists(st.sampled_from(sorted(roles)), max_size=2, unique=True)) if roles else []
        inherits = tuple(Parent(name=parent, line=number * 10) for parent in parents)
        roles[name] = Role(name=name, line=number * 10, inherits=inherits, grants=tuple(grants))
    return Policy(tenant=draw(TENANTS), roles=roles)


def server_lets(permissions: SubjectPermissions, direction: str, subject: str) -> bool:
    """What nats-server does with a template, one subject at a time: no deny means it, and an allow does."""
    allow, deny = permissions.publish_allow, permissions.publish_deny
    if direction == "subscribe":
        allow, deny = permissions.subscribe_allow, permissions.subscribe_deny
    return any(means(each, subject) for each in allow) and not any(means(each, subject) for each in deny)


@given(policies())
def test_templates_and_decisions_agree_on_everything_that_can_be_asked(policy: Policy) -> None:
    compiled = compile_policy(policy)
    for name, role in compiled.roles.items():
        for action in ACTIONS:
            for resource in RESOURCES[action]:
                allowed = compiled.decide(Caller(policy.tenant, name), action, resource).allowed
                if action == "data":
                    assert allowed == (resource in role.labels)
                elif is_resource(action, resource):
                    direction, subject = subject_of(policy.tenant, action, resource)
                    assert allowed == server_lets(role.permissions, direction, subject), (name, action, resource)
                else:
                    assert not allowed


def subject_of(tenant: str, action: Action, resource: str) -> tuple[str, str]:
    if action == "admin":
        return "publish", f"ai.admin.{resource}.{tenant}"
    return ("subscribe" if action == "subscribe" else "publish"), {
        "call": f"ai.capabilities.{resource}",
        "publish": f"ai.events.{resource}",
        "subscribe": f"ai.events.{resource}",
    }[action]


@given(policies())
def test_decisions_are_those_of_a_scan_over_the_lines(policy: Policy) -> None:
    compiled = compile_policy(policy)
    for name in policy.roles:
        calls = [grant for grant in policy.effective_grants(name) if grant.action == "call"]
        for resource in RESOURCES["call"]:
            denied = scan([grant.pattern for grant in calls if grant.effect == "deny"], resource) is not None
            granted = scan([grant.pattern for grant in calls if grant.effect == "allow"], resource) is not None
            decision = compiled.decide(Caller(policy.tenant, name), "call", resource)
            expected = granted and not denied and is_resource("call", resource)
            assert decision.allowed == expected
            assert (decision.rule is not None) == (is_resource("call", resource) and (granted or denied))


@given(policies())
def test_a_tenants_template_reaches_nobody_else(policy: Policy) -> None:
    for role in compile_policy(policy).roles.values():
        for subject in role.permissions.publish_allow:
            if subject.startswith("ai.admin.") and policy.tenant != PLATFORM_TENANT:
                assert subject.endswith(f".{policy.tenant}")
                assert subject.count(".") == 4


@given(policies())
def test_explanations_cover_the_template_and_findings_always_come(policy: Policy) -> None:
    lint_policy(policy)
    for name, role in compile_policy(policy).roles.items():
        traced = {trace.subject for trace in explain(policy, name) if trace.direction != "data"}
        template = role.permissions
        assert traced == {
            *template.publish_allow,
            *template.publish_deny,
            *template.subscribe_allow,
            *template.subscribe_deny,
        }
        trace = explain_decision(policy, name, "call", "a.b")
        assert (trace.decision.rule is None) == (not trace.considered) == (not trace.route)


@given(policies(), policies())
def test_a_policy_without_differences_has_the_same_digest(old: Policy, new: Policy) -> None:
    assert diff_policies(old, old) == ()
    if old.tenant == new.tenant and list(old.roles) == list(new.roles) and not diff_policies(old, new):
        assert compile_policy(old).digest == compile_policy(new).digest


def written(policy: Policy) -> str:
    """The policy as a file."""
    roles: dict[str, Any] = {}
    for role in policy.roles.values():
        body: dict[str, Any] = roles.setdefault(role.name, {})
        if role.inherits:
            body["inherits"] = [parent.name for parent in role.inherits]
        for grant in role.grants:
            section = body if grant.effect == "allow" else body.setdefault("deny", {})
            section.setdefault(grant.action, []).append(grant.pattern)
    return yaml.safe_dump({"tenant": policy.tenant, "roles": roles})


@given(policies())
def test_a_policy_survives_being_written_and_read(policy: Policy) -> None:
    text = written(policy)
    if all(role.grants or role.inherits for role in policy.roles.values()):
        read = load_policy(text)
        assert compile_policy(read).digest == compile_policy(policy).digest
        assert diff_policies(policy, read) == ()


@given(st.text(max_size=400) | st.binary(max_size=400).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_policy_or_a_list_of_faults(text: str) -> None:
    check_refusal(text)


FRAGMENTS = [
    "tenant: ",
    "roles:",
    "  r:",
    "    call: ",
    "[a.b]",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "\n",
    "- ",
    "*",
    ">",
    '"',
]
FRAGMENTS += [
    "    deny:",
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "|",
    "---\n",
    "\t",
    "inherits: [r]",
    "agents:",
    "\u2028",
    "\x85",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
def test_any_arrangement_of_a_policys_parts_is_a_policy_or_a_list_of_faults(text: str) -> None:
    check_refusal(text)


def check_refusal(text: str) -> None:
    lines = text.count("\n") + text.count("\r") + text.count("\u2028") + text.count("\u2029") + text.count("\x85") + 1
    for fault in faults_of(text):
        assert 1 <= fault.line <= lines
        assert fault.message.isprintable()
        assert fault.message.isascii()
        assert Finding(severity="error", line=fault.line, message=fault.message) in lint_text(text)


def faults_of(text: str) -> tuple[Fault, ...]:
    try:
        load_policy(text)
    except PolicyFileError as error:
        return error.faults
    return ()


@given(st.sampled_from(ACTIONS), st.text(max_size=40) | PATTERN | COMMAND, TENANTS)
def test_an_accepted_pattern_makes_clean_subjects_only(action: Action, pattern: str, tenant: str) -> None:
    try:
        check_pattern(action, pattern, tenant=tenant)
    except PatternFormatError:
        return
    for subject in (*publish_subjects(action, pattern, tenant=tenant), *subscribe_subjects(action, pattern)):
        assert subject.isascii()
        assert subject.isprintable()
        assert " " not in subject
        assert subject.startswith(("ai.capabilities.", "ai.events.", "ai.admin."))
