"""`garrison host run`: runs deployments as a host of the platform. `garrison up` starts one by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.cli.options import examples
from runtime.cli.up import log_to, stop_on_signals

app = typer.Typer(help="Run deployments on this machine.", no_args_is_help=True)


@app.command("run", epilog=examples("garrison host run --as hosts/ward-3 --work /var/lib/garrison-host"))
def run(
    folder: Annotated[Path, typer.Option("--as", metavar="FOLDER", help="Credentials of role `host` of `platform`.")],
    work: Annotated[Path, typer.Option("--work", metavar="DIR", help="A private folder for agents' code.")],
) -> None:
    """Serve what is deployed until SIGINT or SIGTERM, then finish the accepted calls and end.

    Agents run inside this process: deploy only code that you trust.
    """
    import uvloop

    log_to(None)
    uvloop.run(_serve(folder.absolute(), work.absolute()))


async def _serve(folder: Path, work: Path) -> None:
    from runtime.wiring.host import run_host

    await run_host(folder, workdir=work, stop=stop_on_signals())
