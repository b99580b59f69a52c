"""The options that commands share, and where the platform is.

`--dir` or `GARRISON_DIR` names the platform's folder (`./garrison-data` by default); its `operator` folder holds the
operator's credentials, which administrative commands use unless `--as` names others.
"""

import re
from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.exits import CommandError, Exit, Failure, bad_input

DEFAULT_DIR = Path("garrison-data")
OPERATOR_FOLDER = "operator"

DirOption = Annotated[
    Path, typer.Option("--dir", envvar="GARRISON_DIR", metavar="DIR", help="The platform's folder.", show_envvar=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, errors included.")]
AsOption = Annotated[
    Path | None,
    typer.Option("--as", metavar="FOLDER", help="Credentials folder to act with; the operator's by default."),
]
TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
LONGEST_TTL_S = 366 * 86400


def acting_folder(directory: Path, acting_as: Path | None) -> Path:
    """The credentials folder that an administrative command uses.

    Raises:
        CommandError: No folder was named, and the platform's folder holds no operator.
    """
    if acting_as is not None:
        return acting_as
    operator = directory / OPERATOR_FOLDER
    if not operator.is_dir():
        raise CommandError(
            Failure(
                exit=Exit.FAILED,
                code="no_platform",
                message=f"there is no platform in `{directory}`",
                hint="start one with `garrison up`, or name its folder with --dir or GARRISON_DIR",
            )
        )
    return operator


def seconds(text: str) -> int:
    """A duration such as `90s`, `30m`, `8h`, `7d` or plain seconds, in seconds.

    Raises:
        CommandError: It is none of these, or not between one second and a year.
    """
    matched = _DURATION.fullmatch(text)
    if matched is None:
        raise bad_input(f"`{text}` is not a duration", hint="write it like 30m, 8h or 7d")
    duration = int(matched[1]) * _UNITS[matched[2] or "s"]
    if not 1 <= duration <= LONGEST_TTL_S:
        raise bad_input(f"`{text}` is not between 1s and {LONGEST_TTL_S // 86400}d")
    return duration


def examples(*lines: str) -> str:
    """The last part of a command's help: commands that work as they stand."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
