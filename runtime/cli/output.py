"""How the command prints: results on standard output, errors on standard error, and `--json` for programs.

Rules it keeps: nothing that came from elsewhere (an agent's answer, a name, an error text) reaches the terminal with
control characters in it, so none of it can move the cursor, set colours or hide a line. With `--json` standard
output holds exactly one JSON document.
"""

import datetime as dt
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.cli.exits import Failure


def safe_text(text: str) -> str:
    """`text` with every character that a terminal would not print as itself replaced by its escape."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def json_text(value: object, *, indent: int | None = None) -> str:
    """`value` as JSON that is safe to show in a terminal and still reads as the same value."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    # Line breaks here are json.dumps's own: inside strings they are already escaped.
    return "".join(char if char.isprintable() or char == "\n" else _escape(char) for char in text)


def _escape(char: str) -> str:
    return json.dumps(char)[1:-1]


class Output:
    """Prints what a command found, in the form the user chose."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, value: Mapping[str, Any], *lines: str) -> None:
        """Print the outcome: `value` for programs, `lines` for people."""
        if self.as_json:
            print(json_text(value))
            return
        for line in lines:
            print(safe_text(line))

    def rows(
        self, value: Mapping[str, Any], columns: Sequence[str], rows: Iterable[Sequence[object]], *, none: str
    ) -> None:
        """Print a list: `value` for programs, aligned columns for people, `none` when there is nothing."""
        if self.as_json:
            print(json_text(value))
            return
        for line in table(columns, list(rows)) or [none]:
            print(line)

    def line(self, line: str) -> None:
        """Print one line of a longer outcome, for people."""
        if not self.as_json:
            print(safe_text(line), flush=True)

    def note(self, line: str) -> None:
        """Tell people, not programs, something on the way; on standard error."""
        if not self.as_json:
            print(safe_text(line), file=sys.stderr)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of left-aligned columns under their headings; no lines when there are no rows."""
    if not rows:
        return []
    cells = [[heading.upper() for heading in columns], *([safe_text(_cell(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def moment(unix: object) -> str:
    """A time in Unix seconds as people read it, in UTC; `-` for none."""
    if isinstance(unix, bool) or not isinstance(unix, int | float):
        return "-"
    return dt.datetime.fromtimestamp(unix, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)


def print_failure(failure: Failure, *, as_json: bool) -> None:
    """Print an error on standard error: one line, its details, and the way out."""
    if as_json:
        document: dict[str, object] = {"error": failure.message, "code": failure.code, "hint": failure.hint}
        if failure.details:
            document["details"] = list(failure.details)
        document.update(failure.extra)
        print(json_text(document), file=sys.stderr)
        return
    print(f"error: {safe_text(failure.message)}", file=sys.stderr)
    for line in failure.details:
        print(f"  {safe_text(line)}", file=sys.stderr)
    if failure.hint:
        print(f"hint: {safe_text(failure.hint)}", file=sys.stderr)
