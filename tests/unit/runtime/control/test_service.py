"""The front door: SEC-1, deny by default, one clear error each, nothing inside shown."""

import asyncio
import dataclasses
import json
from uuid import uuid4

import pytest
from control_harness import QUICK, Caller, Process, RefusedError, Site, header_block, policy

from authz.claims import UserClaims
from authz.keys import AccountPublicKey, AccountSeed, UserSeed
from authz.tokens import encode_user
from runtime.bus.errors import StorageUnavailableError
from runtime.bus.message import Message
from runtime.envelope.messages import Failure, Result, build_request

TENANT = policy("st-marys", admin='admin: ["policy.*", "credentials.*", "agents.*"]', nurse="call: [x]")


def subject(caller: Caller, command: str = "status.show", target: str = "all") -> str:
    return f"tenant.{caller.account}.admin.{command}.{target}"


@pytest.mark.parametrize("reply", ["", "_INBOX.x", "_R_", "ai.capabilities.x", "$JS.ACK.x"])
async def test_reply_that_no_import_made_is_dropped_and_not_answered(
    process: Process, operator: Caller, reply: str
) -> None:
    process.deliver(subject(operator, "tenants.create", "acme"), reply, b"{}", header_block(operator))
    await asyncio.sleep(0.05)
    assert process.sent == []
    assert process.plane._service.dropped == 1
    assert process.plane.state.tenant("acme") is None


@pytest.mark.parametrize("odd", ["ai.admin.status.show.all", "tenant.x.admin.a.b.c", "tenant.A.admin.status.show", "x"])
async def test_subject_that_is_no_command_is_answered_so(process: Process, operator: Caller, odd: str) -> None:
    answer = await process.ask_raw(odd, b"{}", header_block(operator))
    assert isinstance(answer, Failure)
    assert answer.code == 400


async def test_forged_and_missing_identities_are_not_authenticated(process: Process, operator: Caller) -> None:
    good = header_block(operator)
    stranger = AccountSeed.generate()
    claims = UserClaims(
        name="root",
        subject=UserSeed.generate().public,
        issuer=stranger.public,
        issuer_account=AccountPublicKey.parse(operator.account),
        issued_at=1,
        expires_at=None,
    )
    forged = dataclasses.replace(operator, jwt=encode_user(claims, stranger))
    for block in (
        b"",
        b"NATS/1.0\r\n\r\n",
        good[:-2],
        good.replace(b"Nats-Request-Info:", b"nats-request-info:"),
        good[:-2] + good[len(b"NATS/1.0\r\n") :],
        header_block(forged),
        good.replace(b'"rtt"', b'"svc": "x", "rtt"'),
        header_block(dataclasses.replace(operator, account=stranger.public.text)),
    ):
        answer = await process.ask_raw(subject(operator), b"{}", block)
        assert isinstance(answer, Failure)
        assert (answer.code, answer.error) == (401, "not authenticated")


async def test_unknown_account_is_not_authenticated(process: Process, operator: Caller) -> None:
    stranger = dataclasses.replace(operator, account=AccountSeed.generate().public.text)
    answer = await process.ask_raw(subject(stranger), b"{}", header_block(stranger))
    assert isinstance(answer, Failure)
    assert answer.code == 401


async def test_role_without_the_grant_is_denied_with_what_was_missing(process: Process, operator: Caller) -> None:
    await process.ask(operator, "tenants.create", "st-marys", {"policy": TENANT})
    nurse = await process.issue(operator, "st-marys", "ann", "nurse")
    with pytest.raises(RefusedError) as refused:
        await process.ask(nurse, "policy.show", "st-marys")
    failure = refused.value.failure
    assert (failure.code, failure.required, failure.role) == (403, "admin:policy.show", "nurse")


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("agents.upload", "st-marys"),
        ("agents.deploy", "st-marys"),
        ("agents.stop", "st-marys"),
        ("policy.show", "acme"),
    ],
)
async def test_tenants_administrator_may_not_act_for_the_platform_or_on_others(
    process: Process, operator: Caller, command: str, target: str
) -> None:
    await process.ask(operator, "tenants.create", "st-marys", {"policy": TENANT})
    admin = await process.issue(operator, "st-marys", "ann", "admin")
    with pytest.raises(RefusedError) as refused:
        await process.ask(admin, command, target, {"agent": "x"})
    assert refused.value.code == 403


@pytest.mark.parametrize("command", ["tenants.create", "tenants.list", "status.show", "credentials.issue"])
async def test_host_may_only_do_what_hosts_do(process: Process, host: Caller, command: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await process.ask(host, command, "all")
    assert refused.value.code == 403


async def test_envelope_is_answered_under_its_own_correlation_id(process: Process, operator: Caller) -> None:
    own = str(uuid4())
    body = build_request(agent_id="cli", correlation_id=own, timestamp=1.0, data=b"{}")
    answer = await process.ask_raw(subject(operator), body, header_block(operator))
    assert isinstance(answer, Result)
    assert (answer.correlation_id, answer.capability, answer.agent_id) == (own, "status.show", "control")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", 400),
        (b"not json", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b'{"version":"1.0","message_type":"request"}', 400),
    ],
)
async def test_malformed_bodies_are_refused(process: Process, operator: Caller, body: bytes, code: int) -> None:
    answer = await process.ask_raw(subject(operator, "tenants.create", "acme"), body, header_block(operator))
    assert isinstance(answer, Failure)
    assert answer.code == code
    assert process.plane.state.tenant("acme") is None


