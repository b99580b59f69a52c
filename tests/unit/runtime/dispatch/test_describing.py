"""A caller may ask what a capability needs; who may not call it may not ask either, and nothing is invoked."""

import json

import pytest
from dispatch_bench import CID, NOW, Bench, Served
from sealed_calls import SealedBench

from runtime.envelope.describing import build_describe, parse_description
from runtime.envelope.errors import EnvelopeError


def question(**changes: object) -> bytes:
    body = json.loads(build_describe(agent_id="ward-3", correlation_id=CID, timestamp=float(NOW)))
    return json.dumps(body | changes).encode()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("label", [None, "phi"])
async def test_caller_is_told_the_label_and_nothing_is_invoked(bench: Bench, label: str | None) -> None:
    served = bench.capabilities["vitals.assess"]
    assert isinstance(served, Served)
    served.sensitive = label
    answer = await bench.call(question())
    described = parse_description(json.dumps(answer.body["result"]).encode())
    assert (described.capability, described.agent, described.sensitive) == ("vitals.assess", "vitals", label)
    assert served.reached == []
    assert bench.dispatcher.counters.described == 1


async def test_who_may_not_call_may_not_ask(bench: Bench) -> None:
    answer = await bench.call(question(), header=bench.header(token=bench.token(signer=bench.clerk_key)))
    assert answer.code == 403


async def test_question_about_what_is_not_served_is_answered_503(bench: Bench) -> None:
    bench.capabilities.clear()
    answer = await bench.call(question())
    assert answer.code == 503


@pytest.mark.parametrize("changes", [{"data": {}}, {"timestamp": "now"}, {"version": "2.0"}, {"correlation_id": "x"}])
async def test_malformed_question_is_refused(bench: Bench, changes: dict[str, object]) -> None:
    answer = await bench.call(question(**changes))
    assert answer.code == 400


async def test_question_frees_its_slot(bench: Bench) -> None:
    for _ in range(20):
        assert "result" in (await bench.call(question())).body


async def test_signed_question_is_answered_when_its_signature_is_good_and_refused_when_not() -> None:
    bench, body = SealedBench(), question()
    assert "result" in (await bench.call(body, header=bench.signed_header(body))).body
    other = await bench.call(body, header=bench.signed_header(body + b" "))
    unreadable = await bench.call(body, header=bench.header(before=b"Agent-Sender: {}\r\n"))
    assert (other.code, unreadable.code) == (401, 401)


@pytest.mark.parametrize("label", ["", "PHI", "phi@1", "phi/patient", "p h i", "\n"])
def test_description_with_a_label_that_can_not_be_is_none(label: str) -> None:
    """Taken for no label, it would send what is sensitive in the clear."""
    text = {"capability": "vitals.assess", "agent": "vitals", "sensitive": label, "timeout": 5.0}
    with pytest.raises(EnvelopeError):
        parse_description(json.dumps(text).encode())
