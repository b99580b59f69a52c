"""P4: a control plane that dies before or after any one of its steps loses nothing that it answered, and what it did
not answer can be asked again. Each test dies at every step in turn; a new process then goes on with what was stored.
"""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from control_harness import Caller, Process, RefusedError, Site, policy
from power_cut import FragileProcess, start_fragile

from authz.keys import UserSeed
from authz.tokens import decode_account, decode_user
from runtime.control.records import TenantRecord, decode
from runtime.control.tenantkeys import TenantKeyring

BEFORE = policy("st-marys", nurse="call: [vitals.*]", admin='admin: ["credentials.*"]')
AFTER = policy("st-marys", nurse="call: [vitals.*]", clerk="call: [invoice.*]")
SNAPSHOT = b"agent code"
DIGEST = hashlib.sha256(SNAPSHOT).hexdigest()


@dataclass
class Scene:
    """A process about to be asked something."""

    process: FragileProcess
    operator: Caller
    host: Caller
    notes: dict[str, Any]


Prepare = Callable[[Scene], Awaitable[None]]
Act = Callable[[Scene], Awaitable[Any]]
Check = Callable[[Scene, Process, Any], Awaitable[None]]


async def set_up(prepare: Prepare) -> tuple[Site, Scene]:
    site = Site()
    process = await start_fragile(site)
    operator = await process.platform_caller("operator", "root")
    host = await process.platform_caller("host", "local")
    scene = Scene(process=process, operator=operator, host=host, notes={})
    await prepare(scene)
    return site, scene


async def steps_of(prepare: Prepare, act: Act) -> int:
    """How many steps the command takes when nothing goes wrong."""
    site, scene = await set_up(prepare)
    scene.process.power.arm(None)
    await act(scene)
    steps = scene.process.power.steps
    await site.close()
    return steps


async def die_at_every_step(prepare: Prepare, act: Act, check: Check, *, at_least: int) -> None:
    steps = await steps_of(prepare, act)
    assert steps >= at_least
    for cut_at in range(1, steps + 1):
        site, scene = await set_up(prepare)
        scene.process.power.arm(cut_at)
        answer = await scene.process.until_answered_or_cut(act(scene))
        await scene.process.vanish()

        again = await site.start()
        await settled(site)
        await all_agrees(site)
        await check(scene, again, answer)
        await all_agrees(site)
        await site.close()


async def settled(site: Site) -> None:
    """Wait for what a start does in the background."""
    async with asyncio.timeout(5):
        while len(site.processes[-1].plane._background) > 1:  # noqa: ASYNC110 - inside
            await asyncio.sleep(0.005)


async def all_agrees(site: Site) -> None:
    """Storage, keys and server say the same, and claims only ever went forward."""
    known = {site.platform.sys.public.text, site.platform.control.public.text, site.platform.gate.public.text}
    for key, entry in (await site.storage.tenants.all()).items():
        record = decode(TenantRecord, key, entry.value)
        if record.status == "deleted":
            assert f"tenant/{key}" not in site.keys.names()
            continue
        assert record.status in {"active", "suspended"}
        known.add(record.account)
        assert site.pusher.claims[record.account] == record.claims
        keys = TenantKeyring(site.keys).load(key, record.roles)
        assert keys.public() == record.roles
        assert keys.identity.public.text == record.account
        claims = decode_account(record.claims)
        assert {k.role: k.key.text for k in claims.signing_keys} == record.roles
        everybody = {"*"} if record.status == "suspended" else set()
        assert set(claims.revocations) == set(record.revocations) | everybody
    assert set(site.pusher.claims) == known
    newest: dict[str, tuple[int, str]] = {}
    for token in site.pusher.pushed:
        claims = decode_account(token)
        before = newest.setdefault(claims.subject.text, (claims.issued_at, token))
        assert token == before[1] or claims.issued_at > before[0]
        newest[claims.subject.text] = (claims.issued_at, token)


async def nothing(_scene: Scene) -> None:
    pass


