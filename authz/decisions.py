"""The answer to "may they?": deny by default, deny beats allow, an error is a deny.

Pure and quick: what a role may do is in tries made at compile time, each with its answer ready; answers are
cached, up to a bound, in the compiled policy itself, so a new policy starts afresh and nothing has to be
invalidated. Whether a caller is who they say is not asked here: a principal was authenticated before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from authz.patterns import is_resource
from authz.permissions import SubjectPermissions
from authz.policy import ACTIONS, Action
from authz.trie import PatternTrie

MAX_CACHED = 4096

VERBS: dict[Action, str] = {
    "call": "call",
    "publish": "publish",
    "subscribe": "subscribe to",
    "admin": "administer",
    "data": "use data labelled",
}


class Caller(Protocol):
    """What a decision needs of a principal."""

    @property
    def tenant(self) -> str:
        """The tenant that the caller was authenticated for."""
        ...

    @property
    def role(self) -> str:
        """The caller's one role."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleRef:
    """The line of the policy that decided.

    Attributes:
        text: the grant in a few words, such as `nurse: call vitals.*`.
    """

    line: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether, and why. `bool()` of it is the answer.

    Attributes:
        reason: one line for logs and audit.
        rule: the line that decided, or None where no line speaks of it.
    """

    allowed: bool
    reason: str
    rule: RuleRef | None = None

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionRules:
    """What one role may do of one action. The answers are in the tries."""

    allows: PatternTrie[Decision]
    denies: PatternTrie[Decision]


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledRole:
    """One role, ready for use.

    Attributes:
        permissions: the template of the role's scoped signing key.
        labels: the data labels that the role may seal and open.
    """

    name: str
    permissions: SubjectPermissions
    labels: frozenset[str]
    rules: Mapping[Action, ActionRules] = field(repr=False, compare=False)


_OTHER_TENANT = Decision(allowed=False, reason="the caller is of another tenant")
_NO_SUCH_ROLE = Decision(allowed=False, reason="the policy has no such role")
_NO_SUCH_ACTION = Decision(allowed=False, reason="the policy knows no such action")
_NO_SUCH_RESOURCE = Decision(allowed=False, reason="that is not a name of anything")
_UNDECIDED = Decision(allowed=False, reason="no decision could be made")


@dataclass(frozen=True, kw_only=True, slots=True)
class CompiledPolicy:
    """A tenant's policy, ready for decisions.

    Attributes:
        digest: of what the policy comes to; comments, order and layout don't change it.
        roles: by name, agents as `agent:<name>`.
    """

    tenant: str
    digest: str
    roles: Mapping[str, CompiledRole]
    _cache: dict[tuple[str, str, str], Decision] = field(init=False, default_factory=dict, repr=False, compare=False)

    def decide(self, principal: Caller, action: str, resource: str) -> Decision:
        """Decide whether ``principal`` may do ``action`` with ``resource``. Never raises."""
        try:
            if principal.tenant != self.tenant:
                return _OTHER_TENANT
            key = (principal.role, action, resource)
            cached = self._cache.get(key)
            return self._decide(*key) if cached is None else cached
        except Exception:  # noqa: BLE001 - whatever went wrong, the answer is no
            return _UNDECIDED

    def _decide(self, role: str, action: str, resource: str) -> Decision:
        compiled = self.roles.get(role)
        if compiled is None:
            return _NO_SUCH_ROLE
        if action not in ACTIONS:
            return _NO_SUCH_ACTION
        if not is_resource(action, resource):
            return _NO_SUCH_RESOURCE
        rules = compiled.rules[action]
        # Deny beats allow, however specific either is; where neither speaks, the answer is no.
        decision = rules.denies.find(resource)
        if decision is None:
            decision = rules.allows.find(resource)
        if decision is None:
            decision = Decision(allowed=False, reason=f"role `{role}` has no grant to {VERBS[action]} `{resource}`")
        self._remember((role, action, resource), decision)
        return decision

    def _remember(self, key: tuple[str, str, str], decision: Decision) -> None:
        # Keys are of existing roles and of valid resources, so the bound is one on memory too.
        if len(self._cache) >= MAX_CACHED:
            self._cache.clear()
        self._cache[key] = decision
