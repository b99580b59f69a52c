"""The log files of a platform's processes: private, and bounded when they are opened anew."""

import os
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 16 * 1024 * 1024


def open_log(path: Path) -> BinaryIO:
    """Open a log to append to, for a child's output; one that has grown large becomes `<name>.1` first.

    Raises:
        OSError: The file cannot be opened.
    """
    rotate(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab")


def rotate(path: Path) -> None:
    """Move a log that has grown large out of the way; the one moved before is dropped."""
    if path.exists() and path.stat().st_size > MAX_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
