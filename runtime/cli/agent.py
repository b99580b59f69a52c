"""`garrison agent`: deploys agents for a tenant, lists them and stops them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli import names
from runtime.cli.exits import failed
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

    result = _started(folder, work)
    hosts = [host for host in result.get("hosts", []) if isinstance(host, dict)]
    offers = sorted({str(name) for host in hosts for name in host.get("capabilities") or ()})
    where = ", ".join(str(host.get("host")) for host in hosts) or "no host yet"
    Output(as_json=as_json).result(
        result,
        f"agent `{agent}` of `{tenant}` serves {', '.join(offers) or 'nothing'} on {where}",
        f"snapshot {found.snapshot.digest}",
    )


@app.command("list", epilog=examples("garrison agent list st-marys"))
def list_(
    tenant: TenantArgument, directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False
) -> None:
    """List a tenant's agents and how they fare."""
    names.tenant(tenant)
    result = administer(acting_folder(directory, acting_as), "agents.list", tenant)
    rows = [row for agent in result.get("agents", []) for row in _rows(agent)]
    columns = ["agent", "host", "state", "capabilities", "snapshot", "error"]
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


def _rows(agent: dict[str, Any]) -> list[list[object]]:
    """A row for each host that runs the agent, or one that says that none does."""
    name, snapshot = agent.get("agent"), str(agent.get("digest", ""))[:12]
    reports = agent.get("hosts") or [{"state": "no host"}]
    return [
        [name, report.get("host"), report.get("state"), report.get("capabilities"), snapshot, report.get("error")]
        for report in reports
    ]


def _started(folder: Path, work: Callable[[Client], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Run the deployment; an agent that did not start is the agent's failure, not wrong input."""
    from runtime.client.errors import InvalidRequestError

    try:
        return converse(folder, work)
    except InvalidRequestError as error:
        if error.fields or not error.correlation_id:
            raise
        hint = "what ran before still runs; mend the agent and deploy it again"
        raise failed("not_started", error.message, hint=hint) from error
