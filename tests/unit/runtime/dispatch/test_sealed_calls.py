"""Steps 6 to 9, 12 and 13 for what is signed and sealed (SEC-11, SEC-12)."""

import asyncio
import json
import logging
from typing import Any

import pytest
from dispatch_bench import CID, NOW, Served, envelope
from sealed_calls import MARKED, PATIENT, PHI, SealedBench, changed, required

from authz.keys import AccountSeed, UserSeed
from runtime.dispatch.answering import Answers
from runtime.dispatch.call import Call
from runtime.dispatch.errors import InputRefusedError, RefusedError, RequestRefusedError
from runtime.dispatch.limits import DispatchLimits
from runtime.dispatch.ports import Clock
from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyDestroyedError, KeyRefusedError, KeyUnavailableError
from runtime.envelope.keyid import parse
from runtime.envelope.messages import FieldFault

OTHER_CID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
async def bench() -> SealedBench:
    return SealedBench()


def assert_told_nothing(bench: SealedBench, answer: Any) -> None:
    assert bench.served.reached == []
    assert MARKED not in str(answer)


async def test_sealed_and_signed_call_is_answered_sealed(bench: SealedBench) -> None:
    answer = await bench.call_sealed()
    assert answer.code == 200
    assert MARKED not in str(answer)
    assert (answer.body["encrypted"], answer.body["key_id"], answer.body["correlation_id"]) == (True, "phi@1", CID)
    assert bench.opened(answer) == {"value": MARKED}
    assert bench.served.reached[0].principal.assurance == "signed"
    assert bench.keys.fetched == []


async def test_cached_key_keeps_the_call_synchronous_up_to_its_handler(bench: SealedBench) -> None:
    body = bench.sealed()
    bench.send(body, header=bench.signed_header(body))
    bench.send(body, header=bench.signed_header(body))
    assert [answer.code for answer in bench.answers] == [409]  # refused inline, before any task ran
    await bench.settled()


async def test_missing_key_is_fetched_in_the_calls_own_task(bench: SealedBench) -> None:
    bench.keys_elsewhere()
    assert bench.opened(await bench.call_sealed()) == {"value": MARKED}
    assert bench.keys.fetched == ["phi@1", "phi"]


async def test_only_the_key_that_is_missing_is_fetched(bench: SealedBench) -> None:
    old = DataKey(parse("phi@3"), bytes(32))
    bench.keys.elsewhere[old.key_id] = old
    assert (await bench.call_sealed(bench.sealed(old))).body["key_id"] == "phi@1"
    assert bench.keys.fetched == ["phi@3"]


async def test_receive_does_not_wait_for_a_key(bench: SealedBench) -> None:
    bench.keys_elsewhere()
    bench.keys.gate = asyncio.Event()
    body = bench.sealed()
    bench.send(body, header=bench.signed_header(body))
    assert bench.answers == []
    bench.keys.gate.set()
    await bench.settled()
    assert [answer.code for answer in bench.answers] == [200]


async def test_answer_goes_out_under_the_active_version_of_the_same_data_subject(bench: SealedBench) -> None:
    older = DataKey(parse("phi/patient/4711@1"), bytes(range(32)))
    bench.keys.at_hand[older.key_id] = older
    answer = await bench.call_sealed(bench.sealed(older))
    assert answer.body["key_id"] == "phi/patient/4711@2"
    assert bench.opened(answer, PATIENT) == {"value": MARKED}
    assert (bench.records[0].key_id, bench.records[0].data_subject) == ("phi/patient/4711@1", "patient/4711")


# --- step 6: plaintext


@pytest.mark.parametrize("body", [b'{"a":1}', envelope()], ids=["bare", "enveloped"])
@pytest.mark.parametrize("signed", [False, True])
async def test_plaintext_to_a_sensitive_capability_is_refused_and_told_the_label(
    bench: SealedBench, body: bytes, *, signed: bool
) -> None:
    answer = await bench.call(body, header=bench.signed_header(body) if signed else bench.header())
    assert required(answer) == (400, "sealed:phi")
    assert_told_nothing(bench, answer)


async def test_request_under_another_label_is_refused(bench: SealedBench) -> None:
    answer = await bench.call_sealed(bench.sealed(DataKey(parse("hr@1"), bytes(32))))
    assert required(answer) == (400, "sealed:phi")


# --- step 7: the second witness


