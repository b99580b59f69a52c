"""The folder that a platform lives in: its layout, its schema version, and the lock that keeps it to one process.

platform.json   schema version; written first, so a folder without it is not a platform's
lock            held (flock) by the process that runs the platform
master.key      seals keys/, unless the key comes from the environment
keys/           the sealed key store
server/         nats-server: configuration, TLS files, account JWTs, JetStream
operator/       the first operator's credentials, as `creds issue` would write them
hosts/local/    the local host's credentials and its work folder
logs/           server.log, host.log
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from certs.atomicfile import LEFTOVER_PREFIX, atomic_write
from certs.masterkey import FILE_NAME, FILE_VARIABLE, KEY_VARIABLE
from runtime.wiring.folderlock import FolderInUseError, take_lock

SCHEMA = 1


class PlatformError(Exception):
    """The platform cannot run; `hint` says what to do.

    Attributes:
        hint: One line, the way out.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, kw_only=True, slots=True)
class PlatformFolder:
    """Paths inside a platform's folder."""

    root: Path

    @property
    def marker(self) -> Path:
        """The file that makes the folder a platform's."""
        return self.root / "platform.json"

    @property
    def keys(self) -> Path:
        """The sealed key store."""
        return self.root / "keys"

    @property
    def server(self) -> Path:
        """Everything of nats-server's."""
        return self.root / "server"

    @property
    def operator(self) -> Path:
        """The first operator's credentials folder."""
        return self.root / "operator"

    @property
    def local_host(self) -> Path:
        """The local host's credentials folder."""
        return self.root / "hosts" / "local"

    @property
    def logs(self) -> Path:
        """Log files of the supervised processes."""
        return self.root / "logs"

    def prepare(self) -> None:
        """Create the layout, or check an existing one; repeats safely after an interruption anywhere.

        Raises:
            PlatformError: It is another program's folder, from a newer version, damaged, or not writable.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.marker.exists():
                self._refuse_foreign_content()
                atomic_write(self.marker, json.dumps({"schema": SCHEMA}).encode() + b"\n")
            self._check_schema()
            for path in (self.keys, self.server, self.logs, self.local_host.parent):
                path.mkdir(mode=0o700, exist_ok=True)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise PlatformError(
                f"`{self.root}` cannot be used: {error.strerror}", hint="choose a folder that you own with --dir"
            ) from error

    def require_master_key(self, environ: Mapping[str, str]) -> None:
        """Where the key store exists but its key is gone, a new one would open nothing: say so instead of making it.

        Raises:
            PlatformError: There is a key store and nothing that may open it.
        """
        own = self.root / FILE_NAME
        named_elsewhere = KEY_VARIABLE in environ or FILE_VARIABLE in environ
        if named_elsewhere or own.exists() or not any(self.keys.iterdir()):
            return
        raise PlatformError(
            f"`{own}` is missing, and the key store is sealed under it",
            hint=f"restore it from a backup, or give the key by {KEY_VARIABLE} or {FILE_VARIABLE}",
        )

    def lock(self) -> int:
        """Take the lock for this process's life; returns the descriptor that holds it.

        Raises:
            PlatformError: Another process runs this platform.
        """
        try:
            return take_lock(self.root)
        except FolderInUseError as error:
            raise PlatformError(str(error), hint="stop it first, or choose another --dir") from error

    def _refuse_foreign_content(self) -> None:
        # A first run that was cut short may have left a temporary file of the marker, nothing else.
        foreign = [path.name for path in self.root.iterdir() if not path.name.startswith(LEFTOVER_PREFIX)]
        if foreign:
            raise PlatformError(
                f"`{self.root}` is not empty and not a platform's folder (it holds `{min(foreign)}`)",
                hint="choose an empty or a new folder with --dir",
            )

    def _check_schema(self) -> None:
        try:
            schema = int(json.loads(self.marker.read_bytes())["schema"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PlatformError(
                f"`{self.marker}` is damaged",
                hint=f'restore it from a backup; for this version it is {{"schema": {SCHEMA}}}',
            ) from error
        if schema != SCHEMA:
            raise PlatformError(
                f"`{self.root}` has state of schema {schema}, this version knows {SCHEMA}",
                hint="run the version of garrison that wrote it, or a newer one",
            )
