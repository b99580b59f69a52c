import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_server import MakeRealm, Realm

from runtime.bus.errors import PortInUseError, ServerStartError
from runtime.bus.server import EmbeddedServer


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_server_stops_in_good_order_and_frees_its_port(realm: Realm) -> None:
    pid = realm.server.pid
    assert pid is not None
    await realm.server.stop()
    assert realm.server.pid is None
    assert not alive(pid)
    assert "Server Exiting" in realm.log
    await realm.start()
    assert realm.server.pid is not None


async def test_end_of_the_server_is_seen(realm: Realm) -> None:
    assert realm.server.pid is not None
    os.kill(realm.server.pid, signal.SIGKILL)
    assert await realm.server.wait() == -signal.SIGKILL
    assert realm.server.pid is None


async def test_port_in_use_is_one_clear_error(realm: Realm, make_realm: MakeRealm) -> None:
    other = await make_realm(start=False)
    port = int(realm.server.url.rsplit(":", 1)[1])
    other.settings = replace(other.settings, port=port)
    with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is already in use") as caught:
        await other.start()
    assert caught.value.port == port
    assert other.server.pid is None


async def test_port_held_by_another_program_is_one_clear_error(make_realm: MakeRealm) -> None:
    other = await make_realm(start=False)
    with socket.create_server(("127.0.0.1", 0)) as held:
        other.settings = replace(other.settings, port=held.getsockname()[1])
        with pytest.raises(PortInUseError):
            await other.start()


async def test_broken_configuration_says_why(tmp_path: Path) -> None:
    config = tmp_path / "server.conf"
    config.write_text('port: "no number"\n', encoding="utf-8")
    with pytest.raises(ServerStartError, match=r"server\.conf:1") as caught:
        await EmbeddedServer(config, tmp_path / "log", tmp_path / "run").start()
    assert caught.value.detail


async def test_second_server_on_the_same_store_or_port_does_not_disturb_the_first(realm: Realm) -> None:
    second = EmbeddedServer(realm.config, realm.folder / "second.log", realm.folder / "run2")
    realm.config.write_text(
        realm.config.read_text(encoding="utf-8").replace("port: -1", f"port: {realm.server.url.rsplit(':', 1)[1]}"),
        encoding="utf-8",
    )
    with pytest.raises((ServerStartError, PortInUseError)):
        await second.start()
    assert (await realm.connect(realm.user(realm.accounts["ALPHA"]))).is_connected


async def test_ready_well_under_a_second(realm: Realm) -> None:
    # No timed assertion on a shared machine beyond an order of magnitude.
    await realm.server.stop()
    started = time.monotonic()
    await realm.start()
    assert time.monotonic() - started < 10


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_server_dies_with_its_parent_even_when_that_is_killed(make_realm: MakeRealm) -> None:
    realm = await make_realm(start=False)
    await realm.start()
    await realm.server.stop()
    program = f"""
        import asyncio, sys
        from pathlib import Path
        from runtime.bus.server import EmbeddedServer
        async def main():
            folder = Path({str(realm.folder)!r})
            server = EmbeddedServer(folder / "server.conf", folder / "server.log", folder / "run")
            await server.start()
            print(server.pid, flush=True)
            await server.wait()
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert parent.stdout is not None
    server_pid = int(await parent.stdout.readline())
    assert alive(server_pid)
    parent.kill()
    await parent.wait()
    while alive(server_pid):  # noqa: ASYNC110  # the test's time limit is the judge
        await asyncio.sleep(0.01)


async def test_log_is_kept_over_restarts(realm: Realm) -> None:
    await realm.server.stop()
    await realm.start()
    assert realm.log.count("Server is ready") == 2
