"""The host's local copies of deployment snapshots, unpacked under their digests."""

import shutil
from pathlib import Path

from runtime.host.ports import ControlLink
from runtime.host.snapshot import unpack


class SnapshotCache:
    """Fetches, verifies and unpacks each digest once for as long as the host lives.

    The folder is emptied at start: what runs is always unpacked from bytes whose digest was checked by this process.
    """

    def __init__(self, folder: Path, link: ControlLink) -> None:
        self._folder = folder
        self._link = link
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)

    async def folder_of(self, digest: str) -> Path:
        """The unpacked snapshot's folder.

        Raises:
            SnapshotError: It is not what the digest says, or cannot be unpacked.
        """
        folder = self._folder / digest
        if not folder.exists():
            unpack(await self._link.snapshot(digest), digest=digest, into=folder)
        return folder
