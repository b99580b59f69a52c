"""`garrison agent`: deploys agents for a tenant, lists them and stops them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from runtime.cli.output import Output
from runtime.cli.session import administer, converse

if TYPE_CHECKING:
    from runtime.client import Client

app = typer.Typer(help="Deploy, list and stop agents.", no_args_is_help=True)


@app.command(
    epilog=examples(
        "garrison agent deploy st-marys examples/healthcare",
        "garrison agent deploy st-marys examples/hello/agent.py:HelloAgent",
        "garrison agent deploy st-marys examples.healthcare.agent:VitalsAgent",
    )
)
def deploy(
    tenant: TenantArgument,
    source: Annotated[
        str,
        typer.Argument(metavar="PATH_OR_IMPORT", help="A file, folder, import path or entry point; :Class to choose."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call it; by default what it calls itself.")
    ] = None,
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deploy an agent: its package is stored as a snapshot; returns when every live host runs it."""
    from runtime.cli.agentsource import find_agent
    from runtime.client.deploying import deploy_snapshot

    names.tenant(tenant)
    found = find_agent(source, working_folder=Path.cwd())
    agent = names.agent(name or found.agent)
    folder = acting_folder(directory, acting_as)

    async def work(client: Client) -> dict[str, Any]:
        return await deploy_snapshot(client, tenant=tenant, agent=agent, entry=found.entry, snapshot=found.snapshot)

    result = converse(folder, work)
    offers = ", ".join(map(str, result.get("capabilities") or ())) or "its capabilities"
    Output(as_json=as_json).result(
        result, f"agent `{agent}` serves {offers} for `{tenant}` (snapshot {found.snapshot.digest[:12]})"
    )


@app.command("list", epilog=examples("garrison agent list st-marys"))
def list_(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """List a tenant's agents and how they fare."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "agents.list", tenant)
    rows = [
        [row.get("agent"), row.get("state"), row.get("capabilities"), str(row.get("digest", ""))[:12], row.get("error")]
        for row in result.get("agents", [])
    ]
    columns = ["agent", "state", "capabilities", "snapshot", "error"]
    Output(as_json=as_json).rows(result, columns, rows, none=f"tenant `{tenant}` has no agents")


@app.command(epilog=examples("garrison agent stop st-marys vitals"))
def stop(
    tenant: TenantArgument,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")],
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop an agent: it finishes what it has begun, and its capabilities are served no more."""
    names.tenant(tenant)
    names.agent(agent)
    result = administer(acting_folder(directory, acting_as), "agents.stop", tenant, {"agent": agent})
    Output(as_json=as_json).result(result, f"agent `{agent}` of `{tenant}` stopped")
