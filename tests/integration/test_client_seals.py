"""The caller's side of a sealed call, over a real server: sealed, signed, opened, and learned from a refusal."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from client_folders import write_client_folder
from fixtures_server import Realm
from sealed_counterparts import CAPABILITY, SECRET, ToyControl, ToyHost, sealed_counterparts

from authz.creds import Creds, format_creds
from authz.keys import UserPublicKey
from authz.permissions import SubjectPermissions
from runtime.client import (
    Client,
    DeadlineError,
    FolderError,
    InvalidRequestError,
    KeyRefusedError,
    NotAuthenticatedError,
    RetryPolicy,
    UnavailableError,
    UnreachableError,
)
from runtime.envelope.keyid import KeyScope
from runtime.envelope.messages import Failure
from runtime.envelope.sealedmessages import SealedRequest, parse_any_request
from runtime.envelope.sender import read_sender, verify_sender

DATA = {"observation": SECRET}
PATIENT = RetryPolicy(attempts=500, first_delay=0.01, longest_delay=0.1, budget=500)
RESULT = {"risk": "high", "why": SECRET}


@pytest.fixture
async def both(realm: Realm) -> tuple[ToyControl, ToyHost]:
    return await sealed_counterparts(realm)


@pytest.fixture
def control(both: tuple[ToyControl, ToyHost]) -> ToyControl:
    return both[0]


@pytest.fixture
def host(both: tuple[ToyControl, ToyHost]) -> ToyHost:
    return both[1]


@pytest.fixture
def creds(realm: Realm) -> Creds:
    return realm.user(realm.accounts["ALPHA"], name="amy")


@pytest.fixture
def folder(realm: Realm, control: ToyControl, creds: Creds, tmp_path: Path) -> Path:
    return write_client_folder(realm, tmp_path / "amy", creds, control=control.seed.public.text)


def requests_of(host: ToyHost) -> list[SealedRequest]:
    found = [parse_any_request(message.data, fallback_id="") for message in host.seen]
    return [request for request in found if isinstance(request, SealedRequest)]


@pytest.mark.parametrize("subject", [None, "patient/4711"])
async def test_a_sealed_call_travels_sealed_both_ways(
    control: ToyControl, host: ToyHost, folder: Path, subject: str | None
) -> None:
    async with Client.connect(folder) as client:
        result = await client.call(CAPABILITY, DATA, seal="phi", subject=subject, timeout=5)
    assert result == RESULT
    assert host.opened == [DATA]
    assert [request.key_id.scope for request in requests_of(host)] == [KeyScope("phi", subject)]
    assert all(SECRET.encode() not in message.data for message in host.seen)
    assert [wanted.wanted for wanted, _ in control.asked] == [KeyScope("phi", subject)]


async def test_a_sealed_call_is_signed_by_the_callers_own_key(
    realm: Realm, host: ToyHost, creds: Creds, folder: Path
) -> None:
    async with Client.connect(folder) as client:
        await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
    message, request = host.seen[0], requests_of(host)[0]
    sender = read_sender(message.header_block)
    assert sender is not None
    verify_sender(
        sender,
        account=realm.accounts["ALPHA"].key,
        user=creds.seed.public.text,
        subject=message.subject,
        payload=message.data,
        correlation_id=request.correlation_id,
        now=request.timestamp,
        verify=UserPublicKey.parse(creds.seed.public.text).verify,
    )


async def test_a_key_is_asked_for_once_and_with_a_new_one_time_key_each_time(
    control: ToyControl, host: ToyHost, folder: Path
) -> None:
    async with Client.connect(folder) as client:
        await asyncio.gather(*(client.call(CAPABILITY, DATA, seal="phi", timeout=10) for _ in range(20)))
        await client.call(CAPABILITY, DATA, seal="phi", subject="patient/1", timeout=5)
    assert len(host.seen) == 21
    assert [str(wanted.wanted) for wanted, _ in control.asked] == ["phi", "phi/patient/1"]
    assert len({wanted.one_time_key for wanted, _ in control.asked}) == 2


async def test_a_sensitive_capability_is_sealed_without_being_asked_to_and_remembered(
    host: ToyHost, folder: Path
) -> None:
    async with Client.connect(folder) as client:
        assert await client.call(CAPABILITY, DATA, timeout=5) == RESULT
        assert (len(host.seen), len(requests_of(host))) == (2, 1)
        assert await client.call(CAPABILITY, DATA, timeout=5) == RESULT
    assert (len(host.seen), len(requests_of(host))) == (3, 2)
    assert all(read_sender(message.header_block) is not None for message in host.seen[1:])


async def test_a_capability_that_wants_a_signature_gets_one_and_no_seal(host: ToyHost, folder: Path) -> None:
    signed = []

    def answer(message: Any) -> None:
        request = parse_any_request(message.data, fallback_id="")
        signed.append(read_sender(message.header_block) is not None)
        if signed[-1]:
            host.connection.respond(
                message.reply,
                host.plain(
                    SealedRequest(
                        correlation_id=request.correlation_id,
                        agent_id="",
                        timestamp=0.0,
                        key_id=KeyScope("phi").at(1),
                        token="",
                    ),
                    capability="door.open",
                ),
            )
        else:
            host.refuse(message, request.correlation_id, code=401, required="signed")

    await host.connection.subscribe("ai.capabilities.door.open", answer)
    async with Client.connect(folder) as client:
        await client.call("door.open", {}, timeout=5)
        await client.call("door.open", {}, timeout=5)
    assert signed == [False, True, True]


async def test_a_refusal_never_makes_a_sealed_call_a_plain_one(host: ToyHost, folder: Path) -> None:
    host.behave = lambda h, m, r: h.refuse(m, r.correlation_id, code=400, required="")
    async with Client.connect(folder) as client:
        for options in ({"seal": "phi"}, {}):
            with pytest.raises(InvalidRequestError):
                await client.call(CAPABILITY, DATA, timeout=5, **options)  # type: ignore[arg-type]
    assert len(host.seen) - len(requests_of(host)) == 1  # the one that learned


@pytest.mark.parametrize(("code", "required"), [(401, "signed"), (400, "sealed:phi"), (400, "sealed:secret")])
async def test_a_host_that_is_never_content_is_not_asked_for_ever(
    host: ToyHost, folder: Path, code: int, required: str
) -> None:
    host.behave = lambda h, m, r: h.refuse(m, r.correlation_id, code=code, required=required)
    async with Client.connect(folder) as client:
        with pytest.raises((InvalidRequestError, NotAuthenticatedError)):
            await client.call(CAPABILITY, DATA, timeout=5)
    assert len(host.seen) <= 4


async def test_what_the_caller_asks_to_seal_is_never_sealed_under_another_label(host: ToyHost, folder: Path) -> None:
    host.behave = lambda h, m, r: h.refuse(m, r.correlation_id, code=400, required="sealed:public")
    async with Client.connect(folder) as client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
    assert caught.value.required == "sealed:public"
    assert len(host.seen) == 1


async def test_an_answer_under_a_key_rotated_meanwhile_opens(control: ToyControl, host: ToyHost, folder: Path) -> None:
    async with Client.connect(folder) as client:
        await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
        control.rotate(KeyScope("phi"))
        assert await client.call(CAPABILITY, DATA, seal="phi", timeout=5) == RESULT
    assert [str(wanted.wanted) for wanted, _ in control.asked] == ["phi", "phi@2"]
    assert host.opened == [DATA, DATA]


REFUSED = Failure(code=403, error="not permitted", required="data:phi", role="clerk")


async def test_a_role_without_the_label_gets_no_key_and_nothing_is_sent(
    control: ToyControl, host: ToyHost, folder: Path
) -> None:
    control.refusal = REFUSED
    async with Client.connect(folder) as client:
        with pytest.raises(KeyRefusedError) as caught:
            await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
    assert (caught.value.required, caught.value.role, caught.value.code) == ("data:phi", "nurse", 403)
    assert host.seen == []


async def test_a_role_that_may_not_even_ask_for_keys_is_told_the_same(
    realm: Realm, control: ToyControl, host: ToyHost, tmp_path: Path
) -> None:
    narrow = SubjectPermissions(publish_allow=("ai.capabilities.>",), subscribe_allow=("_INBOX.>",))
    creds = realm.user(realm.accounts["ALPHA"], permissions=narrow)
    folder = write_client_folder(realm, tmp_path / "clerk", creds, control=control.seed.public.text)
    async with Client.connect(folder) as client:
        with pytest.raises(KeyRefusedError) as caught:
            await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
    assert caught.value.required == "data:phi"
    assert host.seen == []


async def test_a_denial_about_a_label_by_the_host_has_the_same_type(host: ToyHost, folder: Path) -> None:
    host.behave = lambda h, m, r: h.refuse(m, r.correlation_id, code=403, required="data:phi")
    async with Client.connect(folder) as client:
        with pytest.raises(KeyRefusedError):
            await client.call(CAPABILITY, DATA, seal="phi", timeout=5)


async def test_a_wrong_label_in_a_refusal_does_no_lasting_harm(
    control: ToyControl, host: ToyHost, folder: Path
) -> None:
    host.required, control.refusal = "sealed:bogus", REFUSED
    async with Client.connect(folder) as client:
        with pytest.raises(KeyRefusedError, match="bogus"):
            await client.call(CAPABILITY, DATA, timeout=5)
        host.required, control.refusal = "sealed:phi", None
        assert await client.call(CAPABILITY, DATA, timeout=5) == RESULT


async def test_while_nobody_hands_out_keys_the_call_is_unavailable_and_nothing_is_sent(
    host: ToyHost, folder: Path
) -> None:
    await host.control.connection.close()
    async with Client.connect(folder) as client:
        with pytest.raises(UnavailableError):
            await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
    assert host.seen == []


async def test_a_key_that_does_not_come_in_time_ends_at_the_callers_deadline(
    realm: Realm, host: ToyHost, folder: Path
) -> None:
    await host.control.connection.close()
    silent = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    await silent.subscribe("ai.admin.keys.unwrap.alpha", lambda _: None)
    async with Client.connect(folder) as client:
        with pytest.raises(DeadlineError):
            await client.call(CAPABILITY, DATA, seal="phi", timeout=0.1)
    assert host.seen == []


async def test_a_folder_without_a_pinned_key_can_call_and_says_so_only_when_something_is_to_be_sealed(
    realm: Realm, host: ToyHost, creds: Creds, tmp_path: Path
) -> None:
    folder = write_client_folder(realm, tmp_path / "old", creds)
    async with Client.connect(folder) as client:
        with pytest.raises(UnavailableError):
            await client.call("no.such", {}, timeout=5)
        with pytest.raises(FolderError, match="pin no key of the control plane") as caught:
            await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
    assert "garrison creds issue" in caught.value.remedy
    assert host.seen == []


@pytest.mark.parametrize(
    ("seal", "subject"),
    [("PHI", None), ("", None), ("phi@1", None), ("phi/x", None), ("phi", "a//b"), ("phi", ".."), (None, "patient/1")],
)
async def test_labels_and_data_subjects_that_cannot_exist_are_refused_here(
    host: ToyHost, folder: Path, seal: str | None, subject: str | None
) -> None:
    async with Client.connect(folder) as client:
        with pytest.raises(InvalidRequestError):
            await client.call(CAPABILITY, DATA, seal=seal, subject=subject, timeout=5)
    assert host.seen == []


async def test_keys_are_not_kept_for_other_credentials_than_they_were_given_to(
    realm: Realm, control: ToyControl, creds: Creds, folder: Path
) -> None:
    async with Client.connect(folder, retry=PATIENT) as client:
        await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
        renewed = realm.user(realm.accounts["ALPHA"], name="amy")
        (folder / "user.creds").write_text(format_creds(renewed))
        await realm.server.kill()
        await realm.start()
        await answered(client)
    users = [sender.user for _, sender in control.asked]
    assert (users[0], users[-1]) == (creds.seed.public.text, renewed.seed.public.text)


async def answered(client: Client) -> None:
    """Call until there is an answer: the connections come back one after another."""
    while True:
        with contextlib.suppress(UnreachableError, UnavailableError):
            await client.call(CAPABILITY, DATA, seal="phi", timeout=20)
            return
        await asyncio.sleep(0.01)
