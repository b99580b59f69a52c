"""What a handler sees of its call, and what it may ask for."""

# ruff: noqa: ASYNC109 - deadlines to pass on, not scopes

import dataclasses
import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel, Field

from runtime.agent import (
    Agent,
    CallerInfo,
    CallRefusedError,
    DeadlinePassedError,
    Invocation,
    NotGrantedError,
    RequestRejectedError,
)


class Recording:
    def __init__(self) -> None:
        self.calls: list[tuple[str, Mapping[str, Any], float, str]] = []
        self.sealing: list[tuple[str | None, str | None]] = []

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float,
        correlation_id: str,
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        self.calls.append((capability, data, timeout, correlation_id))
        self.sealing.append((seal, subject))
        return {"ok": True}


class Payload(BaseModel):
    patient_id: str = Field(alias="patientId")


def invocation(**changes: Any) -> Invocation:
    values: dict[str, Any] = {
        "capability": "vitals.assess",
        "principal": CallerInfo(tenant="st-marys", user="U", name="ann", role="nurse", tags=("ward-3",)),
        "correlation_id": "c-1",
        "deadline": 110.0,
        "agent": "vitals",
        "clock": lambda: 100.0,
    }
    return Invocation(**(values | changes))


async def test_agent_without_a_caller_may_call_nothing() -> None:
    with pytest.raises(NotGrantedError, match=r"no grant to call `labs\.order`") as caught:
        await invocation().call("labs.order", {})
    assert caught.value.capability == "labs.order"


async def test_call_goes_out_with_the_time_left_and_the_same_correlation_id() -> None:
    caller = Recording()
    assert await invocation(caller=caller).call("labs.order", {"a": 1}) == {"ok": True}
    assert caller.calls == [("labs.order", {"a": 1}, 10.0, "c-1")]


@pytest.mark.parametrize(("asked", "given"), [(3.0, 3.0), (60.0, 10.0)])
async def test_call_never_gets_more_time_than_its_handler_has(asked: float, given: float) -> None:
    caller = Recording()
    await invocation(caller=caller).call("labs.order", {}, asked)
    assert caller.calls[0][2] == given


@pytest.mark.parametrize("timeout", [None, 5.0, 0.0, float("nan")])
async def test_call_after_the_deadline_is_not_sent(timeout: float | None) -> None:
    caller = Recording()
    late = invocation(caller=caller, clock=lambda: 110.0)
    assert late.remaining() == 0.0
    with pytest.raises(DeadlinePassedError, match=r"`labs\.order`"):
        await late.call("labs.order", {}, timeout)
    assert caller.calls == []


@pytest.mark.parametrize("name", ["labs.>", "*", "", "Labs", "a b"])
async def test_name_that_is_no_capability_is_refused_before_it_is_sent(name: str) -> None:
    caller = Recording()
    with pytest.raises(NotGrantedError):
        await invocation(caller=caller).call(name, {})
    assert caller.calls == []


async def test_model_is_sent_under_its_wire_names() -> None:
    caller = Recording()
    await invocation(caller=caller).call("labs.order", Payload(patientId="p"))
    assert caller.calls[0][1] == {"patientId": "p"}


def test_invocation_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        invocation().capability = "other"  # type: ignore[misc]


def test_logger_carries_the_correlation_id(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="garrison.agent.vitals"):
        invocation(correlation_id="100%").logger.info("scored %d", 7, extra={"ward": "3"})
    (record,) = caplog.records
    assert record.getMessage() == "[100?] scored 7"
    assert (record.__dict__["correlation_id"], record.__dict__["ward"]) == ("100%", "3")


def test_agent_logger_is_named_after_the_agent() -> None:
    assert Agent().logger.name == "garrison.agent.agent"


async def test_setup_and_teardown_do_nothing_by_default() -> None:
    await Agent().setup()
    await Agent().teardown()


def test_rejection_is_one_bounded_line_with_its_field() -> None:
    error = RequestRejectedError("no such\nward " + "x" * 1_000, path="ward")
    assert error.fields == [{"path": "ward", "message": error.message}]
    assert error.message.startswith("no such ward x")
    assert len(error.message) == 300
    assert RequestRejectedError("").message == "request rejected"


def test_refused_call_says_what_answered_and_how() -> None:
    assert str(CallRefusedError("labs.order", 403, "denied")) == "`labs.order` answered 403: denied"


def test_importing_the_interface_pulls_in_nothing_else_of_the_project() -> None:
    script = (
        "import sys, runtime.agent\n"
        "ours = {m for m in sys.modules if m.split('.')[0] in ('authz', 'certs', 'nats', 'nkeys', 'jwt')}\n"
        "ours |= {m for m in sys.modules if m.startswith('runtime.') and not m.startswith('runtime.agent')}\n"
        "sys.exit(repr(sorted(ours)) if ours else 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_call_passes_on_what_it_is_to_be_sealed_under() -> None:
    caller = Recording()
    await invocation(caller=caller).call("lab.read", {}, seal="phi", subject="patient/4711")
    await invocation(caller=caller).call("lab.read", {})
    assert caller.sealing == [("phi", "patient/4711"), (None, None)]
