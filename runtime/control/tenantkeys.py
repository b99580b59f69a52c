"""A tenant's secret keys: its account's identity, and one scoped signing key a role.

Rules it keeps: all keys of a tenant are one sealed document, replaced as a whole: written *before* the record that
names them, and pruned to what the record names afterwards. So a crash in between leaves a key too many, never one too
few. A role that is removed and comes back gets a new key: what the old one signed stays void.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from authz.keys import AccountSeed
from certs.errors import KeyNotFoundError
from runtime.control.bootstrap import Keys
from runtime.control.errors import StateDamagedError

_PREFIX: Final = "tenant/"


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantKeys:
    """The seeds of one tenant; `roles` by role name."""

    identity: AccountSeed
    roles: Mapping[str, AccountSeed]

    def with_roles(self, names: Iterable[str], current: Mapping[str, str]) -> "TenantKeys":
        """Keys for the roles `names`: those that `current` (role to public key) has are kept, others are new."""
        kept = self.named_by(current).roles
        return replace(self, roles={name: kept.get(name) or AccountSeed.generate() for name in names})

    def named_by(self, current: Mapping[str, str]) -> "TenantKeys":
        """Only the keys that `current` names."""
        kept = {r: seed for r, seed in self.roles.items() if current.get(r) == seed.public.text}
        return replace(self, roles=kept)

    def public(self) -> dict[str, str]:
        """Role to public signing key."""
        return {role: seed.public.text for role, seed in self.roles.items()}


class _Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    v: int
    identity: str
    roles: dict[str, list[str]]  # while a change is under way a role may have two keys


class TenantKeyring:
    """The tenants' keys in the key store."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def load(self, tenant: str, roles: Mapping[str, str]) -> TenantKeys:
        """The keys of an existing tenant: the identity, and the signing keys that `roles` names.

        Raises:
            StateDamagedError: a key is missing or unreadable.
        """
        document = self._read(tenant)
        seeds = [AccountSeed.parse(text) for texts in document.roles.values() for text in texts]
        by_public = {seed.public.text: seed for seed in seeds}
        missing = [role for role, key in roles.items() if key not in by_public]
        if missing:
            raise StateDamagedError(key=_PREFIX + tenant, fault=f"no signing key of role `{missing[0]}`")
        return TenantKeys(
            identity=AccountSeed.parse(document.identity),
            roles={role: by_public[key] for role, key in roles.items()},
        )

    def save(self, tenant: str, *versions: TenantKeys) -> None:
        """Store the keys of one version, or of two while changing from one to the other."""
        roles: dict[str, list[str]] = {}
        for version in versions:
            for role, seed in version.roles.items():
                if seed.reveal() not in (texts := roles.setdefault(role, [])):
                    texts.append(seed.reveal())
        document = _Document(v=1, identity=versions[0].identity.reveal(), roles=roles)
        self._keys.put(_PREFIX + tenant, msgspec.json.encode(document))

    def prune(self, tenant: str, roles: Mapping[str, str]) -> None:
        """Drop the signing keys that `roles` does not name."""
        document = self._read(tenant)
        wanted = self.load(tenant, roles)
        if sum(map(len, document.roles.values())) != len(wanted.roles):
            self.save(tenant, wanted)

    def shred(self, tenant: str) -> None:
        """Destroy all keys of a tenant; no error when that is done already."""
        try:
            self._keys.delete(_PREFIX + tenant)
        except KeyNotFoundError:
            return

    def _read(self, tenant: str) -> _Document:
        try:
            return msgspec.json.decode(self._keys.get(_PREFIX + tenant), type=_Document)
        except KeyNotFoundError as error:
            raise StateDamagedError(key=_PREFIX + tenant, fault="the tenant's keys are not in the key store") from error
        except (msgspec.MsgspecError, ValueError):
            raise StateDamagedError(key=_PREFIX + tenant, fault="it is not a tenant's keys") from None
