"""`garrison status`: how the platform is."""

from typing import Any

import typer

from runtime.cli.options import DEFAULT_DIR, AsOption, DirOption, JsonOption, acting_folder, examples
from runtime.cli.output import Output, moment, table
from runtime.cli.session import administer


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    app.command(epilog=examples("garrison status", "garrison status --json"))(status)


def status(directory: DirOption = DEFAULT_DIR, acting_as: AsOption = None, as_json: JsonOption = False) -> None:
    """Show the platform: its tenants, hosts and agents."""
    result = administer(acting_folder(directory, acting_as), "status.show", "all")
    Output(as_json=as_json).result(result, *_lines(result))


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
    runs = [f"{agent.get('tenant')}/{agent.get('agent')}" for agent in host.get("agents", [])]
    state = "up to date" if host.get("up_to_date") else "catching up"
    return [host.get("host"), state, moment(host.get("seen_at")), runs]
