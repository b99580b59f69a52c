"""A whole platform in one folder: nats-server, the control plane, and the local host.

The control plane runs in this process; nats-server and the host are supervised children that end with it, also when
it is killed. Starting again in the same folder goes on where it was.

Order of start: folder and keys, server, control plane, operator's credentials, host. Stop is the reverse: the host
drains while the control plane still stores its audit records.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from certs.contexts import client_context
from certs.keystore import KeyStore
from certs.masterkey import MasterKey
from runtime.bus.connection import Connection, Endpoint, connect
from runtime.bus.server import EmbeddedServer
from runtime.control.bootstrap import PlatformCredentials, PlatformKeys, ensure_platform
from runtime.control.plane import ControlPlane
from runtime.control.start import start_control_plane
from runtime.wiring.hostprocess import HostProcess
from runtime.wiring.keepalive import keep_alive
from runtime.wiring.platform_folder import PlatformError, PlatformFolder
from runtime.wiring.principals import CHECK_EVERY_S, OwnPrincipal, ensure_issued
from runtime.wiring.serverfiles import ServerFiles, write_server_files

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LOCAL_HOST = "local"
AGENTS_READY_TIMEOUT_S = 10.0
HOST_READY_TIMEOUT_S = 20.0
REOPEN_PAUSE_S = 1.0
_CONTROL_PAYLOAD = 1024 * 1024

Progress = Callable[[str], None]


class Platform:
    """Started by `start`, ended by `stop`; in between everything is kept alive."""

    def __init__(self, folder: PlatformFolder, *, port: int, progress: Progress, host: str = LOOPBACK) -> None:
        self._folder = folder
        self._address = host
        self._port = port
        self._progress = progress
        self._server: EmbeddedServer | None = None
        self._host: HostProcess | None = None
        self._plane: ControlPlane | None = None
        self._control_key = ""
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self._running_server().url.replace("nats://", "tls://", 1)

    @property
    def operator_folder(self) -> Path:
        """The first operator's credentials."""
        return self._folder.operator

    def own_endpoint(self) -> Endpoint:
        """How the platform itself connects, with the control plane's certificate."""
        files = ServerFiles(folder=self._folder.server)
        return Endpoint(
            url=self._running_server().url,
            tls=client_context(ca=files.ca, certificate=files.own_certificate, key=files.own_key),
            max_payload=_CONTROL_PAYLOAD,
        )

    async def audit_records(self) -> Sequence[tuple[int, bytes]]:
        """The first thousand audit records and their numbers, each one JSON object."""
        return await self._running_plane().storage.audit.read(1, 1000)

    async def start(self, environ: Mapping[str, str]) -> None:
        """Start everything; when it returns, calls are served.

        Raises:
            PlatformError: The folder cannot be used.
            CertsError: The key store cannot be opened.
            BusError: The server does not start or does not let us in.
            ControlError: The state cannot be used.
        """
        self._folder.prepare()
        self._lock = self._folder.lock()
        try:
            await self._start_all(environ)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Drain and end everything, each part whatever became of the others; repeats safely."""
        async with contextlib.AsyncExitStack() as last_to_first:
            last_to_first.callback(self._unlock)
            if self._server is not None:
                last_to_first.push_async_callback(self._server.stop)
            last_to_first.push_async_callback(self._close_control)
            if self._host is not None:
                last_to_first.push_async_callback(self._host.stop)
            last_to_first.push_async_callback(self._end_watching)

    async def _end_watching(self) -> None:
        """Nothing is started again from here on. The control plane is kept: the host needs it while it drains."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _start_all(self, environ: Mapping[str, str]) -> None:
        self._progress("opening the key store")
        self._folder.require_master_key(environ)
        keystore = KeyStore(self._folder.keys, MasterKey.load(directory=self._folder.root, environ=environ))
        keys = ensure_platform(keystore, time.time())
        self._control_key = keys.control.public.text
        self._progress("starting nats-server")
        await self._start_server(keys)
        self._progress("starting the control plane")
        closed = asyncio.Event()
        await self._open_control(keys, keystore, closed)
        self._tasks.append(asyncio.create_task(self._keep_control(keys, keystore, closed), name="control plane"))
        self._progress("starting the local host")
        await self._issue_own()
        self._tasks.append(asyncio.create_task(self._keep_own_issued(), name="own credentials"))
        await self._start_host()

    async def _issue_own(self) -> None:
        operator = OwnPrincipal(name="operator", role="operator", folder=self._folder.operator)
        host = OwnPrincipal(name=LOCAL_HOST, role="host", folder=self._folder.local_host)
        for principal in (operator, host):
            await ensure_issued(principal, self._running_plane(), url=self.url, control=self._control_key)

    async def _keep_own_issued(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                await self._issue_own()
            except Exception:
                log.exception("the platform's own credentials could not be renewed yet")

    async def _start_server(self, keys: PlatformKeys) -> None:
        files = ServerFiles(folder=self._folder.server)
        write_server_files(files, keys, host=self._address, port=self._port, now=time.time())
        server = self._server = EmbeddedServer(files.config, self._folder.logs / "server.log", files.run)
        await server.start()

        async def start_again() -> None:
            # On the port that clients know, even if the first start was free to choose.
            write_server_files(files, keys, host=self._address, port=_port_of(server.url), now=time.time())
            await server.start()

        self._tasks.append(
            asyncio.create_task(keep_alive("nats-server", start=start_again, ended=server.wait), name="nats-server")
        )

    async def _open_control(self, keys: PlatformKeys, keystore: KeyStore, closed: asyncio.Event) -> None:
        endpoint = self.own_endpoint()
        credentials = PlatformCredentials(keys, time.time)
        system = await connect(
            endpoint,
            credentials.system_creds,
            name="claims writer",
            on_closed=closed.set,
            on_restored=self._server_returned,
        )
        self._connections.append(system)
        control = await connect(endpoint, credentials.control_creds, name="control plane", on_closed=closed.set)
        self._connections.append(control)
        self._plane = await start_control_plane(
            control=control,
            system=system,
            keystore=keystore,
            authority=keys.authority,
            platform=keys,
            clock=time.time,
        )

    def _server_returned(self) -> None:
        if self._plane is not None:
            self._plane.server_returned()

    async def _keep_control(self, keys: PlatformKeys, keystore: KeyStore, closed: asyncio.Event) -> None:
        """Open the control plane's connections anew when one has ended for good."""
        while True:
            await closed.wait()
            closed.clear()
            log.warning("a connection of the control plane ended; opening it anew")
            try:
                await self._close_control()
                await self._open_control(keys, keystore, closed)
            except Exception:
                log.exception("the control plane could not be opened anew yet")
                closed.set()
                await asyncio.sleep(REOPEN_PAUSE_S)

    async def _close_control(self) -> None:
        plane, self._plane = self._plane, None
        connections, self._connections = self._connections, []
        try:
            if plane is not None:
                await plane.stop()
        finally:
            for connection in connections:
                await connection.close()

    async def _start_host(self) -> None:
        host = self._host = HostProcess(
            folder=self._folder.local_host,
            workdir=self._folder.root / "hosts" / "work",
            log_path=self._folder.logs / "host.log",
        )
        await host.start()
        self._tasks.append(asyncio.create_task(keep_alive("the local host", start=host.start, ended=host.wait)))
        await self._await_host()

    async def _await_host(self) -> None:
        """Wait for the host, and for its agents; but one agent that takes long is no reason to serve none."""
        plane = self._running_plane()
        if await plane.host_ready(LOCAL_HOST, timeout_s=AGENTS_READY_TIMEOUT_S):
            return
        if not await plane.host_ready(LOCAL_HOST, timeout_s=HOST_READY_TIMEOUT_S, starting_is_ready=True):
            raise PlatformError(
                f"the local host was not ready within {AGENTS_READY_TIMEOUT_S + HOST_READY_TIMEOUT_S:.0f} s",
                hint=f"its log is {self._folder.logs / 'host.log'}",
            )
        self._progress("some agents are still starting: `garrison status` shows them")

    def _running_server(self) -> EmbeddedServer:
        if self._server is None:
            raise RuntimeError("the platform is not started")
        return self._server

    def _running_plane(self) -> ControlPlane:
        if self._plane is None:
            raise RuntimeError("the control plane is not running")
        return self._plane


def _port_of(url: str) -> int:
    port = urlsplit(url).port
    if port is None:
        raise RuntimeError("the server's address has no port")
    return port
