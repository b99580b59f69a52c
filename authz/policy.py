"""A tenant's policy as a syntax tree: what the file says, each thing with its line.

Everything is derived from this one tree: the templates that nats-server enforces, the rules that the dispatcher
decides on, explanations, findings and differences. So they can't disagree about what a line means.

The tree is made by `authz.policyfile`. It is immutable, and it decides nothing.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from authz.errors import AuthzError
from authz.quoting import quoted

Action = Literal["call", "publish", "subscribe", "admin", "data"]
Effect = Literal["allow", "deny"]

ACTIONS: tuple[Action, ...] = get_args(Action)
AGENT_PREFIX = "agent:"


class UnknownRoleError(AuthzError):
    """A policy has no role of that name.

    Attributes:
        role: the name asked for.
        known: the names that the policy has.
    """

    def __init__(self, role: str, known: Iterable[str]) -> None:
        self.role = role
        self.known = tuple(known)
        super().__init__(f"no role {quoted(role)} in the policy{self.way_out}")

    @property
    def way_out(self) -> str:
        """The nearest name, else all names, as the end of a message."""
        near = difflib.get_close_matches(self.role, self.known, n=1)
        if near:
            return f": did you mean {quoted(near[0])}?"
        return f": it has {', '.join(map(quoted, self.known[:10]))}" if self.known else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """One pattern of one line: what it allows, or takes away.

    Attributes:
        role: the role it is written in; `agent:<name>` for an agent's own.
        pattern: a capability, event, command or label, with wildcards as in NATS where they have a meaning.
    """

    effect: Effect
    action: Action
    pattern: str
    line: int
    role: str

    @property
    def text(self) -> str:
        """The grant in a few words, such as `nurse: call vitals.*`."""
        return f"{self.role}: {'deny ' if self.effect == 'deny' else ''}{self.action} {self.pattern}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parent:
    """A role that another inherits from, and the line that says so."""

    name: str
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A named set of grants. An agent's own is the role `agent:<name>`."""

    name: str
    line: int
    inherits: tuple[Parent, ...] = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """One tenant's policy.

    Attributes:
        roles: by name, in the file's order, agents included as `agent:<name>`.
        source: the name of the file, for messages.
    """

    tenant: str
    roles: Mapping[str, Role]
    source: str = "policy.yaml"

    def role(self, name: str) -> Role:
        """Return the role of that name.

        Raises:
            UnknownRoleError: there is none.
        """
        found = self.roles.get(name)
        if found is None:
            raise UnknownRoleError(name, self.roles)
        return found

    def lineage(self, name: str) -> tuple[Role, ...]:
        """Return the role and every role that it inherits from, nearest first, each once."""
        lineage: dict[str, Role] = {}
        waiting = [name]
        while waiting:
            current = waiting.pop(0)
            if current not in lineage:
                lineage[current] = role = self.role(current)
                waiting.extend(parent.name for parent in role.inherits)
        return tuple(lineage.values())

    def routes(self, name: str) -> Mapping[str, tuple[str, ...]]:
        """Return, for ``name`` and each role that it inherits from, the role names on the way there, both included."""
        routes: dict[str, tuple[str, ...]] = {name: (name,)}
        for role in self.lineage(name):
            for parent in role.inherits:
                routes.setdefault(parent.name, (*routes[role.name], parent.name))
        return routes

    def effective_grants(self, name: str) -> tuple[Grant, ...]:
        """Return what a role has, its own grants first, then what it inherits."""
        return tuple(grant for role in self.lineage(name) for grant in role.grants)
