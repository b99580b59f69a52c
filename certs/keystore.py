"""Seeds and private keys at rest: one sealed file a key, in a folder that only this process's user can enter.

Rules it keeps:
- what `put` acknowledged survives a crash, and a crash in the middle changes nothing (`atomicfile`)
- a file's name is bound inside its seal: moved or copied to another name it does not open
- files are 0600 in a 0700 folder; anything looser, someone else's, or a symlink is refused, not repaired
- the folder notes the id of its master key: a wrong one is refused at once, before anything is written
  under it

A file is one line of clear text, `GARRISON-KEY-V1 <master key id>`, then a Fernet token of the line
`GARRISON-KEY-V1 <name>` followed by the key's bytes. Names are not secret. Writers in several processes
take turns.

It does not notice an old file put back in place of a newer one of the same name: who can do that owns the
folder.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from cryptography.fernet import InvalidToken

from certs.atomicfile import create_in, sweep_leftovers, write_in
from certs.errors import (
    KeyDamagedError,
    KeyExistsError,
    KeyNameError,
    KeyNotFoundError,
    KeyTooLargeError,
    StoreVersionError,
    WrongMasterKeyError,
)
from certs.masterkey import MasterKey
from certs.privatefile import make_private_folder, open_private_folder, read_private_file

KEY_LIMIT = 64 * 1024
_FILE_LIMIT = 2 * KEY_LIMIT  # base64 adds a third, the header and the name less than 1 KiB
_FORM = b"GARRISON-KEY-V1"
_MARKER = ".keystore"
_MARKER_FORM = b"GARRISON-KEYSTORE-V1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]*(?:/[A-Za-z0-9][A-Za-z0-9_.:@-]*)*")
_NAME_LIMIT = 200
_FILE_NAME_LIMIT = 250  # a file system allows 255 bytes


class KeyStore:
    """The sealed keys in one folder, by name."""

    __slots__ = ("_master", "directory")

    def __init__(self, directory: Path, master: MasterKey) -> None:
        """Open the store, making its folder if there is none.

        Raises:
            WrongMasterKeyError: the store was made under another master key.
            StoreVersionError: the store has a form that this version does not know.
            PrivateFileError: the folder or a file in it is open to others, or not this user's.
        """
        self.directory, self._master = directory, master
        make_private_folder(directory)
        with self._writing() as folder:
            self._check_marker(folder)

    def get(self, name: str) -> bytes:
        """The bytes stored under `name`.

        Raises:
            KeyNotFoundError: there are none.
            KeyDamagedError: the file was changed, cut short, or moved here from another name.
            WrongMasterKeyError: the file is sealed under another master key.
            PrivateFileError: the folder or the file is open to others, not this user's, or a symlink.
        """
        path = self.directory / _file_name(name)
        with open_private_folder(self.directory) as folder:
            try:
                content = read_private_file(path, limit=_FILE_LIMIT, folder=folder)
            except FileNotFoundError:
                raise KeyNotFoundError(name) from None
        return self._open(name, content)

    def put(self, name: str, data: bytes) -> None:
        """Store `data` under `name`, in place of what was there; on return it is on disk.

        Raises:
            KeyNameError, KeyTooLargeError: nothing was changed.
            PrivateFileError: the folder is open to others, or not this user's.
        """
        file_name, content = _file_name(name), self._seal(name, data)
        with self._writing() as folder:
            write_in(folder, file_name, content)

    def put_new(self, name: str, data: bytes) -> None:
        """Like `put`, for a name that must be new.

        Raises:
            KeyExistsError: it is taken, and what is there is left as it is.
            KeyNameError, KeyTooLargeError, PrivateFileError: as for `put`.
        """
        file_name, content = _file_name(name), self._seal(name, data)
        with self._writing() as folder:
            try:
                create_in(folder, file_name, content)
            except FileExistsError:
                raise KeyExistsError(name) from None

    def delete(self, name: str) -> None:
        """Remove the key; on return it is gone from the folder, for good.

        Raises:
            KeyNotFoundError: there is none.
            PrivateFileError: the folder is open to others, or not this user's.
        """
        file_name = _file_name(name)
        with self._writing() as folder:
            try:
                os.unlink(file_name, dir_fd=folder)
            except FileNotFoundError:
                raise KeyNotFoundError(name) from None
            os.fsync(folder)

    def names(self) -> tuple[str, ...]:
        """The names of all stored keys, sorted.

        Raises:
            PrivateFileError: the folder is open to others, or not this user's.
        """
        with open_private_folder(self.directory) as folder:
            names = [unquote(file) for file in _key_files(folder)]
        return tuple(sorted(name for name in names if _NAME.fullmatch(name)))

    def __repr__(self) -> str:
        return f"KeyStore({str(self.directory)!r}, {self._master!r})"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[int]:
        """The open folder, with no other writer in it and nothing left half written by a killed one."""
        with open_private_folder(self.directory) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)  # ends with the descriptor, however the process ends
            sweep_leftovers(folder)
            yield folder

    def _check_marker(self, folder: int) -> None:
        """Hold a store to the master key it was made under, and note ours in a new one."""
        path = self.directory / _MARKER
        try:
            content = read_private_file(path, limit=_NAME_LIMIT, folder=folder)
        except FileNotFoundError:
            # Keys without a marker: restored by a copy that left out names with a dot.
            for file in _key_files(folder)[:1]:
                self._check_clear_line(read_private_file(self.directory / file, limit=_FILE_LIMIT, folder=folder))
            write_in(folder, _MARKER, b"%b %b\n" % (_MARKER_FORM, self._master.key_id.encode()))
            return
        form, _, sealed_under = content.strip().partition(b" ")
        if form != _MARKER_FORM:
            raise StoreVersionError(self.directory, form.decode("ascii", "replace"))
        self._check_master(f"the key store `{self.directory}`", sealed_under)

    def _check_clear_line(self, content: bytes) -> None:
        form, _, sealed_under = content.partition(b"\n")[0].partition(b" ")
        if form == _FORM:
            self._check_master(f"the key store `{self.directory}`", sealed_under)

    def _check_master(self, what: str, sealed_under: bytes) -> None:
        found = sealed_under.decode("ascii", "replace")
        if found != self._master.key_id:
            raise WrongMasterKeyError(what, sealed_under=found, given=self._master.key_id)

    def _seal(self, name: str, data: bytes) -> bytes:
        if len(data) > KEY_LIMIT:
            raise KeyTooLargeError(name, size=len(data), limit=KEY_LIMIT)
        token = self._master.seal(b"%b %b\n%b" % (_FORM, name.encode(), data))
        return b"%b %b\n%b\n" % (_FORM, self._master.key_id.encode(), token)

    def _open(self, name: str, content: bytes) -> bytes:
        clear, _, token = content.partition(b"\n")
        form, _, sealed_under = clear.partition(b" ")
        if form != _FORM or not token:
            raise KeyDamagedError(name, "the file is not a sealed key, or was cut short")
        try:
            plaintext = self._master.open(token.rstrip(b"\n"))
        except InvalidToken:
            self._check_master(f"key `{name}`", sealed_under)
            raise KeyDamagedError(name, "its seal does not hold") from None
        bound, _, data = plaintext.partition(b"\n")
        if bound != b"%b %b" % (_FORM, name.encode()):
            raise KeyDamagedError(name, "the file was sealed for another name")
        return data


def _file_name(name: str) -> str:
    """The file for a key: its name with `/`, `:` and `@` escaped, so that all files lie in one folder.

    INVARIANT: one to one, and never starts with a dot: the store's own files do.
    """
    if len(name) > _NAME_LIMIT or not _NAME.fullmatch(name) or len(file := quote(name, safe="")) > _FILE_NAME_LIMIT:
        raise KeyNameError(name)
    return file


def _key_files(folder: int) -> list[str]:
    return sorted(file for file in os.listdir(folder) if not file.startswith("."))
