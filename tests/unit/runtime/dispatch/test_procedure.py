"""The order of the procedure, and how a request ends."""

import asyncio
import logging
import re
from typing import Any

import pytest
from dispatch_bench import CID, NOW, Bench, Served, envelope

from runtime.dispatch.errors import InputRefusedError, RequestRefusedError, UnavailableError
from runtime.envelope.messages import FieldFault

OURS = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_granted_call_reaches_the_handler_and_is_answered(bench: Bench) -> None:
    answer = await bench.call(b'{"a":1}')
    assert answer.headers is None
    assert answer.reply == "_R_.x.y"
    assert answer.body["result"] == {"a": 1}
    assert (answer.body["agent_id"], answer.body["capability"]) == ("vitals", "vitals.assess")
    assert OURS.fullmatch(answer.body["correlation_id"])
    context = bench.served.reached[0]
    assert context.principal.user == bench.user.public.text
    assert (context.principal.role, context.principal.tenant) == ("nurse", "st-marys")
    assert context.deadline == bench.time.monotonic + 5.0
    assert bench.dispatcher.counters.answered == 1


async def test_enveloped_call_keeps_its_correlation_id(bench: Bench) -> None:
    answer = await bench.call(envelope())
    assert answer.body["correlation_id"] == CID
    assert bench.served.reached[0].correlation_id == CID
    assert bench.records[0].correlation_id == CID


async def test_empty_policy_denies(bench: Bench) -> None:
    bench.rules.allowed.clear()
    assert (await bench.call()).code == 403
    assert bench.served.reached == []


async def test_denied_caller_learns_what_it_lacks_and_nothing_else(bench: Bench) -> None:
    header = bench.header(token=bench.token(signer=bench.clerk_key))
    answer = await bench.call(header=header)
    cid = answer.body.pop("correlation_id")
    assert OURS.fullmatch(cid)
    assert answer.body == {
        "agent_id": "host",
        "error": "insufficient permissions",
        "code": 403,
        "required": "call:vitals.assess",
        "role": "billing",
    }
    assert answer.headers == {"Nats-Service-Error-Code": "403", "Nats-Service-Error": "insufficient permissions"}


async def test_authorization_comes_before_parsing(bench: Bench) -> None:
    bench.rules.allowed.clear()
    assert (await bench.call(b"\xff not json")).code == 403


async def test_denied_caller_can_not_tell_whether_a_capability_exists(bench: Bench) -> None:
    absent = await bench.call(subject=bench.subject("invoice.absent"))
    bench.rules.allowed.clear()
    present = await bench.call()
    assert (absent.code, present.code) == (403, 403)
    assert absent.body["agent_id"] == present.body["agent_id"]


async def test_granted_but_unserved_capability_is_unavailable(bench: Bench) -> None:
    assert (await bench.call(subject=bench.subject("vitals.absent"))).code == 503


