import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from control_harness import Caller, Process, RefusedError, Site, policy

from authz.keys import UserSeed
from authz.tokens import decode_account, decode_user

POLICY = (
    policy("st-marys", nurse="call: [vitals.*]", admin='admin: ["agents.*"]')
    + "agents:\n  vitals:\n    publish: [vitals.alert]\n"
)
CODE = b"agent code" * 30_000
DIGEST = hashlib.sha256(CODE).hexdigest()


@pytest.fixture
async def tenant(process: Process, operator: Caller) -> str:
    await process.ask(operator, "tenants.create", "st-marys", {"policy": POLICY})
    return "st-marys"


async def upload(process: Process, by: Caller, code: bytes = CODE, piece: int = 128 * 1024) -> str:
    digest = hashlib.sha256(code).hexdigest()
    for offset in range(0, len(code), piece):
        body = {
            "digest": digest,
            "offset": offset,
            "size": len(code),
            "data": base64.b64encode(code[offset : offset + piece]).decode(),
        }
        answer = await process.ask(by, "agents.upload", "st-marys", body)
        if answer["complete"]:
            break
    assert answer == {"received": len(code), "complete": True}
    return digest


class FakeHost:
    """Polls, and reports every deployment as `judge` says."""

    def __init__(self, process: Process, caller: Caller, judge: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.process, self.caller, self.judge = process, caller, judge
        self.since = 0
        self.tenants: dict[str, dict[str, Any]] = {}
        self.agents: list[dict[str, Any]] = []

    async def poll(self) -> dict[str, Any]:
        body = {"since": self.since, "instance": "i1", "report": {"agents": self.agents, "counters": {"answered": 3}}}
        reply = await self.process.ask(self.caller, "hosts.sync", self.caller.name, body)
        for snapshot in reply["tenants"]:
            self.tenants[snapshot["tenant"]] = snapshot
        self.since = reply["revision"]
        self.agents = [
            {"tenant": t["tenant"], "agent": d["agent"], "digest": d["digest"], "revision": d["revision"]}
            | self.judge(d)
            for t in self.tenants.values()
            for d in t["deployments"]
        ]
        return reply

    async def run(self) -> None:
        while True:
            await self.poll()


@contextlib.asynccontextmanager
async def running(host: FakeHost) -> AsyncIterator[FakeHost]:
    await host.poll()
    task = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def fine(_deployed: dict[str, Any]) -> dict[str, Any]:
    return {"state": "running", "capabilities": ["vitals.assess"]}


async def deploy(process: Process, by: Caller, digest: str = DIGEST, entry: str = "agent:Vitals") -> dict[str, Any]:
    return await process.ask(by, "agents.deploy", "st-marys", {"digest": digest, "entry": entry, "agent": "vitals"})


async def test_host_learns_of_a_tenant_and_its_roles(process: Process, host: Caller, tenant: str) -> None:
    fake = FakeHost(process, host, fine)
    await fake.poll()
    assert set(fake.tenants) == {tenant}  # not platform, which has no deployments
    assert set(fake.tenants[tenant]["roles"].values()) == {"nurse", "admin", "agent:vitals"}
    assert fake.tenants[tenant]["policy"] == POLICY


async def test_poll_is_held_until_there_is_news(process: Process, host: Caller, operator: Caller, tenant: str) -> None:
    fake = FakeHost(process, host, fine)
    await fake.poll()
    assert (await fake.poll())["tenants"] == []
    poll = asyncio.create_task(fake.poll())
    await asyncio.sleep(0)
    change = asyncio.create_task(process.ask(operator, "tenants.suspend", tenant))
    assert [t["status"] for t in (await poll)["tenants"]] == ["suspended"]
    await fake.poll()
    await change


async def test_change_is_answered_when_the_living_hosts_have_it(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    async with running(FakeHost(process, host, fine)) as fake:
        applied = await process.ask(operator, "policy.apply", tenant, {"policy": POLICY + "#\n"})
        assert applied["hosts"] == ["local"]
        assert fake.tenants[tenant]["policy"] == POLICY + "#\n"


async def test_host_that_polls_but_does_not_acknowledge_makes_the_change_unconfirmed(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    fake = FakeHost(process, host, fine)

    async def stuck() -> None:
        while True:
            await fake.poll()
            fake.since = 0

    await fake.poll()
    task = asyncio.create_task(stuck())
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "policy.apply", tenant, {"policy": POLICY + "#\n"})
    task.cancel()
    assert refused.value.code == 503
    assert refused.value.failure.error == "stored, but host `local` has not acknowledged it yet"


async def test_host_that_died_is_waited_for_no_longer_than_its_lease(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    await FakeHost(process, host, fine).poll()
    applied = await process.ask(operator, "policy.apply", tenant, {"policy": POLICY + "#\n"})
    assert applied["hosts"] == []


async def test_host_that_lived_before_a_restart_is_waited_for(
    site: Site, process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    fake = FakeHost(process, host, fine)
    await fake.poll()
    await process.plane.stop()
    again = await site.start()
    change = asyncio.create_task(again.ask(operator, "policy.apply", tenant, {"policy": POLICY + "#\n"}))
    await asyncio.sleep(0.1)
    assert not change.done()
    async with running(FakeHost(again, host, fine)):
        assert (await change)["hosts"] == ["local"]


async def test_host_from_a_later_state_starts_over(process: Process, host: Caller, tenant: str) -> None:
    fake = FakeHost(process, host, fine)
    fake.since = 10**6
    reply = await fake.poll()
    assert [t["tenant"] for t in reply["tenants"]] == [tenant]
    assert reply["revision"] < 10**6


async def test_far_behind_host_gets_several_answers_that_add_up(
    site: Site, process: Process, host: Caller, operator: Caller
) -> None:
    del site
    padding = "# " + "x" * 60_000 + "\n"
    for n in range(12):
        await process.ask(operator, "tenants.create", f"t{n}", {"policy": policy(f"t{n}", a="call: [x]") + padding})
    fake, polls = FakeHost(process, host, fine), 0
    while fake.since < process.plane.state.revision:
        reply = await fake.poll()
        polls += 1
        assert len(str(reply)) < 1024 * 1024
    assert polls > 1
    assert len(fake.tenants) == 12


async def test_agent_deployed_runs_on_the_host_and_its_code_can_be_fetched(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    await upload(process, operator)
    async with running(FakeHost(process, host, fine)):
        deployed = await deploy(process, operator)
        assert deployed["hosts"] == [{"host": "local", "state": "running", "capabilities": ["vitals.assess"]}]
        listed = (await process.ask(operator, "agents.list", tenant))["agents"]
        assert [(a["agent"], a["settled"], a["hosts"][0]["state"]) for a in listed] == [("vitals", True, "running")]
    code = b""
    while len(code) < len(CODE):
        piece = await process.ask(host, "hosts.snapshot", DIGEST, {"offset": len(code)})
        assert piece["size"] == len(CODE)
        code += base64.b64decode(piece["data"])
    assert code == CODE


async def test_agent_that_fails_gives_way_to_what_ran_before(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    first, second = await upload(process, operator), await upload(process, operator, b"broken")

    def judge(deployed: dict[str, Any]) -> dict[str, Any]:
        if deployed["digest"] == second:
            return {"state": "failed", "error": "ImportError: no module named `x`"}
        return fine(deployed)

    async with running(FakeHost(process, host, judge)):
        await deploy(process, operator, first)
        with pytest.raises(RefusedError) as refused:
            await deploy(process, operator, second)
        assert refused.value.code == 422
        assert "ImportError: no module named `x`" in refused.value.failure.error
        listed = (await process.ask(operator, "agents.list", tenant))["agents"]
        assert [(a["digest"], a["settled"], a["revision"]) for a in listed] == [(first, True, 3)]


async def test_first_deployment_that_fails_leaves_nothing(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    await upload(process, operator)
    async with running(FakeHost(process, host, lambda _: {"state": "failed", "error": "no"})):
        with pytest.raises(RefusedError):
            await deploy(process, operator)
    assert (await process.ask(operator, "agents.list", tenant))["agents"] == []


async def test_deployment_that_never_starts_stays_and_is_told_so_while_revocations_go_on(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    await upload(process, operator)
    nurse = await process.issue(operator, tenant, "ann", "nurse")
    async with running(FakeHost(process, host, lambda _: {"state": "starting"})):
        deploying = asyncio.create_task(deploy(process, operator))
        await asyncio.sleep(0.05)
        assert await process.ask(operator, "credentials.revoke", tenant, {"name": "ann"}) == {"revoked": [nurse.user]}
        assert not deploying.done()
        with pytest.raises(RefusedError) as refused:
            await deploying
    assert refused.value.code == 503


async def test_unsettled_deployment_is_settled_by_the_next_start(
    site: Site, process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    await upload(process, operator)
    async with running(FakeHost(process, host, lambda _: {"state": "starting"})):
        with pytest.raises(RefusedError):
            await deploy(process, operator)
    await process.plane.stop()
    again = await site.start()
    async with running(FakeHost(again, host, lambda _: {"state": "failed", "error": "no"})), asyncio.timeout(5):
        while (await again.ask(operator, "agents.list", tenant))["agents"]:  # noqa: ASYNC110 - as an operator would
            await asyncio.sleep(0.02)


async def test_agent_credential_is_for_deployed_agents_under_their_own_role(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    body = {"agent": "vitals", "user": UserSeed.generate().public.text}
    with pytest.raises(RefusedError) as refused:
        await process.ask(host, "hosts.agent", tenant, body)
    assert refused.value.code == 404
    await upload(process, operator)
    await deploy(process, operator)
    claims = decode_user((await process.ask(host, "hosts.agent", tenant, body))["jwt"], now=None)
    view = process.plane.state.tenant(tenant)
    assert view is not None
    assert claims.issuer.text == view.record.roles["agent:vitals"]
    assert claims.permissions is None


async def test_stopped_agent_is_gone(process: Process, host: Caller, operator: Caller, tenant: str) -> None:
    await upload(process, operator)
    async with running(FakeHost(process, host, fine)) as fake:
        await deploy(process, operator)
        await process.ask(operator, "agents.stop", tenant, {"agent": "vitals"})
        assert fake.tenants[tenant]["deployments"] == []
        with pytest.raises(RefusedError) as refused:
            await process.ask(operator, "agents.stop", tenant, {"agent": "vitals"})
    assert refused.value.code == 404


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"digest": "0" * 64}, 404),
        ({"digest": "../../etc"}, 422),
        ({"entry": "agent"}, 422),
        ({"entry": "agent:Vitals; rm"}, 422),
        ({"entry": "a/b:C"}, 422),
        ({"agent": "Vi tals"}, 422),
        ({"agent": "a" * 300}, 422),
        ({"image": "x"}, 422),
    ],
)
async def test_bad_deployments_are_refused(
    process: Process, operator: Caller, tenant: str, changes: dict[str, str], code: int
) -> None:
    await upload(process, operator)
    body = {"digest": DIGEST, "entry": "agent:Vitals", "agent": "vitals"} | changes
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "agents.deploy", tenant, body)
    assert refused.value.code == code
    assert (await process.ask(operator, "agents.list", tenant))["agents"] == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"size": 9 * 1024 * 1024}, 413),
        ({"offset": 5}, 409),
        ({"data": "not base64!"}, 422),
        ({"size": 2}, 422),
        ({"digest": "0" * 64}, 422),
        ({"digest": "0" * 63}, 422),
        ({"offset": -1}, 422),
    ],
)
async def test_bad_uploads_are_refused_and_stored_nowhere(
    site: Site, process: Process, operator: Caller, changes: dict[str, object], code: int
) -> None:
    data = b"code"
    body: dict[str, object] = {
        "digest": hashlib.sha256(data).hexdigest(),
        "offset": 0,
        "size": len(data),
        "data": base64.b64encode(data).decode(),
    }
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "agents.upload", "st-marys", body | changes)
    assert refused.value.code == code
    assert site.storage.snapshots._blobs == {}


