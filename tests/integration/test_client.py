"""The client against a real server: answers, refusals, lost and rebuilt connections."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from client_folders import write_client_folder
from described import answered_description
from fixtures_server import JETSTREAM, MakeRealm, Realm, limits

from authz.creds import Creds, format_creds
from authz.keys import AccountSeed
from authz.permissions import SubjectPermissions
from runtime.bus.connection import Connection
from runtime.bus.message import Message
from runtime.client import (
    BadAnswerError,
    Client,
    ClientError,
    DeadlineError,
    DeniedError,
    ExpiredCredentialsError,
    InvalidRequestError,
    RejectedCredentialsError,
    RetryPolicy,
    ServerRefusedError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
)
from runtime.envelope.messages import Failure, build_error, build_response, parse_request

QUICK = RetryPolicy(attempts=3, first_delay=0.001, longest_delay=0.002)


class Responder:
    """Answers capability requests as a host would, in the caller's own account."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.seen: list[Message] = []

    async def serve(self, subject: str, behave: Callable[[Message], None]) -> None:
        def handle(message: Message) -> None:
            if answered_description(self.connection, message):
                return
            self.seen.append(message)
            behave(message)

        await self.connection.subscribe(subject, handle)

    def result(self, message: Message, value: Any, *, capability: str = "greeting", correlation_id: str = "") -> None:
        request = parse_request(message.data, fallback_id="")
        body = build_response(
            agent_id="hello",
            capability=capability,
            correlation_id=correlation_id or request.correlation_id,
            timestamp=1.0,
            result=json.dumps(value).encode(),
        )
        self.connection.respond(message.reply, body)

    def failure(self, message: Message, **fields: Any) -> None:
        failure = Failure(agent_id="hello", **fields)
        self.connection.respond(message.reply, build_error(failure), failure.headers)


@pytest.fixture
async def responder(realm: Realm) -> Responder:
    return Responder(await realm.connect(realm.user(realm.accounts["ALPHA"])))


@pytest.fixture
def folder(realm: Realm, tmp_path: Path) -> Path:
    return write_client_folder(realm, tmp_path / "amy", realm.user(realm.accounts["ALPHA"], name="amy"))


async def test_a_call_returns_the_result_of_the_capability(folder: Path, responder: Responder) -> None:
    await responder.serve("ai.capabilities.greeting", lambda m: responder.result(m, {"text": "hello Amy"}))
    async with Client.connect(folder) as client:
        assert await client.call("greeting", {"name": "Amy"}, timeout=5) == {"text": "hello Amy"}
        assert (client.tenant, client.role, client.identity.name) == ("alpha", "nurse", "amy")
    request = parse_request(responder.seen[0].data, fallback_id="")
    assert json.loads(request.data) == {"name": "Amy"}
    assert request.enveloped
    assert 0 < int(responder.seen[0].header("Agent-Timeout") or 0) <= 5000


async def test_many_calls_at_once_get_their_own_answers(folder: Path, responder: Responder) -> None:
    def echo(message: Message) -> None:
        responder.result(message, json.loads(parse_request(message.data, fallback_id="").data))

    await responder.serve("ai.capabilities.greeting", echo)
    async with Client.connect(folder) as client:
        answers = await asyncio.gather(*(client.call("greeting", {"n": n}, timeout=10) for n in range(200)))
    assert [answer["n"] for answer in answers] == list(range(200))


async def test_a_denial_says_what_was_missing(folder: Path, responder: Responder) -> None:
    denial = {"code": 403, "error": "denied", "required": "call:greeting", "role": "billing"}
    await responder.serve("ai.capabilities.greeting", lambda m: responder.failure(m, **denial))
    async with Client.connect(folder) as client:
        with pytest.raises(DeniedError) as caught:
            await client.call("greeting", {}, timeout=5)
    assert (caught.value.required, caught.value.role) == ("call:greeting", "billing")
    assert len(responder.seen) == 1


