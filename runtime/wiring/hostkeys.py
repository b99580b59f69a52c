"""Gives a host the data keys that its agents may use."""

from runtime.envelope.errors import KeyUnavailableError
from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keywrap import UnwrappedKey
from runtime.keyring.cache import KeyCache


class _NoLink:
    async def unwrap(self, wanted: KeyId | KeyScope) -> UnwrappedKey:
        raise KeyUnavailableError(str(wanted))


def no_keys(tenant: str, agent: str) -> KeyCache:
    """No keys at all, as long as a host can't ask for them: every sealed request is refused with 503."""
    del tenant, agent
    return KeyCache(_NoLink())
