"""P4 for keys: whatever moment a writer is killed at, each key is what was acknowledged or what came after it, whole.

Two ways to die: at each single step of a write, one after another, and at random moments of a busy loop.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from certs.keystore import KeyStore
from certs.masterkey import MasterKey

ROOT = Path(__file__).parents[2]
STEPS = ("open", "fchmod", "write", "fsync", "rename", "link", "unlink", "flock", "close")

DIES_AT_STEP = """
import fcntl, os, signal, sys
from pathlib import Path
from certs.keystore import KeyStore
from certs.masterkey import MasterKey

directory, operation, fatal = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = KeyStore(directory, MasterKey(os.environ["GARRISON_MASTER_KEY"], source="a test"))
seen = 0

def wrap(module, name):
    real = getattr(module, name)
    def step(*args, **kwargs):
        global seen
        seen += 1
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(module, name, step)

for name in sys.argv[4:]:
    wrap(fcntl if name == "flock" else os, name)
if operation == "delete":
    store.delete("key")
else:
    getattr(store, operation)("key" if operation == "put" else "new", b"new" * 1000)
os.write(1, b"done %d" % seen)
"""

BUSY = """
import hashlib, os, sys
from pathlib import Path
from certs.keystore import KeyStore
from certs.masterkey import MasterKey

store = KeyStore(Path(sys.argv[1]), MasterKey(os.environ["GARRISON_MASTER_KEY"], source="a test"))
for number in range(int(sys.argv[2]), 1_000_000):
    name = f"key-{number % 5}"
    body = b"%d " % number * 500
    store.put(name, hashlib.sha256(body).digest() + body)
    os.write(1, b"%d\\n" % number)
"""


@pytest.fixture
def master_text() -> str:
    return MasterKey.generate()


def run(script: str, master_text: str, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "GARRISON_MASTER_KEY": master_text},
        stdout=subprocess.PIPE,
    )


def opened(directory: Path, master_text: str) -> KeyStore:
    return KeyStore(directory, MasterKey(master_text, source="a test"))


@pytest.mark.parametrize("operation", ["put", "put_new", "delete"])
def test_p4_a_writer_killed_at_any_step_leaves_the_old_key_or_the_new(
    tmp_path: Path, master_text: str, operation: str
) -> None:
    outcomes = []
    for fatal in range(1, 100):
        directory = tmp_path / str(fatal)
        opened(directory, master_text).put("key", b"old")
        with run(DIES_AT_STEP, master_text, str(directory), operation, str(fatal), *STEPS) as process:
            said, _ = process.communicate()
        store = opened(directory, master_text)
        outcomes.append({name: store.get(name) for name in store.names()})
        assert not list(directory.glob(".tmp-*"))
        if said:
            assert process.returncode == 0
            break
        assert process.returncode == -signal.SIGKILL
    before, after = {"key": b"old"}, outcomes[-1]
    switched = outcomes.index(after)
    assert switched > 0
    assert outcomes == [before] * switched + [after] * (len(outcomes) - switched)
    assert (
        after
        == {
            "put": {"key": b"new" * 1000},
            "put_new": {"key": b"old", "new": b"new" * 1000},
            "delete": {},
        }[operation]
    )


def test_p4_no_acknowledged_key_is_lost_and_none_half_written_when_writers_are_killed_at_random(
    tmp_path: Path, master_text: str
) -> None:
    chance = random.Random(4)  # noqa: S311 - which moments are tried, not a secret
    acknowledged = 0
    for _ in range(8):
        with run(BUSY, master_text, str(tmp_path / "keys"), str(acknowledged + 1)) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(1, 60)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            rest = process.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        check_everything_acknowledged_is_there(opened(tmp_path / "keys", master_text), acknowledged)


def check_everything_acknowledged_is_there(store: KeyStore, acknowledged: int) -> None:
    found = {}
    for name in store.names():
        data = store.get(name)
        digest, body = data[:32], data[32:]
        assert hashlib.sha256(body).digest() == digest
        found[name] = int(body.split()[0])
    for number in range(max(1, acknowledged - 4), acknowledged + 1):
        # the one write that was under way when the kill came may have been finished unacknowledged
        assert found[f"key-{number % 5}"] in (number, acknowledged + 1)
    assert max(found.values()) <= acknowledged + 1
