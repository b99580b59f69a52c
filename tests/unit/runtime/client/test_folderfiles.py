"""A credentials folder is written whole or not at all, and a replaced one is there until the new one is."""

import json
import os
import stat
from pathlib import Path

import pytest

from runtime.client.folder import FILES
from runtime.client.folderfiles import FolderContents, write_folder


def contents(seed: str = "SEED-OLD") -> FolderContents:
    return FolderContents(
        tenant="alpha",
        name="amy",
        role="nurse",
        user="UABC",
        url="tls://127.0.0.1:4222",
        creds=seed,
        certificate="CERT",
        key=b"SECRET-KEY",
        ca="CA",
    )


def test_only_the_owner_can_read_it_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_folder(tmp_path / "new" / "amy", contents())
    finally:
        os.umask(before)
    folder = tmp_path / "new" / "amy"
    assert {path.name for path in folder.iterdir()} == FILES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert json.loads((folder / "context.json").read_text())["creds"] == str(folder / "user.creds")


def test_a_folder_is_replaced_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_folder(tmp_path / "amy", contents())
    write_folder(tmp_path / "amy", contents("SEED-NEW"))
    assert (tmp_path / "amy" / "user.creds").read_text() == "SEED-NEW"
    assert [path.name for path in tmp_path.iterdir()] == ["amy"]


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_replacement_that_fails_keeps_the_old_folder_and_no_secret_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    write_folder(tmp_path / "amy", contents())
    rename, calls = Path.rename, 0

    def failing(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path / "amy", contents("SEED-NEW"))
    assert (tmp_path / "amy" / "user.creds").read_text() == "SEED-OLD"
    assert [path.name for path in tmp_path.iterdir()] == ["amy"]


def test_what_goes_into_a_folder_never_prints() -> None:
    assert "SEED" not in repr(contents())
    assert "SECRET" not in repr(contents())
