"""Write a secret file so that a crash leaves the old content or the new, never a part of either.

The order is: a new file of a random name in the same folder, its content, fsync, rename over the target,
fsync of the folder. When a function here returns, the content survives a power cut. A symlink at the target
is replaced, never followed. A process killed half way leaves a file named `.tmp-…`, which `sweep_leftovers`
removes.

It does not judge the folder's permissions (`privatefile` does), and does not order concurrent writers: last
wins.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

LEFTOVER_PREFIX = ".tmp-"
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def atomic_write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path` with `data`, whole and durable; `mode` is exact, whatever the umask.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full; the old content is then
            untouched.
    """
    with open_folder(path.parent) as folder:
        write_in(folder, path.name, data, mode)


def atomic_create(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Like `atomic_write`, but never replaces.

    Raises:
        FileExistsError: something has that name already, be it a symlink to nothing; it is left as it is.
        OSError: as for `atomic_write`.
    """
    with open_folder(path.parent) as folder:
        create_in(folder, path.name, data, mode)


@contextlib.contextmanager
def open_folder(path: Path, *, follow: bool = True) -> Iterator[int]:
    """A descriptor of a folder, so that what follows stays in it even if the path is changed meanwhile."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_in(folder: int, name: str, data: bytes, mode: int = 0o600) -> None:
    """`atomic_write` within a folder that is open already."""
    with _written(folder, data, mode) as temporary:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def create_in(folder: int, name: str, data: bytes, mode: int = 0o600) -> None:
    """`atomic_create` within a folder that is open already."""
    with _written(folder, data, mode) as temporary:
        # link, unlike rename, refuses a name that is taken: of two creators exactly one wins
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(temporary, dir_fd=folder)
    os.fsync(folder)


def sweep_leftovers(folder: int) -> int:
    """Remove what killed writers left half written; the caller makes sure that no writer is at work.

    Returns:
        How many were removed.
    """
    removed = 0
    for name in os.listdir(folder):
        if name.startswith(LEFTOVER_PREFIX):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
                removed += 1
    return removed


@contextlib.contextmanager
def _written(folder: int, data: bytes, mode: int) -> Iterator[str]:
    """A new file with `data` on disk; removed again when the body fails to give it its name."""
    temporary = LEFTOVER_PREFIX + secrets.token_hex(8)
    descriptor = os.open(temporary, _NEW, mode, dir_fd=folder)
    try:
        try:
            os.fchmod(descriptor, mode)  # the umask can only have taken bits away: exact from here
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    """`os.write` may write a part; this does not."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
