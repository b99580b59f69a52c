"""An agent's code as one file: packed where it is deployed from, unpacked where it runs.

A snapshot is a zip archive of one Python package, its members stored without compression in the order of
their names and with fixed times, so that its digest depends on the files' names and bytes only.

Rules it keeps:

* packing refuses symbolic links, what looks like a credential, and more than `SNAPSHOT_LIMIT` bytes; it
  leaves out hidden files and compiled code;
* unpacking checks the digest first, then every member, and writes only after all of them passed; a folder
  appears whole, by one rename, or not at all;
* a member's name can't leave the folder that it is unpacked into.

It does not import or run what it packs, and does not find the agent's class: `runtime.cli.agentsource` does.
"""

import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

SNAPSHOT_LIMIT = 8 * 1024 * 1024
"""Most bytes that a snapshot may have, all its files and the archive's own records together."""

FILE_LIMIT = 2000
"""Most files in a snapshot."""

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = (stat.S_IFREG | 0o644) << 16
_UNIX = 3
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MEMBER_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,+@ =-]{0,127}")
_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "node_modules"})
_LEFT_OUT_SUFFIXES = (".pyc", ".pyo", ".egg-info", ".dist-info")
_CREDENTIAL = re.compile(
    r"(\.(creds|nk|seed|key|p12|pfx|jwt)|(^|[-_.])key\.pem|^master\.key|^id_[a-z0-9]+)$", re.IGNORECASE
)
_INIT = "__init__.py"


class SnapshotError(Exception):
    """A snapshot could not be made or was not accepted.

    Attributes:
        path: The file or member that it is about, or "" for the snapshot as a whole.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A packed agent.

    Attributes:
        data: The archive.
        digest: SHA-256 of `data`, 64 lower-case hexadecimal digits.
        files: The members' names, sorted.
    """

    data: bytes = field(repr=False)
    digest: str
    files: tuple[str, ...]


def digest_of(data: bytes) -> str:
    """The digest by which a snapshot is known."""
    return hashlib.sha256(data).hexdigest()


def pack_folder(folder: Path) -> Snapshot:
    """Pack a package: every file under `folder`, which becomes the root of the archive.

    Raises:
        SnapshotError: It holds a symbolic link, a credential, an unusable name or too much.
    """
    if not folder.is_dir():
        raise SnapshotError(f"`{folder}` is not a folder", path=str(folder))
    files: dict[str, bytes] = {}
    total = 0
    for path in _walk(folder):
        name = path.relative_to(folder).as_posix()
        _check_name(name)
        files[name] = _read_bounded(path, SNAPSHOT_LIMIT - total)
        total += len(files[name])
        if len(files) > FILE_LIMIT:
            raise SnapshotError(f"`{folder}` holds more than {FILE_LIMIT} files", path=str(folder))
    return pack_files(files)


def pack_file(path: Path) -> Snapshot:
    """Pack one module, which becomes the only one of a package.

    Raises:
        SnapshotError: It is not a plain file, or is too large.
    """
    if path.is_symlink() or not path.is_file():
        raise SnapshotError(f"`{path}` is not a plain file", path=str(path))
    _check_name(path.name)
    return pack_files({path.name: _read_bounded(path, SNAPSHOT_LIMIT)})


def pack_files(files: Mapping[str, bytes]) -> Snapshot:
    """Pack files given by name; a missing `__init__.py` is added, empty.

    Raises:
        SnapshotError: The archive would exceed `SNAPSHOT_LIMIT`, or no file is Python.
    """
    if not any(name.endswith(".py") for name in files):
        raise SnapshotError("nothing to deploy: no Python file was found")
    complete = {_INIT: b"", **files}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for name in sorted(complete):
            packed.writestr(_member(name), complete[name])
    data = archive.getvalue()
    if len(data) > SNAPSHOT_LIMIT:
        raise SnapshotError(f"the agent is larger than {SNAPSHOT_LIMIT} bytes")
    return Snapshot(data=data, digest=digest_of(data), files=tuple(sorted(complete)))


