"""SEC-11, SEC-12, P6 on a real server: what is sealed for one call is of no use elsewhere, nor to a listener.

Each attack is sent by a user who may call the capability and holds the label, so that nothing else stops it.
"""

import json
import logging
import time
import uuid
from typing import Any

import pytest
from fixtures_gate import Gate, RawTls, error_of
from fixtures_server import ALLOW_ALL

from authz.creds import Creds
from authz.keys import UserSeed
from runtime.bus.message import Message
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import parse
from runtime.envelope.sealedmessages import SealedResult, open_response, parse_any_response, seal_request
from runtime.envelope.sender import HEADER, sign_sender

SUBJECT = "ai.capabilities.vitals.assess"
MARKED = "s3cr3t-hba1c-8.4"


class Caller:
    """A nurse who seals and signs, and may be told to get any part of it wrong."""

    def __init__(self, gate: Gate, creds: Creds | None = None) -> None:
        self.gate = gate
        self.creds = creds or gate.user()
        self.dek = DataKey.generate(parse("phi@1"))
        gate.served.sensitive = "phi"
        gate.rules.labels["nurse"] = {"phi"}
        gate.keys.at_hand |= {self.dek.key_id: self.dek, self.dek.key_id.scope: self.dek}

    def sealed(self, *, dek: DataKey | None = None, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "agent_id": "ward-3",
            "capability": "vitals.assess",
            "correlation_id": str(uuid.uuid4()),
            "timestamp": time.time(),
            "data": json.dumps({"value": MARKED}).encode(),
        }
        return seal_request(dek=dek or self.dek, **(fields | changes))

    def signature(self, body: bytes, *, signer: UserSeed | None = None, **changes: Any) -> str:
        fields: dict[str, Any] = {
            "account": self.gate.acme.key,
            "user": self.creds.seed.public.text,
            "name": "nina",
            "subject": SUBJECT,
            "ts": int(time.time()),
            "nonce": json.loads(body)["correlation_id"],
            "payload": body,
        }
        return sign_sender(sign=(signer or self.creds.seed).sign, **(fields | changes))

    async def send(self, payload: bytes, *, signature: str | None = None, subject: str = SUBJECT) -> Message:
        signed = self.signature(payload) if signature is None else signature
        connection = await self.gate.connect(self.creds)
        return await connection.request(subject, payload, timeout=5, headers={HEADER: signed} if signed else None)


@pytest.fixture
def caller(gate: Gate) -> Caller:
    return Caller(gate)


def changed(payload: bytes, **changes: object) -> bytes:
    return json.dumps(json.loads(payload) | changes).encode()


def refused(gate: Gate, answer: Message, code: int) -> None:
    assert error_of(answer) == code, answer.data
    assert gate.served.reached == []
    assert MARKED.encode() not in answer.data


async def test_sealed_and_signed_call_is_answered_sealed(gate: Gate, caller: Caller) -> None:
    """What all the refusals below are to be compared with."""
    payload = caller.sealed()
    answer = await caller.send(payload)
    assert error_of(answer) == 200, answer.data
    assert MARKED.encode() not in answer.data
    sealed = parse_any_response(answer.data)
    assert isinstance(sealed, SealedResult)
    cid = json.loads(payload)["correlation_id"]
    opened = open_response(sealed, capability="vitals.assess", correlation_id=cid, dek=caller.dek)
    assert json.loads(opened.result) == {"value": MARKED}
    record = gate.records[0]
    assert (record.assurance, record.key_id, record.effect) == ("signed", "phi@1", "allow")


async def test_sec_12_copied_request_is_carried_out_once(gate: Gate, caller: Caller) -> None:
    payload = caller.sealed()
    signature = caller.signature(payload)
    assert error_of(await caller.send(payload, signature=signature)) == 200
    assert error_of(await caller.send(payload, signature=signature)) == 409
    assert len(gate.served.reached) == 1


async def test_sec_11_copy_of_anothers_request_is_refused(gate: Gate, caller: Caller) -> None:
    """Another nurse took the request off the wire before it arrived, signature and all."""
    payload = caller.sealed()
    thief = Caller(gate, gate.user())
    refused(gate, await thief.send(payload, signature=caller.signature(payload)), 401)


@pytest.mark.parametrize(
    "forgery",
    [
        {"signer": UserSeed.generate()},
        {"subject": "ai.capabilities.vitals.other"},
        {"nonce": str(uuid.uuid4())},
        {"ts": int(time.time()) - 60},
        {"ts": int(time.time()) + 600},
        {"payload": b"{}"},
    ],
    ids=["another's key", "another subject", "another call", "a clock 60 s behind", "a clock ahead", "another payload"],
)
async def test_sec_11_signature_for_anything_else_is_refused(
    gate: Gate, caller: Caller, forgery: dict[str, Any]
) -> None:
    payload = caller.sealed()
    refused(gate, await caller.send(payload, signature=caller.signature(payload, **forgery)), 401)