async def test_unsigned_sealed_request_is_refused(bench: SealedBench) -> None:
    answer = await bench.call(bench.sealed())
    assert required(answer) == (401, "signed")
    assert_told_nothing(bench, answer)
    assert bench.records[0].reason == "sender-missing"


def forged(bench: SealedBench, body: bytes) -> dict[str, bytes]:
    mallory = UserSeed.generate()
    good = bench.signed_header(body)
    value = good.split(b"Agent-Sender: ")[1].split(b"\r\n")[0]
    tampered = value[:-6] + (b"AAAA" if value[-6:-2] != b"AAAA" else b"BBBB") + value[-2:]
    return {
        "signature": bench.signed_header(body, signer=mallory),
        "user": bench.signed_header(body, signer=mallory, user=mallory.public.text),
        "account": bench.signed_header(body, account=AccountSeed.generate().public.text),
        "subject": bench.signed_header(body, subject="ai.capabilities.vitals.other"),
        "subject of the import": bench.signed_header(body, subject=bench.subject()),
        "correlation-id": bench.signed_header(body, nonce=OTHER_CID),
        "time: stale": bench.signed_header(body, ts=NOW - 31),
        "time: ahead": bench.signed_header(body, ts=NOW + 31),
        "signature: of another payload": bench.signed_header(body + b" "),
        "signature: flipped bits": good.replace(value, tampered),
        "header-repeated": bench.header(before=b"Agent-Sender: " + value + b"\r\nAgent-Sender: " + value + b"\r\n"),
        "header-spelling": good.replace(b"Agent-Sender", b"agent-sender"),
        "malformed": good.replace(value, b"{}"),
    }


FORGERIES = list(forged(SealedBench(), b"{}"))


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_signature_that_is_not_good_is_refused(bench: SealedBench, forgery: str) -> None:
    body = bench.sealed()
    answer = await bench.call(body, header=forged(bench, body)[forgery])
    assert (answer.code, answer.body["error"], "required" in answer.body) == (401, "not authenticated", False)
    assert bench.served.reached == []
    assert bench.records[0].reason.startswith("sender-")
    assert bench.records[0].assurance == "asserted"


async def test_signature_on_a_plain_call_is_verified_too(bench: SealedBench) -> None:
    bench.served.sensitive = None
    body = envelope()
    assert (await bench.call(body, header=bench.signed_header(body, signer=UserSeed.generate()))).code == 401
    assert (await bench.call(body, header=bench.signed_header(body))).code == 200
    assert [context.principal.assurance for context in bench.served.reached] == ["signed"]
    assert [record.assurance for record in bench.records] == ["asserted", "signed"]


async def test_bare_data_can_not_be_signed(bench: SealedBench) -> None:
    bench.served.sensitive = None
    assert (await bench.call(b"{}", header=bench.signed_header(b"{}"))).code == 401


# --- step 8: the label, the key, the token


async def test_role_without_the_label_is_denied_before_any_key_is_looked_for(bench: SealedBench) -> None:
    bench.keys_elsewhere()
    body = bench.sealed()
    clerk = bench.signed_header(body, token=bench.token(signer=bench.clerk_key))
    answer = await bench.call(body, header=clerk)
    assert required(answer) == (403, "data:phi")
    assert answer.body["role"] == "billing"
    assert bench.keys.fetched == []
    assert (bench.records[0].effect, bench.records[0].reason) == ("deny", "label-denied")
    assert (bench.records[0].key_id, bench.records[0].assurance) == ("phi@1", "signed")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyRefusedError("phi@1"), 400, "unknown key"),
        (KeyDestroyedError("phi@1"), 400, "unknown key"),
        (KeyUnavailableError("phi@1"), 503, "not available"),
    ],
    ids=repr,
)
async def test_key_that_is_not_to_be_had(bench: SealedBench, error: Exception, code: int, text: str) -> None:
    bench.keys_elsewhere()
    bench.keys.error = error
    answer = await bench.call_sealed()
    assert (answer.code, answer.body["error"]) == (code, text)
    assert_told_nothing(bench, answer)


