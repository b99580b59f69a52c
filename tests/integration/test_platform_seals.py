"""A sealed call on the whole platform: client, server, host, control plane and agent as they run in production."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_platform import RunningPlatform, running_platform

from runtime.client import CallFailedError, Client, DeniedError

pytestmark = pytest.mark.timeout(120)

MARKED = "s3cr3t-hba1c-8.4"
AGENT = """
from pydantic import Field
from runtime.agent import Agent, Invocation, Model, Sensitive, capability

class Sample(Model):
    value: Sensitive[str]
    fail: bool = False
    count: int = Field(default=1, ge=1)

class LabAgent(Agent):
    name = "lab"

    @capability("lab.read", sensitive="phi")
    async def read(self, request: Sample, invocation: Invocation) -> dict[str, str]:
        invocation.logger.info("read %s", request)
        if request.fail:
            raise ValueError(f"could not read {request.value}")
        return {"value": request.value, "assurance": invocation.principal.assurance}

    @capability("lab.relay")
    async def relay(self, request: dict[str, str], invocation: Invocation) -> dict[str, str]:
        answer = await invocation.call("lab.read", request, seal="phi", subject="patient/4711")
        return {"assurance": answer["assurance"], "same": str(answer["value"] == request["value"])}
"""
POLICY = """
tenant: clinic
roles:
  nurse: {call: [lab.*], data: [phi]}
  clerk: {call: [lab.*]}
agents:
  lab: {call: [lab.read]AGENT_DATA}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path) as platform:
        platform.must("tenant", "create", "clinic")
        apply(platform, agent_holds=True)
        for role, name in (("nurse", "nina"), ("clerk", "carl")):
            platform.must("creds", "issue", "clinic", name, "--role", role, "--out", name)
        (tmp_path / "lab.py").write_text(AGENT)
        platform.must("agent", "deploy", "clinic", "lab.py")
        yield platform


def apply(platform: RunningPlatform, *, agent_holds: bool) -> None:
    policy = platform.folder / "policy.yaml"
    policy.write_text(POLICY.replace("AGENT_DATA", ", data: [phi]" if agent_holds else ""))
    platform.must("policy", "apply", str(policy))


async def test_sealed_call_from_end_to_end(platform: RunningPlatform) -> None:
    async with Client.connect(platform.folder / "nina") as nina, Client.connect(platform.folder / "carl") as carl:
        # asked for, for one data subject, and unasked
        expected = {"value": MARKED, "assurance": "signed"}
        assert await nina.call("lab.read", {"value": MARKED}, seal="phi") == expected
        assert await nina.call("lab.read", {"value": MARKED}, seal="phi", subject="patient/4711") == expected
        assert await nina.call("lab.read", {"value": MARKED}) == expected
        # an agent seals what it calls
        assert await nina.call("lab.relay", {"value": MARKED}) == {"assurance": "signed", "same": "True"}
        # failures
        with pytest.raises(DeniedError) as denied:
            await carl.call("lab.read", {"value": MARKED})
        assert denied.value.required == "data:phi"
        with pytest.raises(CallFailedError) as invalid:
            await nina.call("lab.read", {"value": MARKED, "count": MARKED, MARKED: 1})
        assert invalid.value.code == 422
        with pytest.raises(CallFailedError) as failed:
            await nina.call("lab.read", {"value": MARKED, "fail": True})
        assert failed.value.code == 500
        assert MARKED not in f"{denied.value!r} {invalid.value!r} {vars(invalid.value)} {failed.value!r}"
        # the agent's label taken back: what its host has at hand is forgotten before `apply` returns
        await asyncio.to_thread(apply, platform, agent_holds=False)
        with pytest.raises(CallFailedError) as unknown:
            await nina.call("lab.read", {"value": MARKED}, seal="phi")
        assert (unknown.value.code, unknown.value.message) == (400, "unknown key")
    assert "value=***" in platform.log
    assert MARKED not in platform.log
    platform.stop()
    written = [path for path in platform.data.rglob("*") if path.is_file() and MARKED.encode() in path.read_bytes()]
    assert written == []
