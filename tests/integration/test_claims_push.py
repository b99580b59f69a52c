import asyncio
import json
import time
from dataclasses import replace

import pytest
from fixtures_server import MakeRealm, Realm, TestAccount, limits

from authz.tokens import _JWS, ALGORITHM
from runtime.bus.claims_push import ClaimsPusher
from runtime.bus.errors import ClaimsPushError, ConnectFailedError


@pytest.fixture
async def pusher(realm: Realm) -> ClaimsPusher:
    return ClaimsPusher(await realm.sys_connection(), timeout=2)


def newer(realm: Realm, account: TestAccount, seconds: int = 1) -> str:
    account.claims = replace(account.claims, issued_at=account.claims.issued_at + seconds)
    return realm.account_jwt(account)


def deletion(realm: Realm, account: str) -> str:
    operator = realm.operator.public.text
    claims = {"iat": int(time.time()), "iss": operator, "sub": operator, "nats": {"accounts": [account]}}
    return _JWS.encode(json.dumps(claims).encode(), realm.operator, algorithm=ALGORITHM)


async def test_new_account_is_admitted_at_once(realm: Realm, pusher: ClaimsPusher) -> None:
    beta = realm.add_account("BETA")
    (realm.folder / f"resolver/{beta.key}.jwt").unlink()
    await pusher.push(realm.account_jwt(beta))
    assert (await realm.connect(realm.user(beta))).is_connected


async def test_pushed_claims_are_what_lookup_finds(realm: Realm, pusher: ClaimsPusher) -> None:
    token = newer(realm, realm.accounts["ALPHA"])
    await pusher.push(token)
    assert await pusher.lookup(realm.accounts["ALPHA"].key) == token


async def test_unknown_account_is_looked_up_as_none(make_realm: MakeRealm, pusher: ClaimsPusher) -> None:
    other = await make_realm(start=False)
    assert await pusher.lookup(other.sys.key) is None


async def test_claims_of_a_foreign_operator_open_nothing(
    realm: Realm, make_realm: MakeRealm, pusher: ClaimsPusher
) -> None:
    # The server's resolver stores and confirms them; trust is checked when a user comes.
    other = await make_realm(start=False)
    evil = other.add_account("EVIL")
    await pusher.push(other.account_jwt(evil))
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(other.user(evil))
    assert caught.value.reason == "auth"


async def test_what_is_no_account_token_is_refused_before_sending(pusher: ClaimsPusher) -> None:
    with pytest.raises(ClaimsPushError):
        await pusher.push("not.a.token")


async def test_fewer_confirmations_than_servers_is_a_failure(realm: Realm) -> None:
    # SEC-9: one of two servers is away.
    pusher = ClaimsPusher(await realm.sys_connection(), expected_servers=2, timeout=0.3)
    with pytest.raises(ClaimsPushError) as caught:
        await pusher.push(newer(realm, realm.accounts["ALPHA"]))
    assert (caught.value.answered, caught.value.expected) == (1, 2)


async def test_deleting_an_account_cuts_its_users_and_can_be_repeated(realm: Realm, pusher: ClaimsPusher) -> None:
    alpha = realm.accounts["ALPHA"]
    lost = asyncio.Event()
    creds = realm.user(alpha)
    await realm.connect(creds, on_lost=lost.set, on_closed=lost.set)
    for _ in range(2):
        await pusher.delete(alpha.key, operator_jwt=deletion(realm, alpha.key))
    await lost.wait()
    assert alpha.key not in await pusher.accounts()
    with pytest.raises(ConnectFailedError):
        await realm.connect(creds)


async def test_account_without_connections_cuts_the_live_ones(realm: Realm, pusher: ClaimsPusher) -> None:
    # How a tenant is suspended.
    alpha = realm.accounts["ALPHA"]
    cut = asyncio.Event()
    connection = await realm.connect(realm.user(alpha), on_lost=cut.set, on_closed=cut.set)
    alpha.claims = replace(alpha.claims, limits=limits(connections=0))
    await pusher.push(newer(realm, alpha))
    await cut.wait()
    assert not connection.is_connected


async def test_server_takes_older_claims_so_the_writer_must_not_send_them(realm: Realm, pusher: ClaimsPusher) -> None:
    # SEC-9: why there is one writer with rising times. If this fails, nats-server has begun to check.
    alpha = realm.accounts["ALPHA"]
    old = realm.account_jwt(alpha)
    await pusher.push(newer(realm, alpha, 5))
    await pusher.push(old)
    assert await pusher.lookup(alpha.key) == old


async def test_claims_survive_a_killed_server(realm: Realm, pusher: ClaimsPusher) -> None:
    alpha = realm.accounts["ALPHA"]
    creds = realm.user(alpha)
    alpha.claims = replace(alpha.claims, revocations={creds.seed.public.text: int(time.time())})
    await pusher.push(newer(realm, alpha))
    await realm.server.kill()
    await realm.start()
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(creds)
    assert caught.value.reason == "auth"


async def test_older_preloaded_claims_do_not_roll_back_what_was_pushed(realm: Realm, pusher: ClaimsPusher) -> None:
    alpha = realm.accounts["ALPHA"]
    old, creds = realm.account_jwt(alpha), realm.user(alpha)
    alpha.claims = replace(alpha.claims, revocations={creds.seed.public.text: int(time.time())})
    await pusher.push(newer(realm, alpha))
    await realm.server.kill()
    settings = realm.config.read_text(encoding="utf-8")
    realm.config.write_text(f'{settings}\nresolver_preload: {{ {alpha.key}: "{old}" }}\n', encoding="utf-8")
    await realm.server.start()
    with pytest.raises(ConnectFailedError):
        await realm.connect(creds)
