"""Names of data keys: `phi@1`, or `phi/patient/4711@2` for one data subject's; without the version, their scope.

Rules it keeps: one spelling for each key, so that what is parsed spells itself; ASCII only; bounded; total, nothing
but `KeyIdError` comes out. A part of a data subject can't be only dots, since a name may become part of a path.

It does not know whether such a key exists, nor whose it is: a key id is a tenant's, and says nothing of which.
"""

import re
from typing import Final

from msgspec import Struct

from runtime.envelope.errors import KeyIdError

MAX_KEY_ID: Final = 400  # characters

_LABEL = r"(?P<label>[a-z0-9][a-z0-9_-]{0,62})"  # the grammar of `authz.names.label_name`; a test holds them together
_PART = r"(?!\.+(?:[/@]|\Z))[A-Za-z0-9_.-]{1,64}"
_SUBJECT = rf"(?P<subject>{_PART}(?:/{_PART}){{0,3}})"
_VERSION = r"(?P<version>[1-9][0-9]{0,8})"
_SCOPE: Final = re.compile(rf"{_LABEL}(?:/{_SUBJECT})?", re.ASCII)
_KEY_ID: Final = re.compile(rf"{_LABEL}(?:/{_SUBJECT})?@{_VERSION}", re.ASCII)

MAX_VERSION: Final = 999_999_999


class KeyScope(Struct, frozen=True):
    """All versions of one key: a data label, and a data subject or None. A struct, being built for every call.

    Attributes:
        label: Such as `phi`.
        subject: Whom the data is about, such as `patient/4711`; None for the label's general key.
    """

    label: str
    subject: str | None = None

    def __str__(self) -> str:
        return self.label if self.subject is None else f"{self.label}/{self.subject}"

    @classmethod
    def of(cls, label: str, subject: str | None = None) -> "KeyScope":
        """Check the two parts, and put them together.

        Raises:
            KeyIdError: One of them is not of its grammar.
        """
        scope = parse_scope(str(cls(label, subject)))
        if scope.label != label:  # a label such as `phi/x` would pass as a label and a subject
            raise KeyIdError(label)
        return scope

    def at(self, version: int) -> "KeyId":
        """Return one version of it.

        Raises:
            KeyIdError: The version is not from 1 to 999999999.
        """
        if not 1 <= version <= MAX_VERSION:
            raise KeyIdError(f"{self}@{version}")
        return KeyId(self.label, self.subject, version)


class KeyId(Struct, frozen=True):
    """One version of a key. Made by `parse` or `KeyScope.at`, which check; the constructor does not.

    Attributes:
        label: As in `KeyScope`.
        subject: As in `KeyScope`.
        version: From 1 on.
    """

    label: str
    subject: str | None
    version: int

    def __str__(self) -> str:
        if self.subject is None:
            return f"{self.label}@{self.version}"
        return f"{self.label}/{self.subject}@{self.version}"

    @property
    def scope(self) -> KeyScope:
        """It, without the version."""
        return KeyScope(self.label, self.subject)


def parse(text: str) -> KeyId:
    """Read `<label>@<version>` or `<label>/<data subject>@<version>`.

    Raises:
        KeyIdError: It is neither.
    """
    found = _KEY_ID.fullmatch(text) if len(text) <= MAX_KEY_ID else None
    if found is None:
        raise KeyIdError(text)
    label, subject, version = found.groups()
    return KeyId(label, subject, int(version))


def parse_scope(text: str) -> KeyScope:
    """Read `<label>` or `<label>/<data subject>`.

    Raises:
        KeyIdError: It is neither.
    """
    found = _SCOPE.fullmatch(text) if len(text) <= MAX_KEY_ID else None
    if found is None:
        raise KeyIdError(text)
    return KeyScope(*found.groups())
