"""SEC-11, SEC-12 from the attacker's side of a caller: who can answer for the control plane, or for the agent.

No tenant may listen where requests are sent (SEC-5). These tests suppose that somebody does all the same: then a
caller takes no key that the pinned control plane did not sign for this very request, and hands on no answer that does
not open as the answer to this very call. What it does not take it does not show either.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from client_folders import write_client_folder
from fixtures_server import Realm
from sealed_counterparts import CAPABILITY, SECRET, ToyControl, ToyHost, key, sealed_counterparts

from authz.keys import AccountSeed
from runtime.bus.message import Message
from runtime.client import AnswerRefusedError, Client, ClientError
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import KeyScope
from runtime.envelope.keywrap import UnwrapCall
from runtime.envelope.sealedmessages import SealedRequest, build_sealed_response
from runtime.envelope.unwrap import UnwrapAnswer

DATA = {"observation": SECRET}
PHI = KeyScope("phi")


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
def folder(realm: Realm, control: ToyControl, tmp_path: Path) -> Path:
    creds = realm.user(realm.accounts["ALPHA"], name="amy")
    return write_client_folder(realm, tmp_path / "amy", creds, control=control.seed.public.text)


async def refusal(folder: Path, **options: Any) -> AnswerRefusedError:
    """What a sealed call ends with, which must be a refusal that shows nothing of the answer."""
    async with Client.connect(folder) as client:
        with pytest.raises(AnswerRefusedError) as caught:
            await client.call(CAPABILITY, DATA, timeout=5, **{"seal": "phi"} | options)
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.__dict__}"
    return caught.value


# --- who answers for the control plane -----------------------------------------------------------------------------


async def test_sec_11_a_key_signed_by_another_than_the_pinned_key_is_not_taken(
    control: ToyControl, host: ToyHost, folder: Path
) -> None:
    control.signer = AccountSeed.generate()
    await refusal(folder)
    assert host.seen == []  # nothing is ever sealed by the attacker's key


async def test_sec_11_a_key_of_another_name_than_was_asked_for_is_not_taken(
    control: ToyControl, host: ToyHost, folder: Path
) -> None:
    for other in (key("public@1"), key("phi/patient/4711@1"), KeyScope("phi", "patient/1")):
        control.other_wanted = lambda _, other=other: other
        await refusal(folder)
    assert host.seen == []


async def test_sec_11_an_old_version_is_not_taken_for_the_one_that_seals(
    control: ToyControl, host: ToyHost, folder: Path
) -> None:
    control.rotate(PHI)
    control.other_wanted = lambda _: key("phi@1")
    await refusal(folder)
    assert host.seen == []


@pytest.mark.parametrize(
    "part",
    [
        {"tenant": "beta"},
        {"account": AccountSeed.generate().public.text},
        {"user": "UDWUSKGGFDI4FRXK5EBTRECZSVQSSWJHHJOGH6JWG3AUMFFMQ435C2U4"},
        {"correlation_id": "00000000-0000-4000-8000-000000000000"},
    ],
    ids=["tenant", "account", "user", "call"],
)
async def test_sec_11_a_true_answer_to_another_request_is_not_taken(
    control: ToyControl, host: ToyHost, folder: Path, part: dict[str, str]
) -> None:
    def other(call: UnwrapCall) -> UnwrapCall:
        fields = {name: getattr(call, name) for name in ("tenant", "account", "user", "correlation_id")}
        return UnwrapCall(**fields | part)

    control.other_call = other
    await refusal(folder)
    assert host.seen == []


async def test_sec_11_a_true_answer_replayed_is_not_taken(control: ToyControl, host: ToyHost, folder: Path) -> None:
    answers: list[UnwrapAnswer] = []

    def first(answer: UnwrapAnswer) -> UnwrapAnswer:
        answers.append(answer)
        return answers[0]

    control.other_answer = first
    async with Client.connect(folder) as client:
        await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
    await refusal(folder)
    assert (len(answers), len(host.seen)) == (2, 1)


ALTERATIONS: dict[str, Callable[[UnwrapAnswer], object]] = {
    "later expiry": lambda a: msgspec.structs.replace(a, expires_at=a.expires_at + 86_400),
    "past expiry": lambda a: msgspec.structs.replace(a, expires_at=int(time.time()) - 1),
    "other state": lambda a: msgspec.structs.replace(a, state="opening"),
    "altered key": lambda a: msgspec.structs.replace(a, enc=("B" if a.enc[0] == "A" else "A") + a.enc[1:]),
    "altered signature": lambda a: msgspec.structs.replace(a, sig=("B" if a.sig[0] == "A" else "A") + a.sig[1:]),
    "no signature": lambda a: {"key_id": a.key_id, "state": a.state, "enc": a.enc, "expires_at": a.expires_at},
    "the key in the clear": lambda a: {"key_id": a.key_id, "state": a.state, "dek": "AAAA"},
    "not an object": lambda _: [1, 2],
}


@pytest.mark.parametrize("name", ALTERATIONS)
async def test_sec_11_an_altered_answer_about_a_key_is_not_taken(
    control: ToyControl, host: ToyHost, folder: Path, name: str
) -> None:
    control.other_answer = ALTERATIONS[name]
    await refusal(folder)
    assert host.seen == []


# --- who answers for the agent -------------------------------------------------------------------------------------

Behave = Callable[[ToyHost, Message, SealedRequest], bytes]


def sealed_by_stranger(host: ToyHost, request: SealedRequest) -> bytes:
    """By a key of that very name that is not the tenant's."""
    return host.sealed(request, dek=DataKey.generate(request.key_id))


