"""`garrison creds`: issues, lists and revokes a tenant's credentials.

Keys are made here and stay here: the platform is sent a public key and a certificate request, and sends back the JWT
and the certificate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli import names
from runtime.cli.exits import bad_input, failed
from runtime.cli.options import (
    DEFAULT_DIR,
    AsOption,
    DirOption,
    JsonOption,
    TenantArgument,
    acting_folder,
    examples,
    seconds,
)
from runtime.cli.output import Output, moment
from runtime.cli.session import administer, converse

if TYPE_CHECKING:
    from runtime.client import Client
    from runtime.client.issuing import IssuedFolder

app = typer.Typer(help="Issue, list and revoke credentials.", no_args_is_help=True)


@app.command(
    epilog=examples(
        "garrison creds issue st-marys amy --role nurse --out amy",
        "garrison creds issue st-marys amy --role nurse --ttl 30m --out amy --force",
    )
)
def issue(
    tenant: TenantArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who they are for.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="The one role that they carry.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The folder to write.")],
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="How long they last: 30m, 8h, 7d.")] = "8h",
    force: Annotated[bool, typer.Option("--force", help="Replace the credentials that are in the folder.")] = False,
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue credentials: a folder with all that a caller, or the `nats` command, needs to connect."""
    from runtime.client.folderfiles import write_folder
    from runtime.client.issuing import issue_folder

    names.tenant(tenant)
    names.user(name)
    names.role(role)
    ttl_s = seconds(ttl)
    _check_target(out, force=force)
    folder = acting_folder(directory, acting_as)

    async def work(client: Client) -> IssuedFolder:
        return await issue_folder(client, tenant=tenant, name=name, role=role, ttl_s=ttl_s)

    issued = converse(folder, work)
    write_folder(out, issued.contents)
    until = moment(issued.expires_at)
    value = {
        "tenant": tenant,
        "name": name,
        "role": role,
        "user": issued.contents.user,
        "expires_at": issued.expires_at,
        "folder": str(out),
    }
    Output(as_json=as_json).result(value, f"credentials of `{name}` ({role} of {tenant}) in `{out}`, until {until}")


@app.command("list", epilog=examples("garrison creds list st-marys"))
def list_(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """List a tenant's credentials: who has which role, until when, and who issued them."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "credentials.list", tenant)
    rows = [
        [
            row.get("name"),
            row.get("role"),
            row.get("status"),
            moment(row.get("expires_at")),
            moment(row.get("last_seen")),
            row.get("issued_by"),
            row.get("user"),
        ]
        for row in result.get("credentials", [])
    ]
    columns = ["name", "role", "status", "until", "last seen", "issued by", "user"]
    Output(as_json=as_json).rows(result, columns, rows, none=f"tenant `{tenant}` has no credentials")


@app.command(
    epilog=examples("garrison creds revoke st-marys amy", "garrison creds revoke st-marys --user UABC…  # one key")
)
def revoke(
    tenant: TenantArgument,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Whose credentials, all of them.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="KEY", help="Only the ones of this public key.")] = None,
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke credentials: connections that use them end at once, and no host accepts them any more."""
    names.tenant(tenant)
    if (name is None) == (user is None):
        raise bad_input("name the user, or give one key with --user, but not both")
    data = {"name": names.user(name)} if name is not None else {"user": _user_key(user or "")}
    result = administer(acting_folder(directory, acting_as), "credentials.revoke", tenant, data)
    count = len(result.get("revoked") or ())
    keys = "1 key" if count == 1 else f"{count} keys"
    Output(as_json=as_json).result(result, f"credentials of `{name or user}` revoked ({keys})")


def _check_target(out: Path, *, force: bool) -> None:
    """Refuse a target that would be overwritten, before anything is asked for.

    Raises:
        CommandError: It is there and `force` is not set, or it is there and is no credentials folder.
    """
    from runtime.client.folder import FILES

    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise failed("exists", f"`{out}` is in the way: it is not a folder")
    if not out.exists():
        return
    if not force:
        raise failed("exists", f"`{out}` exists already", hint="choose another --out, or replace it with --force")
    foreign = {entry.name for entry in out.iterdir()} - FILES
    if foreign:
        first = min(foreign)
        raise failed("exists", f"`{out}` holds more than credentials (`{first}`), so it is not replaced")


def _user_key(text: str) -> str:
    from authz.errors import AuthzError
    from authz.keys import UserPublicKey

    try:
        return UserPublicKey.parse(text).text
    except AuthzError as error:
        raise bad_input(f"`{text}` is not a user's public key") from error
