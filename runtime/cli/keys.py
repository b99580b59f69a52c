"""`garrison keys`: lists a tenant's data keys and rotates them. Keys themselves are never shown."""

from typing import Annotated, Any

import typer

from runtime.cli import names
from runtime.cli.options import (
    DEFAULT_DIR,
    AsOption,
    DirOption,
    JsonOption,
    TenantArgument,
    acting_folder,
    examples,
)
from runtime.cli.output import Output, moment
from runtime.cli.session import administer

app = typer.Typer(help="List and rotate a tenant's data keys.", no_args_is_help=True)

_COLUMNS = ["key", "state", "since"]


@app.command("list", epilog=examples("garrison keys list st-marys", "garrison keys list st-marys --json"))
def list_(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """List a tenant's data keys: label, data subject, versions and what each version may still do."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "keys.list", tenant)
    rows = [row for entry in result.get("keys", []) for row in _rows(entry)]
    none = f"tenant `{tenant}` has no data keys: each is made when it is first used"
    Output(as_json=as_json).rows(result, _COLUMNS, rows, none=none)


@app.command(
    epilog=examples(
        "garrison keys rotate st-marys phi",
        "garrison keys rotate st-marys phi --data-subject patient/4711",
    )
)
def rotate(
    tenant: TenantArgument,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The label of the data, such as phi.")],
    subject: Annotated[
        str | None,
        typer.Option("--data-subject", metavar="SUBJECT", help="Whose key, such as patient/4711; the label's if none."),
    ] = None,
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new version that seals from now on; what older versions sealed still opens."""
    names.tenant(tenant)
    names.key_scope(label, subject)
    data = {"label": label} | ({} if subject is None else {"subject": subject})
    result = administer(acting_folder(directory, acting_as), "keys.rotate", tenant, data)
    newest = _rows(result)[-1][0] if result.get("versions") else label
    Output(as_json=as_json).result(result, f"`{newest}` seals from now on; what older versions sealed still opens")


def _rows(entry: dict[str, Any]) -> list[list[Any]]:
    subject = entry.get("subject")
    scope = str(entry.get("label")) + (f"/{subject}" if subject else "")
    return [
        [f"{scope}@{version.get('version')}", version.get("state"), moment(version.get("created_at"))]
        for version in entry.get("versions", [])
    ]
