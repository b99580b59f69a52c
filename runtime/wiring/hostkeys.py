"""Gives a host the data keys that its agents may use: asked for in the host's name, on behalf of one agent."""

from typing import Final

from authz.keys import AccountPublicKey
from runtime.client import Client
from runtime.client.keys import UnwrapAsk
from runtime.keyring.cache import KeyCache
from runtime.keyring.unwrapping import Unwrapping

UNWRAP: Final = "hosts.unwrap"


class HostKeys:
    """Opens the keys of each agent of each tenant, over the host's own connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def open(self, tenant: str, agent: str) -> KeyCache:
        """The keys of one agent; none is at hand yet."""
        ask = UnwrapAsk(self._client.exchange, tenant=tenant, command=UNWRAP)
        return KeyCache(Unwrapping(ask, verify=self._verify, agent=agent))

    def _verify(self, data: bytes, signature: bytes) -> None:
        # SEC-11: only what the control plane signed, whose key the host's folder pins; without one nothing is taken.
        AccountPublicKey.parse(self._client.identity.control).verify(data, signature)