async def with_tenant(scene: Scene) -> None:
    await scene.process.ask(scene.operator, "tenants.create", "st-marys", {"policy": BEFORE})
    scene.notes["ann"] = await scene.process.issue(scene.operator, "st-marys", "ann", "admin")


async def test_first_start_cut_short_anywhere_is_completed_by_the_next() -> None:
    counted = await start_fragile(Site(), armed=True)
    steps = counted.power.steps
    await counted.site.close()
    assert steps >= 16
    for cut_at in range(1, steps + 1):
        site = Site()
        await (await start_fragile(site, cut_at=cut_at, armed=True)).vanish()
        process = await site.start()
        await settled(site)
        await all_agrees(site)
        operator = await process.platform_caller("operator", "root")
        assert await process.ask(operator, "status.show", "all")
        await site.close()


async def test_tenants_create() -> None:
    async def act(scene: Scene) -> Any:
        return await scene.process.ask(scene.operator, "tenants.create", "st-marys", {"policy": BEFORE})

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        if answer is None:
            with contextlib.suppress(RefusedError):
                await again.ask(scene.operator, "tenants.create", "st-marys", {"policy": BEFORE})
        shown = await again.ask(scene.operator, "tenants.show", "st-marys")
        assert answer is None or shown["account"] == answer["account"]
        assert shown["roles"] == ["admin", "nurse"]
        await again.issue(scene.operator, "st-marys", "bea", "nurse")

    await die_at_every_step(nothing, act, check, at_least=8)


async def test_policy_apply() -> None:
    async def act(scene: Scene) -> Any:
        return await scene.process.ask(scene.operator, "policy.apply", "st-marys", {"policy": AFTER})

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        shown = await again.ask(scene.operator, "policy.show", "st-marys")
        assert shown["policy"] == AFTER if answer else shown["policy"] in {BEFORE, AFTER}
        applied = await again.ask(scene.operator, "policy.apply", "st-marys", {"policy": AFTER})
        assert applied["epoch"] == 2
        await again.issue(scene.operator, "st-marys", "cid", "clerk")

    await die_at_every_step(with_tenant, act, check, at_least=10)


async def test_credentials_issue() -> None:
    seed = UserSeed.generate()

    async def act(scene: Scene) -> Any:
        return await issue_to(scene.process, scene.operator, seed)

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        listed = (await again.ask(scene.operator, "credentials.list", "st-marys"))["credentials"]
        assert answer is None or seed.public.text in {c["user"] for c in listed}
        repeated = await issue_to(again, scene.operator, seed)
        assert decode_user(repeated["jwt"], now=None).subject == seed.public
        revoked = await again.ask(scene.operator, "credentials.revoke", "st-marys", {"name": "bea"})
        assert revoked["revoked"] == [seed.public.text]

    await die_at_every_step(with_tenant, act, check, at_least=4)


async def issue_to(process: Process, by: Caller, seed: UserSeed) -> dict[str, Any]:
    from certs.leaves import new_client_key_and_csr

    _, csr = new_client_key_and_csr()
    body = {"name": "bea", "role": "nurse", "ttl_s": 60, "user": seed.public.text, "csr": csr.decode()}
    return await process.ask(by, "credentials.issue", "st-marys", body)


async def test_credentials_revoke() -> None:
    async def act(scene: Scene) -> Any:
        return await scene.process.ask(scene.operator, "credentials.revoke", "st-marys", {"name": "ann"})

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        if answer is not None:
            await is_refused(again, scene.notes["ann"])
        await again.ask(scene.operator, "credentials.revoke", "st-marys", {"name": "ann"})
        await is_refused(again, scene.notes["ann"])
        listed = (await again.ask(scene.operator, "credentials.list", "st-marys"))["credentials"]
        assert [c["status"] for c in listed] == ["revoked"]
        assert listed[0]["revoked_at"] is not None

    await die_at_every_step(with_tenant, act, check, at_least=8)


