"""The key that wraps a tenant's data keys (its KEK), and the wrapping itself.

A KEK is 32 random bytes in the key store, never in JetStream, whose blocks, snapshots and backups keep old bytes: a
tenant's stored data keys are worth nothing without it, and destroying it destroys them all.

Format of a wrapped key: 12 bytes of nonce, then AES-256-GCM (NIST SP 800-38D) of the data key's 32 bytes, with the
LF-terminated lines `GARRISON-WRAP-V1`, tenant, key id as associated data. So a wrapped key moved to another tenant or
name does not unwrap. Nonces are random: a KEK wraps a tenant's keys, far below the 2**32 at which they might repeat.
"""

import contextlib
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certs.errors import KeyExistsError, KeyNotFoundError
from runtime.control.bootstrap import Keys
from runtime.control.errors import StateDamagedError
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import KeyId

MAGIC: Final = "GARRISON-WRAP-V1"
_PREFIX: Final = "kek/"
_KEK_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class KeyWrapper:
    """Wraps and unwraps data keys under their tenants' KEKs. Blocking: it reads files."""

    __slots__ = ("_store",)

    def __init__(self, store: Keys) -> None:
        self._store = store

    def wrap(self, tenant: str, dek: DataKey) -> bytes:
        """The wrapped form of a data key; makes the tenant's KEK at the first one."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._kek_or_new(tenant)).encrypt(nonce, dek.reveal(), _bound(tenant, dek.key_id))

    def unwrap(self, tenant: str, key_id: KeyId, wrapped: bytes) -> DataKey:
        """The data key.

        Raises:
            StateDamagedError: it was not wrapped for that tenant and name, or the KEK is gone.
        """
        try:
            kek = self._store.get(_PREFIX + tenant)
            secret = AESGCM(kek).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _bound(tenant, key_id))
        except (KeyNotFoundError, InvalidTag, ValueError) as error:
            raise StateDamagedError(key=f"datakeys/{tenant}/{key_id}", fault="it does not unwrap") from error
        return DataKey(key_id, secret)

    def shred(self, tenant: str) -> None:
        """Destroy the KEK, and with it every data key of the tenant; no error when that is done already."""
        try:
            self._store.delete(_PREFIX + tenant)
        except KeyNotFoundError:
            return

    def _kek_or_new(self, tenant: str) -> bytes:
        with contextlib.suppress(KeyExistsError):  # the usual case
            self._store.put_new(_PREFIX + tenant, secrets.token_bytes(_KEK_BYTES))
        return self._store.get(_PREFIX + tenant)


def _bound(tenant: str, key_id: KeyId) -> bytes:
    return f"{MAGIC}\n{tenant}\n{key_id}\n".encode()
