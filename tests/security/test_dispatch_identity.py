"""SEC-1 and SEC-6 on a real server: every way to be somebody else, or to have somebody else deliver, is refused.

Each attack is shown to have arrived: the dispatcher refuses it, not an accident on the way.
"""

import asyncio
import contextlib
import time

import pytest
from fixtures_gate import Gate, RawTls, add_accounts, error_of, host_permissions, info_line
from fixtures_server import ALLOW_ALL, MakeRealm

from authz.keys import AccountSeed
from authz.principals import TenantTrust
from runtime.bus.errors import NoRespondersError
from runtime.bus.message import Message
from runtime.bus.subjects import gate_capability

SUBJECT = "ai.capabilities.vitals.assess"


async def call(gate: Gate, creds: object = None, *, data: bytes = b'{"a":1}') -> Message:
    connection = await gate.connect(creds or gate.user())  # type: ignore[arg-type]
    return await connection.request(SUBJECT, data, timeout=5)


async def call_with(gate: Gate, block: bytes) -> int:
    """What a clerk gets who sends this header block."""

    def act(client: RawTls) -> Message:
        client.subscribe(client.inbox + "*")
        client.publish(SUBJECT, b"{}", block=block, reply=client.inbox + "1")
        answer = client.receive()
        return Message(answer.subject, answer.reply, answer.payload, answer.header_block)

    return error_of(await gate.raw(gate.user("clerk"), act))


async def test_granted_caller_is_answered(gate: Gate) -> None:
    """What all the refusals below are to be compared with."""
    answer = await call(gate)
    assert error_of(answer) == 200
    assert gate.served.reached[0].principal.role == "nurse"
    assert [record.effect for record in gate.records] == ["allow"]


async def test_role_whose_template_allows_what_the_policy_denies_is_stopped_at_the_dispatcher(gate: Gate) -> None:
    assert error_of(await call(gate, gate.user("clerk"))) == 403
    assert gate.served.reached == []


async def test_forged_request_info_is_refused(gate: Gate) -> None:
    """SEC-1a: a clerk writes a nurse's line. The server takes a plainly written one out; the rest comes through."""
    forged = info_line(gate.user("nurse"), gate.acme.key)
    start, end = b"NATS/1.0\r\n", b"\r\n\r\n"
    true_identity, no_identity = 403, 401
    attacks = {
        "a line of its own": (start + forged + end, true_identity),
        "after another line": (start + b"X: y\r\n" + forged + end, true_identity),
        "twice": (start + forged + b"\r\n" + forged + end, true_identity),
        "no space after the colon": (start + forged.replace(b": ", b":", 1) + end, true_identity),
        "before an unterminated line": (start + forged + b"\r\nX: y", true_identity),
        "unterminated": (start + forged, no_identity),
        "before a line that names it": (start + forged + b"\r\nX: Nats-Request-Info: y", no_identity),
        "after a line that names it": (start + b"X: Nats-Request-Info\r\n" + forged + end, no_identity),
        "inside another line": (start + b"X: Nats-Request-Info" + forged + end, no_identity),
        "doubled": (start + b"X: Nats-Request-InfoNats-Request-Info\r\n" + forged + end, no_identity),
        "in odd case": (start + forged.lower() + end, no_identity),
        "a space before the colon": (start + forged.replace(b"Info:", b"Info :") + end, no_identity),
        "folded": (start + b" " + forged + end, no_identity),
        "a block that ends early": (start + forged + end + end, no_identity),
        "bare newlines": (b"NATS/1.0\n" + forged + b"\n\n", no_identity),
        "an inline status": (b"NATS/1.0 100 \xff\r\n" + forged + end, no_identity),
        "more than 16 KiB": (start + b"X: " + b"y" * 17_000 + end, no_identity),
    }
    outcomes = {name: await call_with(gate, block) for name, (block, _) in attacks.items()}
    assert outcomes == {name: code for name, (_, code) in attacks.items()}
    assert gate.served.reached == []
    assert len(gate.seen) == len(attacks)