async def is_refused(process: Process, caller: Caller) -> None:
    with pytest.raises(RefusedError) as refused:
        await process.ask(caller, "credentials.list", "st-marys")
    assert refused.value.code == 401


async def test_revoking_a_host_takes_what_was_derived_from_it() -> None:
    async def prepare(scene: Scene) -> None:
        await with_tenant(scene)
        scene.notes["gate"] = UserSeed.generate().public.text
        await scene.process.ask(scene.host, "hosts.gate", "st-marys", {"user": scene.notes["gate"]})

    async def act(scene: Scene) -> Any:
        return await scene.process.ask(scene.operator, "credentials.revoke", "platform", {"name": "local"})

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        platform = again.plane.state.tenant("platform")
        assert platform is not None
        revoked = scene.host.user in platform.record.revocations
        assert revoked or answer is None
        gate = decode_account(again.site.pusher.claims[again.site.platform.gate.public.text])
        assert (scene.notes["gate"] in gate.revocations) == revoked

    await die_at_every_step(prepare, act, check, at_least=12)


@pytest.mark.parametrize("command", ["tenants.suspend", "tenants.resume"])
async def test_suspend_and_resume(command: str) -> None:
    wanted = {"tenants.suspend": "suspended", "tenants.resume": "active"}[command]

    async def prepare(scene: Scene) -> None:
        await with_tenant(scene)
        if command == "tenants.resume":
            await scene.process.ask(scene.operator, "tenants.suspend", "st-marys")

    async def act(scene: Scene) -> Any:
        return await scene.process.ask(scene.operator, command, "st-marys")

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        if answer is not None:
            assert (await again.ask(scene.operator, "tenants.show", "st-marys"))["status"] == wanted
        assert (await again.ask(scene.operator, command, "st-marys"))["status"] == wanted

    await die_at_every_step(prepare, act, check, at_least=6)


async def test_tenants_delete() -> None:
    async def act(scene: Scene) -> Any:
        return await scene.process.ask(scene.operator, "tenants.delete", "st-marys")

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        record = decode(TenantRecord, "t", (await again.site.storage.tenants.get("st-marys")).value)
        if answer is not None:
            assert record.status == "deleted"
        if record.status != "deleted":
            await again.ask(scene.operator, "tenants.delete", "st-marys")
        with pytest.raises(RefusedError):
            await again.ask(scene.operator, "tenants.show", "st-marys")
        assert not [k for k in await again.site.storage.credentials.all() if k.startswith("st-marys")]
        assert (await again.ask(scene.operator, "tenants.create", "st-marys"))["status"] == "active"

    await die_at_every_step(with_tenant, act, check, at_least=14)


async def test_agents_upload_deploy_and_stop() -> None:
    async def upload(process: Process, operator: Caller) -> None:
        piece = {"digest": DIGEST, "offset": 0, "size": len(SNAPSHOT), "data": base64.b64encode(SNAPSHOT).decode()}
        assert (await process.ask(operator, "agents.upload", "st-marys", piece))["complete"]

    async def deploy(process: Process, operator: Caller) -> Any:
        body = {"digest": DIGEST, "entry": "agent:Vitals", "agent": "vitals"}
        return await process.ask(operator, "agents.deploy", "st-marys", body)

    async def act(scene: Scene) -> Any:
        await upload(scene.process, scene.operator)
        await deploy(scene.process, scene.operator)
        return await scene.process.ask(scene.operator, "agents.stop", "st-marys", {"agent": "vitals"})

    async def check(scene: Scene, again: Process, answer: Any) -> None:
        listed = (await again.ask(scene.operator, "agents.list", "st-marys"))["agents"]
        assert answer is None or listed == []
        await upload(again, scene.operator)
        await deploy(again, scene.operator)
        listed = (await again.ask(scene.operator, "agents.list", "st-marys"))["agents"]
        assert [(a["agent"], a["digest"], a["settled"]) for a in listed] == [("vitals", DIGEST, True)]

    await die_at_every_step(with_tenant, act, check, at_least=12)
