"""Keeps a folder to one process: a lock that the kernel gives back however the process ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK_NAME = "lock"


class FolderInUseError(Exception):
    """Another process uses the folder; `hint` says what to do.

    Attributes:
        hint: One line, the way out.
    """

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"`{folder}` is in use by process {holder}")
        self.holder = holder
        self.hint = "stop it first, or choose another folder"


def take_lock(folder: Path) -> int:
    """Take the folder's lock for this process's life; returns the descriptor that holds it, which no child inherits.

    Raises:
        FolderInUseError: Another process has it.
        OSError: The lock file cannot be opened.
    """
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise FolderInUseError(folder, holder) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if it is not there, and hold its lock for as long as the block runs; see `take_lock`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = take_lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)
