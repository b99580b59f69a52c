"""Writes a credentials folder: all of it or nothing, and readable by its owner only.

The five files are made in a hidden folder beside the wanted one, which then takes its name by one rename: nobody ever
sees half of one.
"""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runtime.client.folder import CA_FILE, CERTIFICATE_FILE, CONTEXT_FILE, CREDS_FILE, KEY_FILE


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class FolderContents:
    """What goes into a credentials folder. Prints nothing of it.

    Attributes:
        tenant: The tenant's name.
        name: The user's name.
        role: The role's name.
        user: The user's public key.
        url: The server's address.
        creds: Text of the credentials file (secret).
        certificate: PEM.
        key: PEM (secret).
        ca: PEM.
        control: The public key of the control plane; "" leaves it out.
    """

    tenant: str
    name: str
    role: str
    user: str
    url: str
    creds: str
    certificate: str
    key: bytes
    ca: str
    control: str = ""

    def __repr__(self) -> str:
        return f"FolderContents(user={self.user!r}, <redacted>)"


def write_folder(out: Path, contents: FolderContents) -> None:
    """Write a credentials folder as `out`; one that is there is replaced.

    Raises:
        OSError: It can't be written; nothing is left behind.
    """
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    # mkdtemp makes the folder 0700: the secrets in it are never open to others, whatever the umask is.
    partial = Path(tempfile.mkdtemp(prefix=".garrison-creds-", dir=out.parent))
    try:
        for name, content in _files(out, contents).items():
            _write_private(partial / name, content)
        _take_name(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def context_of(folder: Path, contents: FolderContents) -> dict[str, object]:
    """The folder's context for the `nats` command, with a part of our own that it ignores."""
    return {
        "description": f"{contents.name}, {contents.role} of {contents.tenant}",
        "url": contents.url,
        "creds": str(folder / CREDS_FILE),
        "cert": str(folder / CERTIFICATE_FILE),
        "key": str(folder / KEY_FILE),
        "ca": str(folder / CA_FILE),
        "inbox_prefix": f"_INBOX.{contents.user}",
        "tls_first": True,
        "garrison": _about(contents),
    }


def _about(contents: FolderContents) -> dict[str, str]:
    about = {"tenant": contents.tenant, "name": contents.name, "role": contents.role}
    # SEC-11: pinned, so that whoever answers for the control plane later must hold its key.
    return about | ({"control": contents.control} if contents.control else {})


def _files(folder: Path, contents: FolderContents) -> dict[str, bytes]:
    return {
        CREDS_FILE: contents.creds.encode(),
        CERTIFICATE_FILE: contents.certificate.encode(),
        KEY_FILE: contents.key,
        CA_FILE: contents.ca.encode(),
        CONTEXT_FILE: json.dumps(context_of(folder, contents), indent=2).encode() + b"\n",
    }


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
        target.flush()
        os.fsync(descriptor)


def _take_name(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    # A folder that is not empty can't be renamed over: the old one steps aside first and is then removed.
    aside = Path(tempfile.mkdtemp(prefix=".garrison-old-", dir=out.parent))
    try:
        out.rename(aside / "old")
        try:
            partial.rename(out)
        except OSError:
            (aside / "old").rename(out)
            raise
    except BaseException:
        with contextlib.suppress(OSError):
            aside.rmdir()  # not its contents: if the old folder is still in it, it is the only one
        raise
    shutil.rmtree(aside, ignore_errors=True)