def attacks(bench: SealedBench) -> dict[str, bytes]:
    good = bench.sealed()
    token = json.loads(good)["data"]
    flipped = token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
    return {
        "moved to another call": changed(good, correlation_id=OTHER_CID),
        "moved to another time": changed(good, timestamp=NOW + 1.5),
        "moved to another data subject": changed(good, key_id="phi/patient/4711@2"),
        "sealed for another capability": bench.sealed(capability="vitals.other"),
        "sealed by another tenant": bench.sealed(DataKey(parse("phi@1"), bytes(32))),
        "flipped bit": changed(good, data=flipped),
        "cut": changed(good, data=token[:-8]),
        "no token": changed(good, data=""),
        "a sealed body inside": bench.sealed(data=good),
        "not an object inside": bench.sealed(data=b"[1]"),
        "not JSON inside": bench.sealed(data=b"\xff"),
        "deep inside": bench.sealed(data=b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    }


ATTACKS = list(attacks(SealedBench()))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("at_hand", [True, False])
async def test_token_opens_nowhere_but_where_it_was_meant_to(bench: SealedBench, attack: str, *, at_hand: bool) -> None:
    """SEC-12; signed as it arrives, so that nothing but the token itself is in question."""
    if not at_hand:
        bench.keys_elsewhere()
    body = attacks(bench)[attack]
    header = bench.signed_header(body, nonce=json.loads(body)["correlation_id"])
    answer = await bench.call(body, header=header)
    assert answer.code == 400
    assert answer.body["error"] in {"sealed data does not open", "what was sealed is not data"}
    assert bench.records[0].reason.startswith("seal-")
    assert_told_nothing(bench, answer)


async def test_swapped_algorithm_is_refused(bench: SealedBench) -> None:
    body = changed(bench.sealed(), alg="none")
    assert (await bench.call_sealed(body)).code == 400
    assert bench.served.reached == []


@pytest.mark.parametrize("at_hand", [True, False])
async def test_copy_is_refused(bench: SealedBench, *, at_hand: bool) -> None:
    if not at_hand:
        bench.keys_elsewhere()
    body = bench.sealed()
    header = bench.signed_header(body)
    assert (await bench.call(body, header=header)).code == 200
    assert (await bench.call(body, header=header)).code == 409
    assert len(bench.served.reached) == 1


async def test_request_that_went_stale_while_its_key_was_fetched_is_refused(bench: SealedBench) -> None:
    bench.keys_elsewhere()
    bench.keys.gate = asyncio.Event()
    body = bench.sealed()
    bench.send(body, header=bench.signed_header(body))
    await asyncio.sleep(0)
    bench.time.move(31)
    bench.keys.gate.set()
    await bench.settled()
    assert bench.answers[-1].code == 409


async def test_sealed_call_to_a_capability_that_is_not_sensitive_is_answered_sealed(bench: SealedBench) -> None:
    bench.served.sensitive = None
    answer = await bench.call(bench.sealed())
    assert bench.opened(answer) == {"value": MARKED}
    assert len(bench.stored) == 1


# --- steps 12 and 13


async def test_record_is_durable_before_the_answer_leaves(bench: SealedBench) -> None:
    gate = asyncio.Event()
    store = bench.store

    async def slow(record: Any, /) -> None:
        await gate.wait()
        await store(record)

    bench.store = slow  # type: ignore[method-assign]
    body = bench.sealed()
    bench.send(body, header=bench.signed_header(body))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(bench.served.reached), bench.answers) == (1, [])
    gate.set()
    await bench.settled()
    assert bench.answers[-1].code == 200
    record = bench.stored[0]
    assert (record.effect, record.code, record.assurance, record.key_id) == ("allow", 200, "signed", "phi@1")
    assert record.data_subject is None