async def test_what_the_server_refuses_fails_at_once_and_names_the_missing_grant(realm: Realm, tmp_path: Path) -> None:
    narrow = SubjectPermissions(publish_allow=("ai.capabilities.invoice.*",), subscribe_allow=("_INBOX.>",))
    creds = realm.user(realm.accounts["ALPHA"], permissions=narrow)
    folder = write_client_folder(realm, tmp_path / "clerk", creds)
    async with Client.connect(folder) as client:
        with pytest.raises(ServerRefusedError) as caught:
            await client.call("vitals.assess", {}, timeout=30)
        with pytest.raises(ServerRefusedError) as admin:
            await client.admin("policy.apply", "alpha", {}, timeout=30)
    assert caught.value.missing == "call: [vitals.assess]"
    assert admin.value.missing == "admin: [policy.apply]"


async def test_a_capability_that_nobody_serves_is_unavailable(folder: Path) -> None:
    async with Client.connect(folder, retry=QUICK) as client:
        with pytest.raises(UnavailableError, match=r"`no\.such`"):
            await client.call("no.such", {}, timeout=30)


async def test_a_call_that_reached_nobody_is_repeated(folder: Path, responder: Responder) -> None:
    def first_busy(message: Message) -> None:
        if len(responder.seen) == 1:
            responder.failure(message, code=503, error="draining")
        else:
            responder.result(message, {"attempt": len(responder.seen)})

    await responder.serve("ai.capabilities.greeting", first_busy)
    async with Client.connect(folder, retry=QUICK) as client:
        assert await client.call("greeting", {}, timeout=5) == {"attempt": 2}
    ids = {parse_request(message.data, fallback_id="").correlation_id for message in responder.seen}
    assert len(ids) == 2  # a host takes each correlation id once


async def test_a_command_that_was_answered_is_not_repeated(folder: Path, responder: Responder) -> None:
    """It may be stored: repeating `tenants.create` would end in "exists already"."""
    await responder.serve("ai.admin.tenants.create.new", lambda m: responder.failure(m, code=503, error="stored, but"))
    async with Client.connect(folder, retry=QUICK) as client:
        with pytest.raises(UnavailableError, match="stored, but"):
            await client.admin("tenants.create", "new", timeout=5)
    assert len(responder.seen) == 1


async def test_a_failure_of_the_handler_is_never_repeated(folder: Path, responder: Responder) -> None:
    await responder.serve("ai.capabilities.greeting", lambda m: responder.failure(m, code=500, error="failed"))
    async with Client.connect(folder, retry=QUICK) as client:
        with pytest.raises(Exception, match="failed"):
            await client.call("greeting", {}, timeout=5, idempotent=True)
    assert len(responder.seen) == 1


async def test_silence_ends_at_the_callers_deadline(folder: Path, responder: Responder) -> None:
    await responder.serve("ai.capabilities.greeting", lambda _: None)
    async with Client.connect(folder) as client:
        with pytest.raises(DeadlineError):
            await client.call("greeting", {}, timeout=0.05)


async def test_an_answer_to_another_call_is_not_taken(folder: Path, responder: Responder) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    await responder.serve("ai.capabilities.greeting", lambda m: responder.result(m, {}, correlation_id=other))
    await responder.serve("ai.capabilities.echo", lambda m: responder.result(m, {}, capability="greeting"))
    await responder.serve("ai.capabilities.text", lambda m: responder.connection.respond(m.reply, b"hello"))
    async with Client.connect(folder) as client:
        for capability in ("greeting", "echo", "text"):
            with pytest.raises(BadAnswerError):
                await client.call(capability, {}, timeout=5)


async def test_too_large_a_request_is_refused_here_and_the_connection_lives(folder: Path, responder: Responder) -> None:
    await responder.serve("ai.capabilities.greeting", lambda m: responder.result(m, {}))
    async with Client.connect(folder) as client:
        with pytest.raises(TooLargeError):
            await client.call("greeting", {"data": "x" * 300_000}, timeout=5)
        assert await client.call("greeting", {}, timeout=5) == {}


