"""`runtime.testing`: what an author's test meets is what production would answer."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from authz.policyfile import PolicyFileError
from runtime import testing
from runtime.agent import (
    Agent,
    CallRefusedError,
    DeadlinePassedError,
    Invocation,
    NotGrantedError,
    RequestRejectedError,
    capability,
)
from runtime.client.errors import (
    DeadlineError,
    DeniedError,
    HandlerFailedError,
    InvalidRequestError,
    NotAuthenticatedError,
    OverLimitError,
    UnavailableError,
)
from runtime.dispatch import DispatchLimits
from runtime.envelope.errors import KeyRefusedError
from runtime.envelope.keyid import KeyScope

POLICY = """
tenant: st-marys
roles:
  nurse: {call: [ward.*]}
  clerk: {call: [invoice.*]}
"""


class Bed(BaseModel):
    number: int


class WardAgent(Agent):
    name = "ward"
    ready = False

    async def setup(self) -> None:
        self.ready = True

    async def teardown(self) -> None:
        self.ready = False

    @capability("ward.bed", concurrency=1)
    async def bed(self, request: Bed, invocation: Invocation) -> dict[str, Any]:
        if request.number < 0:
            raise RequestRejectedError("beds have numbers from 0", path="number")
        if request.number > 100:
            raise LookupError("secret")
        return {"bed": request.number, "for": invocation.principal.name, "role": invocation.principal.role}

    @capability("ward.slow", timeout=5)
    async def slow(self, request: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(float(request["seconds"]))
        return {}

    @capability("ward.ask")
    async def ask(self, request: dict[str, Any], invocation: Invocation) -> dict[str, Any]:
        return await invocation.call("lab.result", request, timeout=request.get("timeout"))


async def test_call_is_answered_and_the_agent_is_set_up_and_torn_down() -> None:
    agent = WardAgent()
    async with testing.run(agent, policy=POLICY) as harness:
        assert agent.ready
        answer = await harness.call("ward.bed", {"number": 4}, role="nurse", name="nina")
        assert answer == {"bed": 4, "for": "nina", "role": "nurse"}
        assert await harness.call("ward.bed", Bed(number=4), role="nurse") == answer | {"for": "tester"}
        assert (harness.records[0].effect, harness.records[0].rule) == ("allow", "line 4: nurse: call ward.*")
        assert harness.counters.answered == 2
    assert not agent.ready


async def test_without_a_policy_everything_offered_may_be_called() -> None:
    async with testing.run(WardAgent()) as harness:
        assert (await harness.call("ward.bed", {"number": 1}))["role"] == "caller"


async def test_policy_is_in_force() -> None:
    async with testing.run(WardAgent(), policy=POLICY) as harness:
        with pytest.raises(DeniedError) as denied:
            await harness.call("ward.bed", {"number": 1}, role="clerk")
        assert (denied.value.required, denied.value.role) == ("call:ward.bed", "clerk")
        harness.apply(POLICY.replace("invoice.*", "ward.bed"))
        assert await harness.call("ward.bed", {"number": 1}, role="clerk")


async def test_role_that_the_policy_does_not_have_is_the_tests_mistake() -> None:
    async with testing.run(WardAgent(), policy=POLICY) as harness:
        with pytest.raises(testing.UnknownRoleError, match="`clerk`, `nurse`"):
            await harness.call("ward.bed", {"number": 1}, role="doctor")


async def test_policy_with_a_fault_is_refused_before_the_agent_is_set_up() -> None:
    agent = WardAgent()
    with pytest.raises(PolicyFileError):
        async with testing.run(agent, policy="tenant: [x"):
            pass
    assert not agent.ready


async def test_failures_are_the_clients_errors() -> None:
    async with testing.run(WardAgent(), policy=POLICY) as harness:
        with pytest.raises(InvalidRequestError) as invalid:
            await harness.call("ward.bed", {"number": "x"}, role="nurse")
        assert invalid.value.fields[0]["path"] == "number"
        with pytest.raises(InvalidRequestError, match="beds have numbers"):
            await harness.call("ward.bed", {"number": -1}, role="nurse")
        with pytest.raises(HandlerFailedError) as failed:
            await harness.call("ward.bed", {"number": 101}, role="nurse")
        assert "secret" not in str(failed.value)
        with pytest.raises(UnavailableError):
            await harness.call("ward.absent", {}, role="nurse")
        with pytest.raises(DeadlineError):
            await harness.call("ward.slow", {"seconds": 30}, role="nurse", timeout=0.01)


async def test_raw_requests_may_be_bare_or_nonsense() -> None:
    async with testing.run(WardAgent()) as harness:
        assert (await harness.call_raw("ward.bed", b'{"number": 2}'))["bed"] == 2
        with pytest.raises(InvalidRequestError) as malformed:
            await harness.call_raw("ward.bed", b"\xff")
        assert malformed.value.code == 400


async def test_limits_are_in_force() -> None:
    async with testing.run(WardAgent(), limits=DispatchLimits(rate_per_s=0.001, burst=1)) as harness:
        await harness.call("ward.bed", {"number": 2})
        with pytest.raises(OverLimitError):
            await harness.call("ward.bed", {"number": 2})


async def test_revoked_caller_is_refused() -> None:
    async with testing.run(WardAgent()) as harness:
        await harness.call("ward.bed", {"number": 2})
        harness.revoke()
        with pytest.raises(NotAuthenticatedError):
            await harness.call("ward.bed", {"number": 2})
        assert (await harness.call("ward.bed", {"number": 2}, name="nina"))["for"] == "nina"


async def test_agent_calls_others_under_its_own_role() -> None:
    seen: list[dict[str, Any]] = []

    async def lab(request: dict[str, Any]) -> dict[str, Any]:
        seen.append(request)
        return {"potassium": 4.1}

    policy = POLICY + "agents:\n  ward: {call: [lab.*]}\n"
    async with testing.run(WardAgent(), policy=policy, others={"lab.result": lab}) as harness:
        assert await harness.call("ward.ask", {"id": 1}, role="nurse") == {"potassium": 4.1}
        assert seen == [{"id": 1}]
        assert [record.role for record in harness.records] == ["agent:ward", "nurse"]


async def test_agent_without_a_grant_can_not_call_whatever_its_caller_may() -> None:
    class Asking(WardAgent):
        name = "asking"
        raised: type[Exception] | None = None

        @capability("ward.ask")
        async def ask(self, request: dict[str, Any], invocation: Invocation) -> dict[str, Any]:
            try:
                return await super().ask(request, invocation)
            except (NotGrantedError, DeadlinePassedError, CallRefusedError) as error:
                self.raised = type(error)
                return {}

    async def hang(_: dict[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    granted = "roles:\n  nurse: {call: ['>']}\nagents:\n  asking: {call: [lab.*]}\n"
    for policy, other, expected in (
        ("tenant: t\nroles:\n  nurse: {call: ['>']}\n", lambda _: {}, NotGrantedError),
        ("tenant: t\nroles:\n  nurse: {call: ['>']}\nagents:\n  asking: {call: [x]}\n", lambda _: {}, NotGrantedError),
        ("tenant: t\n" + granted, hang, DeadlinePassedError),
        ("tenant: t\n" + granted, lambda _: 1 / 0, CallRefusedError),
    ):
        agent = Asking()
        async with testing.run(agent, policy=policy, others={"lab.result": other}) as harness:  # type: ignore[dict-item]
            await harness.call("ward.ask", {"timeout": 0.05}, role="nurse")
        assert agent.raised is expected


async def test_test_that_gives_up_waiting_does_not_disturb_the_harness() -> None:
    async with testing.run(WardAgent()) as harness:
        waiting = asyncio.create_task(harness.call("ward.slow", {"seconds": 0.02}))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert harness.counters.answered == 1


# --- sealed


class LabAgent(Agent):
    @capability("lab.read", sensitive="phi")
    async def read(self, request: dict[str, Any], invocation: Invocation) -> dict[str, Any]:
        return {"value": request["value"], "assurance": invocation.principal.assurance}

    @capability("lab.relay")
    async def relay(self, request: dict[str, Any], invocation: Invocation) -> dict[str, Any]:
        return await invocation.call("lab.archive", request, seal="phi", subject="patient/4711")


LAB_POLICY = """
tenant: clinic
roles:
  nurse: {call: [lab.*], data: [phi]}
  clerk: {call: [lab.*]}
  guest: {call: [invoice.*]}
