"""The README's `bash` blocks, typed in order by a reader in a fresh folder. What is only shown is marked `console`."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
# Getting here, and what runs this test: the reader does it, the test has done it.
DONE = re.compile(r"^(git clone|cd [\w-]+$|make (setup|test|lint)|\.ci/run|pip install|python3? -m (venv|pip))")
# The reader's folder is fresh, and this one may hold what a reader's commands made.
NOT_THE_READERS = {".git", "platform", "garrison-data", "amy"}
SCRIPT = "\n".join(line for block in BLOCKS for line in block.splitlines() if not DONE.match(line))


@pytest.mark.timeout(180)
@pytest.mark.skipif(not SCRIPT.strip(), reason="the README has nothing to run yet")
def test_what_the_readme_tells_a_reader_to_type_works(tmp_path: Path) -> None:
    for entry in ROOT.iterdir():
        if entry.name not in NOT_THE_READERS:
            (tmp_path / entry.name).symlink_to(entry)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GARRISON_")}
    environ |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (tmp_path / "readme.log").open("w+b") as log:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", re.sub(r"--port \d+", f"--port {free_port()}", SCRIPT)],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            code = shell.wait(150)
        finally:
            end_group(shell.pid)  # with what a block left running in the background
            shell.wait()
        log.seek(0)
        assert code == 0, log.read().decode(errors="replace")


def free_port() -> int:
    """A reader has the README's port to themselves; tests that run at once do not."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def end_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
