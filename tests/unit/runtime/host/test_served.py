"""An in-process capability as dispatch sees it: values and errors mapped, nothing lost on the way."""

from typing import Any

import pytest

from authz.principals import Principal
from runtime.agent import Agent, Invocation, RequestRejectedError, capability, capability_table
from runtime.agent.invocation import NO_CALLER
from runtime.dispatch.errors import InputRefusedError, RequestRefusedError
from runtime.dispatch.ports import CallContext
from runtime.envelope.messages import FieldFault
from runtime.host.served import InlineCapability

NURSE = Principal(
    tenant="st-marys",
    account="A",
    user="U",
    name="ann",
    role="nurse",
    tags=("ward-3",),
    issued_at=0,
    expires_at=None,
    assurance="asserted",
)


class Probe(Agent):
    @capability("who", timeout=3, concurrency=7)
    async def who(self, request: dict[str, Any], invocation: Invocation) -> dict[str, Any]:
        if "refuse" in request:
            raise RequestRejectedError("not this one", path=request["refuse"])
        caller = invocation.principal
        return {"caller": [caller.tenant, caller.name, caller.role, *caller.tags], "id": invocation.correlation_id}

    @capability("typed")
    def typed(self, request: dict[str, int]) -> dict[str, int]:
        return request


def served(name: str) -> InlineCapability:
    return InlineCapability(spec=capability_table(Probe())[name], agent_id="probe", caller=NO_CALLER)


def context(name: str) -> CallContext:
    return CallContext(capability=name, agent_id="probe", principal=NURSE, correlation_id="c-1", deadline=1e12)


async def test_handler_sees_the_verified_caller_and_the_correlation_id() -> None:
    who = served("who")
    output = await who.invoke(who.validate(b"{}"), context("who"))
    assert who.encode(output) == b'{"caller":["st-marys","ann","nurse","ward-3"],"id":"c-1"}'
    assert (who.timeout_s, who.concurrency) == (3.0, 7)


def test_each_fault_of_the_input_keeps_its_field() -> None:
    with pytest.raises(InputRefusedError) as caught:
        served("typed").validate(b'{"a":"x","b":null}')
    assert [fault.path for fault in caught.value.fields] == ["a", "b"]


@pytest.mark.parametrize(("path", "fields"), [("ward", (FieldFault(path="ward", message="not this one"),)), ("", ())])
async def test_rejection_keeps_its_message_and_its_field(path: str, fields: tuple[FieldFault, ...]) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        await served("who").invoke({"refuse": path}, context("who"))
    assert (caught.value.message, caught.value.fields) == ("not this one", fields)