@pytest.mark.parametrize("name", ["", "a b", "vitals.*", "vitals.>", "a.b.c.d.e", "Vitals", "a..b", "$SYS"])
async def test_a_name_that_no_capability_can_have_is_refused_here(folder: Path, name: str) -> None:
    async with Client.connect(folder) as client:
        with pytest.raises(InvalidRequestError):
            await client.call(name, {}, timeout=5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
async def test_data_that_json_cannot_hold_is_refused_and_never_becomes_null(folder: Path, value: object) -> None:
    async with Client.connect(folder) as client:
        with pytest.raises(InvalidRequestError, match="JSON"):
            await client.call("greeting", {"value": value}, timeout=5)


async def test_expired_credentials_are_known_before_any_connection(realm: Realm, tmp_path: Path) -> None:
    folder = write_client_folder(realm, tmp_path / "old", realm.user(realm.accounts["ALPHA"], ttl=-10, name="old"))
    await realm.close()
    with pytest.raises(ExpiredCredentialsError, match="`old`"):
        async with Client.connect(folder):
            pass


async def test_credentials_of_a_foreign_account_are_rejected(realm: Realm, tmp_path: Path) -> None:
    # Made without the realm's help: the server's folder of accounts never has it, not for an instant.
    stranger = replace(realm.accounts["ALPHA"], seed=AccountSeed.generate(), signing=AccountSeed.generate())
    folder = write_client_folder(realm, tmp_path / "stranger", realm.user(stranger))
    with pytest.raises(RejectedCredentialsError):
        async with Client.connect(folder):
            pass


async def test_a_server_that_is_not_there_is_unreachable(realm: Realm, folder: Path) -> None:
    await realm.close()
    with pytest.raises(UnreachableError):
        async with Client.connect(folder, connect_timeout=0.2):
            pass


async def test_a_server_of_another_authority_is_unreachable_by_tls(folder: Path, make_realm: MakeRealm) -> None:
    other = await make_realm()
    (folder / "ca.pem").write_bytes(other.ca_file.read_bytes())
    with pytest.raises(UnreachableError) as caught:
        async with Client.connect(folder, connect_timeout=2):
            pass
    assert caught.value.reason == "tls"


async def test_a_revoked_caller_is_rejected_and_new_credentials_in_the_folder_are_picked_up(
    make_realm: MakeRealm, tmp_path: Path
) -> None:
    realm = await make_realm(prepare=lambda r: r.add_account("ALPHA", limits=limits(jetstream=JETSTREAM)))
    alpha = realm.accounts["ALPHA"]
    responder = Responder(await realm.connect(realm.user(alpha)))
    await responder.serve("ai.capabilities.greeting", lambda m: responder.result(m, {}))
    creds: Creds = realm.user(alpha, name="amy")
    folder = write_client_folder(realm, tmp_path / "amy", creds)
    async with Client.connect(folder, retry=QUICK) as client:
        assert await client.call("greeting", {}, timeout=5) == {}
        await realm.push(alpha, revocations={creds.seed.public.text: alpha.claims.issued_at + 3600})
        assert isinstance(await outcome_of(client, RejectedCredentialsError), RejectedCredentialsError)
        (folder / "user.creds").write_text(format_creds(realm.user(alpha, name="amy")))
        assert await outcome_of(client, dict) == {}


async def test_a_closed_client_says_so(folder: Path) -> None:
    client = Client.connect(folder)
    with pytest.raises(ClientError, match="not connected"):
        _ = client.user
    async with client:
        assert client.user.startswith("U")
    with pytest.raises(ClientError, match="closed"):
        await client.call("greeting", {}, timeout=5)


async def test_credentials_that_are_not_valid_yet_are_rejected(realm: Realm, tmp_path: Path) -> None:
    creds = realm.user(realm.accounts["ALPHA"], not_before=int(time.time()) + 3600)
    with pytest.raises(RejectedCredentialsError):
        async with Client.connect(write_client_folder(realm, tmp_path / "early", creds)):
            pass


async def outcome_of(client: Client, wanted: type) -> object:
    """Call until the outcome is of the type wanted; the connection breaks and is rebuilt meanwhile."""
    while True:
        try:
            outcome: object = await client.call("greeting", {}, timeout=5)
        except (RejectedCredentialsError, UnreachableError) as error:
            outcome = error
        if isinstance(outcome, wanted):
            return outcome
        await asyncio.sleep(0.01)
