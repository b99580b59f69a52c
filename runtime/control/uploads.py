"""Snapshots on their way in: pieces are collected in memory, and stored when complete and true to their digest.

Rules it keeps: bounded in number, size and time; pieces in order; nothing is stored that does not have the digest it
is stored under. An upload cut short is simply begun again.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.control.errors import BusyError, ConflictError, InvalidInputError, TooLargeError
from runtime.control.limits import ControlLimits


@dataclass(kw_only=True, slots=True)
class _Upload:
    size: int
    touched: float
    data: bytearray = field(default_factory=bytearray)


class Uploads:
    """Uploads under way, by uploader and digest."""

    def __init__(self, limits: ControlLimits, monotonic: Callable[[], float]) -> None:
        self._limits, self._monotonic = limits, monotonic
        self._open: dict[tuple[str, str], _Upload] = {}

    def add(self, uploader: str, digest: str, *, offset: int, size: int, data: str) -> tuple[int, bytes | None]:
        """Take a piece; returns how many bytes are here now, and all of them when complete.

        Raises:
            TooLargeError: larger than a snapshot may be.
            BusyError: too many uploads at once.
            ConflictError: not the next piece: begin again at 0.
            InvalidInputError: more than `size`, or complete but with another digest.
        """
        if size > self._limits.snapshot_bytes_max:
            raise TooLargeError(f"a snapshot may have {self._limits.snapshot_bytes_max} bytes at most, this has {size}")
        upload = self._upload(uploader, digest, offset, size)
        piece = base64.b64decode(data, validate=True)
        if offset + len(piece) <= len(upload.data) and upload.data[offset : offset + len(piece)] == piece and piece:
            return len(upload.data), None  # a repeated piece
        if offset != len(upload.data):
            raise ConflictError(f"the next piece begins at {len(upload.data)}, not at {offset}")
        if offset + len(piece) > size:
            raise InvalidInputError(f"more than the {size} bytes announced")
        upload.data += piece
        if len(upload.data) < size:
            return len(upload.data), None
        return size, self._complete(uploader, digest)

    def _upload(self, uploader: str, digest: str, offset: int, size: int) -> _Upload:
        now, key = self._monotonic(), (uploader, digest)
        for stale in [k for k, u in self._open.items() if now - u.touched > self._limits.upload_idle_s]:
            del self._open[stale]
        if offset == 0:
            self._open.pop(key, None)
            if len(self._open) >= self._limits.uploads_max:
                raise BusyError("too many uploads at once", retry_after=self._limits.upload_idle_s)
            self._open[key] = _Upload(size=size, touched=now)
        upload = self._open.get(key)
        if upload is None or upload.size != size:
            raise ConflictError("no such upload is under way: begin again at 0")
        upload.touched = now
        return upload

    def _complete(self, uploader: str, digest: str) -> bytes:
        data = bytes(self._open.pop((uploader, digest)).data)
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise InvalidInputError(f"the snapshot's digest is {found}, not {digest}")
        return data
