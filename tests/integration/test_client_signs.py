"""The second witness on the wire: what administers is signed by the key that the connection signed in with."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from client_folders import write_client_folder
from described import answered_description
from fixtures_server import Realm

from authz.creds import Creds, format_creds
from authz.keys import UserPublicKey
from runtime.bus.connection import Connection
from runtime.bus.message import Message
from runtime.client import Client, RetryPolicy, UnreachableError
from runtime.envelope.errors import SenderError
from runtime.envelope.messages import build_response, parse_request
from runtime.envelope.sender import read_sender, verify_sender

PATIENT = RetryPolicy(attempts=500, first_delay=0.01, longest_delay=0.1, budget=500)


class Control:
    """Answers every command in the caller's own account, and keeps what it was sent."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.seen: list[Message] = []

    def answer(self, message: Message) -> None:
        self.seen.append(message)
        _, _, command = message.subject.partition("ai.admin.")
        request = parse_request(message.data, fallback_id="")
        body = build_response(
            agent_id="control",
            capability=command.rpartition(".")[0],
            correlation_id=request.correlation_id,
            timestamp=1.0,
            result=b"{}",
        )
        self.connection.respond(message.reply, body)


@pytest.fixture
async def control(realm: Realm) -> Control:
    control = Control(await realm.connect(realm.user(realm.accounts["ALPHA"])))
    await control.connection.subscribe("ai.admin.>", control.answer)
    return control


@pytest.fixture
def creds(realm: Realm) -> Creds:
    return realm.user(realm.accounts["ALPHA"], name="amy")


@pytest.fixture
def folder(realm: Realm, creds: Creds, tmp_path: Path) -> Path:
    return write_client_folder(realm, tmp_path / "amy", creds)


def verified(message: Message, *, user: str, account: str, **changes: Any) -> None:
    sender = read_sender(message.header_block)
    assert sender is not None
    expected: dict[str, Any] = {
        "account": account,
        "user": user,
        "subject": message.subject,
        "payload": message.data,
        "correlation_id": parse_request(message.data, fallback_id="").correlation_id,
        "now": time.time(),
        "verify": UserPublicKey.parse(user).verify,
    }
    verify_sender(sender, **expected | changes)


async def test_every_administrative_request_is_signed_by_the_callers_own_key(
    realm: Realm, control: Control, creds: Creds, folder: Path
) -> None:
    async with Client.connect(folder) as client:
        await client.admin("policy.apply", "alpha", {"policy": "tenant: alpha"}, timeout=5)
        await client.admin("tenants.list", "all", timeout=5)
    account = realm.accounts["ALPHA"].key
    assert len(control.seen) == 2
    for message in control.seen:
        verified(message, user=creds.seed.public.text, account=account)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: {"subject": m.subject + "x"},
        lambda m: {"payload": m.data.replace(b"alpha", b"gamma")},
        lambda _: {"correlation_id": "00000000-0000-4000-8000-000000000000"},
        lambda _: {"now": time.time() + 60},
    ],
)
async def test_the_signature_is_good_for_that_request_alone(
    realm: Realm, control: Control, creds: Creds, folder: Path, change: Callable[[Message], dict[str, Any]]
) -> None:
    async with Client.connect(folder) as client:
        await client.admin("policy.apply", "alpha", {"policy": "tenant: alpha"}, timeout=5)
    message, account = control.seen[0], realm.accounts["ALPHA"].key
    with pytest.raises(SenderError):
        verified(message, user=creds.seed.public.text, account=account, **change(message))


async def test_after_a_reconnection_with_renewed_credentials_the_new_key_signs(
    realm: Realm, control: Control, creds: Creds, folder: Path
) -> None:
    account = realm.accounts["ALPHA"]
    async with Client.connect(folder, retry=PATIENT) as client:
        await client.admin("policy.show", "alpha", timeout=5)
        renewed = realm.user(account, name="amy")
        (folder / "user.creds").write_text(format_creds(renewed))
        await realm.server.kill()
        await realm.start()
        await answered(client)
    first, second = control.seen[0], control.seen[-1]
    verified(first, user=creds.seed.public.text, account=account.key)
    verified(second, user=renewed.seed.public.text, account=account.key)


async def answered(client: Client) -> None:
    """Ask until there is an answer: what was under way when the server ended is not repeated by the client."""
    while True:
        with contextlib.suppress(UnreachableError):
            await client.admin("policy.show", "alpha", timeout=20)
            return
        await asyncio.sleep(0.01)


async def test_an_ordinary_call_is_not_signed(realm: Realm, folder: Path) -> None:
    responder = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    seen: list[Message] = []

    def answer(message: Message) -> None:
        if answered_description(responder, message):
            return
        seen.append(message)
        request = parse_request(message.data, fallback_id="")
        body = build_response(
            agent_id="hello",
            capability="greeting",
            correlation_id=request.correlation_id,
            timestamp=1.0,
            result=json.dumps({}).encode(),
        )
        responder.respond(message.reply, body)

    await responder.subscribe("ai.capabilities.greeting", answer)
    async with Client.connect(folder) as client:
        await client.call("greeting", {}, timeout=5)
    assert read_sender(seen[0].header_block) is None
