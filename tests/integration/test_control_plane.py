"""The control plane on a real server: what is told to the server is what the server then does."""

import asyncio
import base64
import contextlib
import hashlib
import json

import nats
import pytest
from control_harness import policy
from fixtures_control import LiveCaller, LivePlatform

from authz.creds import Creds
from authz.keys import UserSeed
from authz.requestinfo import read_request_info
from runtime.bus import subjects
from runtime.bus.errors import InvalidSubjectError
from runtime.bus.errors import RefusedError as ServerRefusedError
from runtime.bus.message import Message
from runtime.control.start import AUDIT_SUBJECT

POLICY = policy(
    "st-marys",
    nurse="call: [vitals.*]",
    admin='admin: ["policy.*", "credentials.*", "agents.*"]',
)
CODE = bytes(range(256)) * 4096


async def test_new_tenants_credential_connects_and_is_held_to_its_role(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})

    nurse = await live.connect(await operator.issue("st-marys", "ann", "nurse"))

    with pytest.raises(ServerRefusedError):
        await nurse.connection.request("ai.admin.policy.show.st-marys", b"{}", timeout=5)
    admin = await live.connect(await operator.issue("st-marys", "bea", "admin"))
    assert (await admin.ask("policy.show", "st-marys"))["policy"] == POLICY
    with pytest.raises(ServerRefusedError):
        await admin.ask("policy.show", "platform")


async def test_capability_call_reaches_the_host_in_gate_with_the_callers_identity(live: LivePlatform) -> None:
    operator, host = await live.operator(), await live.host()
    created = await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    nurse = await live.connect(await operator.issue("st-marys", "ann", "nurse"))
    seed = UserSeed.generate()
    issued = await host.ask("hosts.gate", "st-marys", {"user": seed.public.text})
    gate = await live.connect(Creds(jwt=issued["jwt"], seed=seed))
    got: list[Message] = []

    def answer(message: Message) -> None:
        got.append(message)
        gate.connection.respond(message.reply, b"{}", None)

    await gate.connection.subscribe(f"tenant.{created['account']}.capabilities.>", answer, queue="hosts")
    await nurse.connection.request("ai.capabilities.vitals.assess", b"{}", timeout=5)

    (message,) = got
    assert message.reply.startswith("_R_.")
    assert read_request_info(message.header_block).user_jwt == nurse.creds.jwt  # the import is made with `share`
    with pytest.raises(ServerRefusedError):
        await nurse.connection.request("ai.capabilities.invoice.pay", b"{}", timeout=5)


