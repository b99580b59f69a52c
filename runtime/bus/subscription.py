"""An open subscription, to be ended in one of two ways: at once, or after what was sent before."""

import logging

from runtime.bus.client import BusClient
from runtime.bus.errors import BusError

_log = logging.getLogger(__name__)

_FLUSH_S = 10.0


class Subscription:
    """One open subscription."""

    def __init__(self, client: BusClient, sid: int, subject: str) -> None:
        self._client = client
        self._sid = sid
        self.subject = subject

    async def unsubscribe(self) -> None:
        """Stop at once; what is on its way is dropped."""
        self._client.stop_direct(self._sid)
        self._client.forget_direct(self._sid)

    async def drain(self) -> None:
        """Take nothing new; returns when the handler has been called for all that was sent before."""
        self._client.stop_direct(self._sid)
        try:
            await self._client.round_trip(_FLUSH_S)
        except BusError:
            _log.debug("connection lost while draining `%s`", self.subject)
        self._client.forget_direct(self._sid)
