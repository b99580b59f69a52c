"""SEC-10: what the server itself bounds, whoever asks."""

import asyncio
import contextlib
import json

import pytest
from fixtures_server import MakeRealm, RawClient, Realm, TestAccount, limits

from authz.claims import ServiceExport, ServiceImport
from authz.permissions import ResponsePermission, SubjectPermissions
from runtime.bus.connection import Connection, Endpoint
from runtime.bus.errors import ConnectFailedError, RefusedError, RequestTimeoutError
from runtime.bus.message import Message

SOON_S = 15


@pytest.fixture
async def attacker(realm: Realm) -> RawClient:
    return await realm.raw(realm.user(realm.accounts["ALPHA"]))


async def cut_off(client: RawClient) -> bytes:
    """Everything the server says until it closes the connection."""
    said = b""
    async with asyncio.timeout(SOON_S):
        with contextlib.suppress(OSError):
            while data := await client.reader.read(65536):
                said += data
    return said


async def test_client_that_does_not_authenticate_is_cut(realm: Realm) -> None:
    host, port = realm.server.url.removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=realm.endpoint().tls)
    said = await cut_off(RawClient(reader, writer))
    assert json.loads(said.split(b"\r\n")[0].split(b" ", 1)[1])["auth_required"] is True
    assert b"Authentication Timeout" in said
    writer.close()


async def test_control_line_over_four_kilobytes_is_cut(attacker: RawClient) -> None:
    attacker.send(b"PUB " + b"a." * 2100 + b"a 0\r\n\r\n")
    assert b"maximum control line exceeded" in (await cut_off(attacker)).lower()


async def test_payload_over_the_accounts_limit_is_cut(attacker: RawClient) -> None:
    attacker.send(b"PUB a 262145\r\n" + bytes(262_145) + b"\r\n")
    assert b"Maximum Payload Violation" in await cut_off(attacker)


async def test_headers_count_as_payload(attacker: RawClient) -> None:
    attacker.hpub(b"a", b"", b"NATS/1.0\r\nA: b\r\n\r\n", bytes(262_144))
    assert b"Maximum Payload Violation" in await cut_off(attacker)


async def test_payload_over_the_servers_limit_is_cut_whatever_the_account_allows(make_realm: MakeRealm) -> None:
    realm = await make_realm(prepare=lambda r: r.add_account("ALPHA", limits=limits(payload_bytes=-1)))
    attacker = await realm.raw(realm.user(realm.accounts["ALPHA"]))
    attacker.send(b"PUB a 1048577\r\n" + bytes(1_048_577) + b"\r\n")
    assert b"Maximum Payload Violation" in await cut_off(attacker)


async def test_account_can_not_take_more_connections_than_its_own(make_realm: MakeRealm) -> None:
    realm = await make_realm(prepare=lambda r: r.add_account("ALPHA", limits=limits(connections=2)))
    alpha = realm.accounts["ALPHA"]
    for _ in range(2):
        await realm.connect(realm.user(alpha))
    with pytest.raises(ConnectFailedError) as caught:
        await realm.connect(realm.user(alpha))
    assert caught.value.reason == "limit"


async def test_account_can_not_take_more_subscriptions_than_its_own(make_realm: MakeRealm) -> None:
    realm = await make_realm(prepare=lambda r: r.add_account("ALPHA", limits=limits(subscriptions=5)))
    attacker = await realm.raw(realm.user(realm.accounts["ALPHA"]))
    attacker.send(b"".join(b"SUB s.%d %d\r\n" % (n, n) for n in range(1, 8)))
    said = await cut_off_or_told(attacker)
    assert b"maximum subscriptions exceeded" in said.lower()


async def test_subscriber_that_does_not_read_is_cut_before_the_server_holds_much_for_it(realm: Realm) -> None:
    """Up to 64 MiB wait for one connection, and the socket takes a few more."""
    idler, attacker = [await realm.raw(realm.user(realm.accounts["ALPHA"])) for _ in range(2)]
    idler.send(b"SUB flood 1\r\n")
    await idler.round_trip()
    message = b"PUB flood 262144\r\n" + bytes(262_144) + b"\r\n"
    for _ in range(100 * 4):
        attacker.send(message)
        await attacker.round_trip()
        if "Slow Consumer Detected: MaxPending of 67108864 Exceeded" in realm.log:
            return
    raise AssertionError(realm.log)