async def test_result_whose_record_is_not_stored_does_not_leave(
    bench: SealedBench, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(record: Any, /) -> None:
        raise OSError(record.resource)

    bench.store = fails  # type: ignore[method-assign]
    answer = await bench.call_sealed()
    assert (answer.code, answer.body["error"]) == (500, "the answer could not be recorded")
    assert "result" not in answer.body
    assert bench.dispatcher.counters.answered == 0
    assert "was not stored" in caplog.text


async def test_deadline_that_passes_while_the_record_is_stored_is_the_answer(bench: SealedBench) -> None:
    bench.served.timeout_s = 0.5  # long enough to reach the record on a busy machine
    passed = asyncio.Event()

    async def stubborn(record: Any, /) -> None:
        del record
        try:
            await passed.wait()
        except asyncio.CancelledError:
            return

    bench.store = stubborn  # type: ignore[method-assign]
    assert (await bench.call_sealed()).code == 408
    await bench.settled()
    assert len(bench.answers) == 1
    assert bench.dispatcher.counters.late == 1


async def test_sensitive_call_that_is_late_is_not_stored(bench: SealedBench) -> None:
    release = asyncio.Event()

    async def stubborn(value: Any, context: Any) -> Any:
        del context
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                release.set()
        return value

    bench.served.handler = stubborn
    bench.served.timeout_s = 0.01
    assert (await bench.call_sealed()).code == 408
    await bench.settled()
    assert bench.stored == []
    assert bench.dispatcher.counters.late == 1


async def test_call_without_a_view_has_nothing_to_store(bench: SealedBench) -> None:
    answers = Answers(respond=bench.respond, audit=bench, clock=Clock(), limits=DispatchLimits())
    await answers.result_when_stored(Call(reply="_R_.x", correlation_id=CID), b"{}")
    assert [answer.code for answer in bench.answers] == [500]


async def test_call_that_was_answered_while_its_record_was_stored_is_not_answered_again(bench: SealedBench) -> None:
    answers = Answers(respond=bench.respond, audit=bench, clock=Clock(), limits=DispatchLimits())
    call = Call(reply="_R_.x", correlation_id=CID, view=bench.view())

    async def meanwhile(record: Any, /) -> None:
        del record
        answers.refusal(call, RefusedError(408, "deadline"))

    bench.store = meanwhile  # type: ignore[method-assign]
    await answers.result_when_stored(call, b"{}")
    assert [answer.code for answer in bench.answers] == [408]


async def test_sealed_answer_that_is_too_large_is_refused(bench: SealedBench) -> None:
    bench = SealedBench(max_payload_bytes=2_000)
    bench.served.encode = lambda _: json.dumps("x" * 1_500).encode()
    answer = await bench.call_sealed()
    assert (answer.code, answer.body["error"]) == (500, "the answer is too large")


# --- what is told, and what is logged


async def raises(value: Any, context: Any) -> Any:
    del context
    try:
        int(value["value"])
    except ValueError as error:
        raise RuntimeError(f"no number: {value}") from error


async def test_failure_of_a_sensitive_call_says_nothing_of_its_data(
    bench: SealedBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.served.handler = raises
    with caplog.at_level(logging.DEBUG):
        answer = await bench.call_sealed()
    assert (answer.code, answer.body["error"]) == (500, "handler failed")
    assert MARKED not in str(answer)
    assert MARKED not in caplog.text
    assert "RuntimeError < raises" in caplog.text
    assert "from ValueError < raises" in caplog.text
    assert CID in caplog.text


async def test_endless_chain_of_errors_is_logged_in_part(bench: SealedBench, caplog: pytest.LogCaptureFixture) -> None:
    async def tangled(value: Any, context: Any) -> Any:
        del value, context
        first, second = ValueError(MARKED), KeyError(MARKED)
        first.__cause__, second.__cause__ = second, first
        raise first

    bench.served.handler = tangled
    await bench.call_sealed()
    assert caplog.text.count("KeyError") <= 8
    assert MARKED not in caplog.text


def refuses(_: bytes) -> Any:
    raise InputRefusedError((FieldFault(path="value", message=MARKED),))


async def declines(value: Any, context: Any) -> Any:
    del context
    raise RequestRefusedError(f"declined {value}", fields=(FieldFault(path=MARKED, message="no"),))


@pytest.mark.parametrize("served", [Served(validate=refuses), Served(handler=declines)], ids=["input", "declined"])
async def test_agent_that_does_not_know_its_data_as_sensitive_tells_nothing_in_the_clear(
    bench: SealedBench, served: Served
) -> None:
    bench.capabilities["vitals.assess"] = served
    answer = await bench.call_sealed()
    assert (answer.code, answer.body["error"], "fields" in answer.body) == (422, "invalid input", False)
    assert MARKED not in str(answer)


async def test_agent_that_does_names_the_fields(bench: SealedBench) -> None:
    def refuses_by_path(_: bytes) -> Any:
        raise InputRefusedError((FieldFault(path="value", message="is not valid"),))

    bench.served.validate = refuses_by_path
    answer = await bench.call_sealed()
    assert (answer.code, answer.body["fields"]) == (422, [{"path": "value", "message": "is not valid"}])


async def test_marked_secret_is_in_no_log_no_record_and_no_refusal(
    bench: SealedBench, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await bench.call_sealed()
        for body in attacks(bench).values():
            header = bench.signed_header(body, nonce=json.loads(body)["correlation_id"])
            await bench.call(body, header=header)
            await bench.call(body)
        await bench.call(envelope(data={"value": MARKED}))
    assert MARKED not in caplog.text
    assert MARKED not in str(bench.answers)
    assert MARKED not in str(bench.records)
    assert repr(PHI.reveal()) not in str(vars(bench.keys))