async def test_unterminated_header_block_that_hides_the_servers_line_is_refused(gate: Gate) -> None:
    """SEC-1a: the server cuts two bytes off the block and appends its line, here to the end of another one."""
    victim = gate.user("nurse")
    forged = info_line(victim, gate.acme.key).replace(b"Request-Info:", b"Request-Info :")
    assert await call_with(gate, b"NATS/1.0\r\n" + forged + b"\r\nX: hidden") == 401
    assert victim.jwt.encode() in gate.seen[0].header_block
    assert b"\r\nX: hiddNats-Request-Info: " in gate.seen[0].header_block
    assert gate.served.reached == []


@pytest.mark.parametrize("deputy", ["$JS.API.INFO", "$SYS.REQ.USER.INFO"])
async def test_answer_that_a_server_service_sends_here_is_dropped(gate: Gate, deputy: str) -> None:
    """SEC-1c: the server does not check reply subjects, so its own services deliver for whoever asks."""

    def act(client: RawTls) -> None:
        client.publish(deputy, b"", reply=SUBJECT)
        client.flush()

    await gate.raw(gate.user("nurse"), act)
    await gate.delivered()
    assert gate.dispatcher.counters.dropped == 1
    assert gate.served.reached == []
    assert gate.records == []


@pytest.mark.parametrize("deputy", ["$JS.API.INFO", "$SYS.REQ.USER.INFO"])
async def test_server_services_answer_never_arrives_under_a_capabilitys_own_name(gate: Gate, deputy: str) -> None:
    """SEC-1c has this luck beside it: the server garbles the last part, so who subscribes literally hears nothing.

    Another responder's answer does arrive under the name. If this fails, the server has changed: the reply still tells.
    """
    literal = gate_capability(gate.acme.key, "vitals.assess")
    creds = gate.realm.user(gate.realm.accounts["GATE"], permissions=host_permissions(literal))
    host, heard = await gate.connect(creds), list[bytes]()
    await host.subscribe(literal, lambda message: heard.append(message.data))

    def act(client: RawTls) -> None:
        client.publish(deputy, b"", reply=SUBJECT)
        client.publish(SUBJECT, b"a plain message")
        client.flush()

    await gate.raw(gate.user("nurse"), act)
    await gate.delivered(2)
    await host.flush()
    prefix = gate_capability(gate.acme.key, "x").removesuffix("x")
    (garbled,) = [message for message in gate.seen if message.data != b"a plain message"]
    assert garbled.subject.startswith(prefix)
    assert garbled.subject != literal
    assert heard == [b"a plain message"]


async def test_answer_that_another_responder_sends_here_is_dropped(gate: Gate) -> None:
    """SEC-1c: a nurse's own program answers a clerk's question, to where the clerk says."""
    responder = await gate.connect(gate.user("nurse"))
    await responder.subscribe("ward.beds", lambda message: responder.respond(message.reply, b'{"a":1}'))
    clerk = await gate.connect(gate.user("clerk"))
    await clerk.publish("ward.beds", b"?", reply=SUBJECT)
    await gate.delivered()
    assert gate.dispatcher.counters.dropped == 1
    assert gate.served.reached == []


async def test_request_forged_inside_gate_is_dropped(gate: Gate) -> None:
    """SEC-1c: a stolen credential that may send in GATE writes a nurse's line; only the reply gives it away."""
    intruder = await gate.connect(gate.realm.user(gate.realm.accounts["GATE"]))
    line = info_line(gate.user("nurse"), gate.acme.key).partition(b": ")[2].decode()
    delivered_as = gate_capability(gate.acme.key, "vitals.assess")
    answers: list[Message] = []
    await intruder.subscribe(f"{intruder.inbox_prefix}.>", answers.append)
    for reply in (f"{intruder.inbox_prefix}.x.y", SUBJECT, "_R_x"):
        await intruder.publish(delivered_as, b"{}", headers={"Nats-Request-Info": line}, reply=reply)
    await gate.delivered(3)
    await intruder.flush()
    assert gate.dispatcher.counters.dropped == 3
    assert answers == []
    assert gate.served.reached == []
    assert gate.records == []