def request_as_answer(_host: ToyHost, request: SealedRequest) -> bytes:
    """The caller's own token, sent back as if it were the result."""
    return build_sealed_response(
        agent_id="vitals",
        capability=CAPABILITY,
        correlation_id=request.correlation_id,
        timestamp=request.timestamp,
        key_id=request.key_id,
        token=request.token,
    )


def relabelled(host: ToyHost, request: SealedRequest) -> bytes:
    """The answer to another call, with this call's id written on the envelope."""
    other = msgspec.structs.replace(request, correlation_id="00000000-0000-4000-8000-000000000000")
    return host.sealed(other).replace(other.correlation_id.encode(), request.correlation_id.encode())


def renamed(host: ToyHost, request: SealedRequest) -> bytes:
    """The answer of another capability, with this one's name written on the envelope."""
    return host.sealed(request, capability="vitals.forecast").replace(b"vitals.forecast", CAPABILITY.encode())


def marked_plaintext(host: ToyHost, request: SealedRequest) -> bytes:
    """Plaintext in an envelope that says it is sealed."""
    fields = msgspec.json.decode(host.plain(request))
    fields |= {"encrypted": True, "alg": "fernet", "key_id": str(request.key_id), "result": '{"risk": "low"}'}
    return msgspec.json.encode(fields)


def unmarked_token(host: ToyHost, request: SealedRequest) -> bytes:
    fields = msgspec.json.decode(host.sealed(request))
    return msgspec.json.encode({**fields, "encrypted": False})


FORGERIES: dict[str, Callable[[ToyHost, SealedRequest], bytes]] = {
    "plaintext": lambda h, r: h.plain(r),
    "plaintext marked as sealed": marked_plaintext,
    "sealed and marked as plaintext": unmarked_token,
    "not an answer": lambda _h, _r: b"{}",
    "sealed by a stranger's key": sealed_by_stranger,
    "the caller's own token": request_as_answer,
    "the answer to another call": relabelled,
    "the answer of another capability": renamed,
    "an answer that says it is to another call": lambda h, r: h.sealed(
        r, correlation_id="00000000-0000-4000-8000-000000000000"
    ),
    "under the label's key, not the patient's": lambda h, r: h.sealed(r, dek=h.control.dek(PHI)),
    "under another patient's key": lambda h, r: h.sealed(r, dek=h.control.dek(KeyScope("phi", "patient/1"))),
    "under another label's key": lambda h, r: h.sealed(r, dek=h.control.dek(KeyScope("public", "patient/4711"))),
    "a time moved": lambda h, r: h.sealed(r, timestamp=1000.5).replace(b"1000.5", b"1001.5"),
    "a result that is no JSON": lambda h, r: h.sealed(r, result=b"\xff"),
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_sec_12_an_answer_that_does_not_open_for_this_call_is_not_handed_on(
    host: ToyHost, folder: Path, name: str
) -> None:
    host.behave = lambda h, m, r: h.connection.respond(m.reply, FORGERIES[name](h, r))
    await refusal(folder, subject="patient/4711")
    assert len(host.seen) == 1  # and it is not sent again: the handler may have done its work


async def test_sec_12_a_true_answer_replayed_to_a_later_call_is_not_handed_on(host: ToyHost, folder: Path) -> None:
    answers: list[bytes] = []

    def replay(host: ToyHost, message: Message, request: SealedRequest) -> None:
        answers.append(host.sealed(request))
        host.connection.respond(message.reply, answers[0])

    host.behave = replay
    async with Client.connect(folder) as client:
        await client.call(CAPABILITY, DATA, seal="phi", timeout=5)
        with pytest.raises(AnswerRefusedError):
            await client.call(CAPABILITY, DATA, seal="phi", timeout=5)


async def test_sec_12_a_sealed_answer_where_none_was_asked_for_is_not_handed_on(host: ToyHost, folder: Path) -> None:
    def answer(message: Message) -> None:
        request = SealedRequest(
            correlation_id=msgspec.json.decode(message.data)["correlation_id"],
            agent_id="",
            timestamp=1.0,
            key_id=key("phi@1"),
            token="",
        )
        host.connection.respond(message.reply, host.sealed(request, capability="greeting"))

    await host.connection.subscribe("ai.capabilities.greeting", answer)
    async with Client.connect(folder) as client:
        with pytest.raises(ClientError, match="sealed"):
            await client.call("greeting", {}, timeout=5)
