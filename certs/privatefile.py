"""Read secret files only from where nobody else could have put or read them.

Rules it keeps: a private folder and a private file belong to this process's user and give nothing to group
or others; a symlink is never followed; the checks are made on the open descriptor, so that what was checked
is what is read.

It does not write (`atomicfile` does) and does not repair: the error names the command, a person decides.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from certs.atomicfile import open_folder
from certs.errors import ForeignOwnerError, LoosePermissionsError, PrivateFileError

_OTHERS = 0o077
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # not blocking: a planted FIFO must not hang us


def make_private_folder(path: Path) -> None:
    """Create `path`, 0700, and what is missing above it; what exists is left alone and judged when opened."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists() and not folder.is_symlink()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        with open_folder(folder.parent) as parent:
            os.fsync(parent)


@contextlib.contextmanager
def open_private_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder that only this process's user can enter.

    Raises:
        PrivateFileError: missing, not a folder, a symlink, open to others, or someone else's.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(open_folder(path, follow=False))
        except OSError as error:
            raise PrivateFileError(path, _reason(error, "a folder")) from error
        _judge(path, os.fstat(folder), wanted=0o700, owners=(os.geteuid(),))
        yield folder


def read_private_file(path: Path, *, limit: int, folder: int | None = None, named_by_user: bool = False) -> bytes:
    """The content of a secret file.

    Args:
        path: The file; with `folder`, only its last part is opened, and the rest serves the messages.
        limit: The most bytes it may have.
        folder: An open folder that holds it.
        named_by_user: The user chose this path: a symlink is followed then, and the file may belong to root.

    Raises:
        FileNotFoundError: nothing has that name.
        PrivateFileError: not a regular file, a symlink, open to others, someone else's, too large or
            unreadable.
    """
    flags = _READ if named_by_user else _READ | os.O_NOFOLLOW
    try:
        descriptor = os.open(path if folder is None else path.name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PrivateFileError(path, _reason(error, "a file")) from error
    with os.fdopen(descriptor, "rb") as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise PrivateFileError(path, "is not a regular file")
        _judge(path, state, wanted=0o600, owners=(os.geteuid(), 0) if named_by_user else (os.geteuid(),))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise PrivateFileError(path, f"is larger than {limit} bytes")
    return content


def check_private_file(path: Path) -> None:
    """Make the checks of `read_private_file` for a file that a library insists on opening itself.

    Raises:
        FileNotFoundError: nothing has that name.
        PrivateFileError: as for `read_private_file`; a symlink is followed.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise PrivateFileError(path, "is not a regular file")
    _judge(path, state, wanted=0o600, owners=(os.geteuid(),))


def _judge(path: Path, state: os.stat_result, *, wanted: int, owners: tuple[int, ...]) -> None:
    if state.st_uid not in owners:
        raise ForeignOwnerError(path, owner=state.st_uid, wanted=owners[0])
    mode = stat.S_IMODE(state.st_mode)
    if mode & _OTHERS:
        raise LoosePermissionsError(path, mode=mode, wanted=wanted)


def _reason(error: OSError, wanted: str) -> str:
    if error.errno == errno.ELOOP:
        return "is a symlink, and none is followed here"
    if error.errno == errno.ENOTDIR:
        return f"is not {wanted}, or is a symlink to one"
    if error.errno == errno.ENOENT:
        return "does not exist"
    return f"can't be opened: {(error.strerror or 'unknown error').lower()}"