async def cut_off_or_told(client: RawClient) -> bytes:
    client.send(b"PING\r\n")
    try:
        return await client.until(b"PONG")
    except ConnectionError as error:
        return str(error).encode()


async def test_bearer_token_is_refused(realm: Realm) -> None:
    # A bearer JWT identifies without the seed: whoever reads it is it. Accounts disallow them.
    import base64

    from authz.tokens import _JWS, ALGORITHM

    alpha = realm.accounts["ALPHA"]
    creds = realm.user(alpha)
    part = creds.jwt.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    claims["nats"]["bearer_token"] = True
    bearer = _JWS.encode(json.dumps(claims).encode(), alpha.signing, algorithm=ALGORITHM)
    with pytest.raises(ConnectionError, match="Authorization Violation"):
        await realm.raw(creds, jwt=bearer)


# --- the unary export: Singleton, a threshold, and one answer -------------------------------------------------------


class Crossing:
    """ALPHA's requests to `ai.capabilities.>` cross into GATE, as on a platform."""

    def __init__(self, realm: Realm, caller: Connection, host: Connection) -> None:
        self.realm, self.caller, self.host = realm, caller, host


def host_permissions(account: TestAccount) -> SubjectPermissions:
    return SubjectPermissions(
        publish_deny=(">",),
        subscribe_allow=(f"tenant.{account.key}.>",),
        responses=ResponsePermission(max=1, ttl_s=31),
    )


@pytest.fixture
async def crossing(make_realm: MakeRealm) -> Crossing:
    def prepare(realm: Realm) -> None:
        export = ServiceExport(subject="tenant.*.capabilities.>", account_token_position=2, response_threshold_s=0.3)
        gate = realm.add_account("GATE", exports=(export,))
        alpha = realm.add_account("ALPHA")
        crossing = ServiceImport(
            subject=f"tenant.{alpha.key}.capabilities.>",
            account=gate.seed.public,
            local_subject="ai.capabilities.>",
            share=True,
        )
        realm.replace(alpha, imports=(crossing,))

    realm = await make_realm(prepare=prepare)
    gate, alpha = realm.accounts["GATE"], realm.accounts["ALPHA"]
    host = await realm.connect(realm.user(gate, permissions=host_permissions(alpha)))
    return Crossing(realm, await realm.connect(realm.user(alpha)), host)


async def test_request_crosses_with_the_callers_identity_and_a_reply_of_the_servers_own(crossing: Crossing) -> None:
    seen: list[Message] = []

    def answer(message: Message) -> None:
        seen.append(message)
        crossing.host.respond(message.reply, b"done")

    alpha = crossing.realm.accounts["ALPHA"]
    await crossing.host.subscribe(f"tenant.{alpha.key}.capabilities.>", answer)
    assert (await crossing.caller.request("ai.capabilities.greeting", b"{}", timeout=5)).data == b"done"
    assert seen[0].subject == f"tenant.{alpha.key}.capabilities.greeting"
    assert seen[0].reply.startswith("_R_.")
    info = json.loads(seen[0].header("Nats-Request-Info") or "")
    assert info["acc"] == alpha.key


async def test_second_answer_to_one_request_goes_nowhere(crossing: Crossing) -> None:
    answers: list[Message] = []
    arrived = asyncio.Event()

    def answer(message: Message) -> None:
        crossing.host.respond(message.reply, b"1")
        crossing.host.respond(message.reply, b"2")

    alpha = crossing.realm.accounts["ALPHA"]
    await crossing.host.subscribe(f"tenant.{alpha.key}.capabilities.>", answer)
    inbox = f"{crossing.caller.inbox_prefix}.x.y"

    def collect(message: Message) -> None:
        answers.append(message)
        arrived.set()

    await crossing.caller.subscribe(inbox, collect)
    await crossing.caller.publish("ai.capabilities.greeting", b"{}", reply=inbox)
    await arrived.wait()
    await crossing.host.flush()
    await crossing.caller.flush()
    assert [message.data for message in answers] == [b"1"]


