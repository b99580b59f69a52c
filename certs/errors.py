"""What can go wrong with certificates, contexts and stored keys: one type per cause, its facts as fields.

Every message is one line that says what is wrong and, where there is one, the way out. None ever holds key
material.
"""

import shlex
from pathlib import Path


class CertsError(Exception):
    """Base of every error that `certs` raises on purpose."""


class AuthorityError(CertsError):
    """A certificate authority that cannot be loaded: its certificate and key are not a working pair."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"certificate authority can't be loaded: {reason}")


class CertificateNameError(CertsError):
    """A name that must not go into a certificate."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"`{_printable(name)}` can't be a certificate's name: {reason}")


class LifetimeError(CertsError):
    """A lifetime that a certificate must not have."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"certificate can't be issued: {reason}")


class CertificateRequestError(CertsError):
    """A certificate request that is malformed, unproven, or for a kind of key that is not accepted."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"certificate request refused: {reason}")


class CertificateFormatError(CertsError):
    """Bytes that should be a PEM certificate and are not."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"not a certificate: {reason}")


class ContextError(CertsError):
    """A TLS context that can't be built from the files given."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"`{_printable(str(path))}` can't be used for TLS: {reason}")


class PrivateFileError(CertsError):
    """A file or folder that holds secrets and is not in a state to be trusted."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"`{_printable(str(path))}` {reason}")


class LoosePermissionsError(PrivateFileError):
    """Others than the owner may read or write it; `remedy` is the command that mends it."""

    def __init__(self, path: Path, *, mode: int, wanted: int) -> None:
        self.mode = mode
        self.remedy = f"chmod {wanted:o} {shlex.quote(str(path))}"
        super().__init__(path, f"is open to others (mode {mode:04o}): run `{self.remedy}`")


class ForeignOwnerError(PrivateFileError):
    """It belongs to another user, who could read or change it; `remedy` is the command that mends it."""

    def __init__(self, path: Path, *, owner: int, wanted: int) -> None:
        self.owner = owner
        self.remedy = f"chown {wanted} {shlex.quote(str(path))}"
        super().__init__(path, f"belongs to user {owner}, not {wanted}: if you trust it, run `{self.remedy}`")


class MasterKeyError(CertsError):
    """The master key is missing, unreadable or malformed; `source` says where it was looked for."""

    def __init__(self, source: str, reason: str) -> None:
        self.source, self.reason = source, reason
        super().__init__(f"master key from {_printable(source)}: {reason}")


class KeyStoreError(CertsError):
    """Base of what the key store itself refuses."""


class KeyNameError(KeyStoreError):
    """A name that no stored key can have."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"`{_printable(name)}` can't name a key: 1 to 200 of letters, digits and `_ . : @ / -`, "
            "each part starting with a letter or digit"
        )


class KeyNotFoundError(KeyStoreError):
    """No key has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no key named `{name}`")


class KeyExistsError(KeyStoreError):
    """A key of this name is there already and was to be made anew."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"a key named `{name}` exists already")


class KeyTooLargeError(KeyStoreError):
    """More bytes than a key file may have."""

    def __init__(self, name: str, *, size: int, limit: int) -> None:
        self.name, self.size, self.limit = name, size, limit
        super().__init__(f"key `{name}` is {size} bytes, over the limit of {limit}")


class KeyDamagedError(KeyStoreError):
    """A key file whose seal does not hold: changed, cut short, or moved here from another name."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"key `{name}` is damaged: {reason}; restore it from a backup")


class WrongMasterKeyError(KeyStoreError):
    """Sealed under a master key other than the one given; both ids are public."""

    def __init__(self, what: str, *, sealed_under: str, given: str) -> None:
        self.what, self.sealed_under, self.given = what, sealed_under, given
        super().__init__(
            f"{_printable(what)} is sealed under master key {_printable(sealed_under, 16)}, "
            f"but the one given is {given}: give the first"
        )


class StoreVersionError(KeyStoreError):
    """A key store whose form this version does not know."""

    def __init__(self, path: Path, found: str) -> None:
        self.path, self.found = path, found
        super().__init__(
            f"`{_printable(str(path))}` has the unknown form `{_printable(found, 40)}`: use the version that made it"
        )


def _printable(text: str, limit: int = 200) -> str:
    """Keep a message on one line and short, whatever the input held."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:limit])
    return shown + ("…" if len(text) > limit else "")
