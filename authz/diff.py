"""What changes between two policies, as what each role may do: to be looked at before applying one.

Compares effective grants, so moving a line into a parent is no change, and changing a parent shows in every
role that inherits from it. Lines and layout don't count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from authz.policy import Action, Effect, Policy

ChangeKind = Literal["added", "removed"]
_Lines = dict[tuple[Effect, Action, str], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One grant or deny that a role gains or loses.

    Attributes:
        line: in the new policy if added, in the old one if removed.
    """

    role: str
    kind: ChangeKind
    effect: Effect
    action: Action
    pattern: str
    line: int

    @property
    def widens(self) -> bool:
        """Whether the role may do more by it: a grant more, or a deny less."""
        return (self.kind == "added") == (self.effect == "allow")


def diff_policies(old: Policy | None, new: Policy | None) -> tuple[Change, ...]:
    """Return what changes from ``old`` to ``new``, role by role; None is the policy that grants nothing."""
    names = dict.fromkeys([*(new.roles if new else ()), *(old.roles if old else ())])
    return tuple(change for name in names for change in _role_changes(name, old, new))


def _role_changes(role: str, old: Policy | None, new: Policy | None) -> Iterator[Change]:
    before, after = _effective(old, role), _effective(new, role)
    yield from _missing(role, "removed", before, after)
    yield from _missing(role, "added", after, before)


def _missing(role: str, kind: ChangeKind, here: _Lines, there: _Lines) -> Iterator[Change]:
    for (effect, action, pattern), line in here.items():
        if (effect, action, pattern) not in there:
            yield Change(role=role, kind=kind, effect=effect, action=action, pattern=pattern, line=line)


def _effective(policy: Policy | None, role: str) -> _Lines:
    lines: _Lines = {}
    if policy is not None and role in policy.roles:
        for grant in policy.effective_grants(role):
            lines.setdefault((grant.effect, grant.action, grant.pattern), grant.line)
    return lines