async def test_answer_after_the_threshold_goes_nowhere(crossing: Crossing) -> None:
    held: list[Message] = []
    alpha = crossing.realm.accounts["ALPHA"]
    await crossing.host.subscribe(f"tenant.{alpha.key}.capabilities.>", held.append)
    with pytest.raises(RequestTimeoutError):
        await crossing.caller.request("ai.capabilities.greeting", b"{}", timeout=1.5)
    crossing.host.respond(held[0].reply, b"too late")
    await crossing.host.flush()
    await crossing.caller.flush()
    assert crossing.caller.is_connected


async def test_unserved_capability_is_known_at_once(crossing: Crossing) -> None:
    from runtime.bus.errors import NoRespondersError

    with pytest.raises(NoRespondersError):
        await crossing.caller.request("ai.capabilities.nothing", b"{}", timeout=30)


async def test_host_can_publish_nothing_but_answers(crossing: Crossing) -> None:
    # SEC-2: nobody in GATE can send a request.
    alpha = crossing.realm.accounts["ALPHA"]
    for subject in (f"tenant.{alpha.key}.capabilities.x", "anything", "$SYS.REQ.USER.INFO"):
        with pytest.raises(RefusedError):
            await crossing.host.request(subject, b"", timeout=10)


async def test_host_hears_one_tenant_only(crossing: Crossing) -> None:
    # SEC-2: a host's credential is for one tenant.
    other = crossing.realm.add_account("OTHER")
    for subject in ("tenant.>", "tenant.*.capabilities.>", f"tenant.{other.key}.capabilities.>", ">", "_R_.>"):
        with pytest.raises(RefusedError):
            await crossing.host.subscribe(subject, lambda _: None)


async def test_gate_has_no_jetstream(crossing: Crossing) -> None:
    # SEC-2: nothing in GATE could be made to answer with stored messages.
    from runtime.bus.buckets import Bucket
    from runtime.bus.errors import StorageUnavailableError

    gate = crossing.realm.accounts["GATE"]
    anybody = await crossing.realm.connect(crossing.realm.user(gate))
    with pytest.raises(StorageUnavailableError):
        await Bucket.open(anybody, "x")


async def test_caller_can_not_subscribe_to_what_is_in_gate(crossing: Crossing) -> None:
    alpha = crossing.realm.accounts["ALPHA"]
    heard: list[Message] = []
    await crossing.caller.subscribe(f"tenant.{alpha.key}.capabilities.>", heard.append)
    await crossing.host.subscribe(
        f"tenant.{alpha.key}.capabilities.>", lambda m: crossing.host.respond(m.reply, b"from the host")
    )
    answer = await crossing.caller.request("ai.capabilities.x", b"{}", timeout=5)
    await crossing.caller.flush()
    assert answer.data == b"from the host"
    assert heard == []


async def test_tenant_can_not_send_in_another_tenants_name(crossing: Crossing) -> None:
    alpha = crossing.realm.accounts["ALPHA"]
    heard: list[Message] = []
    await crossing.host.subscribe(f"tenant.{alpha.key}.capabilities.>", heard.append)
    other = crossing.realm.add_account("OTHER")
    gate = crossing.realm.accounts["GATE"]
    stolen = ServiceImport(
        subject=f"tenant.{alpha.key}.capabilities.>",  # not OTHER's own token
        account=gate.seed.public,
        local_subject="ai.capabilities.>",
        share=True,
    )
    await crossing.realm.push(other, imports=(stolen,))
    try:
        intruder = await crossing.realm.connect(crossing.realm.user(other))
        await intruder.publish("ai.capabilities.x", b"{}", reply=f"{intruder.inbox_prefix}.x")
        await intruder.flush()
    except ConnectFailedError:
        pass  # an account with an import that isn't granted may be kept out as a whole
    await crossing.host.flush()
    assert heard == []


def test_our_client_has_the_accounts_payload_limit_by_default(realm_endpoint: Endpoint) -> None:
    assert realm_endpoint.max_payload == 262_144


@pytest.fixture
async def realm_endpoint(realm: Realm) -> Endpoint:
    return realm.endpoint()
