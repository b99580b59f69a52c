"""Why a role has what it has: each resulting permission, and each decision, traced to its line.

Works on the same tree and the same translation of patterns as the compiler, so what it shows is what is
enforced. It decides nothing itself.
"""

from dataclasses import dataclass
from typing import Literal

from authz.compiler import compile_policy
from authz.decisions import Decision
from authz.guards import OWN_INBOX, USER_INFO
from authz.patterns import is_resource, publish_subjects, rule_patterns, subscribe_subjects
from authz.policy import ACTIONS, Action, Effect, Grant, Policy
from authz.subjects import matches

Direction = Literal["publish", "subscribe", "data"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PermissionTrace:
    """One permission of a role, and where it comes from.

    Attributes:
        direction: what nats-server enforces it on; `data` for labels, which are about keys.
        subject: the subject of the template, or the label.
        line: of the policy file; None for what every role has.
        granted_in_role: the role that the line is in: this one, or one that it inherits from. None likewise.
        grant: the line's words, such as `nurse: call vitals.*`.
        route: the roles from this one to `granted_in_role`.
    """

    direction: Direction
    effect: Effect
    subject: str
    line: int | None
    granted_in_role: str | None
    grant: str
    route: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionTrace:
    """One decision, and what led to it.

    Attributes:
        considered: every line that speaks of the resource, denies first.
        route: the roles from the one asked about to the one whose line decided; empty where none did.
        also_allowed: the policy's other roles that may do it.
        way_out: what to change for the opposite answer, where it is a deny.
    """

    decision: Decision
    considered: tuple[Grant, ...]
    route: tuple[str, ...]
    also_allowed: tuple[str, ...]
    way_out: str | None


@dataclass(frozen=True, slots=True)
class _Asker:
    tenant: str
    role: str


def explain(policy: Policy, role: str) -> tuple[PermissionTrace, ...]:
    """Return every permission of ``role``, one trace for each line that gives it.

    Raises:
        UnknownRoleError: the policy has no such role.
    """
    traces = [
        _implied("publish", USER_INFO, "may ask who it is"),
        _implied("subscribe", OWN_INBOX, "hears its own inbox"),
    ]
    routes = policy.routes(role)
    for grant in policy.effective_grants(role):
        traces.extend(_traces(grant, policy.tenant, routes[grant.role]))
    return tuple(traces)


def explain_decision(policy: Policy, role: str, action: Action, resource: str) -> DecisionTrace:
    """Return what the policy decides for ``role``, and why.

    Raises:
        UnknownRoleError: the policy has no such role.
    """
    grants = policy.effective_grants(role)
    compiled = compile_policy(policy)
    answers = {name: compiled.decide(_Asker(policy.tenant, name), action, resource) for name in policy.roles}
    decision = answers[role]
    considered = [grant for grant in grants if _speaks_of(policy, grant, action, resource)]
    considered.sort(key=lambda grant: grant.effect == "allow")
    decider = next(
        (g for g in considered if decision.rule and (g.line, g.text) == (decision.rule.line, decision.rule.text)), None
    )
    return DecisionTrace(
        decision=decision,
        considered=tuple(considered),
        route=policy.routes(role)[decider.role] if decider else (),
        also_allowed=tuple(name for name, answer in answers.items() if answer and name != role),
        way_out=None if decision else _way_out(role, action, resource, considered),
    )


def _implied(direction: Direction, subject: str, grant: str) -> PermissionTrace:
    return PermissionTrace(
        direction=direction,
        effect="allow",
        subject=subject,
        line=None,
        granted_in_role=None,
        grant=f"every role {grant}",
    )


def _traces(grant: Grant, tenant: str, route: tuple[str, ...]) -> list[PermissionTrace]:
    subjects: list[tuple[Direction, str]] = [("data", grant.pattern)] if grant.action == "data" else []
    if grant.action != "data" or grant.effect == "allow":
        subjects += [("publish", each) for each in publish_subjects(grant.action, grant.pattern, tenant=tenant)]
    subjects += [("subscribe", each) for each in subscribe_subjects(grant.action, grant.pattern)]
    return [
        PermissionTrace(
            direction=direction,
            effect=grant.effect,
            subject=subject,
            line=grant.line,
            granted_in_role=grant.role,
            grant=grant.text,
            route=route,
        )
        for direction, subject in subjects
    ]


def _speaks_of(policy: Policy, grant: Grant, action: Action, resource: str) -> bool:
    patterns = rule_patterns(grant.action, grant.pattern, tenant=policy.tenant)
    return grant.action == action and any(matches(pattern, resource) for pattern in patterns)


def _way_out(role: str, action: str, resource: str, considered: list[Grant]) -> str:
    if action not in ACTIONS:
        return f"ask about one of {', '.join(ACTIONS)}"
    if not is_resource(action, resource):
        return "ask about one name, without wildcards"
    denies = [grant for grant in considered if grant.effect == "deny"]
    if denies:
        return f"a deny beats every grant: take out line {denies[0].line} (`{denies[0].text}`)"
    return f"add `{action}: [{resource}]` to role `{role}`"
