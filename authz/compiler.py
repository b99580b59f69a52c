"""Compiles a policy, once, into what each layer enforces: templates for nats-server, rules for the dispatcher.

Both come from the same effective grants through `authz.patterns`, so they can't disagree. A template is checked
against the security rules before it leaves (`authz.guards`). Each role may always ask who it is and hear its
own inbox, nothing else without a grant.
"""

import hashlib
import json
from collections.abc import Iterable
from types import MappingProxyType

from authz.decisions import VERBS, ActionRules, CompiledPolicy, CompiledRole, Decision, RuleRef
from authz.guards import OWN_INBOX, USER_INFO, check_template, empty_means_deny
from authz.patterns import check_pattern, publish_subjects, rule_patterns, subscribe_subjects
from authz.permissions import SubjectPermissions
from authz.policy import ACTIONS, Action, Effect, Grant, Policy
from authz.trie import PatternTrie


def compile_policy(policy: Policy) -> CompiledPolicy:
    """Return the compiled form of ``policy``.

    Raises:
        PatternFormatError: a grant of a policy made by hand is not of its grammar.
        UnknownRoleError: a role of such a policy inherits from one that isn't there.
        UnsafeGrantError: a template would break a security rule.
    """
    roles = {name: _compile_role(policy, name) for name in policy.roles}
    return CompiledPolicy(tenant=policy.tenant, digest=_digest(policy.tenant, roles), roles=MappingProxyType(roles))


def _compile_role(policy: Policy, name: str) -> CompiledRole:
    grants = policy.effective_grants(name)
    for grant in grants:
        check_pattern(grant.action, grant.pattern, tenant=policy.tenant)
    permissions = role_permissions(grants, tenant=policy.tenant)
    check_template(name, permissions)
    rules = {action: _action_rules(grants, action, policy.tenant) for action in ACTIONS}
    return CompiledRole(name=name, permissions=permissions, labels=_labels(grants), rules=MappingProxyType(rules))


def role_permissions(grants: Iterable[Grant], *, tenant: str) -> SubjectPermissions:
    """Return the template that a role's effective grants come to."""
    publish: dict[Effect, set[str]] = {"allow": {USER_INFO}, "deny": set()}
    subscribe: dict[Effect, set[str]] = {"allow": {OWN_INBOX}, "deny": set()}
    for grant in grants:
        if grant.action != "data" or grant.effect == "allow":  # a label denied must not hide another's keys
            publish[grant.effect].update(publish_subjects(grant.action, grant.pattern, tenant=tenant))
        subscribe[grant.effect].update(subscribe_subjects(grant.action, grant.pattern))
    return empty_means_deny(
        SubjectPermissions(
            publish_allow=tuple(sorted(publish["allow"])),
            publish_deny=tuple(sorted(publish["deny"])),
            subscribe_allow=tuple(sorted(subscribe["allow"])),
            subscribe_deny=tuple(sorted(subscribe["deny"])),
        )
    )


def _action_rules(grants: tuple[Grant, ...], action: Action, tenant: str) -> ActionRules:
    def trie(effect: Effect) -> PatternTrie[Decision]:
        return PatternTrie(
            (pattern, _decision(grant))
            for grant in grants
            if (grant.action, grant.effect) == (action, effect)
            for pattern in rule_patterns(action, grant.pattern, tenant=tenant)
        )

    return ActionRules(allows=trie("allow"), denies=trie("deny"))


def _decision(grant: Grant) -> Decision:
    allowed = grant.effect == "allow"
    reason = f"line {grant.line} {'lets' if allowed else 'keeps'} role `{grant.role}` "
    reason += f"{VERBS[grant.action]} `{grant.pattern}`" if allowed else f"from it: {grant.text}"
    return Decision(allowed=allowed, reason=reason, rule=RuleRef(line=grant.line, text=grant.text))


def _labels(grants: tuple[Grant, ...]) -> frozenset[str]:
    data = [grant for grant in grants if grant.action == "data"]
    denied = {grant.pattern for grant in data if grant.effect == "deny"}
    return frozenset(grant.pattern for grant in data if grant.pattern not in denied)


def _digest(tenant: str, roles: dict[str, CompiledRole]) -> str:
    content = {
        name: {
            "publish": [role.permissions.publish_allow, role.permissions.publish_deny],
            "subscribe": [role.permissions.subscribe_allow, role.permissions.subscribe_deny],
            "labels": sorted(role.labels),
        }
        for name, role in roles.items()
    }
    canonical = json.dumps({"tenant": tenant, "roles": content}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