async def test_sec_11_flipped_bits_of_a_signature_are_refused(gate: Gate, caller: Caller) -> None:
    payload = caller.sealed()
    sender = json.loads(caller.signature(payload))
    connection = await gate.connect(caller.creds)
    for place in (0, 20, 43, 64, 84):
        other = "A" if sender["sig"][place] != "A" else "B"
        value = json.dumps(sender | {"sig": sender["sig"][:place] + other + sender["sig"][place + 1 :]})
        refused(gate, await connection.request(SUBJECT, payload, timeout=5, headers={HEADER: value}), 401)


async def test_sec_11_header_that_is_open_to_doubt_is_refused(gate: Gate, caller: Caller) -> None:
    payload = caller.sealed()
    line = f"{HEADER}: {caller.signature(payload)}".encode()
    blocks = {
        "twice": b"NATS/1.0\r\n" + line + b"\r\n" + line + b"\r\n\r\n",
        "in odd case": b"NATS/1.0\r\n" + line.replace(b"Agent", b"agent") + b"\r\n\r\n",
        "a space before the colon": b"NATS/1.0\r\n" + line.replace(b"Sender:", b"Sender :") + b"\r\n\r\n",
    }
    for block in blocks.values():

        def act(client: RawTls, block: bytes = block) -> Message:
            client.subscribe(client.inbox + "*")
            client.publish(SUBJECT, payload, block=block, reply=client.inbox + "1")
            answer = client.receive()
            return Message(answer.subject, answer.reply, answer.payload, answer.header_block)

        refused(gate, await gate.raw(caller.creds, act), 401)


async def test_sec_11_unsigned_request_is_refused(gate: Gate, caller: Caller) -> None:
    answer = await caller.send(caller.sealed(), signature="")
    refused(gate, answer, 401)
    assert json.loads(answer.data)["required"] == "signed"


async def test_sec_12_plaintext_is_refused(gate: Gate, caller: Caller) -> None:
    connection = await gate.connect(caller.creds)
    answer = await connection.request(SUBJECT, json.dumps({"value": MARKED}).encode(), timeout=5)
    refused(gate, answer, 400)
    assert json.loads(answer.data)["required"] == "sealed:phi"


async def test_sec_12_token_moved_anywhere_else_does_not_open(gate: Gate, caller: Caller) -> None:
    """Signed anew each time by the one who moves it: nothing but the token is in question."""
    patient = DataKey.generate(parse("phi/patient/4711@1"))
    gate.keys.at_hand |= {patient.key_id: patient, patient.key_id.scope: patient}
    gate.capabilities["vitals.other"] = gate.served
    gate.rules.allowed["nurse"].add("vitals.other")
    good = caller.sealed()
    moved = {
        "to another call": changed(good, correlation_id=str(uuid.uuid4())),
        "to another time": changed(good, timestamp=time.time() + 1),
        "to another data subject": changed(good, key_id="phi/patient/4711@1"),
        "from another tenant": caller.sealed(dek=DataKey.generate(caller.dek.key_id)),
        "from an answer": changed(good, data=await token_of_an_answer(caller)),
        "from inside another": caller.sealed(data=good),
    }
    gate.served.reached.clear()
    for payload in moved.values():
        refused(gate, await caller.send(payload), 400)
    elsewhere = "ai.capabilities.vitals.other"
    answer = await caller.send(good, signature=caller.signature(good, subject=elsewhere), subject=elsewhere)
    refused(gate, answer, 400)


async def token_of_an_answer(caller: Caller) -> str:
    return str(json.loads((await caller.send(caller.sealed())).data)["result"])


async def test_sec_12_flipped_bits_of_a_token_do_not_open(gate: Gate, caller: Caller) -> None:
    for place in (0, 1, 12, 30, 100, -30, -3):
        payload = caller.sealed()
        token = json.loads(payload)["data"]
        other = "A" if token[place] != "A" else "B"
        tampered = token[:place] + other + token[place:][1:]
        refused(gate, await caller.send(changed(payload, data=tampered)), 400)


async def test_role_without_the_label_is_denied_before_anything_is_opened(gate: Gate, caller: Caller) -> None:
    gate.rules.labels["nurse"] = set()
    gate.keys.at_hand.clear()
    answer = await caller.send(caller.sealed())
    refused(gate, answer, 403)
    assert json.loads(answer.data)["required"] == "data:phi"
    assert gate.keys.fetched == []


async def test_p6_marked_secret_is_seen_by_no_listener_and_in_no_log(
    gate: Gate, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Listeners with every right, in the tenant's account and in GATE; and our own log at its most talkative."""
    heard: list[bytes] = []
    for account in (gate.acme, gate.realm.accounts["GATE"]):
        listener = await gate.connect(gate.realm.user(account, permissions=ALLOW_ALL))
        await listener.subscribe(">", lambda message: heard.append(message.header_block + message.data))
        await listener.flush()
    with caplog.at_level(logging.DEBUG):
        assert error_of(await caller.send(caller.sealed())) == 200
        gate.served.handler = fails
        assert error_of(await caller.send(caller.sealed())) == 500
        assert error_of(await caller.send(changed(caller.sealed(), alg="none"))) == 400
    assert len(heard) >= 3
    assert not [message for message in heard if MARKED.encode() in message]
    assert MARKED not in caplog.text
    assert MARKED not in str(gate.records)


async def fails(value: Any, context: Any) -> Any:
    raise ValueError(f"{context.capability} can't read {value}")