def read_snapshot(data: bytes, *, digest: str) -> dict[str, bytes]:
    """The files of a snapshot by name, every one of them checked.

    Raises:
        SnapshotError: The digest differs, or the archive is not one that `pack_folder` could have made.
    """
    if not _DIGEST.fullmatch(digest) or digest_of(data) != digest:
        raise SnapshotError("the snapshot is not the one that its digest names")
    if len(data) > SNAPSHOT_LIMIT:
        raise SnapshotError(f"the snapshot is larger than {SNAPSHOT_LIMIT} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            members = packed.infolist()
            _check_members(members)
            return {member.filename: packed.read(member) for member in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as error:
        raise SnapshotError("the snapshot is not a readable archive") from error


def unpack(data: bytes, *, digest: str, into: Path) -> None:
    """Write a snapshot's files as folder `into`, whole or not at all.

    A folder that is there already must hold exactly the same files: it is then left alone.

    Raises:
        SnapshotError: The snapshot is refused, or `into` is there with other contents.
    """
    files = read_snapshot(data, digest=digest)
    if into.exists():
        if _contents(into) != files:
            raise SnapshotError(f"`{into}` does not hold the snapshot that it is named for", path=str(into))
        return
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=into.parent))
    try:
        for name, content in files.items():
            _write_new(partial / name, content)
        partial.rename(into)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _walk(folder: Path) -> Iterator[Path]:
    """Every file to pack; folders and files by name, so that an error names the first one."""
    for entry in sorted(folder.iterdir()):
        if _left_out(entry):
            continue
        if entry.is_symlink():
            raise SnapshotError(f"`{entry}` is a symbolic link: a snapshot holds plain files only", path=str(entry))
        if entry.is_dir():
            yield from _walk(entry)
        elif not entry.is_file():
            raise SnapshotError(f"`{entry}` is neither a file nor a folder", path=str(entry))
        elif _CREDENTIAL.search(entry.name):
            raise SnapshotError(f"`{entry}` looks like a credential: a snapshot never carries one", path=str(entry))
        else:
            yield entry


def _left_out(entry: Path) -> bool:
    hidden = entry.name.startswith(".")
    return hidden or entry.name in _LEFT_OUT_FOLDERS or entry.name.endswith(_LEFT_OUT_SUFFIXES)


def _read_bounded(path: Path, limit: int) -> bytes:
    with path.open("rb") as source:
        content = source.read(limit + 1)
    if len(content) > limit:
        raise SnapshotError(f"the agent is larger than {SNAPSHOT_LIMIT} bytes: `{path}`", path=str(path))
    return content


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _FIXED_TIME)
    member.create_system = _UNIX
    member.external_attr = _PLAIN_FILE
    return member


def _check_name(name: str) -> None:
    """Refuse a name that another system could read as something else.

    INVARIANT: a name that passes is relative, has no `.` or `..` part, no backslash and no control character.
    """
    parts = PurePosixPath(name).parts
    if name != "/".join(parts) or not parts or not all(_MEMBER_PART.fullmatch(part) for part in parts):
        raise SnapshotError(f"`{name!a}` is not a usable file name in a snapshot", path=name)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > FILE_LIMIT + 1:
        raise SnapshotError(f"the snapshot holds more than {FILE_LIMIT} files")
    if len({member.filename for member in members}) != len(members):
        raise SnapshotError("the snapshot names a file twice")
    folders = {str(parent) for member in members for parent in PurePosixPath(member.filename).parents}
    if folders & {member.filename for member in members}:
        raise SnapshotError("the snapshot names a file as a folder")
    if sum(member.file_size for member in members) > SNAPSHOT_LIMIT:
        raise SnapshotError(f"the snapshot is larger than {SNAPSHOT_LIMIT} bytes")
    for member in members:
        _check_name(member.filename)
        stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
        if not stored or member.external_attr != _PLAIN_FILE or member.flag_bits & 1:
            raise SnapshotError(f"`{member.filename}` is not a plain, stored file", path=member.filename)


def _write_new(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o644), "wb") as target:
        target.write(content)


def _contents(folder: Path) -> dict[str, bytes]:
    """What is under an unpacked folder; compiled code beside it is Python's own."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise SnapshotError(f"`{path}` is a symbolic link", path=str(path))
        if path.is_file() and "__pycache__" not in path.parts:
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found
