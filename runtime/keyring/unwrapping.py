"""Asks the control plane for one key, and takes nothing but a true answer to this very request.

Rules it keeps: a new one-time key for each request, forgotten when its answer has been read; the answer's signature is
the pinned control plane's; why an answer is not taken is for the log. It does not keep keys (`cache`) and does not
send: who asks, and under which credentials, is passed in.
"""

import logging
import time
from collections.abc import Awaitable, Callable

from runtime.envelope.errors import KeyDestroyedError, KeyUnavailableError, KeyWrapError
from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keywrap import OneTimeKey, UnwrapCall, UnwrappedKey, open_unwrap_answer
from runtime.envelope.unwrap import UnwrapAnswer, UnwrapRequest

log = logging.getLogger(__name__)

Ask = Callable[[UnwrapRequest], Awaitable[tuple[UnwrapAnswer, UnwrapCall]]]
"""Sends a request, signed; returns the answer, and what this side knows of the call.

Raises:
    KeyRefusedError: The control plane says no.
    KeyUnavailableError: It could not be asked.
    KeyWrapError: Its answer is malformed.
"""


class Unwrapping:
    """Implements `UnwrapLink`.

    Args:
        ask: Sends one request.
        verify: Raises unless the signature, its second argument, is the control plane's over the first.
        agent: On whose behalf, from hosts only.
        wall: Unix seconds.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        verify: Callable[[bytes, bytes], None],
        agent: str | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._verify = verify
        self._agent = agent
        self._wall = wall

    async def unwrap(self, wanted: KeyId | KeyScope) -> UnwrappedKey:
        """Return that version, or the scope's active one.

        Raises:
            KeyDestroyedError: It was destroyed.
            KeyRefusedError: The control plane says no.
            KeyUnavailableError: It could not be asked, or its answer is not a true one.
        """
        one_time_key = OneTimeKey.generate()
        request = UnwrapRequest(wanted=wanted, one_time_key=one_time_key.public, agent=self._agent)
        try:
            answer, call = await self._ask(request)
            return open_unwrap_answer(
                answer, call, wanted=wanted, one_time_key=one_time_key, now=self._wall(), verify=self._verify
            )
        except KeyWrapError as error:
            log.warning("the answer with key `%s` was not taken: %s", wanted, error.reason)
            if error.reason == "destroyed":
                raise KeyDestroyedError(str(wanted)) from error
            raise KeyUnavailableError(str(wanted)) from error
