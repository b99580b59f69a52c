"""The key that seals every other stored key, and where it comes from.

In this order: the environment variable `GARRISON_MASTER_KEY`; the file that `GARRISON_MASTER_KEY_FILE`
names; the file `master.key` in the platform's folder, made at first use. The last keeps the key beside what
it protects: good for a machine of one's own, while the first two let it come from a secret store.

The form is that of a Fernet key: 32 random bytes in URL-safe base64. It is never derived from a password. A
variable that is set but empty or malformed is an error, not a reason to try the next source.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from cryptography.fernet import Fernet

from certs.atomicfile import atomic_create
from certs.errors import MasterKeyError
from certs.privatefile import make_private_folder, read_private_file

KEY_VARIABLE = "GARRISON_MASTER_KEY"
FILE_VARIABLE = "GARRISON_MASTER_KEY_FILE"
FILE_NAME = "master.key"
_KEY_BYTES = 32
_FILE_LIMIT = 256
_ID_LABEL = b"GARRISON-MASTER-KEY-ID-V1"


class MasterKey:
    """A master key in memory: seals and opens, and says its id, but never shows itself."""

    __slots__ = ("_fernet", "key_id", "source")

    def __init__(self, text: str, *, source: str) -> None:
        raw = _decode(text, source)
        self.source = source
        # An HMAC of a constant: tells two keys apart and gives nothing away of 256 random bits.
        self.key_id = hmac.new(raw, _ID_LABEL, hashlib.sha256).hexdigest()[:16]
        self._fernet = Fernet(base64.urlsafe_b64encode(raw))

    @classmethod
    def load(cls, *, directory: Path, environ: Mapping[str, str]) -> "MasterKey":
        """The master key of the platform in `directory`; one is made there at first use.

        Raises:
            MasterKeyError: a source is named and holds no key.
            PrivateFileError: its file is open to others, someone else's, or not a plain file.
        """
        if KEY_VARIABLE in environ:
            return cls(environ[KEY_VARIABLE], source=f"the variable {KEY_VARIABLE}")
        if FILE_VARIABLE in environ:
            return cls._from_named_file(environ[FILE_VARIABLE])
        return cls._from_own_file(directory / FILE_NAME)

    @staticmethod
    def generate() -> str:
        """A new random key in its text form, for whoever stores it."""
        return Fernet.generate_key().decode()

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt and authenticate; the result is printable and has no newline."""
        return self._fernet.encrypt(plaintext)

    def open(self, token: bytes) -> bytes:
        """The inverse of `seal`.

        Raises:
            cryptography.fernet.InvalidToken: sealed under another key, or changed since.
        """
        return self._fernet.decrypt(token)

    @classmethod
    def _from_named_file(cls, name: str) -> "MasterKey":
        source = f"the file `{name}` named by {FILE_VARIABLE}"
        if not name:
            raise MasterKeyError(f"the variable {FILE_VARIABLE}", "it is set but empty")
        try:
            content = read_private_file(Path(name), limit=_FILE_LIMIT, named_by_user=True)
        except FileNotFoundError as error:
            raise MasterKeyError(source, "no such file") from error
        return cls(_text(content, source), source=source)

    @classmethod
    def _from_own_file(cls, path: Path) -> "MasterKey":
        source = f"the file `{path}`"
        make_private_folder(path.parent)
        try:
            content = read_private_file(path, limit=_FILE_LIMIT)
        except FileNotFoundError:
            # Of two processes that start at once one creates it, and both read that one.
            with contextlib.suppress(FileExistsError):
                atomic_create(path, cls.generate().encode() + b"\n")
            content = read_private_file(path, limit=_FILE_LIMIT)
        return cls(_text(content, source), source=source)

    def __repr__(self) -> str:
        return f"MasterKey(key_id={self.key_id!r}, <redacted>)"

    def __reduce__(self) -> NoReturn:
        msg = "a master key is never pickled"
        raise TypeError(msg)


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise MasterKeyError(source, "it holds other bytes than a key's text") from None


def _decode(text: str, source: str) -> bytes:
    """The key's 32 bytes; the error never repeats what was given."""
    stripped = text.strip()
    if not stripped:
        raise MasterKeyError(source, "it is empty")
    try:
        raw = base64.b64decode(stripped.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise MasterKeyError(source, "it is not 32 bytes in URL-safe base64") from None
    if len(raw) != _KEY_BYTES:
        raise MasterKeyError(source, f"it has {len(raw)} bytes in URL-safe base64, not {_KEY_BYTES}")
    return raw
