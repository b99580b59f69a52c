"""A YAML document as plain nodes that know their lines.

A small part of YAML, on purpose: mappings, lists and text. Every scalar is text (so a role may be called `no`);
aliases, anchors, tags, block text and second documents are refused, and so is nesting deeper than a policy
needs. Built on the parser's events and read one at a time, because the parser's cost grows with the square of
the nesting.

What the nodes mean is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from authz.errors import AuthzError
from authz.quoting import quoted

MAX_DEPTH = 6

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WILDCARD_HINT = '; if it is a wildcard, put it in quotes, as in `"*.status"`'


class DocumentError(AuthzError):
    """Text that is not such a document. There is nothing to go on with.

    Attributes:
        line: where, from 1.
        problem: what is wrong there.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A scalar, as written."""

    text: str
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """A list."""

    items: tuple["Node", ...]
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Entries:
    """A mapping, in the order written, duplicates included."""

    entries: tuple[tuple[Text, "Node"], ...]
    line: int


Node = Text | Items | Entries


def compose(text: str) -> Node | None:
    """Return the document's root node, or None for a document without content.

    Raises:
        DocumentError: the text is not a document of this kind.
    """
    lines = text.splitlines()
    try:
        return _Composer(yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, lines) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(line, "holds a character that does not belong in text") from error


class _Composer:
    """Builds nodes from parser events."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events

    def document(self) -> Node | None:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        root = self._node(next(self._events), depth=0)
        next(self._events)  # the end of the document
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise DocumentError(_line(after), "a second document begins here: a policy is one document")
        return root

    def _node(self, event: Any, *, depth: int) -> Node:
        _refuse_extras(event)
        if depth > MAX_DEPTH:
            raise DocumentError(_line(event), "is nested too deeply for a policy")
        if isinstance(event, yaml.ScalarEvent):
            return Text(text=event.value, line=_line(event))
        if isinstance(event, yaml.SequenceStartEvent):
            return Items(items=tuple(self._items(depth + 1)), line=_line(event))
        return Entries(entries=tuple(self._entries(depth + 1)), line=_line(event))

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth=depth)

    def _entries(self, depth: int) -> Iterator[tuple[Text, Node]]:
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth=depth)
            if not isinstance(key, Text):
                raise DocumentError(key.line, "a list or mapping can't be a key")
            yield key, self._node(next(self._events), depth=depth)


def _refuse_extras(event: Any) -> None:
    line = _line(event)
    if isinstance(event, yaml.AliasEvent):
        alias = quoted(f"*{event.anchor}")
        raise DocumentError(line, f"{alias} is a YAML alias: write the values out{_WILDCARD_HINT}")
    if event.anchor is not None:
        raise DocumentError(
            line, f"{quoted(f'&{event.anchor}')} is a YAML anchor: a policy has none, write the values out"
        )
    if event.tag is not None:
        raise DocumentError(line, f"{quoted(event.tag)} is a YAML tag: a policy has none, write plain text")
    if isinstance(event, yaml.ScalarEvent) and event.style in ("|", ">"):
        raise DocumentError(line, f'`{event.style}` begins block text here: put it in quotes, as in `"{event.style}"`')


def _syntax_error(error: yaml.MarkedYAMLError, lines: list[str]) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = " ".join(str(error.problem or error.context or "it can't be read").split())
    at_fault = lines[mark.line].lstrip() if mark and mark.line < len(lines) else ""
    hint = _WILDCARD_HINT if "*" in at_fault or ">" in at_fault else ""
    return DocumentError(min(line, len(lines) or 1), f"not valid YAML: {problem}{hint}")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