@pytest.mark.parametrize("data", [{"unknown": 1}, {"policy": 5}])
async def test_input_that_is_not_the_commands_is_refused(process: Process, operator: Caller, data: object) -> None:
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "tenants.create", "acme", data)
    assert refused.value.code == 422
    assert process.plane.state.tenant("acme") is None


async def test_sealed_request_is_refused_not_read(process: Process, operator: Caller) -> None:
    body = json.loads(build_request(agent_id="cli", correlation_id=str(uuid4()), timestamp=1.0, data=b"{}"))
    sealed = json.dumps(body | {"encrypted": True, "alg": "fernet", "key_id": "k"}).encode()
    answer = await process.ask_raw(subject(operator), sealed, header_block(operator))
    assert isinstance(answer, Failure)
    assert answer.code == 400


@pytest.mark.parametrize(
    ("command", "target"), [("tenants.fly", "acme"), ("fly.away", "acme"), ("status.show", "acme")]
)
async def test_unknown_commands_are_refused(process: Process, operator: Caller, command: str, target: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, command, target)
    assert refused.value.code == 400


async def test_fault_inside_is_told_as_a_bare_500(
    site: Site, process: Process, operator: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    site.keys.put("tenant/platform", b"secret nonsense")
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "credentials.issue", "platform", order("operator"))
    assert refused.value.code == 500
    assert "nonsense" not in refused.value.failure.error
    assert refused.value.failure.correlation_id in caplog.text
    assert "nonsense" not in caplog.text


def order(role: str) -> dict[str, object]:
    from certs.leaves import new_client_key_and_csr

    _, csr = new_client_key_and_csr()
    return {"name": "x", "role": role, "ttl_s": 60, "user": UserSeed.generate().public.text, "csr": csr.decode()}


async def test_too_many_requests_at_once_are_told_to_come_back() -> None:
    site = Site(dataclasses.replace(QUICK, in_flight_tenant_max=2, poll_hold_s=0.3))
    process = await site.start()
    host = await process.platform_caller("host", "local")
    revision = process.plane.state.revision
    body = {"since": revision, "instance": "i", "report": {}}
    polls = [asyncio.create_task(process.ask(host, "hosts.sync", "local", body)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(RefusedError) as refused:
        await process.ask(host, "hosts.sync", "local", body)
    assert (refused.value.code, refused.value.failure.retry_after) == (429, 1.0)
    await asyncio.gather(*polls)
    await site.close()


async def test_command_that_cannot_be_recorded_is_not_carried_out(
    site: Site, process: Process, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_data: bytes, *, once: str = "") -> int:
        raise StorageUnavailableError(f"no space {once[:1]}")

    monkeypatch.setattr(site.storage.audit, "append", full)
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "tenants.create", "acme")
    assert refused.value.code == 503
    assert process.plane.state.tenant("acme") is None


async def test_decisions_are_on_record_allowed_and_denied(site: Site, process: Process, operator: Caller) -> None:
    await process.ask(operator, "tenants.create", "st-marys", {"policy": TENANT})
    nurse = await process.issue(operator, "st-marys", "ann", "nurse")
    with pytest.raises(RefusedError):
        await process.ask(nurse, "policy.show", "st-marys")
    await process.plane.stop()
    records = [json.loads(data) for data in site.storage.audit.records]
    assert {r["writer"] for r in records} == {"control"}
    told = [(r["record"]["name"], r["record"]["resource"], r["record"]["effect"]) for r in records]
    assert told == [
        ("root", "tenants.create", "allow"),
        ("root", "credentials.issue", "allow"),
        ("ann", "policy.show", "deny"),
    ]


async def test_stopping_finishes_what_was_begun(process: Process, operator: Caller) -> None:
    asking = asyncio.create_task(process.ask(operator, "tenants.create", "acme"))
    await asyncio.sleep(0)
    await process.plane.stop()
    assert (await asking)["tenant"] == "acme"


async def test_answers_carry_no_header_but_those_of_failures(process: Process, operator: Caller) -> None:
    """SEC-6."""
    await process.ask(operator, "status.show", "all")
    with pytest.raises(RefusedError):
        await process.ask(operator, "tenants.show", "nobody")
    assert process.sent[0][2] is None
    assert set(process.sent[1][2] or {}) == {"Nats-Service-Error-Code", "Nats-Service-Error"}


async def test_message_with_nothing_in_it_does_no_harm(process: Process) -> None:
    assert process.handler is not None
    process.handler(Message("", "", b"", b""))
    assert process.plane._service.dropped == 1


async def test_request_that_comes_while_stopping_is_told_so(process: Process, operator: Caller) -> None:
    process.plane._service._draining = True
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "status.show", "all")
    assert refused.value.code == 503


async def test_upkeep_goes_on_when_one_of_its_steps_fails(site: Site, process: Process, operator: Caller) -> None:
    async def broken() -> None:
        raise RuntimeError("x")

    process.plane._settle_doubts = broken  # type: ignore[method-assign]
    with pytest.raises(RefusedError):
        await process.ask(operator, "tenants.fly", "x")
    async with asyncio.timeout(5):
        while not site.storage.audit.records:  # noqa: ASYNC110 - the buffer is flushed by upkeep
            await asyncio.sleep(0.01)
