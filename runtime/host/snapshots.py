"""The host's local copies of deployment snapshots, unpacked under their digests."""

import asyncio
import shutil
from pathlib import Path

from runtime.host.ports import ControlLink
from runtime.host.snapshot import unpack

FOLDER = "garrison-snapshots"


class SnapshotCache:
    """Fetches, verifies and unpacks each digest once for as long as the host lives.

    Its folder inside `workdir` is emptied at start: what runs is always unpacked from bytes whose digest was checked
    by this process. The name is ours alone, so that nobody's own files are emptied with it.
    """

    def __init__(self, workdir: Path, link: ControlLink) -> None:
        self._folder = workdir / FOLDER
        self._link = link
        self._fetching = asyncio.Lock()
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir(mode=0o700, parents=True)

    async def folder_of(self, digest: str) -> Path:
        """The unpacked snapshot's folder.

        Raises:
            SnapshotError: It is not what the digest says, or cannot be unpacked.
        """
        folder = self._folder / digest
        async with self._fetching:
            if not folder.exists():
                data = await self._link.snapshot(digest)
                await asyncio.to_thread(unpack, data, digest=digest, into=folder)
        return folder
