"""`garrison policy apply` and `show`: put a tenant's policy in force, and see the one that is.

A policy file's faults are found here, before anything is sent; the control plane checks it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli import names
from runtime.cli.exits import bad_input
from runtime.cli.options import (
    DEFAULT_DIR,
    AsOption,
    DirOption,
    JsonOption,
    TenantArgument,
    acting_folder,
    examples,
)
from runtime.cli.output import Output
from runtime.cli.session import administer

if TYPE_CHECKING:
    from authz.policy import Policy

app = typer.Typer(help="Check, explain, compare, apply and show a tenant's policy.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A policy file (YAML).")]

_FILE_LIMIT = 1024 * 1024


@app.command(epilog=examples("garrison policy apply st-marys.yaml"))
def apply(
    file: FileArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """Put a tenant's policy in force; returns when the server and every live host have acknowledged it."""
    policy = load(file)
    folder = acting_folder(directory, acting_as)
    result = administer(folder, "policy.apply", policy.tenant, {"policy": read_text(file)})
    epoch, changes = result.get("epoch"), result.get("changes") or []
    Output(as_json=as_json).result(
        result,
        f"policy of `{policy.tenant}` in force: epoch {epoch}, {len(changes)} change{'' if len(changes) == 1 else 's'}",
    )


@app.command(epilog=examples("garrison policy show st-marys"))
def show(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """Print the policy in force."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "policy.show", tenant)
    Output(as_json=as_json).result(result, *str(result.get("policy", "")).rstrip("\n").split("\n"))


def load(file: Path) -> Policy:
    """The policy in a file.

    Raises:
        PolicyFileError: It has faults; all of them are named.
        CommandError: It is no text, or too large.
    """
    from authz.policyfile import load_policy

    return load_policy(read_text(file), source=str(file))


def read_text(file: Path) -> str:
    """The text of a policy file.

    Raises:
        CommandError: It is no text, or too large.
        OSError: It can't be read.
    """
    with file.open("rb") as source:
        content = source.read(_FILE_LIMIT + 1)
    if len(content) > _FILE_LIMIT:
        raise bad_input(f"`{file}` is larger than {_FILE_LIMIT} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise bad_input(f"`{file}` is not UTF-8 text") from error
