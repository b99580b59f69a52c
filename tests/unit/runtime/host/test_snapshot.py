"""Snapshots: the same bytes from the same files, and nothing unpacks that was not packed."""

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.host.snapshot import (
    FILE_LIMIT,
    SNAPSHOT_LIMIT,
    SnapshotError,
    digest_of,
    pack_file,
    pack_files,
    pack_folder,
    read_snapshot,
    unpack,
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "vitals"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text('"""An agent."""\n')
    (folder / "agent.py").write_text("from .chart import POINTS\n")
    (folder / "chart.py").write_text("POINTS = 3\n")
    (folder / "data" / "bands.json").write_text("{}")
    return folder


def archive(members: dict[str, bytes], *, mode: int = 0o100644, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive made by someone else: `pack_files` would refuse most of what the tests put in."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as packed:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            member.external_attr = mode << 16
            member.compress_type = compression
            packed.writestr(member, content)
    return target.getvalue()


def test_the_same_files_give_the_same_digest_wherever_and_whenever_they_are(package: Path, tmp_path: Path) -> None:
    first = pack_folder(package)
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for name in reversed(first.files):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes((package / name).read_bytes())
        (copy / name).chmod(0o600)
        os.utime(copy / name, (1, 1))
    assert pack_folder(copy).data == first.data
    assert pack_folder(copy).digest == first.digest == digest_of(first.data)


def test_what_was_packed_unpacks_to_the_same_files(package: Path, tmp_path: Path) -> None:
    snapshot = pack_folder(package)
    unpack(snapshot.data, digest=snapshot.digest, into=tmp_path / "run" / snapshot.digest)
    for name in snapshot.files:
        assert (tmp_path / "run" / snapshot.digest / name).read_bytes() == (package / name).read_bytes()


def test_hidden_files_and_compiled_code_are_left_out(package: Path) -> None:
    expected = pack_folder(package).digest
    for name in (
        ".env",
        ".git/config",
        "__pycache__/agent.cpython-311.pyc",
        "old.pyc",
        "v.egg-info/PKG-INFO",
    ):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("x")
    assert pack_folder(package).digest == expected


def test_a_single_module_becomes_a_package(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("class Hello: ...\n")
    assert pack_file(tmp_path / "hello.py").files == ("__init__.py", "hello.py")


def test_a_symbolic_link_is_refused_by_name(package: Path) -> None:
    (package / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(SnapshotError, match="symbolic link") as caught:
        pack_folder(package)
    assert caught.value.path.endswith("passwd")


def test_a_symbolic_link_to_a_folder_is_refused(package: Path, tmp_path: Path) -> None:
    (package / "more").symlink_to(tmp_path)
    with pytest.raises(SnapshotError, match="symbolic link"):
        pack_folder(package)


@pytest.mark.parametrize("name", ["user.creds", "client-key.pem", "key.pem", "master.key", "operator.nk", "id_rsa"])
def test_what_looks_like_a_credential_is_refused(package: Path, name: str) -> None:
    (package / "data" / name).write_text("x")
    with pytest.raises(SnapshotError, match="looks like a credential"):
        pack_folder(package)


def test_too_large_an_agent_is_refused(package: Path) -> None:
    (package / "model.bin").write_bytes(bytes(SNAPSHOT_LIMIT))
    with pytest.raises(SnapshotError, match="larger than"):
        pack_folder(package)


def test_a_folder_without_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SnapshotError, match="no Python file"):
        pack_folder(tmp_path)


def test_a_pipe_is_refused(package: Path) -> None:
    os.mkfifo(package / "pipe")
    with pytest.raises(SnapshotError, match="neither a file nor a folder"):
        pack_folder(package)


@pytest.mark.parametrize("path", ["missing", "missing.py"])
def test_a_path_that_is_not_there_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(SnapshotError, match="is not a"):
        (pack_file if path.endswith(".py") else pack_folder)(tmp_path / path)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "a/../../evil.py",
        "/etc/evil.py",
        "a//b.py",
        "./a.py",
        "a\\b.py",
        "C:evil.py",
        "a\n.py",
        "ü.py",
        "-x",
    ],
)
def test_a_name_that_could_leave_the_folder_never_unpacks(tmp_path: Path, name: str) -> None:
    data = archive({name: b"x"})
    with pytest.raises(SnapshotError):
        unpack(data, digest=digest_of(data), into=tmp_path / "in" / "x")
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o104755, 0o100755, 0])
def test_a_member_that_is_not_a_plain_file_never_unpacks(tmp_path: Path, mode: int) -> None:
    data = archive({"a.py": b"/etc/passwd"}, mode=mode)
    with pytest.raises(SnapshotError, match="not a plain"):
        unpack(data, digest=digest_of(data), into=tmp_path / "x")


