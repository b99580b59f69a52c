"""`garrison up`: the whole platform in one folder, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import logging.handlers
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli.exits import bad_input
from runtime.cli.options import DEFAULT_DIR, DirOption, JsonOption, examples
from runtime.cli.output import Output

if TYPE_CHECKING:
    from runtime.wiring.platform import Platform

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4222
MAX_LOG_BYTES = 16 * 1024 * 1024

PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")]
HostOption = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="IP address of this machine to listen on, and to be called at.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "up",
        epilog=examples(
            "garrison up",
            "garrison up --dir /var/lib/garrison --port 4333",
            "garrison up --host 192.0.2.7  # callers on other machines",
            "garrison up --json --port 0",
        ),
    )(up)


def up(
    directory: DirOption = DEFAULT_DIR,
    host: HostOption = DEFAULT_HOST,
    port: PortOption = DEFAULT_PORT,
    as_json: JsonOption = False,
) -> None:
    """Run the platform: nats-server, the control plane and a host; the first run sets everything up.

    Prints one line when it is ready. Ctrl-C or SIGTERM ends it: accepted calls are finished first. What was
    acknowledged survives any crash: start it again in the same folder.
    """
    import uvloop

    address = _address(host)
    uvloop.run(_serve(directory.absolute(), address, port, Output(as_json=as_json)))


def _address(text: str) -> str:
    """One address: it stands in the server's certificate, and in every credentials folder, so it can't be "all"."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise bad_input(f"`{text}` is not an IP address", hint="name one of this machine's: 192.0.2.7") from None
    if address.is_unspecified or address.is_multicast:
        raise bad_input(f"callers can't connect to `{text}`", hint="name one of this machine's: 192.0.2.7")
    return str(address)


async def _serve(directory: Path, host: str, port: int, output: Output) -> None:
    from runtime.wiring.platform import Platform
    from runtime.wiring.platform_folder import PlatformFolder

    stop = stop_on_signals()
    folder = PlatformFolder(root=directory)
    folder.prepare()
    log_to(folder.logs / "platform.log")
    platform = Platform(folder, host=host, port=port or -1, progress=lambda step: output.note(f"{step} …"))
    starting = asyncio.create_task(platform.start(os.environ))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            starting.result()
            _announce(platform, output)
            await stopping
        output.note("stopping …")
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.wait({starting, stopping})
        await platform.stop()


def _announce(platform: Platform, output: Output) -> None:
    output.result(
        {"ready": True, "url": platform.url, "operator": str(platform.operator_folder), "pid": os.getpid()},
        f"garrison is ready at {platform.url}; the operator's credentials are in {platform.operator_folder}",
    )


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


def log_to(path: Path | None) -> None:
    """Send log records to `path`, which stays bounded and private, or to standard error.

    Raises:
        CommandError: `GARRISON_LOG_LEVEL` names no level.
        OSError: The file cannot be opened.
    """
    level = os.environ.get("GARRISON_LOG_LEVEL", "INFO").upper()
    if level not in logging.getLevelNamesMapping():
        raise bad_input(f"GARRISON_LOG_LEVEL is `{level}`", hint="it is one of DEBUG, INFO, WARNING and ERROR")
    handler: logging.Handler = logging.StreamHandler()
    if path is not None:
        path.touch(mode=0o600)
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8")
    logging.basicConfig(handlers=[handler], level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
