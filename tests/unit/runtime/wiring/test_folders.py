"""The platform's folder, its lock and its logs: refused rather than damaged, private, bounded."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.wiring import logfiles
from runtime.wiring.folderlock import FolderInUseError, locked, take_lock
from runtime.wiring.logfiles import open_log
from runtime.wiring.platform_folder import PlatformError, PlatformFolder


def test_first_use_and_each_later_one_find_the_same_folder(tmp_path: Path) -> None:
    folder = PlatformFolder(root=tmp_path / "new" / "data")
    folder.prepare()
    before = folder.marker.read_bytes()
    folder.prepare()
    assert folder.marker.read_bytes() == before
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_first_use_cut_short_is_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / ".tmp-0123456789abcdef").write_text('{"sch')
    PlatformFolder(root=tmp_path).prepare()


@pytest.mark.parametrize("name", ["notes.txt", ".git", "platform-notes", "lock"])
def test_folder_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(PlatformError) as caught:
        PlatformFolder(root=tmp_path).prepare()
    assert f"`{name}`" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "marker", ["", "{", "[]", "{}", '{"schema": "x"}', '{"schema": null}', "[" * 100_000, "\udcff"]
)
def test_damaged_marker_is_refused_and_left_alone(tmp_path: Path, marker: str) -> None:
    path = tmp_path / "platform.json"
    path.write_bytes(marker.encode("utf-8", "surrogateescape"))
    with pytest.raises(PlatformError) as caught:
        PlatformFolder(root=tmp_path).prepare()
    assert "is damaged" in str(caught.value)
    assert caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["platform.json"]


def test_lock_is_one_process_s_and_is_given_back_when_it_is_killed(tmp_path: Path) -> None:
    holding = "import sys, time; from runtime.wiring.folderlock import take_lock; from pathlib import Path\n"
    holding += "take_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", holding, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(FolderInUseError) as caught:
                take_lock(tmp_path)
            assert caught.value.holder == str(holder.pid)
            assert caught.value.hint
        finally:
            holder.kill()
    with locked(tmp_path):
        pass


def test_log_is_private_appended_to_and_moved_away_when_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "MAX_BYTES", 10)
    path = tmp_path / "host.log"
    for text in (b"12345", b"67890+", b"new"):
        with open_log(path) as log:
            log.write(text)
    assert (path.read_bytes(), path.with_name("host.log.1").read_bytes()) == (b"new", b"1234567890+")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