async def test_host_speaks_for_itself_only(process: Process, host: Caller, tenant: str) -> None:
    del tenant
    body = {"since": 0, "instance": "i", "report": {}}
    with pytest.raises(RefusedError) as refused:
        await process.ask(host, "hosts.sync", "other", body)
    assert refused.value.code == 403
    with pytest.raises(RefusedError) as refused:
        await process.ask(host, "audit.append", "other", {"records": [{"a": 1}]})
    assert refused.value.code == 403


async def test_audit_records_are_stored_once_with_their_true_writer(site: Site, process: Process, host: Caller) -> None:
    before = len(site.storage.audit.records)
    records = [
        {"at": 1.0, "tenant": "st-marys", "user": "U1", "effect": "allow", "writer": "somebody else", "n": n}
        for n in (1, 2)
    ]
    for _ in range(2):  # the second time as after a lost answer
        answer = await process.ask(host, "audit.append", "local", {"records": records})
        assert answer["stored"] == 2
    stored = site.storage.audit.records[before:]
    assert len(stored) == 2
    assert f'"user":"{host.user}","name":"local"'.encode() in stored[0]


@pytest.mark.parametrize("records", [[], [{"x": "y" * 9000}], [{"n": n} for n in range(501)], ["text"], None])
async def test_bad_audit_batches_are_refused(site: Site, process: Process, host: Caller, records: object) -> None:
    before = len(site.storage.audit.records)
    with pytest.raises(RefusedError) as refused:
        await process.ask(host, "audit.append", "local", {"records": records})
    assert refused.value.code in {413, 422}
    assert len(site.storage.audit.records) == before


