"""The data keys of one tenant, and which of them seals and opens.

A key has versions. One that is `active` seals and opens, one that is `opening` opens what it sealed before a
rotation, one that is `destroyed` does neither, and its bytes are gone.

Rules it keeps:
    - Sealing takes the newest active version of exactly that label and data subject, never a broader key.
    - Opening goes by key id alone: keys are never tried one after another.
    - A destroyed version stays destroyed.
    - Immutable: a change gives another ring, so that a reader never sees half of one.

It does not fetch, wrap, store or forget keys.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyDestroyedError, KeyUnavailableError
from runtime.envelope.keyid import KeyId, KeyScope

__all__ = ["DataKey", "KeyState", "KeyVersion", "Keyring"]

KeyState = Literal["active", "opening", "destroyed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyVersion:
    """One version of a key.

    Attributes:
        key_id: Its name.
        state: What it may do.
        dek: The key; None when it is destroyed, or known by name only.
    """

    key_id: KeyId
    state: KeyState
    dek: DataKey | None = None

    def __post_init__(self) -> None:
        if self.dek is not None and (self.state == "destroyed" or self.dek.key_id != self.key_id):
            raise ValueError(f"version `{self.key_id}` can't hold that key")


class Keyring:
    """All versions of all keys of one tenant."""

    __slots__ = ("_newest_active", "_versions")

    def __init__(self, versions: Iterable[KeyVersion] = ()) -> None:
        self._versions: dict[KeyId, KeyVersion] = {}
        self._newest_active: dict[KeyScope, KeyVersion] = {}
        for version in versions:
            self._add(version)

    def __iter__(self) -> Iterator[KeyVersion]:
        """By label, data subject and version."""
        return iter(sorted(self._versions.values(), key=lambda v: (str(v.key_id.scope), v.key_id.version)))

    def __len__(self) -> int:
        return len(self._versions)

    def sealing_key(self, scope: KeyScope) -> DataKey:
        """Return the newest active version.

        Raises:
            KeyUnavailableError: There is none, or its bytes are not here.
        """
        version = self._newest_active.get(scope)
        if version is None or version.dek is None:
            raise KeyUnavailableError(str(scope))
        return version.dek

    def opening_key(self, key_id: KeyId) -> DataKey:
        """Return that very version.

        Raises:
            KeyDestroyedError: It was destroyed.
            KeyUnavailableError: It is not here.
        """
        version = self._versions.get(key_id)
        if version is not None and version.state == "destroyed":
            raise KeyDestroyedError(str(key_id))
        if version is None or version.dek is None:
            raise KeyUnavailableError(str(key_id))
        return version.dek

    def version(self, key_id: KeyId) -> KeyVersion | None:
        """Return what is known of that version."""
        return self._versions.get(key_id)

    def active(self, scope: KeyScope) -> KeyVersion | None:
        """Return the version that seals, if any."""
        return self._newest_active.get(scope)

    def next_id(self, scope: KeyScope) -> KeyId:
        """Return the name of the version after all that there ever were, destroyed ones included."""
        return scope.at(1 + max((v.version for v in self._versions if v.scope == scope), default=0))

    def with_version(self, version: KeyVersion) -> "Keyring":
        """Return this ring with `version` added, or in place of the one of that name.

        Raises:
            KeyDestroyedError: That version was destroyed, and this would bring it back.
        """
        known = self._versions.get(version.key_id)
        if known is not None and known.state == "destroyed" and version.state != "destroyed":
            raise KeyDestroyedError(str(version.key_id))
        return Keyring({**self._versions, version.key_id: version}.values())

    def rotated(self, dek: DataKey) -> "Keyring":
        """Return this ring with `dek` as the active version; those that were active before only open.

        Raises:
            ValueError: It is not the next version.
        """
        scope = dek.key_id.scope
        if dek.key_id != self.next_id(scope):
            raise ValueError(f"`{dek.key_id}` is not the next version")
        older = [
            replace(v, state="opening") if v.key_id.scope == scope and v.state == "active" else v
            for v in self._versions.values()
        ]
        return Keyring([*older, KeyVersion(key_id=dek.key_id, state="active", dek=dek)])

    def destroyed(self, key_id: KeyId) -> "Keyring":
        """Return this ring with that version destroyed for good, whether or not it was known."""
        return self.with_version(KeyVersion(key_id=key_id, state="destroyed"))

    def __repr__(self) -> str:
        return f"Keyring({len(self._versions)} versions)"

    def _add(self, version: KeyVersion) -> None:
        self._versions[version.key_id] = version
        scope = version.key_id.scope
        newest = self._newest_active.get(scope)
        if version.state == "active" and (newest is None or newest.key_id.version < version.key_id.version):
            self._newest_active[scope] = version
