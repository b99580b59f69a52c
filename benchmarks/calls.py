"""What a Garrison call costs beside a raw NATS request, interleaved in one run on this machine.

    make bench                          # a table of ratios
    python benchmarks/calls.py --json   # for comparing with an earlier run

Each side is client, server and responder in three processes. Raw is nats-py over TCP without any security; Garrison is
its whole path: mutual TLS, JWTs, service import, authentication, policy, validation, audit. Ratios are taken within a
round, since a shared machine's speed drifts; absolute figures are only for orientation.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import nats
import uvloop

from runtime.bus.server import EmbeddedServer
from runtime.cli.agentsource import find_agent
from runtime.client import Client
from runtime.client.deploying import deploy_snapshot
from runtime.client.folderfiles import write_folder
from runtime.client.issuing import issue_folder

HERE = Path(__file__).parent
POLICY = "tenant: bench\nroles:\n  caller:\n    call: [echo]\n"
PAYLOAD = {"message": "x" * 100}
IN_FLIGHT = 64

Request = Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def raw(folder: Path) -> AsyncIterator[Request]:
    """Raw nats-py request and reply over a server without security."""
    config = folder / "raw.conf"
    config.write_text("listen: 127.0.0.1:-1\n")
    server = EmbeddedServer(config, folder / "raw.log", folder / "raw-run")
    await server.start()
    with subprocess.Popen([sys.executable, HERE / "responder.py", server.url], stdout=subprocess.PIPE) as responder:
        try:
            assert responder.stdout is not None  # noqa: S101 - piped above
            await asyncio.to_thread(responder.stdout.readline)
            connection = await nats.connect(server.url)
            body = json.dumps(PAYLOAD).encode()
            yield lambda: connection.request("bench.echo", body, timeout=10)
            await connection.close()
        finally:
            responder.kill()
            await server.stop()


@contextlib.asynccontextmanager
async def garrison(folder: Path) -> AsyncIterator[Request]:
    """The hello agent's `echo`, called with a tenant's credentials on a running platform."""
    command = [sys.executable, "-m", "runtime.cli", "up", "--dir", str(folder / "platform"), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as platform:
        try:
            assert platform.stdout is not None  # noqa: S101 - piped above
            ready = json.loads(await asyncio.to_thread(platform.stdout.readline))
            await _set_up(Path(ready["operator"]), folder)
            async with Client.connect(folder / "caller") as client:
                yield lambda: client.call("echo", PAYLOAD)
        finally:
            platform.terminate()
            await asyncio.to_thread(platform.wait)


async def _set_up(operator_folder: Path, folder: Path) -> None:
    async with Client.connect(operator_folder) as operator:
        await operator.admin("tenants.create", "bench")
        await operator.admin("policy.apply", "bench", {"policy": POLICY})
        found = find_agent(str(HERE.parent / "examples" / "hello"), working_folder=folder)
        await deploy_snapshot(operator, tenant="bench", agent=found.agent, entry=found.entry, snapshot=found.snapshot)
        issued = await issue_folder(operator, tenant="bench", name="caller", role="caller", ttl_s=3600)
        write_folder(folder / "caller", issued.contents)


async def latency_us(request: Request, seconds: float) -> float:
    """Median microseconds of one request at a time."""
    taken = []
    ends = time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends:
        await request()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


async def rate_per_s(request: Request, seconds: float) -> float:
    """Requests a second with `IN_FLIGHT` at a time."""
    ends = time.perf_counter() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await request()
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - started)


async def measure(rounds: int, seconds: float) -> list[dict[str, float]]:
    """One row a round; the order of the sides is shuffled anew in each."""
    with tempfile.TemporaryDirectory(prefix="garrison-bench-") as temporary:
        folder = Path(temporary)
        async with raw(folder) as raw_request, garrison(folder) as garrison_request:
            sides = [("raw", raw_request), ("garrison", garrison_request)]
            for _, request in sides:
                await rate_per_s(request, seconds / 2)  # warm up
            rows = []
            for _ in range(rounds):
                random.shuffle(sides)
                row = {}
                for name, request in sides:
                    row[f"{name}_latency_us"] = await latency_us(request, seconds)
                    row[f"{name}_rate_per_s"] = await rate_per_s(request, seconds)
                rows.append(row)
    return rows


def summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each figure and of the ratios within rounds."""
    for row in rows:
        row["latency_ratio"] = row["garrison_latency_us"] / row["raw_latency_us"]
        row["rate_ratio"] = row["garrison_rate_per_s"] / row["raw_rate_per_s"]
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name in rows[0]
        for values in [[row[name] for row in rows]]
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = summary(uvloop.run(measure(options.rounds, options.seconds)))
    if options.json:
        print(json.dumps({"in_flight": IN_FLIGHT, "rounds": options.rounds, "figures": figures}))
        return
    print(f"{'':<24} {'median':>10} {'min':>10} {'max':>10}")
    for name, spread in figures.items():
        print(f"{name:<24} {spread['median']:>10.2f} {spread['min']:>10.2f} {spread['max']:>10.2f}")


if __name__ == "__main__":
    main()
