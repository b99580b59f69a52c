"""Reads a credentials folder: who its owner is, where the server is, and what a connection needs.

A folder holds `user.creds`, `client.pem`, `client-key.pem`, `ca.pem` and `context.json`. The last is a context of the
`nats` command; a path in it counts from the folder, and a file of that name in the folder itself is preferred, so
that a folder may be moved or copied.

Rules it keeps: the files with secrets are refused unless only their owner can read them; credentials are read anew
at each connect, so that renewed ones are picked up; no content of a file appears in an error.

It does not verify the JWT (the server does) and does not connect.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runtime.client.errors import FolderError

if TYPE_CHECKING:
    from authz.creds import Creds

CREDS_FILE = "user.creds"
CERTIFICATE_FILE = "client.pem"
KEY_FILE = "client-key.pem"
CA_FILE = "ca.pem"
CONTEXT_FILE = "context.json"
FILES = frozenset({CREDS_FILE, CERTIFICATE_FILE, KEY_FILE, CA_FILE, CONTEXT_FILE})

_CONTEXT_LIMIT = 64 * 1024
_SCHEMES = frozenset({"tls", "nats"})
_REMEDY = "issue credentials with `garrison creds issue`"


@dataclass(frozen=True, kw_only=True, slots=True)
class CredentialsFolder:
    """What a folder says about itself; all but `user`, `expires_at` and `control` is information, never proof.

    Attributes:
        path: The folder.
        url: The server's address, such as `tls://127.0.0.1:4222`.
        user: The public key of its user.
        name: The user's name.
        tenant: The tenant's name, or "" if the folder does not say.
        role: The role's name, or "" likewise.
        control: The public key of the control plane, pinned when the folder was issued; "" if it was issued before
            there were sealed calls.
        expires_at: Unix seconds at which the JWT expires, or None.
        creds: Path of the credentials file.
        certificate: Path of the client certificate.
        key: Path of its private key.
        ca: Path of the platform's CA certificate.
    """

    path: Path
    url: str
    user: str
    name: str
    tenant: str
    role: str
    control: str
    expires_at: int | None
    creds: Path
    certificate: Path
    key: Path
    ca: Path

    def load_creds(self) -> Creds:
        """The credentials as they are on disk now.

        Raises:
            FolderError: They can't be read.
        """
        return _read_creds(self.creds)

    def tls_context(self) -> ssl.SSLContext:
        """The TLS context of a connection as this user.

        Raises:
            FolderError: A certificate or its key can't be used.
        """
        from certs.contexts import client_context
        from certs.errors import CertsError, PrivateFileError

        try:
            return client_context(ca=self.ca, certificate=self.certificate, key=self.key)
        except PrivateFileError as error:
            raise _from_private(error, self.key) from error
        except CertsError as error:
            raise FolderError(str(error), path=str(self.path), remedy=_REMEDY) from error


def read_folder(path: Path) -> CredentialsFolder:
    """Read what a credentials folder says.

    Raises:
        FolderError: It is not one, or a file in it is missing, malformed or open to others.
    """
    from authz.errors import AuthzError
    from authz.tokens import decode_user

    if not path.is_dir():
        raise FolderError(f"`{path}` is not a credentials folder", path=str(path), remedy=_REMEDY)
    context = _read_context(path / CONTEXT_FILE)
    creds_path = _located(path, context, "creds", CREDS_FILE)
    creds = _read_creds(creds_path)
    try:
        claims = decode_user(creds.jwt, now=None)
    except AuthzError as error:
        raise FolderError(
            f"`{creds_path}` holds no usable JWT: {error}", path=str(creds_path), remedy=_REMEDY
        ) from error
    if claims.subject != creds.seed.public:
        raise FolderError(
            f"`{creds_path}` holds the seed of another user than its JWT", path=str(creds_path), remedy=_REMEDY
        )
    about = context.get("garrison")
    about = about if isinstance(about, dict) else {}
    return CredentialsFolder(
        path=path,
        url=_url(context, path / CONTEXT_FILE),
        user=claims.subject.text,
        name=claims.name,
        tenant=_text(about.get("tenant")),
        role=_text(about.get("role")),
        control=_control(about, path / CONTEXT_FILE),
        expires_at=claims.expires_at,
        creds=creds_path,
        certificate=_located(path, context, "cert", CERTIFICATE_FILE),
        key=_located(path, context, "key", KEY_FILE),
        ca=_located(path, context, "ca", CA_FILE),
    )


def _read_context(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as source:
            content = source.read(_CONTEXT_LIMIT + 1)
        context = json.loads(content.decode())
    except FileNotFoundError:
        raise FolderError(f"`{path.parent}` holds no `{CONTEXT_FILE}`", path=str(path), remedy=_REMEDY) from None
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise FolderError(f"`{path}` can't be read: {reason}", path=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise FolderError(f"`{path}` is not JSON", path=str(path), remedy=_REMEDY) from error
    if len(content) > _CONTEXT_LIMIT or not isinstance(context, dict):
        raise FolderError(f"`{path}` is not a context", path=str(path), remedy=_REMEDY)
    return context


def _located(folder: Path, context: dict[str, Any], field: str, usual: str) -> Path:
    """The file that a field of the context names; one of that name in the folder goes before another elsewhere."""
    named = Path(_text(context.get(field)) or usual)
    beside = folder / named.name
    return beside if beside.exists() else folder / named


def _url(context: dict[str, Any], path: Path) -> str:
    url = _text(context.get("url"))
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port is not None
    except ValueError:
        usable = False
    if not usable or parts.username or parts.password:
        raise FolderError(f"`{path}` names no usable server address: `{url}`", path=str(path), remedy=_REMEDY)
    return url


def _control(about: dict[str, Any], path: Path) -> str:
    from authz.errors import KeyFormatError
    from authz.keys import AccountPublicKey

    try:
        return AccountPublicKey.parse(_text(about["control"])).text if "control" in about else ""
    except KeyFormatError as error:
        message = f"`{path}` pins no usable key of the control plane: {error}"
        raise FolderError(message, path=str(path), remedy=_REMEDY) from error


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read_creds(path: Path) -> Creds:
    from authz.creds import MAX_CREDS_FILE, parse_creds
    from authz.errors import AuthzError
    from certs.errors import PrivateFileError
    from certs.privatefile import read_private_file

    try:
        content = read_private_file(path, limit=MAX_CREDS_FILE, named_by_user=True)
        return parse_creds(content.decode("ascii"))
    except FileNotFoundError:
        raise FolderError(f"`{path}` does not exist", path=str(path), remedy=_REMEDY) from None
    except PrivateFileError as error:
        raise _from_private(error, path) from error
    except (AuthzError, UnicodeDecodeError) as error:
        reason = "it is not ASCII" if isinstance(error, UnicodeDecodeError) else getattr(error, "fault", str(error))
        raise FolderError(f"`{path}` is not a credentials file: {reason}", path=str(path), remedy=_REMEDY) from error


def _from_private(error: Exception, path: Path) -> FolderError:
    return FolderError(str(error), path=str(path), remedy=str(getattr(error, "remedy", "")))
