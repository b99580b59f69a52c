"""What is valid in a policy, but probably not meant: each finding with its line.

    error    the policy can't be applied
    warning  a line does nothing, or grants more than a line should
    info     worth knowing before applying it

Findings never change a decision. `lint_text` takes a file as it is, and reports its faults as errors. For a command
line: the cost can grow with the square of the lines, so it has no place in a server's loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from authz.names import PLATFORM_TENANT
from authz.patterns import PatternFormatError, check_pattern, rule_patterns
from authz.policy import Action, Effect, Grant, Policy, Role
from authz.policyfile import PolicyFileError, load_policy
from authz.quoting import quoted
from authz.subjects import ONE, REST, matches
from authz.trie import PatternTrie

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing to look at."""

    severity: Severity
    line: int
    message: str


def lint_text(text: str, *, source: str = "policy.yaml") -> tuple[Finding, ...]:
    """Return the faults of a file that can't be accepted as errors, else the findings about its policy."""
    try:
        policy = load_policy(text, source=source)
    except PolicyFileError as error:
        return tuple(Finding(severity="error", line=fault.line, message=fault.message) for fault in error.faults)
    return lint_policy(policy)


def lint_policy(policy: Policy) -> tuple[Finding, ...]:
    """Return the findings about ``policy``, in the order of its lines."""
    found = {finding for rule in _RULES for finding in rule(policy)}
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.severity, finding.message)))


def _broken_patterns(policy: Policy) -> Iterator[Finding]:
    """A file can't hold these; a policy made by hand can."""
    for grant in _written(policy):
        try:
            check_pattern(grant.action, grant.pattern, tenant=policy.tenant)
        except PatternFormatError as error:
            yield Finding(severity="error", line=grant.line, message=str(error))


def _unreachable_grants(policy: Policy) -> Iterator[Finding]:
    for role in policy.roles.values():
        denies = _Index(policy, role.name, "deny")
        for grant in role.grants:
            if grant.effect == "allow" and (by := denies.covering(grant)):
                message = f"{quoted(grant.text)} never has an effect: line {by.line} denies all of it"
                yield Finding(severity="warning", line=grant.line, message=message)


def _redundant_grants(policy: Policy) -> Iterator[Finding]:
    for role in policy.roles.values():
        index = {effect: _Index(policy, role.name, effect) for effect in get_args(Effect)}
        for grant in role.grants:
            if by := index[grant.effect].covering(grant):
                message = f"{quoted(grant.text)} adds nothing: line {by.line} says so already ({quoted(by.text)})"
                yield Finding(severity="info", line=grant.line, message=message)


def _idle_denies(policy: Policy) -> Iterator[Finding]:
    """A deny that takes nothing from its role, nor from any that inherits it."""
    heirs: dict[str, list[_Index]] = {name: [] for name in policy.roles}
    for name in policy.roles:
        allows = _Index(policy, name, "allow")
        for ancestor in policy.lineage(name):
            heirs[ancestor.name].append(allows)
    for deny in _written(policy):
        if deny.effect == "deny" and not any(allows.overlaps(deny) for allows in heirs[deny.role]):
            message = f"{quoted(deny.text)} takes nothing away: no role that has it is granted any of it"
            yield Finding(severity="warning", line=deny.line, message=message)


def _wide_wildcards(policy: Policy) -> Iterator[Finding]:
    if policy.tenant == PLATFORM_TENANT:
        return  # its operators administer everything: that is what the role is for
    for grant in _written(policy):
        if grant.effect == "allow" and set(grant.pattern.split(".")) <= {ONE, REST}:
            message = f"{quoted(grant.text)} takes in everything, also what is added later: name what is needed"
            yield Finding(severity="warning", line=grant.line, message=message)


def _empty_handed_roles(policy: Policy) -> Iterator[Finding]:
    for role in policy.roles.values():
        if not any(grant.effect == "allow" for grant in policy.effective_grants(role.name)):
            message = f"role {quoted(role.name)} grants nothing, not even by inheritance"
            yield Finding(severity="warning", line=role.line, message=message)


