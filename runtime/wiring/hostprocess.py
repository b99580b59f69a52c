"""The local host as a child process: it ends with its parent, keeps a log, and drains on SIGTERM.

It gets a scrubbed environment: the platform's master key, and whatever else the operator's shell holds, stay here.
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from runtime.bus.server import die_with_parent
from runtime.wiring.logfiles import open_log

STOP_TIMEOUT_S = 75.0  # draining, teardown and the last audit records take at most 56 s
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")


class HostProcess:
    """Runs `garrison host run` with a credentials folder."""

    def __init__(self, *, folder: Path, workdir: Path, log_path: Path) -> None:
        # -P: what lies in the folder that `up` was started in is not code of ours.
        self._command = [sys.executable, "-P", "-m", "runtime.cli", "host", "run", "--as", str(folder)]
        self._command += ["--work", str(workdir)]
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it; readiness is what the control plane hears of it."""
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with open_log(self._log_path) as log:
            self._process = await asyncio.create_subprocess_exec(
                *die_with_parent(self._command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    async def wait(self) -> int:
        """Return its exit code when it has ended; at once if it never started."""
        return await self._process.wait() if self._process is not None else 1

    async def stop(self) -> None:
        """Let it drain and end; kill it only when that takes far too long."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
