"""The examples behind the real dispatcher and a real policy: who may call them, and what the others are told."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.healthcare.agent import VitalsAgent
from examples.hello.agent import HelloAgent
from examples.hello_override.agent import HelloWorldAgent
from runtime import testing
from runtime.agent import Agent
from runtime.client import DeniedError, InvalidRequestError

SAMPLE = json.loads((Path(__file__).parents[3] / "examples/healthcare/deteriorating.json").read_text())
POLICY = """
tenant: st-marys
roles:
  nurse:
    call: [vitals.*]
    data: [phi]
  billing:
    call: [invoice.*]
agents:
  vitals:
    data: [phi]
"""


@pytest.fixture
async def ward() -> AsyncIterator[testing.Harness]:
    async with testing.run(VitalsAgent(), policy=POLICY) as harness:
        yield harness


async def test_nurse_gets_the_score(ward: testing.Harness) -> None:
    answer = await ward.call("vitals.assess", SAMPLE, role="nurse")
    assert (answer["total"], answer["risk"]) == (10, "high")


async def test_billing_clerk_is_denied_and_told_what_was_missing(ward: testing.Harness) -> None:
    with pytest.raises(DeniedError) as caught:
        await ward.call("vitals.assess", SAMPLE, role="billing")
    assert (caught.value.required, caught.value.role) == ("call:vitals.assess", "billing")


async def test_clerk_with_a_malformed_request_learns_no_more_than_with_a_good_one(ward: testing.Harness) -> None:
    with pytest.raises(DeniedError):
        await ward.call("vitals.assess", {}, role="billing")


async def test_nurse_is_told_the_field_that_is_wrong(ward: testing.Harness) -> None:
    body = json.loads(json.dumps(SAMPLE))
    body["component"][0]["valueQuantity"]["code"] = "bpm"
    with pytest.raises(InvalidRequestError) as caught:
        await ward.call("vitals.assess", body, role="nurse")
    assert [fault["path"] for fault in caught.value.fields] == ["component[0].valueQuantity.code"]


@pytest.mark.parametrize("agent", [HelloAgent(), HelloWorldAgent()])
async def test_both_hello_agents_answer(agent: Agent) -> None:
    async with testing.run(agent) as harness:
        assert await harness.call("greeting", {"name": "Ann"}) == {"message": "Hello, Ann!"}
        assert await harness.call("echo", {"message": "hi"}) == {"echo": "hi"}