def test_a_compressed_member_never_unpacks(tmp_path: Path) -> None:
    data = archive({"bomb.py": bytes(1_000_000)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(SnapshotError, match="stored"):
        unpack(data, digest=digest_of(data), into=tmp_path / "x")


def test_a_file_that_is_also_a_folder_never_unpacks(tmp_path: Path) -> None:
    data = archive({"a": b"", "a/b.py": b""})
    with pytest.raises(SnapshotError, match="as a folder"):
        unpack(data, digest=digest_of(data), into=tmp_path / "x")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_given_twice_never_unpacks(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        packed.writestr("a.py", b"1")
        packed.writestr("a.py", b"2")
    with pytest.raises(SnapshotError, match="twice"):
        unpack(target.getvalue(), digest=digest_of(target.getvalue()), into=tmp_path / "x")


def test_another_digest_is_refused_before_anything_is_read() -> None:
    snapshot = pack_files({"a.py": b""})
    for digest in ("0" * 64, snapshot.digest.upper(), "", snapshot.digest + "0"):
        with pytest.raises(SnapshotError, match="digest"):
            read_snapshot(snapshot.data, digest=digest)


def test_unpacking_again_leaves_the_folder_alone_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    snapshot = pack_files({"a.py": b"x = 1\n"})
    unpack(snapshot.data, digest=snapshot.digest, into=tmp_path / "x")
    unpack(snapshot.data, digest=snapshot.digest, into=tmp_path / "x")
    (tmp_path / "x" / "a.py").write_text("x = 2\n")
    with pytest.raises(SnapshotError, match="does not hold"):
        unpack(snapshot.data, digest=snapshot.digest, into=tmp_path / "x")


def test_an_unpacking_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    snapshot = pack_files({"a.py": b"", "b.py": b""})
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="No space"):
        unpack(snapshot.data, digest=snapshot.digest, into=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_link_planted_in_an_unpacked_folder_is_found(tmp_path: Path) -> None:
    snapshot = pack_files({"a.py": b""})
    unpack(snapshot.data, digest=snapshot.digest, into=tmp_path / "x")
    (tmp_path / "x" / "b.py").symlink_to("/etc/passwd")
    with pytest.raises(SnapshotError, match="symbolic link"):
        unpack(snapshot.data, digest=snapshot.digest, into=tmp_path / "x")


def test_too_many_files_are_refused_both_ways(tmp_path: Path) -> None:
    for number in range(FILE_LIMIT + 1):
        (tmp_path / f"m{number}.py").touch()
    with pytest.raises(SnapshotError, match="more than"):
        pack_folder(tmp_path)
    data = archive({f"m{number}.py": b"" for number in range(FILE_LIMIT + 2)})
    with pytest.raises(SnapshotError, match="more than"):
        read_snapshot(data, digest=digest_of(data))


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_reading_arbitrary_bytes_raises_nothing_but_a_snapshot_error(data: bytes) -> None:
    with pytest.raises(SnapshotError):
        read_snapshot(data, digest=digest_of(data))


@given(st.data())
@settings(max_examples=200)
def test_a_damaged_snapshot_reads_as_an_error_or_as_plain_files(data: st.DataObject) -> None:
    whole = bytearray(pack_files({"agent.py": b"x = 1\n", "data/t.json": b"{}"}).data)
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    try:
        files = read_snapshot(bytes(whole), digest=digest_of(bytes(whole)))
    except SnapshotError:
        return
    assert all(not name.startswith("/") and ".." not in name for name in files)


_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.py|\.json)", fullmatch=True)


@given(st.dictionaries(_NAMES, st.binary(max_size=64), max_size=6))
def test_reading_a_packed_snapshot_gives_back_its_files(files: dict[str, bytes]) -> None:
    files = {"agent.py": b"", **files}
    snapshot = pack_files(files)
    assert read_snapshot(snapshot.data, digest=snapshot.digest) == {"__init__.py": b"", **files}
