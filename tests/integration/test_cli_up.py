"""`garrison up` where it can't: one clear error, its exit code, no traceback, and the folder as it was."""

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running_platform import GARRISON, REPOSITORY, RunningPlatform, running_platform

pytestmark = pytest.mark.timeout(120)


def up(folder: Path, *options: str, **environment: str) -> dict[str, Any]:
    """Start a platform that can't start; its error, with the exit code."""
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    ended = subprocess.run(
        [*GARRISON, "up", "--json", "--dir", str(folder), *(options or ("--port", "0"))],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return {**json.loads(ended.stderr), "exit": ended.returncode}


def contents(folder: Path) -> dict[str, object]:
    """Every file's bytes and mode, but for logs and the mark that it was in use."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] not in {"logs", "lock"} and not path.is_socket()
    }


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a platform that ran once."""
    folder = tmp_path_factory.mktemp("stopped")
    with running_platform(folder) as platform:
        return platform.data


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("running")) as platform:
        yield platform


def test_a_folder_in_use_is_refused_and_its_platform_serves_on(running: RunningPlatform) -> None:
    error = up(running.data)
    assert error["exit"] == 1
    assert f"in use by process {running.ready['pid']}" in error["error"]
    assert running.run("tenant", "list").code == 0


def test_a_port_in_use_is_refused(running: RunningPlatform, tmp_path: Path) -> None:
    port = running.ready["url"].rsplit(":", 1)[1]
    error = up(tmp_path / "other", "--port", port)
    assert (error["exit"], error["code"]) == (1, "port_in_use")
    assert "--port" in error["hint"]


def newer(data: Path) -> Callable[[], object]:
    path = data / "platform.json"
    before = path.read_text()
    path.write_text('{"schema": 99}')
    return lambda: path.write_text(before)


def half_written(data: Path) -> Callable[[], object]:
    path = data / "platform.json"
    before = path.read_text()
    path.write_text(before[:5])
    return lambda: path.write_text(before)


def open_keys(data: Path) -> Callable[[], object]:
    (data / "keys").chmod(0o755)
    return lambda: (data / "keys").chmod(0o700)


def open_master_key(data: Path) -> Callable[[], object]:
    (data / "master.key").chmod(0o644)
    return lambda: (data / "master.key").chmod(0o600)


def lost_master_key(data: Path) -> Callable[[], object]:
    path = data / "master.key"
    before = path.read_bytes()
    path.unlink()

    def mend() -> None:
        path.write_bytes(before)
        path.chmod(0o600)

    return mend


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lost_master_key, "master.key` is missing"),
        (newer, "schema 99"),
        (half_written, "is damaged"),
        (open_keys, "chmod 700"),
        (open_master_key, "chmod 600"),
    ],
)
def test_a_spoilt_folder_is_refused_and_left_alone(
    stopped: Path, spoil: Callable[[Path], Callable[[], object]], says: str
) -> None:
    mend = spoil(stopped)
    before = contents(stopped)
    error = up(stopped)
    assert error["exit"] == 1
    assert says in error["error"]
    assert contents(stopped) == before
    mend()


@pytest.mark.parametrize("key", ["x", base64.urlsafe_b64encode(bytes(32)).decode()], ids=["malformed", "another"])
def test_a_wrong_master_key_is_refused_and_changes_nothing(stopped: Path, key: str) -> None:
    before = contents(stopped)
    error = up(stopped, GARRISON_MASTER_KEY=key)
    assert error["exit"] == 1
    assert "master key" in error["error"]
    assert contents(stopped) == before


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    assert "thesis.txt" in up(tmp_path)["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    up(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (("--port", "70000"), {}),
        (("--port", "x"), {}),
        (("--host", "localhost"), {}),
        (("--host", "::"), {}),
        ((), {"GARRISON_LOG_LEVEL": "LOUD"}),
    ],
    ids=["port", "no-number", "name", "all", "log-level"],
)
def test_wrong_usage_is_refused(tmp_path: Path, options: tuple[str, ...], environment: dict[str, str]) -> None:
    assert up(tmp_path / "new", *options, **environment)["exit"] == 2


@pytest.mark.parametrize("address", ["127.0.0.9", "::1"])
def test_an_address_of_its_own_is_listened_on_and_stands_in_credentials(tmp_path: Path, address: str) -> None:
    platform = RunningPlatform(tmp_path)
    process = platform.begin("up", "--host", address, "--port", "0", "--json")
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        context = json.loads((platform.data / "operator" / "context.json").read_text())
        assert context["url"] == url
        assert address in url
        assert platform.run("tenant", "list").code == 0
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_an_address_of_another_machine_is_one_clear_error(tmp_path: Path) -> None:
    error = up(tmp_path / "data", "--host", "192.0.2.7", "--port", "0")
    assert error["exit"] == 1
    assert error["error"].endswith("of 192.0.2.7: cannot assign requested address")
