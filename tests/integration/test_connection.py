import asyncio
import logging
import time
from dataclasses import replace

import pytest
from fixtures_server import MakeRealm, Realm

from authz.creds import Creds
from authz.permissions import SubjectPermissions
from runtime.bus.connection import Connection, connect
from runtime.bus.errors import (
    ConnectFailedError,
    ConnectionLostError,
    NoRespondersError,
    PayloadTooLargeError,
    RefusedError,
    RequestTimeoutError,
)
from runtime.bus.inbound import Handler
from runtime.bus.message import Message


@pytest.fixture
async def pair(realm: Realm) -> tuple[Connection, Connection]:
    """A caller and a responder in one account."""
    alpha = realm.accounts["ALPHA"]
    return await realm.connect(realm.user(alpha)), await realm.connect(realm.user(alpha))


def echo(connection: Connection) -> Handler:
    def answer(message: Message) -> None:
        connection.respond(message.reply, message.data)

    return answer


async def test_request_is_answered(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    await responder.subscribe("svc.echo", echo(responder))
    answer = await caller.request("svc.echo", b"hello", timeout=5)
    assert answer.data == b"hello"
    assert answer.subject.startswith(caller.inbox_prefix + ".")


async def test_headers_travel_and_raw_block_is_kept(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    seen = []
    await responder.subscribe("svc.x", lambda m: (seen.append(m), responder.respond(m.reply, b"", {"Code": "7"})))
    answer = await caller.request("svc.x", b"", timeout=5, headers={"Agent-Timeout": "5"})
    assert seen[0].header_block == b"NATS/1.0\r\nAgent-Timeout: 5\r\n\r\n"
    assert answer.header("Code") == "7"


async def test_answer_carries_none_of_the_requests_headers(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    await responder.subscribe("svc.echo", echo(responder))
    answer = await caller.request("svc.echo", b"x", timeout=5, headers={"Nats-Request-Info": "{}"})
    assert answer.header_block == b""


async def test_nobody_serving_is_known_at_once(pair: tuple[Connection, Connection]) -> None:
    with pytest.raises(NoRespondersError):
        await pair[0].request("svc.nobody", b"", timeout=30)


async def test_silence_ends_at_the_deadline_and_leaks_nothing(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    await responder.subscribe("svc.mute", lambda _: None)
    with pytest.raises(RequestTimeoutError):
        await caller.request("svc.mute", b"", timeout=0.05)
    assert len(caller._client.inflight) == 0


async def test_late_answer_is_dropped(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    held = []
    await responder.subscribe("svc.late", held.append)
    with pytest.raises(RequestTimeoutError):
        await caller.request("svc.late", b"", timeout=0.05)
    responder.respond(held[0].reply, b"too late")
    await responder.flush()
    await caller.flush()
    assert caller.is_connected


async def test_cancelled_request_leaks_nothing(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    asked = asyncio.Event()
    await responder.subscribe("svc.mute", lambda _: asked.set())
    task = asyncio.create_task(caller.request("svc.mute", b"", timeout=30))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(caller._client.inflight) == 0


async def test_refused_publish_fails_its_request_at_once_whatever_its_case(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    narrow = SubjectPermissions(publish_allow=("svc.ok",), subscribe_allow=("_INBOX.>",))
    caller = await realm.connect(realm.user(alpha, permissions=narrow))
    started = time.monotonic()
    with pytest.raises(RefusedError) as caught:
        await caller.request("svc.Forbidden.Thing", b"", timeout=30)
    assert (caught.value.subject, caught.value.direction) == ("svc.Forbidden.Thing", "publish")
    assert time.monotonic() - started < 15


async def test_refusal_spares_requests_to_other_subjects(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    responder = await realm.connect(realm.user(alpha))
    narrow = SubjectPermissions(publish_allow=("svc.ok",), subscribe_allow=("_INBOX.>",))
    caller = await realm.connect(realm.user(alpha, permissions=narrow))
    await responder.subscribe("svc.ok", echo(responder))
    results = await asyncio.gather(
        *(caller.request(s, b"x", timeout=10) for s in ("svc.ok", "svc.no", "svc.ok")), return_exceptions=True
    )
    assert [getattr(r, "data", None) for r in results] == [b"x", None, b"x"]
    assert isinstance(results[1], RefusedError)


async def test_refused_subscription_raises_and_stays_closed(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    narrow = SubjectPermissions(publish_allow=(">",), subscribe_allow=("_INBOX.>",))
    caller = await realm.connect(realm.user(alpha, permissions=narrow))
    with pytest.raises(RefusedError) as caught:
        await caller.subscribe("secret.>", lambda _: None)
    assert caught.value.direction == "subscribe"
    assert caller._client.direct_sids() == ()


async def test_oversize_payload_is_refused_before_sending_and_the_connection_lives(
    pair: tuple[Connection, Connection],
) -> None:
    caller, responder = pair
    await responder.subscribe("svc.echo", echo(responder))
    with pytest.raises(PayloadTooLargeError) as caught:
        await caller.request("svc.echo", bytes(262_145), timeout=5)
    assert (caught.value.size, caught.value.limit) == (262_145, 262_144)
    with pytest.raises(PayloadTooLargeError):
        responder.respond("_INBOX.x", bytes(262_144), {"A": "b"})
    answer = await caller.request("svc.echo", bytes(262_144), timeout=5)
    assert len(answer.data) == 262_144


async def test_queue_group_shares_messages(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    counts = [0, 0]

    def counting(index: int) -> Handler:
        def handler(message: Message) -> None:
            counts[index] += 1
            responder.respond(message.reply, b"")

        return handler

    for index in (0, 1):
        await responder.subscribe("svc.q", counting(index), queue="workers")
    await asyncio.gather(*(caller.request("svc.q", b"", timeout=10) for _ in range(200)))
    assert sum(counts) == 200
    assert min(counts) > 0


async def test_failing_handler_is_logged_and_the_next_message_is_handled(
    pair: tuple[Connection, Connection], caplog: pytest.LogCaptureFixture
) -> None:
    caller, responder = pair

    def fragile(message: Message) -> None:
        if message.data == b"bad":
            raise ValueError("no")
        responder.respond(message.reply, b"fine")

    await responder.subscribe("svc.fragile", fragile)
    with caplog.at_level(logging.ERROR):
        await caller.publish("svc.fragile", b"bad")
        assert (await caller.request("svc.fragile", b"good", timeout=5)).data == b"fine"
    assert "svc.fragile" in caplog.text


async def test_subscription_drain_handles_all_that_was_sent_before(pair: tuple[Connection, Connection]) -> None:
    caller, responder = pair
    seen = []
    subscription = await responder.subscribe("svc.d", seen.append)
    for _ in range(500):
        await caller.publish("svc.d", b"x")
    await caller.flush()
    await subscription.drain()
    count = len(seen)
    await caller.publish("svc.d", b"late")
    await caller.flush()
    await responder.flush()
    assert count == len(seen) == 500


async def test_make_before_break_loses_nothing_under_load(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    caller = await realm.connect(realm.user(alpha))
    current = await realm.connect(realm.user(alpha))
    await current.subscribe("svc.load", echo(current), queue="hosts")
    stop = asyncio.Event()
    answered = 0

    async def load() -> None:
        nonlocal answered
        while not stop.is_set():
            await caller.request("svc.load", b"x", timeout=10)
            answered += 1

    tasks = [asyncio.create_task(load()) for _ in range(16)]
    for _ in range(5):
        following = await realm.connect(realm.user(alpha))
        await following.subscribe("svc.load", echo(following), queue="hosts")
        await current.drain(5)
        current = following
        target = answered + 200
        while answered < target:  # noqa: ASYNC110  # a counter, on purpose
            await asyncio.sleep(0.001)
    stop.set()
    await asyncio.gather(*tasks)
    assert answered >= 1000


async def test_server_killed_and_restarted_restores_subscriptions(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    lost, restored = asyncio.Event(), asyncio.Event()
    caller = await realm.connect(realm.user(alpha), on_lost=lost.set, on_restored=restored.set)
    responder_restored = asyncio.Event()
    responder = await realm.connect(realm.user(alpha), on_restored=responder_restored.set)
    await responder.subscribe("svc.echo", echo(responder), queue="q")
    await realm.server.kill()
    await lost.wait()
    assert not caller.is_connected
    with pytest.raises(ConnectionLostError) as caught:
        await caller.request("svc.echo", b"", timeout=5)
    assert caught.value.sent is False
    responder.respond("_R_.x", b"nowhere to go")
    assert responder.dropped_answers in (0, 1)
    await realm.start()
    await restored.wait()
    await responder_restored.wait()
    assert (await caller.request("svc.echo", b"again", timeout=5)).data == b"again"


async def test_requests_in_flight_fail_when_the_server_dies(pair: tuple[Connection, Connection], realm: Realm) -> None:
    caller, responder = pair
    arrived = asyncio.Event()
    await responder.subscribe("svc.mute", lambda _: arrived.set())
    task = asyncio.create_task(caller.request("svc.mute", b"", timeout=30))
    await arrived.wait()
    await realm.server.kill()
    with pytest.raises(ConnectionLostError) as caught:
        await task
    assert caught.value.sent is True


async def test_expired_credentials_are_told_before_any_connection(realm: Realm) -> None:
    expired = realm.user(realm.accounts["ALPHA"], ttl=-5)
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(expired, endpoint=realm.endpoint(url="nats://127.0.0.1:1"))
    assert caught.value.reason == "expired"


async def test_expiry_cuts_a_live_connection_and_is_reported_once(realm: Realm) -> None:
    calls = []
    closed = asyncio.Event()

    def on_closed() -> None:
        calls.append(time.time())
        closed.set()

    creds = realm.user(realm.accounts["ALPHA"], ttl=1.5)
    connection = await realm.connect(creds, on_closed=on_closed)
    await closed.wait()
    assert connection.is_closed
    assert "expired" in connection.end_reason
    with pytest.raises(ConnectionLostError):
        await connection.request("x", b"", timeout=1)
    await connection.close()
    assert len(calls) == 1


async def test_revocation_cuts_a_live_connection(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    closed = asyncio.Event()
    creds = realm.user(alpha)
    connection = await realm.connect(creds, on_closed=closed.set)
    await realm.push(alpha, revocations={creds.seed.public.text: int(time.time())})
    await closed.wait()
    assert connection.is_closed
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(creds)
    assert caught.value.reason == "auth"


async def test_changed_role_reconnects_live_users_with_the_new_permissions(make_realm: MakeRealm) -> None:
    def prepare(realm: Realm) -> None:
        account = realm.add_account("ALPHA")
        realm.add_role(account, "r", SubjectPermissions(publish_allow=("a",), subscribe_allow=("_INBOX.>",)))

    realm = await make_realm(prepare=prepare)
    alpha = realm.accounts["ALPHA"]
    restored = asyncio.Event()
    connection = await realm.connect(realm.user(alpha, role="r"), on_restored=restored.set)
    with pytest.raises(RefusedError):
        await connection.request("b", b"", timeout=5)
    first, scoped = alpha.claims.signing_keys
    wider = SubjectPermissions(publish_allow=("a", "b"), subscribe_allow=("_INBOX.>",))
    await realm.push(alpha, signing_keys=(first, replace(scoped, template=wider)))
    await restored.wait()
    with pytest.raises(NoRespondersError):
        await connection.request("b", b"", timeout=5)


async def test_nobody_listening_is_unreachable_within_the_timeout(realm: Realm) -> None:
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(
            realm.user(realm.accounts["ALPHA"]), endpoint=realm.endpoint(url="nats://127.0.0.1:1"), timeout=0.3
        )
    assert caught.value.reason == "unreachable"


async def test_unknown_key_is_refused_once_and_not_retried(realm: Realm, make_realm: MakeRealm) -> None:
    other = await make_realm(prepare=lambda r: r.add_account("ALPHA"), start=False)
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(other.user(other.accounts["ALPHA"]), timeout=30)
    assert caught.value.reason == "auth"
    assert realm.log.count("authentication error") == 1


async def test_close_is_idempotent_and_silent(realm: Realm) -> None:
    called = []
    connection = await realm.connect(realm.user(realm.accounts["ALPHA"]), on_closed=lambda: called.append(1))
    await connection.close()
    await connection.close()
    assert not called


async def test_connection_that_hears_no_answers_has_no_inbox_and_can_not_ask(realm: Realm) -> None:
    alpha = realm.accounts["ALPHA"]
    only_x = SubjectPermissions(publish_deny=(">",), subscribe_allow=("x",))
    heard, restored = asyncio.Event(), asyncio.Event()
    creds = realm.user(alpha, permissions=only_x)
    connection = await realm.connect(creds, hears_answers=False, on_restored=restored.set)
    await connection.subscribe("x", lambda _: heard.set())
    with pytest.raises(RuntimeError):
        await connection.request("x", b"", timeout=5)
    await realm.server.kill()
    await realm.start()
    await restored.wait()
    await (await realm.connect(realm.user(alpha))).publish("x", b"")
    await heard.wait()
    assert "Violation" not in realm.log


async def test_credentials_that_can_not_be_read_say_why_and_end_a_lost_connection(realm: Realm) -> None:
    creds, gone, closed = realm.user(realm.accounts["ALPHA"]), False, asyncio.Event()

    def read() -> Creds:
        if gone:
            raise FileNotFoundError("no such folder")
        return creds

    connection = await connect(realm.endpoint(), read, name="test", on_closed=closed.set)
    gone = True
    await realm.server.kill()
    await realm.start()
    await closed.wait()
    assert connection.end_reason == "no such folder"
    with pytest.raises(ConnectFailedError) as caught:
        await connect(realm.endpoint(), read, name="test")
    assert (caught.value.reason, str(caught.value)) == ("credentials", "no such folder")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
