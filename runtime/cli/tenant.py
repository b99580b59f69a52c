"""`garrison tenant`: tenants come, are looked at, suspended, resumed, and go."""

from typing import Annotated, Any

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
from runtime.cli.output import Output, moment
from runtime.cli.session import administer

app = typer.Typer(help="Create, list, show, suspend, resume and delete tenants.", no_args_is_help=True)


@app.command(epilog=examples("garrison tenant create st-marys"))
def create(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """Create a tenant: an account of its own, whose policy grants nothing until one is applied."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "tenants.create", tenant)
    Output(as_json=as_json).result(
        result, f"tenant `{tenant}` created; say who may do what with: garrison policy apply FILE"
    )


@app.command("list", epilog=examples("garrison tenant list", "garrison tenant list --json"))
def list_(directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False) -> None:
    """List the tenants."""
    result = administer(acting_folder(directory, acting_as), "tenants.list", "all")
    columns = ["tenant", "status", "roles", "agents", "credentials"]
    rows = [[row.get(column) for column in columns] for row in result.get("tenants", [])]
    Output(as_json=as_json).rows(result, columns, rows, none="no tenants")


@app.command(epilog=examples("garrison tenant show st-marys"))
def show(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """Show one tenant: its state, account, roles and agents."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "tenants.show", tenant)
    Output(as_json=as_json).result(result, *_described(result))


@app.command(epilog=examples("garrison tenant suspend st-marys"))
def suspend(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """Cut a tenant off: its connections end and its calls are refused until it is resumed."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "tenants.suspend", tenant)
    Output(as_json=as_json).result(result, f"tenant `{tenant}` suspended")


@app.command(epilog=examples("garrison tenant resume st-marys"))
def resume(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """Let a suspended tenant work again."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "tenants.resume", tenant)
    Output(as_json=as_json).result(result, f"tenant `{tenant}` resumed")


@app.command(epilog=examples("garrison tenant delete st-marys --yes"))
def delete(
    tenant: TenantArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a tenant for good: its account, credentials, keys and deployments."""
    names.tenant(tenant)
    folder = acting_folder(directory, acting_as)
    if not yes:
        _confirm(tenant, as_json=as_json)
    result = administer(folder, "tenants.delete", tenant)
    Output(as_json=as_json).result(result, f"tenant `{tenant}` deleted")


def _confirm(tenant: str, *, as_json: bool) -> None:
    import sys

    if as_json or not sys.stdin.isatty():
        raise bad_input(f"deleting `{tenant}` can't be undone", hint="add --yes if you mean it")
    if not typer.confirm(f"delete tenant {tenant} for good?", err=True):
        raise typer.Abort


def _described(result: dict[str, Any]) -> list[str]:
    """One line a field, aligned; lists as comma-separated names, times as people read them."""
    width = max((len(key) for key in result), default=0) + 2
    return [f"{key.replace('_', ' ') + ':':<{width}}{_shown(key, value)}" for key, value in result.items()]


def _shown(key: str, value: object) -> str:
    if key.endswith("_at"):
        return moment(value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)