agents:
  lab-agent: {call: [lab.*], data: [phi]}
"""


@pytest.mark.parametrize("policy", [None, LAB_POLICY])
@pytest.mark.parametrize("asked", [{}, {"seal": "phi"}, {"seal": "phi", "subject": "patient/4711"}])
async def test_sensitive_capability_is_called_sealed_and_signed(policy: str | None, asked: dict[str, Any]) -> None:
    async with testing.run(LabAgent(), policy=policy) as harness:
        role = "caller" if policy is None else "nurse"
        answer = await harness.call("lab.read", {"value": 1}, role=role, **asked)
        assert answer == {"value": 1, "assurance": "signed"}
        assert harness.records[-1].data_subject == asked.get("subject")
        assert harness.records[-1].key_id is not None


async def test_what_an_older_version_sealed_still_opens() -> None:
    async with testing.run(LabAgent(), policy=LAB_POLICY) as harness:
        await harness.call("lab.read", {"value": 1}, role="nurse")
        harness.rotate(KeyScope("phi"))
        await harness.call("lab.read", {"value": 1}, role="nurse")
        assert [record.key_id for record in harness.records] == ["phi@1", "phi@2"]


@pytest.mark.parametrize("asked", [{}, {"seal": "phi"}])
async def test_role_without_the_label_is_denied_the_data(asked: dict[str, Any]) -> None:
    async with testing.run(LabAgent(), policy=LAB_POLICY) as harness:
        with pytest.raises(DeniedError) as denied:
            await harness.call("lab.read", {"value": 1}, role="clerk", **asked)
        assert denied.value.required == "data:phi"


async def test_role_that_may_not_call_is_told_that_first() -> None:
    async with testing.run(LabAgent(), policy=LAB_POLICY) as harness:
        with pytest.raises(DeniedError) as denied:
            await harness.call("lab.read", {"value": 1}, role="guest")
        assert denied.value.required == "call:lab.read"


async def test_agent_without_the_label_can_not_open_what_its_callers_seal() -> None:
    policy = LAB_POLICY.replace("lab-agent: {call: [lab.*], data: [phi]}", "lab-agent: {call: [lab.*]}")
    async with testing.run(LabAgent(), policy=policy) as harness:
        with pytest.raises(InvalidRequestError, match="unknown key"):
            await harness.call("lab.read", {"value": 1}, role="nurse")


async def test_key_that_was_never_made_is_unknown() -> None:
    async with testing.run(LabAgent(), policy=LAB_POLICY) as harness:
        with pytest.raises(KeyRefusedError):
            harness.key_for("lab-agent", KeyScope("phi").at(1))


async def test_plaintext_to_a_sensitive_capability_is_refused() -> None:
    async with testing.run(LabAgent(), policy=LAB_POLICY) as harness:
        with pytest.raises(InvalidRequestError) as refused:
            await harness.call_raw("lab.read", b'{"value":1}', role="nurse")
        assert refused.value.code == 400


async def test_agent_seals_what_it_calls_and_a_stand_in_opens_it() -> None:
    async with testing.run(LabAgent(), policy=LAB_POLICY, others={"lab.archive": lambda data: data}) as harness:
        assert await harness.call("lab.relay", {"value": 7}, role="nurse") == {"value": 7}
        assert [record.key_id for record in harness.records] == ["phi/patient/4711@1", None]
