"""SEC-7: no message ends our client's read loop, and a read loop that ends all the same comes back."""

import asyncio
import base64

import nats
import pytest
from fixtures_server import RawClient, Realm
from nats.aio.msg import Msg

from runtime.bus.connection import Connection
from runtime.bus.message import Message
from runtime.bus.transport import TlsTransport

SOON_S = 10
KILLERS = [
    b"NATS/1.0 100 \xff\r\n\r\n",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0 100",
    b"NATS/1.0",
    b"NATS/1.0 ",
    b"NATS/1.0\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n",
    b"NATS/1.0\r\n: \r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: \xff\r\n\r\n",
    b"\x00" * 32,
    b"X",
]


@pytest.fixture
async def attacker(realm: Realm) -> RawClient:
    return await realm.raw(realm.user(realm.accounts["ALPHA"]))


@pytest.fixture
async def victim(realm: Realm) -> Connection:
    return await realm.connect(realm.user(realm.accounts["ALPHA"]))


@pytest.mark.parametrize("block", KILLERS)
async def test_hostile_header_block_is_delivered_raw_and_harms_nobody(
    attacker: RawClient, victim: Connection, block: bytes
) -> None:
    seen: list[Message] = []
    await victim.subscribe("svc.x", seen.append)
    attacker.hpub(b"svc.x", b"", block, b"payload")
    await attacker.round_trip()
    await victim.flush()
    assert [(message.header_block, message.data) for message in seen] == [(block, b"payload")]
    assert seen[0].header("Nats-Request-Info") is None


@pytest.mark.parametrize("block", KILLERS)
async def test_hostile_answer_ends_its_request_only(attacker: RawClient, victim: Connection, block: bytes) -> None:
    attacker.send(b"SUB svc.x 1\r\n")
    await attacker.round_trip()
    asking = asyncio.create_task(victim.request("svc.x", b"", timeout=10))
    reply = (await attacker.until(b"MSG svc.x")).split()[3]
    attacker.hpub(reply, b"", block, b"x")
    assert (await asking).data == b"x"
    assert victim.is_connected


@pytest.mark.parametrize("block", KILLERS)
async def test_hostile_message_to_a_subscription_of_the_library_harms_nobody(
    attacker: RawClient, victim: Connection, block: bytes
) -> None:
    # JetStream's client keeps subscriptions of nats-py's own kind.
    seen = asyncio.Queue[Msg]()

    async def hear(message: Msg) -> None:
        seen.put_nowait(message)

    await victim._client.subscribe("svc.lib", cb=hear)
    await victim.flush()
    attacker.hpub(b"svc.lib", b"", block, b"first")
    attacker.hpub(b"svc.lib", b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"last")
    async with asyncio.timeout(SOON_S):
        while (await seen.get()).data != b"last":
            pass
    assert victim.is_connected


async def test_subject_and_reply_that_are_not_text_are_delivered_and_harm_nobody(
    attacker: RawClient, victim: Connection
) -> None:
    seen: list[Message] = []
    await victim.subscribe("svc.>", seen.append)
    attacker.send(b"PUB svc.\xff\xfe rep\xff 2\r\nhi\r\n")
    await attacker.round_trip()
    await victim.flush()
    assert [(message.subject, message.reply) for message in seen] == [("svc.\ufffd\ufffd", "rep\ufffd")]


async def test_read_loop_that_dies_comes_back_with_its_subscriptions(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored = asyncio.Event()
    creds = realm.user(realm.accounts["ALPHA"])
    victim = await realm.connect(creds, on_restored=restored.set)
    other = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    await victim.subscribe("svc.x", lambda message: victim.respond(message.reply or "nowhere", b"alive"))

    async def explode(_: bytes) -> None:
        monkeypatch.undo()
        raise RuntimeError("a fault of the parser")

    monkeypatch.setattr(victim._client._ps, "parse", explode)
    await other.publish("svc.x", b"")
    async with asyncio.timeout(5):
        await restored.wait()
    assert (await other.request("svc.x", b"", timeout=5)).data == b"alive"


async def test_server_that_talks_nonsense_is_left_and_tried_again(realm: Realm) -> None:
    restored = asyncio.Event()
    victim = await realm.connect(realm.user(realm.accounts["ALPHA"]), on_restored=restored.set)
    for nonsense in (b"GARBAGE\r\n", b"-ERR\r\n", b"INFO {\r\n", b"INFO \xff\r\n"):
        restored.clear()
        transport = victim._client._transport
        assert isinstance(transport, TlsTransport)
        assert transport._io_reader is not None
        transport._io_reader.feed_data(nonsense)
        async with asyncio.timeout(SOON_S):
            await restored.wait()
    assert victim.is_connected


async def test_library_alone_dies_of_it_and_does_not_notice(realm: Realm, attacker: RawClient) -> None:
    # Why there is a client of our own. If this fails, nats-py has been mended.
    creds = realm.user(realm.accounts["ALPHA"])

    def sign(nonce: str) -> bytes:
        return base64.b64encode(creds.seed.sign(nonce.encode()))

    bare = await nats.connect(
        realm.server.url,
        tls=realm.endpoint().tls,
        tls_handshake_first=True,
        user_jwt_cb=creds.jwt.encode,
        signature_cb=sign,
    )
    await bare.subscribe("svc.x")
    await bare.flush()
    assert bare._reading_task is not None
    while not bare._reading_task.done():  # its flush does not wait for its own SUB: once may be too early
        attacker.hpub(b"svc.x", b"", KILLERS[0])
        await attacker.round_trip()
        await asyncio.sleep(0.01)
    assert bare.is_connected
    await bare.close()