async def test_stored_message_that_a_consumer_delivers_here_is_dropped(gate: Gate) -> None:
    """SEC-1c: should a role come by a consumer, what is stored arrives under its own subject, whatever that is."""
    anybody = await gate.connect(gate.realm.user(gate.acme))
    js = anybody.jetstream()
    await js.add_stream(name="WARD", subjects=["ward.>"])
    await js.publish("ward.beds", b'{"a":1}')
    body = b'{"stream_name": "WARD", "config": {"durable_name": "c", "ack_policy": "explicit"}}'
    made = await anybody.request("$JS.API.CONSUMER.DURABLE.CREATE.WARD.c", body, timeout=5)
    assert b'"error"' not in made.data
    await anybody.publish("$JS.API.CONSUMER.MSG.NEXT.WARD.c", b"1", reply=SUBJECT)
    await gate.delivered()
    assert (gate.seen[0].subject, gate.seen[0].reply[:8]) == ("ward.beds", "$JS.ACK.")
    assert gate.dispatcher.counters.dropped == 1
    assert gate.served.reached == []


async def test_call_without_a_reply_is_dropped(gate: Gate) -> None:
    """SEC-1c: there are no fire-and-forget calls, not even by one who may call."""
    nurse = await gate.connect(gate.user("nurse"))
    await nurse.publish(SUBJECT, b'{"a":1}')
    await gate.delivered()
    assert gate.dispatcher.counters.dropped == 1
    assert gate.served.reached == []


async def test_nobody_but_the_server_can_give_a_service_reply(gate: Gate) -> None:
    """SEC-1c leans on this: the server refuses a publish whose reply has its own prefix."""
    nurse = await gate.connect(gate.user("nurse"))
    for reply in ("_R_.forged", "_R_.a.b"):
        await nurse.publish(SUBJECT, b"{}", reply=reply)
    assert error_of(await nurse.request(SUBJECT, b'{"a":1}', timeout=5)) == 200
    assert [message.data for message in gate.seen] == [b'{"a":1}']


async def test_service_reply_is_the_servers_and_not_the_callers(gate: Gate) -> None:
    clerk = await gate.connect(gate.user("clerk"))
    await clerk.publish(SUBJECT, b"{}", reply="ai.capabilities.vitals.assess")
    await gate.delivered()
    assert gate.seen[0].reply.startswith("_R_.")
    assert gate.dispatcher.counters.refused == {403: 1}
    assert gate.served.reached == []


async def test_other_tenants_caller_has_nobody_to_call(gate: Gate) -> None:
    rival = await gate.connect(gate.user(account=gate.rival))
    with pytest.raises(NoRespondersError):
        await rival.request(SUBJECT, b"{}", timeout=5)
    assert gate.seen == []


async def test_other_tenants_caller_is_refused_even_when_delivered_here(make_realm: MakeRealm) -> None:
    """SEC-1c: a host that hears more than it should still serves its own tenant only."""
    gate = Gate(await make_realm(prepare=add_accounts))
    await gate.open(subject="tenant.*.capabilities.>")
    rival = await gate.connect(gate.user(account=gate.rival))
    assert error_of(await rival.request(SUBJECT, b"{}", timeout=5)) == 401
    assert [record.reason for record in gate.records] == ["subject"]
    assert gate.served.reached == []


async def test_other_tenants_caller_is_refused_by_the_token_alone(make_realm: MakeRealm) -> None:
    """SEC-1b: were the subject misread, the token would still name the other account and another's key."""
    gate = Gate(await make_realm(prepare=add_accounts))
    await gate.open(subject="tenant.*.capabilities.>")
    gate.dispatcher._parse_subject = lambda _: (gate.acme.key, "vitals.assess")
    rival = await gate.connect(gate.user(account=gate.rival))
    assert error_of(await rival.request(SUBJECT, b"{}", timeout=5)) == 401
    assert [record.reason for record in gate.records] == ["account-mismatch"]
    assert gate.served.reached == []


async def test_unscoped_wide_credential_is_refused(gate: Gate) -> None:
    """SEC-1b: the server lets it publish anywhere; it carries no role, so it may call nothing."""
    assert error_of(await call(gate, gate.realm.user(gate.acme, permissions=ALLOW_ALL))) == 401
    assert [record.reason for record in gate.records] == ["token-unscoped"]
    assert gate.served.reached == []


