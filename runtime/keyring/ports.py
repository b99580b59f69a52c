"""What the keyring needs from outside, as a Protocol."""

from typing import Protocol

from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keywrap import UnwrappedKey


class UnwrapLink(Protocol):
    """Asks whoever holds the keys for one of them."""

    async def unwrap(self, wanted: KeyId | KeyScope) -> UnwrappedKey:
        """Return that version, or the scope's active one; what came was verified.

        Raises:
            KeyDestroyedError: It was destroyed.
            KeyRefusedError: It is not given, now or later.
            KeyUnavailableError: It could not be had this time.
        """
