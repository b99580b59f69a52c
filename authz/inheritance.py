"""Checks of a whole policy's inheritance: parents that don't exist, that are agents, and cycles.

Pure questions about the tree; nothing recurses, so a long chain is as good as a short one.
"""

import difflib
from collections.abc import Iterator

from authz.policy import Policy
from authz.quoting import quoted


def inheritance_faults(policy: Policy) -> Iterator[tuple[int, str]]:
    """Yield a line and a message for each thing that is wrong with how roles inherit."""
    yield from _unknown_parents(policy)
    yield from _cycles(policy)


def _unknown_parents(policy: Policy) -> Iterator[tuple[int, str]]:
    for role in policy.roles.values():
        for parent in role.inherits:
            if parent.name not in policy.roles:
                near = difflib.get_close_matches(parent.name, policy.roles, n=1)
                hint = f": did you mean {quoted(near[0])}?" if near else ": add it, or take this out"
                yield parent.line, f"{quoted(role.name)} inherits from {quoted(parent.name)}, which is not a role{hint}"


def _cycles(policy: Policy) -> Iterator[tuple[int, str]]:
    """Depth first, with a stack of our own: an edge back into the current path closes a cycle."""
    parents = {
        name: [parent for parent in role.inherits if parent.name in policy.roles] for name, role in policy.roles.items()
    }
    done: set[str] = set()
    for start in policy.roles:
        path: dict[str, None] = {}
        stack = [(start, 0)] if start not in done else []
        while stack:
            name, position = stack.pop()
            path[name] = None
            if position == len(parents[name]):
                del path[name]
                done.add(name)
                continue
            stack.append((name, position + 1))
            parent = parents[name][position]
            if parent.name in path:
                yield parent.line, _cycle_message(list(path), parent.name)
            elif parent.name not in done:
                stack.append((parent.name, 0))


def _cycle_message(path: list[str], closing: str) -> str:
    members = [*path[path.index(closing) :], closing]
    return f"roles inherit from each other: {' > '.join(map(quoted, members))}; take one of these lines out"
