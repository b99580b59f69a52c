"""Keys at hand: bounded in time and number, asked for once, and forgotten when told to."""

import asyncio
from dataclasses import dataclass, field

import pytest
from envelope_keys import data_key

from runtime.envelope.errors import KeyDestroyedError, KeyRefusedError, KeyUnavailableError
from runtime.envelope.keyid import KeyId, KeyScope, parse
from runtime.envelope.keywrap import UnwrappedKey
from runtime.envelope.unwrap import HeldState
from runtime.keyring.cache import KEEP_S, KeyCache

PHI, OLD = parse("phi@2"), parse("phi@1")
SCOPE = KeyScope("phi")
NOW = 1_800_000_000


@dataclass
class Link:
    """Gives what it has; waits for `gate` first."""

    state: HeldState = "active"
    lives_s: float = 3600
    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def unwrap(self, wanted: KeyId | KeyScope) -> UnwrappedKey:
        self.asked.append(str(wanted))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        key_id = wanted if isinstance(wanted, KeyId) else wanted.at(2)
        return UnwrappedKey(dek=data_key(key_id), state=self.state, expires_at=int(NOW + self.lives_s))


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cache(link: Link, time: Time) -> KeyCache:
    return KeyCache(link, wall=lambda: NOW, monotonic=time, capacity=4)


def test_nothing_is_at_hand_at_first(cache: KeyCache) -> None:
    assert (cache.cached(PHI), cache.cached_active(SCOPE)) == (None, None)


async def test_fetched_key_is_at_hand_and_asked_for_once(cache: KeyCache, link: Link) -> None:
    key = await cache.fetch(PHI)
    assert cache.cached(PHI) is key
    assert await cache.fetch(PHI) is key
    assert link.asked == ["phi@2"]


@pytest.mark.parametrize("wanted", [PHI, SCOPE])
async def test_active_version_is_known_by_its_id_and_by_its_scope(
    cache: KeyCache, link: Link, wanted: KeyId | KeyScope
) -> None:
    key = await cache.fetch(wanted)
    assert (cache.cached(PHI), cache.cached_active(SCOPE)) == (key, key)
    assert len(link.asked) == 1


async def test_version_that_only_opens_never_seals(cache: KeyCache, link: Link) -> None:
    link.state = "opening"
    await cache.fetch(OLD)
    assert cache.cached(OLD) is not None
    assert cache.cached_active(SCOPE) is None


@pytest.mark.parametrize(("lives_s", "kept_s"), [(3600, KEEP_S), (20, 20)])
async def test_key_is_kept_no_longer_than_it_may_be(
    cache: KeyCache, link: Link, time: Time, lives_s: float, kept_s: float
) -> None:
    link.lives_s = lives_s
    await cache.fetch(PHI)
    time.now += kept_s - 0.001
    assert cache.cached(PHI) is not None
    time.now += 0.001
    assert cache.cached(PHI) is None
    assert cache.cached_active(SCOPE) is None
    assert len(cache) == 0


async def test_concurrent_fetches_ask_once(cache: KeyCache, link: Link) -> None:
    link.gate.clear()
    waiting = [asyncio.ensure_future(cache.fetch(PHI)) for _ in range(10)]
    await asyncio.sleep(0)
    link.gate.set()
    assert len({id(key) for key in await asyncio.gather(*waiting)}) == 1
    assert link.asked == ["phi@2"]


async def test_one_who_stops_waiting_takes_nothing_from_the_others(cache: KeyCache, link: Link) -> None:
    link.gate.clear()
    first, second = (asyncio.ensure_future(cache.fetch(PHI)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    link.gate.set()
    assert (await second).key_id == PHI


@pytest.mark.parametrize(
    "error", [KeyRefusedError("phi@2"), KeyDestroyedError("phi@2"), KeyUnavailableError("phi@2")], ids=repr
)
async def test_refusal_is_remembered_for_a_second(
    cache: KeyCache, link: Link, time: Time, error: KeyUnavailableError
) -> None:
    link.error = error
    for _ in range(3):
        with pytest.raises(type(error)):
            await cache.fetch(PHI)
    assert len(link.asked) == 1
    link.error = None
    time.now += 1
    assert (await cache.fetch(PHI)).key_id == PHI


async def test_whatever_goes_wrong_on_the_way_is_a_key_that_is_not_to_be_had(cache: KeyCache, link: Link) -> None:
    link.error = OSError("no route")
    with pytest.raises(KeyUnavailableError) as caught:
        await cache.fetch(PHI)
    assert type(caught.value) is KeyUnavailableError


async def test_dropped_keys_and_refusals_are_gone(cache: KeyCache, link: Link) -> None:
    await cache.fetch(PHI)
    link.error = KeyRefusedError("phi@1")
    with pytest.raises(KeyRefusedError):
        await cache.fetch(OLD)
    cache.drop()
    assert cache.cached(PHI) is None
    link.error = None
    assert (await cache.fetch(OLD)).key_id == OLD


@pytest.mark.parametrize("error", [None, KeyRefusedError("phi@2")], ids=["given", "refused"])
async def test_key_on_its_way_when_dropped_is_not_handed_out(
    cache: KeyCache, link: Link, error: Exception | None
) -> None:
    link.gate.clear()
    waiting = asyncio.ensure_future(cache.fetch(PHI))
    await asyncio.sleep(0)
    cache.drop()
    link.error = error
    link.gate.set()
    with pytest.raises(KeyUnavailableError):
        await waiting
    assert cache.cached(PHI) is None
    link.error = None
    assert (await cache.fetch(PHI)).key_id == PHI
    assert link.asked == ["phi@2", "phi@2"]


async def test_failure_that_nobody_waits_for_is_not_reported_as_lost(cache: KeyCache, link: Link) -> None:
    link.gate.clear()
    waiting = asyncio.ensure_future(cache.fetch(PHI))
    await asyncio.sleep(0)
    waiting.cancel()
    link.error = KeyRefusedError("phi@2")
    link.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(KeyRefusedError):
        await cache.fetch(PHI)


async def test_key_not_used_for_longest_goes_first(cache: KeyCache, link: Link) -> None:
    link.state = "opening"
    for version in range(1, 6):
        await cache.fetch(SCOPE.at(version))
        cache.cached(SCOPE.at(1))
    assert cache.cached(SCOPE.at(1)) is not None
    assert cache.cached(SCOPE.at(2)) is None
    assert len(cache) == 4


async def test_cache_never_prints_keys(cache: KeyCache) -> None:
    key = await cache.fetch(PHI)
    assert repr(cache) == "KeyCache(2 at hand)"
    assert repr(key.reveal()) not in repr(vars(cache))
