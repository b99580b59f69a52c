"""`garrison status`: how the platform is."""

from typing import Any

import typer

from runtime.cli.options import DEFAULT_DIR, AsOption, DirOption, JsonOption, acting_folder, examples
from runtime.cli.output import Output, table
from runtime.cli.session import administer


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    app.command(epilog=examples("garrison status", "garrison status --json"))(status)


def status(directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False) -> None:
    """Show the platform: its tenants, hosts and agents."""
    result = administer(acting_folder(directory, acting_as), "status.show", "all")
    Output(as_json=as_json).result(result, *_lines(result))


def _lines(result: dict[str, Any]) -> list[str]:
    """Plain facts first, one a line; then each list as a table under its name."""
    facts = [(key, value) for key, value in result.items() if not isinstance(value, list | dict)]
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in facts]
    for key, value in result.items():
        if isinstance(value, dict):
            lines += [f"{key.replace('_', ' ')}: " + ", ".join(f"{name} {count}" for name, count in value.items())]
        elif isinstance(value, list):
            lines += ["", f"{key.replace('_', ' ')}: {len(value)}", *_table(value)]
    return lines


def _table(rows: list[Any]) -> list[str]:
    records = [row for row in rows if isinstance(row, dict)]
    columns = [key for key in (records[0] if records else {}) if not isinstance(records[0][key], dict)]
    if not columns:
        return [f"  {row}" for row in rows]
    return ["  " + line for line in table(columns, [[row.get(column) for column in columns] for row in records])]
