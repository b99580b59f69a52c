"""Whole or not at all, and on disk before it is acknowledged."""

import errno
import os
import threading
from pathlib import Path

import pytest

from certs.atomicfile import atomic_create, atomic_write, open_folder, sweep_leftovers


def only(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_is_written_whole_with_the_exact_mode(tmp_path: Path, mode: int) -> None:
    atomic_write(tmp_path / "file", b"x" * 100_000, mode)
    assert (tmp_path / "file").read_bytes() == b"x" * 100_000
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert only(tmp_path) == ["file"]


def test_writing_replaces_and_creating_does_not(tmp_path: Path) -> None:
    atomic_create(tmp_path / "file", b"one")
    with pytest.raises(FileExistsError):
        atomic_create(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"
    atomic_write(tmp_path / "file", b"three")
    assert (tmp_path / "file").read_bytes() == b"three"
    assert only(tmp_path) == ["file"]


def test_a_symlink_is_replaced_by_writing_and_refuses_creating(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    link.symlink_to(victim)
    with pytest.raises(FileExistsError):
        atomic_create(link, b"x")
    assert not victim.exists()
    atomic_write(link, b"x")
    assert not link.is_symlink()
    assert not victim.exists()


@pytest.mark.parametrize("failing", ["write", "fsync", "rename", "fchmod"])
def test_a_failure_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    atomic_write(tmp_path / "file", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert only(tmp_path) == ["file"]


@pytest.mark.parametrize("naming", ["rename", "link"])
def test_content_reaches_the_disk_before_its_name_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, naming: str
) -> None:
    order: list[str] = []
    for call in ("fsync", naming):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, _real=real, _call=call, **k: (order.append(_call), _real(*a, **k))[1])
    (atomic_write if naming == "rename" else atomic_create)(tmp_path / "file", b"x")
    assert order == ["fsync", naming, "fsync"]


def test_a_write_that_takes_only_a_part_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    atomic_write(tmp_path / "file", bytes(range(100)))
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_of_many_creators_exactly_one_wins_and_its_content_is_whole(tmp_path: Path) -> None:
    won: list[bytes] = []
    start = threading.Barrier(8)

    def create(data: bytes) -> None:
        start.wait()
        try:
            atomic_create(tmp_path / "file", data)
        except FileExistsError:
            return
        won.append(data)

    threads = [threading.Thread(target=create, args=(bytes([65 + i]) * 5000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [(tmp_path / "file").read_bytes()]
    assert only(tmp_path) == ["file"]


def test_sweeping_removes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    for name in (".tmp-00", ".tmp-ff", "tmp-x", ".hidden", "file"):
        (tmp_path / name).write_bytes(b"x")
    with open_folder(tmp_path) as folder:
        assert sweep_leftovers(folder) == 2
    assert only(tmp_path) == [".hidden", "file", "tmp-x"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "none" / "file", b"x")
