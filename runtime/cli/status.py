"""`garrison status`: how the platform is."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.exits import CommandError
from runtime.cli.options import DEFAULT_DIR, AsOption, DirOption, JsonOption, acting_folder, examples, seconds
from runtime.cli.output import Output, moment, table
from runtime.cli.session import administer

_ASK_EVERY_S = 0.1


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    app.command(epilog=examples("garrison status", "garrison status --wait 30s", "garrison status --json"))(status)


def status(
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    wait: Annotated[
        str | None, typer.Option("--wait", metavar="TIME", help="Wait so long for the platform to serve: 30s, 2m.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the platform: its tenants, hosts and agents."""
    result = _serving(directory, acting_as, seconds(wait)) if wait is not None else _asked(directory, acting_as)
    Output(as_json=as_json).result(result, *_lines(result))


def _asked(directory: Path, acting_as: Path | None) -> dict[str, Any]:
    return administer(acting_folder(directory, acting_as), "status.show", "all")


def _serving(directory: Path, acting_as: Path | None, within_s: float) -> dict[str, Any]:
    """Ask until a host lives; what went wrong last is raised when the time is over."""
    from runtime.client import ClientError

    ends = time.monotonic() + within_s
    while True:
        try:
            result = _asked(directory, acting_as)
            if result.get("hosts") or time.monotonic() > ends:
                return result
        except (CommandError, ClientError):
            if time.monotonic() > ends:
                raise
        time.sleep(_ASK_EVERY_S)


def _lines(result: dict[str, Any]) -> list[str]:
    """What an operator looks for first: who is there, what runs where, and what is not as it should be."""
    tenants = result.get("tenants") or {}
    hosts = [host for host in result.get("hosts", []) if isinstance(host, dict)]
    lines = [
        f"control plane: up since {moment(result.get('started_at'))}, revision {result.get('revision')}",
        f"tenants:       {', '.join(f'{count} {state}' for state, count in tenants.items()) or 'none'}",
        f"agents:        {result.get('agents')} deployed",
        f"hosts:         {len(hosts)} live",
    ]
    lines += [f"  {line}" for line in table(["host", "state", "seen", "runs"], [_host(host) for host in hosts])]
    failed = [agent for host in hosts for agent in host.get("agents", []) if agent.get("state") == "failed"]
    lines += [f"failed:        {agent.get('tenant')}/{agent.get('agent')}: {agent.get('error')}" for agent in failed]
    for key in ("unconfirmed_accounts", "unsettled_agents"):
        if result.get(key):
            lines.append(f"{key.replace('_', ' ')}: {', '.join(map(str, result[key]))}")
    if result.get("audit_records_dropped"):
        lines.append(f"audit records dropped: {result['audit_records_dropped']}")
    return lines


def _host(host: dict[str, Any]) -> list[object]:
    runs = sorted(f"{agent.get('tenant')}/{agent.get('agent')}" for agent in host.get("agents", []))
    state = "up to date" if host.get("up_to_date") else "catching up"
    return [host.get("host"), state, moment(host.get("seen_at")), runs]
