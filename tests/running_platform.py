"""The real thing: `garrison up` as a process in the test's folder, and commands run against it as users run them."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from runtime.cli import main

GARRISON = (sys.executable, "-m", "runtime.cli")
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended. A traceback is never one of the ways."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that it printed: its result, or its error."""
        return json.loads(self.out if self.code == 0 else self.err)


class RunningPlatform:
    """A platform that runs in `folder`, and is administered from the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.ready: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, and wait for the line that says it is ready; once more on the same port."""
        port = self.ready["url"].rsplit(":", 1)[1] if self.ready else "0"
        self._process = self.begin("up", "--port", port, "--json")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the platform did not start:\n{self._process.communicate()[1]}\n{self.log}")
        self.ready = json.loads(line)

    def stop(self) -> int:
        """Ask it to end, as a service manager would; its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        code, self._process = self._process.returncode, None
        return code

    def signal(self, number: int) -> None:
        """Send its process a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would; what it leaves behind is the test's to look for."""
        self.signal(signal.SIGKILL)
        self.ended()

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        out, err = process.communicate(timeout=30)
        assert "Traceback" not in out + err, err
        return process.returncode

    def children(self) -> dict[str, int]:
        """Its processes by what they are: `server` and `host`."""
        pid = self.ready["pid"]
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        commands = {int(child): command_line(int(child)) for child in found}
        named = {child: command for child, command in commands.items() if command}
        return {"host" if b"runtime.cli" in command else "server": child for child, command in named.items()}

    @property
    def log(self) -> str:
        """What its processes logged."""
        logs = sorted((self.data / "logs").glob("*.log")) if (self.data / "logs").is_dir() else []
        return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in logs)

    def spawn(self, *arguments: str, stdin: str | None = None) -> Finished:
        """Run one command to its end, as a process of its own."""
        with self.begin(*arguments) as process:
            out, err = process.communicate(stdin, timeout=60)
        assert "Traceback" not in out + err, err
        return Finished(code=process.returncode, out=out, err=err)

    def run(self, *arguments: str) -> Finished:
        """Run one command to its end, in this process: the same entry point, without a process's start."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, {"GARRISON_DIR": str(self.data)}),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main.run(arguments)
        assert "Traceback" not in err.getvalue(), err.getvalue()
        return Finished(code=code, out=out.getvalue(), err=err.getvalue())

    def must(self, *arguments: str) -> Any:
        """Run a command that has to succeed; what it printed with `--json`."""
        finished = self.run(*arguments, "--json")
        assert finished.code == 0, finished.err
        return finished.json

    def must_spawned(self, *arguments: str) -> Any:
        """The same, as a process of its own."""
        finished = self.spawn(*arguments, "--json")
        assert finished.code == 0, finished.err
        return finished.json

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [*GARRISON, *arguments],
            cwd=self.folder,
            env={**os.environ, "GARRISON_DIR": str(self.data), "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def state(self, tenants: Sequence[str]) -> dict[str, Any]:
        """All that an administrator can see of tenants; times aside."""
        listed = self.must("tenant", "list")["tenants"]
        seen: dict[str, Any] = {"tenants": [row for row in listed if row["tenant"] != "platform"]}
        for tenant in tenants:
            seen[tenant] = [
                self.must("policy", "show", tenant),
                [(row["user"], row["status"]) for row in self.must("creds", "list", tenant)["credentials"]],
                [(row["agent"], row["digest"]) for row in self.must("agent", "list", tenant)["agents"]],
            ]
        return seen


POLICY = """\
tenant: {tenant}
roles:
  nurse:
    call: [vitals.*, greeting, odd.*]
"""


def prepared(platform: RunningPlatform, tenant: str, *nurses: str) -> None:
    """Make a tenant with its policy, and a folder `TENANT-NAME` for each of its nurses."""
    platform.must("tenant", "create", tenant)
    (platform.folder / f"{tenant}.yaml").write_text(POLICY.format(tenant=tenant))
    platform.must("policy", "apply", f"{tenant}.yaml")
    for name in nurses:
        platform.must("creds", "issue", tenant, name, "--role", "nurse", "--out", f"{tenant}-{name}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def running_platform(folder: Path) -> Iterator[RunningPlatform]:
    """A platform for as long as the block runs."""
    platform = RunningPlatform(folder)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()


def command_line(pid: int) -> bytes:
    """With what a process was started; nothing if it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
