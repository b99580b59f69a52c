"""`garrison host run`: runs deployments as a host of the platform. `garrison up` starts one by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli.options import JsonOption, examples
from runtime.cli.output import Output
from runtime.cli.up import log_to, stop_on_signals

if TYPE_CHECKING:
    from runtime.client.identity import Identity

app = typer.Typer(help="Run deployments on this machine.", no_args_is_help=True)


@app.command("run", epilog=examples("garrison host run --as hosts/ward-3 --work /var/lib/garrison-host"))
def run(
    folder: Annotated[Path, typer.Option("--as", metavar="FOLDER", help="Credentials of role `host` of `platform`.")],
    work: Annotated[Path, typer.Option("--work", metavar="DIR", help="A private folder for agents' code.")],
    as_json: JsonOption = False,
) -> None:
    """Serve what is deployed until SIGINT or SIGTERM, then finish the accepted calls and end.

    Prints one line when the platform has let it in; what follows on standard error is its log.
    Agents run inside this process: deploy only code that you trust.
    """
    import uvloop

    log_to(None)
    uvloop.run(_serve(folder.absolute(), work.absolute(), Output(as_json=as_json)))


async def _serve(folder: Path, work: Path, output: Output) -> None:
    from runtime.wiring.host import run_host

    def announce(identity: Identity) -> None:
        output.result(
            {"connected": True, "host": identity.name, "url": identity.url, "pid": os.getpid()},
            f"host `{identity.name}` serves the platform at {identity.url}",
        )

    await run_host(folder, workdir=work, stop=stop_on_signals(), connected=announce)
