"""A trie of subject patterns: finding the one that means a subject costs the same with ten as with thousands.

The most specific pattern wins: token by token from the left, the literal before `*` before `>`. Of two equal
patterns, the one added first. The cost is bounded by the number of tokens: at each of at most six there are
three ways on.

Subjects and patterns are taken to be valid; `authz.patterns` sees to that.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from authz.subjects import ONE, REST

ValueT = TypeVar("ValueT")

_END = ""
"""The key of a node's own value. INVARIANT: no token is empty, so no child has this key."""


class PatternTrie(Generic[ValueT]):
    """Immutable once made. Values must not be None."""

    __slots__ = ("_root",)

    def __init__(self, patterns: Iterable[tuple[str, ValueT]]) -> None:
        self._root: dict[str, Any] = {}
        for pattern, value in patterns:
            self._add(pattern, value)

    def find(self, subject: str) -> ValueT | None:
        """Return the value of the most specific pattern that means ``subject``."""
        found: ValueT | None = _find(self._root, subject.split("."), 0)
        return found

    def covering(self, pattern: str) -> Iterator[ValueT]:
        """Yield the values of all patterns that mean everything ``pattern`` means, the most specific first."""
        yield from _covering(self._root, pattern.split("."), 0)

    def overlaps(self, pattern: str) -> bool:
        """Tell whether some subject is meant by ``pattern`` and by one of these patterns."""
        return _overlaps(self._root, pattern.split("."), 0)

    def _add(self, pattern: str, value: ValueT) -> None:
        node = self._root
        *heads, last = pattern.split(".")
        for token in heads:
            node = node.setdefault(token, {})
        if last != REST:
            node, last = node.setdefault(last, {}), _END
        node.setdefault(last, value)


def _find(node: dict[str, Any], tokens: list[str], position: int) -> Any:
    """Walk down from ``node``. A node's keys: tokens and `*` to nodes, `>` and the empty text to values."""
    if position == len(tokens):
        return node.get(_END)
    for token in (tokens[position], ONE):
        child = node.get(token)
        if child is not None:
            found = _find(child, tokens, position + 1)
            if found is not None:
                return found
    return node.get(REST)


def _covering(node: dict[str, Any], tokens: list[str], position: int) -> Iterator[Any]:
    """Like `_find`, but go everywhere, and take `tokens` for a pattern: `>` is covered by `>` only."""
    if position == len(tokens):
        if _END in node:
            yield node[_END]
        return
    if tokens[position] != REST:
        for token in dict.fromkeys((tokens[position], ONE)):
            if token in node:
                yield from _covering(node[token], tokens, position + 1)
    if REST in node:
        yield node[REST]


def _overlaps(node: dict[str, Any], tokens: list[str], position: int) -> bool:
    if position == len(tokens):
        return _END in node
    if tokens[position] == REST:
        return any(key != _END for key in node)
    if REST in node:
        return True
    keys = [key for key in node if key != _END] if tokens[position] == ONE else (tokens[position], ONE)
    return any(key in node and _overlaps(node[key], tokens, position + 1) for key in keys)