async def test_status_tells_what_runs_and_what_is_not_confirmed(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    await upload(process, operator)
    async with running(FakeHost(process, host, fine)) as fake:
        await deploy(process, operator)
        await fake.poll()
        status = await process.ask(operator, "status.show", "all")
    assert status["tenants"] == {"active": 2}
    assert status["agents"] == 1
    assert status["unconfirmed_accounts"] == []
    assert status["hosts"][0]["agents"] == [{"tenant": tenant, "agent": "vitals", "state": "running", "error": ""}]
    assert status["hosts"][0]["counters"] == {"answered": 3}


async def test_agents_credentials_of_a_revoked_host_are_revoked_in_their_tenants(
    process: Process, host: Caller, operator: Caller, tenant: str
) -> None:
    await upload(process, operator)
    await deploy(process, operator)
    user = UserSeed.generate().public.text
    await process.ask(host, "hosts.agent", tenant, {"agent": "vitals", "user": user})
    await process.ask(operator, "credentials.revoke", "platform", {"name": "local"})
    view = process.plane.state.tenant(tenant)
    assert view is not None
    assert user in view.record.revocations
    assert user in decode_account(process.site.pusher.claims[view.record.account]).revocations
    listed = (await process.ask(operator, "credentials.list", tenant))["credentials"]
    assert [(c["kind"], c["status"]) for c in listed] == [("agent", "revoked")]


async def test_too_many_uploads_at_once_are_told_to_come_back(process: Process, operator: Caller) -> None:
    def begun(n: int) -> dict[str, object]:
        return {"digest": f"{n:064x}", "offset": 0, "size": 10, "data": base64.b64encode(b"x").decode()}

    for n in range(8):
        assert (await process.ask(operator, "agents.upload", "st-marys", begun(n)))["received"] == 1
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "agents.upload", "st-marys", begun(9))
    assert refused.value.code == 429


async def test_unknown_snapshot_is_not_found(process: Process, host: Caller) -> None:
    with pytest.raises(RefusedError) as refused:
        await process.ask(host, "hosts.snapshot", "0" * 64, {"offset": 0})
    assert refused.value.code == 404