async def test_unscoped_credential_is_refused_even_when_its_key_were_a_role(gate: Gate) -> None:
    gate.trusting(roles={**gate.trust.roles, gate.acme.signing.public.text: "nurse"})
    assert error_of(await call(gate, gate.realm.user(gate.acme))) == 401
    assert [record.reason for record in gate.records] == ["token-unscoped"]


async def test_stale_role_key_is_refused_while_the_server_still_takes_it(gate: Gate) -> None:
    """SEC-1b: a role's key was replaced; the dispatcher knows first, on a connection that is open."""
    nurse = await gate.connect(gate.user("nurse"))
    assert error_of(await nurse.request(SUBJECT, b"{}", timeout=5)) == 200
    gate.trusting(roles={AccountSeed.generate().public.text: "nurse"})
    assert error_of(await nurse.request(SUBJECT, b"{}", timeout=5)) == 401
    assert gate.records[-1].reason == "role-unknown"
    assert len(gate.served.reached) == 1


async def test_revoked_credential_is_refused_while_the_server_still_takes_it(gate: Gate) -> None:
    """P3: narrowing takes effect at the dispatcher first, for a principal that is cached too."""
    creds = gate.user("nurse")
    nurse = await gate.connect(creds)
    assert error_of(await nurse.request(SUBJECT, b"{}", timeout=5)) == 200
    gate.trusting(revocations={creds.seed.public.text: int(time.time())})
    assert error_of(await nurse.request(SUBJECT, b"{}", timeout=5)) == 401
    assert gate.records[-1].reason == "revoked"
    assert len(gate.served.reached) == 1


async def test_tenant_that_is_not_trusted_is_refused(gate: Gate) -> None:
    gate.trust = TenantTrust(tenant="acme", account=gate.acme.key, roles={}, revocations={})
    assert error_of(await call(gate)) == 401


async def test_fields_that_a_client_chooses_are_not_its_identity(gate: Gate) -> None:
    """SEC-1b: what the server copies from CONNECT into its line is the client's choice."""
    creds = gate.user("clerk")
    clerk = await gate.realm.connect(creds, name=f"nurse {gate.user('nurse').seed.public.text}")
    assert error_of(await clerk.request(SUBJECT, b"{}", timeout=5)) == 403
    assert gate.records[-1].user == creds.seed.public.text


async def test_answer_reaches_the_caller_with_our_headers_only(gate: Gate) -> None:
    """SEC-6: nothing of the request comes back, the identity that it was given least of all."""

    def act(client: RawTls) -> list[bytes]:
        client.subscribe(client.inbox + "*")
        blocks = []
        for number, data in enumerate((b"{}", b"no json")):
            block = b"NATS/1.0\r\nEvil: y\r\n\r\n"
            client.publish(SUBJECT, data, block=block, reply=f"{client.inbox}{number}")
            blocks.append(client.receive().header_block)
        return blocks

    result, failure = await gate.raw(gate.user("nurse"), act)
    assert result == b""
    names = [line.split(b":")[0] for line in failure.split(b"\r\n")[1:] if line]
    assert names == [b"Nats-Service-Error-Code", b"Nats-Service-Error"]


async def test_flood_of_forgeries_does_not_stop_honest_calls(gate: Gate) -> None:
    def flood(client: RawTls) -> None:
        for _ in range(300):
            client.publish(SUBJECT, b"{}", block=b"NATS/1.0\r\nX", reply=client.inbox + "1")
        client.flush()

    nurse = await gate.connect(gate.user("nurse"))
    flooding = asyncio.create_task(gate.raw(gate.user("clerk"), flood))
    answers = [await nurse.request(SUBJECT, b"{}", timeout=10) for _ in range(20)]
    with contextlib.suppress(ConnectionError):
        await flooding
    await gate.delivered(320)
    assert {error_of(answer) for answer in answers} == {200}
    assert gate.dispatcher.counters.refused == {401: 300}
    assert len(gate.records) < 60


async def test_handler_gets_plain_data_and_no_way_to_add_headers(gate: Gate) -> None:
    async def tries(*_: object) -> object:
        return {"Nats-Request-Info": "x", "headers": {"Evil": "y"}}

    gate.served.handler = tries
    answer = await call(gate)
    assert answer.header_block == b""