def _confusable_roles(policy: Policy) -> Iterator[Finding]:
    seen: dict[str, Role] = {}
    for role in policy.roles.values():
        first = seen.setdefault(role.name.lower(), role)
        if first is not role:
            message = f"role {quoted(role.name)} differs from {quoted(first.name)} of line {first.line} in case only"
            yield Finding(severity="warning", line=role.line, message=message)


def _needless_parents(policy: Policy) -> Iterator[Finding]:
    lineages = {name: {ancestor.name for ancestor in policy.lineage(name)} for name in policy.roles}
    for role in policy.roles.values():
        for parent in role.inherits:
            others = (other.name for other in role.inherits if other.name != parent.name)
            by = next((other for other in others if parent.name in lineages[other]), None)
            if by is not None:
                message = f"{quoted(role.name)} inherits from {quoted(parent.name)} already, by {quoted(by)}"
                yield Finding(severity="info", line=parent.line, message=message)


def _events_without_source(policy: Policy) -> Iterator[Finding]:
    published = PatternTrie((grant.pattern, grant) for grant in _written(policy) if _is_allow(grant, "publish"))
    for grant in _written(policy):
        if _is_allow(grant, "subscribe") and not published.overlaps(grant.pattern):
            message = f"nobody in this policy may publish what {quoted(grant.text)} waits for"
            yield Finding(severity="info", line=grant.line, message=message)


def _policy_out_of_hand(policy: Policy) -> Iterator[Finding]:
    """Who may apply a policy may grant themselves anything; where nobody may, only the platform can mend it."""
    if policy.tenant == PLATFORM_TENANT:
        return
    keys = (key for grant in _written(policy) if _is_allow(grant, "admin") for key in _keys(grant, policy.tenant))
    if not any(matches(key, "admin.policy.apply") for key in keys):
        message = "no role may apply a policy: only the platform's operators can change this one"
        yield Finding(severity="info", line=1, message=message)


_RULES: tuple[Callable[[Policy], Iterator[Finding]], ...] = (
    _broken_patterns,
    _unreachable_grants,
    _redundant_grants,
    _idle_denies,
    _wide_wildcards,
    _empty_handed_roles,
    _confusable_roles,
    _needless_parents,
    _events_without_source,
    _policy_out_of_hand,
)


class _Index:
    """Finds among the effective grants of a role. Ancestors' come first, so that of two equal lines theirs stays."""

    def __init__(self, policy: Policy, role: str, effect: Effect) -> None:
        self._tenant = policy.tenant
        grants = [grant for each in reversed(policy.lineage(role)) for grant in each.grants if grant.effect == effect]
        self._trie = PatternTrie((key, grant) for grant in grants for key in _keys(grant, self._tenant))

    def covering(self, grant: Grant) -> Grant | None:
        """Return another grant that covers this one. Where it stands for several patterns, each must be covered."""
        covers = [
            next((other for other in self._trie.covering(key) if other is not grant), None)
            for key in _keys(grant, self._tenant)
        ]
        return covers[0] if all(covers) else None

    def overlaps(self, grant: Grant) -> bool:
        """Tell whether any of these grants is about something that ``grant`` is about too."""
        return any(self._trie.overlaps(key) for key in _keys(grant, self._tenant))


def _keys(grant: Grant, tenant: str) -> list[str]:
    """The grant's patterns, with the action as first token so that one trie serves all actions."""
    return [f"{grant.action}.{pattern}" for pattern in rule_patterns(grant.action, grant.pattern, tenant=tenant)]


def _written(policy: Policy) -> Iterator[Grant]:
    for role in policy.roles.values():
        yield from role.grants


def _is_allow(grant: Grant, action: Action) -> bool:
    return (grant.action, grant.effect) == (action, "allow")
