"""Data keys at hand, for a bounded time.

Rules it keeps:
    - What is at hand is found at once, without waiting; only what is not is asked for.
    - A key is kept for 300 s at most, less where its answer said so, and none longer than until `drop`. A key that was
      on its way then is not handed out: it may have been granted by what no longer holds.
    - However many wait for a key, it is asked for once; a refusal is remembered for a second.
    - Bounded: the key that was not used for longest goes first.
    - Keys never print.

It does not unwrap (`unwrapping`), and does not decide who may use a key.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyUnavailableError
from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keywrap import UnwrappedKey
from runtime.keyring.ports import UnwrapLink

log = logging.getLogger(__name__)

Wanted = KeyId | KeyScope
_T = TypeVar("_T")

CAPACITY: Final = 4_096
KEEP_S: Final = 300.0
KEEP_REFUSAL_S: Final = 1.0


class _Held(NamedTuple):
    dek: DataKey
    until: float


class _Refused(NamedTuple):
    error: KeyUnavailableError
    until: float


class KeyCache:
    """The keys that one owner has at hand; implements dispatch's `KeySource`. For one event loop.

    Args:
        link: Where keys are asked for.
        wall: Unix seconds.
        monotonic: Seconds.
        capacity: How many keys are kept at most, and how many refusals.
    """

    def __init__(
        self,
        link: UnwrapLink,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        capacity: int = CAPACITY,
    ) -> None:
        self._link = link
        self._wall = wall
        self._monotonic = monotonic
        self._capacity = capacity
        self._held: OrderedDict[Wanted, _Held] = OrderedDict()
        self._refused: OrderedDict[Wanted, _Refused] = OrderedDict()
        self._coming: dict[Wanted, asyncio.Task[DataKey]] = {}
        self._generation = 0

    def cached(self, key_id: KeyId) -> DataKey | None:
        """Return that version if it is at hand."""
        return self._at_hand(key_id)

    def cached_active(self, scope: KeyScope) -> DataKey | None:
        """Return the version that seals, if it is at hand."""
        return self._at_hand(scope)

    async def fetch(self, wanted: Wanted) -> DataKey:
        """Return a key, asking for it unless it is at hand.

        Raises:
            KeyDestroyedError: It was destroyed.
            KeyRefusedError: It is not given.
            KeyUnavailableError: It could not be had this time.
        """
        at_hand = self._at_hand(wanted)
        if at_hand is not None:
            return at_hand
        self._raise_if_refused(wanted)
        coming = self._coming.get(wanted)
        if coming is None:
            coming = self._coming[wanted] = asyncio.get_running_loop().create_task(self._ask(wanted, self._generation))
            coming.add_done_callback(_retrieve)
        return await asyncio.shield(coming)  # one who stops waiting takes nothing from the others

    def drop(self) -> None:
        """Forget every key and refusal, and those on their way: what may be had has changed."""
        self._generation += 1
        self._held.clear()
        self._refused.clear()
        self._coming.clear()

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"KeyCache({len(self._held)} at hand)"

    def _at_hand(self, wanted: Wanted) -> DataKey | None:
        held = self._held.get(wanted)
        if held is None:
            return None
        if self._monotonic() >= held.until:
            del self._held[wanted]
            return None
        self._held.move_to_end(wanted)
        return held.dek

    def _raise_if_refused(self, wanted: Wanted) -> None:
        refused = self._refused.get(wanted)
        if refused is None:
            return
        if self._monotonic() < refused.until:
            raise type(refused.error)(refused.error.wanted)
        del self._refused[wanted]

    async def _ask(self, wanted: Wanted, generation: int) -> DataKey:
        try:
            unwrapped = await self._unwrapped(wanted)
        except KeyUnavailableError as error:
            if generation == self._generation:
                _put(self._refused, wanted, _Refused(error, self._monotonic() + KEEP_REFUSAL_S), self._capacity)
            raise
        finally:
            if generation == self._generation:
                del self._coming[wanted]
        if generation != self._generation:
            raise KeyUnavailableError(str(wanted))
        self._keep(unwrapped)
        return unwrapped.dek

    async def _unwrapped(self, wanted: Wanted) -> UnwrappedKey:
        try:
            return await self._link.unwrap(wanted)
        except KeyUnavailableError:
            raise
        except Exception as error:
            log.warning("key `%s` could not be had: %s", wanted, type(error).__name__, exc_info=True)
            raise KeyUnavailableError(str(wanted)) from error

    def _keep(self, unwrapped: UnwrappedKey) -> None:
        keep_s = min(KEEP_S, unwrapped.expires_at - self._wall())
        held = _Held(unwrapped.dek, self._monotonic() + keep_s)
        key_id = unwrapped.dek.key_id
        _put(self._held, key_id, held, self._capacity)
        if unwrapped.state == "active":  # one version of a scope is, so whoever asked for it by name knows both
            _put(self._held, key_id.scope, held, self._capacity)


def _put(entries: OrderedDict[Wanted, _T], wanted: Wanted, entry: _T, capacity: int) -> None:
    entries[wanted] = entry
    entries.move_to_end(wanted)
    if len(entries) > capacity:
        entries.popitem(last=False)


def _retrieve(coming: asyncio.Task[DataKey]) -> None:
    """Look at a failure that nobody waits for any more, so that it is not reported as lost."""
    if not coming.cancelled():
        coming.exception()
