"""SEC-9 on two servers: a push counts when both have it, and one that was away does not keep a revoked user for long.

The pair's second server starts with what the first one's resolver held when the test began, as one that was restored
from an old copy would.
"""

import asyncio
import contextlib
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fixtures_server import MakeRealm, Realm

from authz.creds import Creds
from runtime.bus.claims_push import ClaimsPusher
from runtime.bus.errors import ClaimsPushError, ConnectFailedError
from runtime.bus.server import EmbeddedServer
from runtime.bus.serverconfig import ServerSettings, render

SOON_S = 20


class Pair:
    """A realm's server, and a second one beside it that comes and goes."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.folder = realm.folder / "second"
        self.old_claims = realm.folder / "old"
        shutil.copytree(realm.folder / "resolver", self.old_claims)
        self.second = EmbeddedServer(self.folder / "server.conf", self.folder / "server.log", self.folder / "run")

    async def start_first(self) -> None:
        self.realm.config.write_text(clustered(self.realm.settings, ""), encoding="utf-8")
        await self.realm.server.start()
        port = re.findall(r"Listening for route connections on 127\.0\.0\.1:(\d+)", self.realm.log)[0]
        self._route = f'routes: ["nats://127.0.0.1:{port}"]'

    async def start_second(self) -> None:
        """With the old claims in its resolver."""
        shutil.rmtree(self.folder / "resolver", ignore_errors=True)
        shutil.copytree(self.old_claims, self.folder / "resolver")
        settings = replace(
            self.realm.settings,
            server_name="second",
            resolver_dir=self.folder / "resolver",
            store_dir=self.folder / "store",
        )
        (self.folder / "server.conf").write_text(clustered(settings, self._route), encoding="utf-8")
        await self.second.start()

    async def is_admitted_by_second(self, creds: Creds) -> bool:
        try:
            connection = await self.realm.connect(creds, endpoint=self.realm.endpoint(url=self.second.url))
        except ConnectFailedError as error:
            assert error.reason == "auth"  # noqa: PT017 - any other failure would be the test's own
            return False
        await connection.close()
        return True

    async def pusher(self, expected: int) -> ClaimsPusher:
        return ClaimsPusher(await self.realm.sys_connection(), expected_servers=expected, timeout=2)


def clustered(settings: ServerSettings, route: str) -> str:
    """The configuration as ours, in a cluster and without JetStream, which would want a third server."""
    text = re.sub(r"jetstream \{.*?\}\n", "", render(settings), flags=re.DOTALL)
    return f'{text}\ncluster {{ name: "pair", host: "127.0.0.1", port: -1, {route} }}\n'


@pytest.fixture
async def pair(make_realm: MakeRealm) -> AsyncIterator[Pair]:
    realm = await make_realm(prepare=lambda r: r.add_account("ALPHA"), start=False)
    (realm.folder / "second").mkdir()
    pair = Pair(realm)
    await pair.start_first()
    await pair.start_second()
    try:
        yield pair
    finally:
        await pair.second.kill()


def revoking(pair: Pair, creds: Creds) -> str:
    alpha = pair.realm.accounts["ALPHA"]
    revocations = {creds.seed.public.text: int(time.time())}
    alpha.claims = replace(alpha.claims, revocations=revocations, issued_at=alpha.claims.issued_at + 1)
    return pair.realm.account_jwt(alpha)


async def both_answer(pair: Pair, token: str) -> None:
    """Return when a push was confirmed by both; the second may be joining yet."""
    pusher = await pair.pusher(2)
    async with asyncio.timeout(SOON_S):
        while True:
            with contextlib.suppress(ClaimsPushError):
                await pusher.push(token)
                return


async def test_sec_9_push_that_both_confirmed_is_in_force_on_both(pair: Pair) -> None:
    creds = pair.realm.user(pair.realm.accounts["ALPHA"])
    assert await pair.is_admitted_by_second(creds)
    await both_answer(pair, revoking(pair, creds))
    assert not await pair.is_admitted_by_second(creds)
    with pytest.raises(ConnectFailedError):
        await pair.realm.connect(creds)


async def test_sec_9_server_that_was_away_fails_the_push_and_fetches_the_revocation_when_it_returns(pair: Pair) -> None:
    creds = pair.realm.user(pair.realm.accounts["ALPHA"])
    await both_answer(pair, pair.realm.account_jwt(pair.realm.accounts["ALPHA"]))
    await pair.second.kill()
    with pytest.raises(ClaimsPushError) as caught:
        await (await pair.pusher(2)).push(revoking(pair, creds))
    assert (caught.value.answered, caught.value.expected) == (1, 2)

    await pair.start_second()

    async with asyncio.timeout(SOON_S):
        while await pair.is_admitted_by_second(creds):  # noqa: ASYNC110 - only the server knows when
            await asyncio.sleep(0.1)