async def test_policy_changes_what_a_live_connection_may_do(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    restored = asyncio.Event()
    creds = await operator.issue("st-marys", "bea", "admin")
    admin = await live.connect(creds, on_restored=restored.set)
    assert await admin.ask("credentials.list", "st-marys")

    narrower = policy("st-marys", nurse="call: [vitals.*]", admin='admin: ["policy.*"]')
    await operator.ask("policy.apply", "st-marys", {"policy": narrower})

    async with asyncio.timeout(10):
        await restored.wait()
    with pytest.raises(ServerRefusedError):
        await admin.ask("credentials.list", "st-marys")
    assert (await admin.ask("policy.show", "st-marys"))["epoch"] == 2


async def test_agents_code_goes_in_and_out_in_pieces_and_a_host_runs_it(live: LivePlatform) -> None:
    operator, host = await live.operator(), await live.host()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    digest = hashlib.sha256(CODE).hexdigest()
    for offset in range(0, len(CODE), 128 * 1024):
        piece = base64.b64encode(CODE[offset : offset + 128 * 1024]).decode()
        body = {"digest": digest, "offset": offset, "size": len(CODE), "data": piece}
        answer = await operator.ask("agents.upload", "st-marys", body)
    assert answer["complete"]

    polling = asyncio.create_task(poll_and_run(host))
    try:
        body = {"digest": digest, "entry": "agent:Vitals", "agent": "vitals"}
        deployed = await operator.ask("agents.deploy", "st-marys", body, timeout=30)
        assert [h["state"] for h in deployed["hosts"]] == ["running"]
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling
    code = b""
    while len(code) < len(CODE):
        code += base64.b64decode((await host.ask("hosts.snapshot", digest, {"offset": len(code)}))["data"])
    assert code == CODE


async def poll_and_run(host: LiveCaller) -> None:
    since, agents = 0, []
    while True:
        body = {"since": since, "instance": "i", "report": {"agents": agents}}
        reply = await host.ask("hosts.sync", "local", body)
        since = reply["revision"]
        agents = [
            {"tenant": t["tenant"], "state": "running", **{k: d[k] for k in ("agent", "digest", "revision")}}
            for t in reply["tenants"]
            for d in t["deployments"]
        ] or agents


async def test_a_batch_of_audit_records_is_stored_in_its_order(live: LivePlatform) -> None:
    host = await live.host()
    answer = await host.ask("audit.append", "local", {"records": [{"at": 1.0, "n": n} for n in range(400)]})
    stored = await live.plane.storage.audit.read(answer["seq"] - 399, 400)
    assert [json.loads(data)["record"]["n"] for _, data in stored] == list(range(400))


async def test_audit_records_are_in_the_stream_when_the_host_is_answered(live: LivePlatform) -> None:
    host = await live.host()
    answer = await host.ask("audit.append", "local", {"records": [{"at": 1.0, "n": n} for n in range(3)]})
    assert live.plane is not None
    stored = await live.plane.storage.audit.read(answer["seq"] - 2, 3)
    assert [json.loads(data)["record"]["n"] for _, data in stored] == [0, 1, 2]
    with pytest.raises(ServerRefusedError):
        await host.connection.request(AUDIT_SUBJECT, b"{}", timeout=5)


async def test_state_survives_the_death_of_server_and_control_plane(live: LivePlatform) -> None:
    operator = await live.operator()
    created = await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "bea", "admin")
    await live.server.kill()
    await live.stop_plane()

    await live.start_server()
    await live.start_plane()

    admin = await live.connect(creds)
    assert (await admin.ask("policy.show", "st-marys"))["policy"] == POLICY
    assert (await (await live.operator()).ask("tenants.show", "st-marys"))["account"] == created["account"]


async def test_control_plane_goes_on_when_only_the_server_died(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    await live.server.kill()
    await live.start_server()
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Exception):
                await operator.ask("policy.apply", "st-marys", {"policy": POLICY + "#\n"}, timeout=2)
                break
            await asyncio.sleep(0.1)
        while (await operator.ask("status.show", "all"))["unconfirmed_accounts"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # a server that came back is told everything again


@pytest.mark.parametrize("name", ["*", ">", "$SYS", "a.b", "a.*.c", "\u0430cme", "x" * 300])
async def test_names_that_would_be_subjects_are_refused_with_one_clear_error(live: LivePlatform, name: str) -> None:
    """A plain client can put anything behind `ai.admin.`; ours does not even send it."""
    creds = await live.platform_creds("operator", "root")
    operator, plain = await live.connect(creds), await plain_client(live, creds)
    try:
        with pytest.raises(InvalidSubjectError):
            subjects.admin("tenants.create", name)
        answer = await plain.request(f"ai.admin.tenants.create.{name}", b"{}", timeout=5)
    finally:
        await plain.close()
    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] in {"400", "422"}
    listed = await operator.ask("tenants.list", "all")
    assert [t["tenant"] for t in listed["tenants"]] == ["platform"]


async def plain_client(live: LivePlatform, creds: Creds) -> nats.NATS:
    """Plain nats-py, as the `nats` command would connect."""
    return await nats.connect(
        live.server.url.replace("nats://", "tls://"),
        tls=live.endpoint().tls,
        tls_hostname="localhost",
        tls_handshake_first=True,
        user_jwt_cb=creds.jwt.encode,
        signature_cb=lambda nonce: base64.b64encode(creds.seed.sign(nonce.encode())),
        inbox_prefix=f"_INBOX.{creds.seed.public}".encode(),
        allow_reconnect=False,
    )