async def test_error_inside_the_policy_is_a_deny(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def explode(*_: object) -> Any:
        raise ZeroDivisionError("secret detail")

    bench.rules.decide = explode  # type: ignore[method-assign]
    answer = await bench.call()
    assert answer.code == 500
    assert "secret" not in str(answer)
    assert answer.body["correlation_id"] in caplog.text
    assert bench.served.reached == []


async def test_decision_that_is_only_truthy_is_a_deny(bench: Bench) -> None:
    decide = bench.rules.decide

    class Odd:
        allowed = "yes"
        reason = ""
        rule = None

    bench.rules.decide = lambda *_: Odd()  # type: ignore[method-assign,assignment,return-value]
    assert (await bench.call()).code == 403
    bench.rules.decide = decide  # type: ignore[method-assign]


async def test_view_that_is_not_available_refuses_everything(bench: Bench) -> None:
    def stale() -> Any:
        raise UnavailableError("control plane not heard")

    bench.dispatcher._view = stale
    assert (await bench.call()).code == 503
    assert bench.records == []


async def test_new_view_counts_from_the_next_message(bench: Bench) -> None:
    assert (await bench.call()).code == 200
    bench.trusting(revocations={bench.user.public.text: NOW})
    assert (await bench.call()).code == 401
    bench.trusting(revocations={}, suspended=True)
    assert (await bench.call()).code == 401
    bench.trusting(suspended=False)
    bench.rules.allowed.clear()
    assert (await bench.call()).code == 403


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", envelope(data=None), envelope(encrypted=True)])
async def test_malformed_body_is_refused_before_the_handler(bench: Bench, body: bytes) -> None:
    assert (await bench.call(body)).code == 400
    assert bench.served.reached == []


async def test_input_that_fails_the_model_is_refused_with_its_fields(bench: Bench) -> None:
    def refuse(_: bytes) -> Any:
        raise InputRefusedError((FieldFault(path="obs[0].value", message="is\nmissing"),))

    bench.served.validate = refuse
    answer = await bench.call()
    assert answer.code == 422
    assert answer.body["fields"] == [{"path": "obs[0].value", "message": "is missing"}]
    assert bench.served.reached == []


async def test_author_can_decline_with_words_for_the_caller(bench: Bench) -> None:
    async def decline(*_: object) -> Any:
        raise RequestRefusedError("no such ward \ud800\r\nX: y", fields=(FieldFault(path="ward", message="?"),))

    bench.served.handler = decline
    answer = await bench.call()
    assert answer.code == 422
    assert answer.body["error"] == "no such ward    X: y"
    assert answer.headers == {"Nats-Service-Error-Code": "422", "Nats-Service-Error": "no such ward    X: y"}


@pytest.mark.parametrize(
    "raised", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, BaseException]
)
async def test_what_a_handler_raises_never_leaves_the_host(
    bench: Bench, raised: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> Any:
        raise raised("patient 4711")

    bench.served.handler = fail
    answer = await bench.call()
    await bench.settled()
    assert answer.code == 500
    assert answer.body["error"] == "handler failed"
    assert "4711" not in str(answer)
    if raised is not GeneratorExit:
        assert answer.body["correlation_id"] in caplog.text
    assert (await bench.call(header=bench.header())).code == 500


async def test_handler_that_cancels_itself_is_answered(bench: Bench) -> None:
    async def cancel(*_: object) -> Any:
        raise asyncio.CancelledError

    bench.served.handler = cancel
    assert (await bench.call()).code == 500
    assert bench.dispatcher.counters.in_flight == 0


@pytest.mark.parametrize("output", [object(), float, b"bytes"])
async def test_output_of_the_wrong_type_is_a_failure(bench: Bench, output: object) -> None:
    async def odd(*_: object) -> Any:
        return output

    bench.served.handler = odd
    assert (await bench.call()).code == 500


async def test_answer_over_the_limit_is_refused() -> None:
    bench = Bench(max_payload_bytes=500)

    async def large(*_: object) -> Any:
        return "x" * 500

    bench.served.handler = large
    answer = await bench.call()
    assert answer.code == 500
    assert answer.body["error"] == "the answer is too large"


async def test_request_over_the_limit_is_refused_unread() -> None:
    bench = Bench(max_payload_bytes=500)
    assert (await bench.call(b"x" * 501)).code == 413
    assert (await bench.call(b"{}" + b" " * 498)).code == 200


async def test_passed_deadline_is_answered_at_once_while_the_slot_stays_taken(bench: Bench) -> None:
    """A handler that ignores its cancellation keeps its slot until it has really ended."""
    release = asyncio.Event()

    async def stubborn(*_: object) -> Any:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return {"too": "late"}

    bench.served.handler = stubborn
    bench.served.timeout_s = 0.01
    bench.served.concurrency = 1
    assert (await bench.call()).code == 408
    again = await bench.call()
    assert again.code == 429
    assert again.body["retry_after"] == 0.1
    release.set()
    await bench.settled()
    assert bench.dispatcher.counters.late == 1
    assert [answer.code for answer in bench.answers] == [408, 429]
    bench.served.handler = Served().handler
    bench.served.timeout_s = 5
    assert (await bench.call()).code == 200


async def test_passed_deadline_cancels_the_handler(bench: Bench) -> None:
    cancelled = asyncio.Event()

    async def patient(*_: object) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    bench.served.handler = patient
    bench.served.timeout_s = 0.01
    assert (await bench.call()).code == 408
    await cancelled.wait()
    await bench.settled()
    assert bench.dispatcher.counters.in_flight == 0
    assert len(bench.answers) == 1


async def test_handler_that_fails_on_its_cancellation_is_answered_once(bench: Bench) -> None:
    async def angry(*_: object) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise ValueError("no") from error

    bench.served.handler = angry
    bench.served.timeout_s = 0.01
    assert (await bench.call()).code == 408
    await bench.settled()
    assert len(bench.answers) == 1
    assert bench.dispatcher.counters.late == 1


async def test_caller_may_ask_for_less_time_and_not_for_more(bench: Bench) -> None:
    await bench.call(header=bench.header(before=b"Agent-Timeout: 1500\r\n"))
    await bench.call(header=bench.header(before=b"Agent-Timeout: 99999\r\n"))
    assert [c.deadline - bench.time.monotonic for c in bench.served.reached] == [1.5, 5.0]


@pytest.mark.parametrize("value", [b"0", b"-1", b"1.5", b"", b"9999999999", b"1\r\nAgent-Timeout: 2", b"x"])
async def test_timeout_that_is_no_number_of_milliseconds_is_refused(bench: Bench, value: bytes) -> None:
    answer = await bench.call(header=bench.header(before=b"Agent-Timeout: " + value + b"\r\n"))
    assert answer.code == 400
    assert bench.served.reached == []


async def test_slots_of_refused_requests_are_given_back(bench: Bench) -> None:
    bench.served.concurrency = 1
    for _ in range(3):
        assert (await bench.call(b"not json")).code == 400
    assert (await bench.call()).code == 200


async def test_caller_that_has_its_answer_may_call_again_at_once(bench: Bench) -> None:
    bench.served.concurrency = 1
    assert (await bench.call()).code == 200
    bench.send()
    await bench.settled()
    assert [answer.code for answer in bench.answers] == [200, 200]


async def test_tenant_over_its_share_is_refused_at_once() -> None:
    bench = Bench(share=1)
    release = asyncio.Event()

    async def wait(*_: object) -> Any:
        await release.wait()
        return {}

    bench.served.handler = wait
    bench.send()
    assert (await bench.call()).code == 429
    release.set()
    await bench.settled()
    assert bench.answers[-1].code == 200


async def test_tenant_over_its_rate_is_refused_and_told_when_to_come_back() -> None:
    bench = Bench(rate_per_s=2, burst=1)
    assert (await bench.call()).code == 200
    refused = await bench.call()
    assert (refused.code, refused.body["retry_after"]) == (429, 0.5)
    bench.time.move(0.5)
    assert (await bench.call()).code == 200


async def test_repeated_envelope_is_refused_for_its_sender_only(bench: Bench) -> None:
    assert (await bench.call(envelope())).code == 200
    assert (await bench.call(envelope())).code == 409
    assert (await bench.call(envelope(correlation_id=CID.upper()))).code == 409
    other = bench.header(token=bench.token(subject=bench.another_user().public))
    assert (await bench.call(envelope(), header=other)).code == 200


@pytest.mark.parametrize("age", [31, -6, 1e300, -1e300])
async def test_envelope_from_another_time_is_refused(bench: Bench, age: float) -> None:
    assert (await bench.call(envelope(timestamp=NOW - age))).code == 409


async def test_bare_data_may_be_repeated(bench: Bench) -> None:
    assert [(await bench.call()).code for _ in range(2)] == [200, 200]


async def test_full_replay_window_refuses_rather_than_forgets(bench: Bench) -> None:
    bench.dispatcher._window._capacity = 1
    assert (await bench.call(envelope())).code == 200
    other = "11111111-1111-4111-8111-111111111111"
    refused = await bench.call(envelope(correlation_id=other))
    assert refused.code == 429
    assert refused.body["retry_after"] == 35.0


async def test_lame_duck_refuses_new_requests_and_finishes_accepted_ones(bench: Bench) -> None:
    release = asyncio.Event()

    async def wait(*_: object) -> Any:
        await release.wait()
        return {}

    bench.served.handler = wait
    bench.send()
    bench.dispatcher.lame_duck()
    assert (await bench.call()).code == 503
    release.set()
    assert await bench.dispatcher.drain(5) == 0
    assert [answer.code for answer in bench.answers] == [503, 200]


async def test_drain_gives_up_on_what_does_not_end_and_tells_its_caller(bench: Bench) -> None:
    async def forever(*_: object) -> Any:
        await asyncio.Event().wait()

    bench.served.handler = forever
    bench.send()
    assert await bench.dispatcher.drain(0) == 1
    assert [answer.code for answer in bench.answers] == [500]  # 503 would invite to repeat what was begun
    assert bench.dispatcher.counters.in_flight == 0
    assert await bench.dispatcher.drain(0) == 0


async def test_request_that_is_cancelled_before_its_handler_started_frees_its_slot(bench: Bench) -> None:
    bench.send()
    for task in list(bench.dispatcher._running):
        task.cancel()
    await bench.settled()
    assert [answer.code for answer in bench.answers] == [500]
    assert bench.served.reached == []
    assert bench.dispatcher._slots.in_all == 0


async def test_draining_one_agent_goes_on_serving_others(bench: Bench) -> None:
    release = asyncio.Event()

    async def wait(*_: object) -> Any:
        await release.wait()
        return {}

    replaced = Served(handler=wait)
    bench.capabilities["vitals.absent"] = replaced
    bench.send(subject=bench.subject("vitals.absent"))
    drained = asyncio.create_task(bench.dispatcher.drain(5, only=[replaced]))
    assert (await bench.call()).code == 200
    assert not drained.done()
    release.set()
    assert await drained == 0


async def test_connection_that_can_not_send_harms_nothing_but_its_answer(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ConnectionError

    bench.dispatcher._answers._respond = broken
    bench.send()
    await bench.settled()
    assert bench.dispatcher.counters.unsent == 1
    assert bench.dispatcher.counters.in_flight == 0
    assert "not sent" in caplog.text


async def test_receive_without_an_event_loop_refuses_and_frees_the_slot(bench: Bench) -> None:
    await asyncio.to_thread(bench.send)
    assert [answer.code for answer in bench.answers] == [500]
    assert bench.dispatcher._slots.in_all == 0


async def test_counters_read_as_plain_numbers(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    await bench.call()
    await bench.call(b"nonsense")
    bench.send(reply="elsewhere")
    await bench.settled()
    assert bench.dispatcher.counters.as_dict() == {
        "received": 3,
        "dropped": 1,
        "answered": 1,
        "described": 0,
        "late": 0,
        "unsent": 0,
        "unaudited": 0,
        "in_flight": 0,
        "refused_400": 1,
    }
