import dataclasses

import control_harness
import pytest
from control_harness import Caller, Process, RefusedError, Site, policy

from authz.tokens import decode_account
from runtime.control import accounts


async def test_new_tenant_is_known_to_the_server_with_its_roles_and_two_imports(
    site: Site, process: Process, operator: Caller
) -> None:
    shown = await process.ask(operator, "tenants.create", "st-marys")

    claims = decode_account(site.pusher.claims[shown["account"]])
    assert claims.name == "st-marys"
    assert {key.role for key in claims.signing_keys} == {"admin"}
    assert {(i.local_subject, i.share) for i in claims.imports} == {("ai.capabilities.>", True), ("ai.admin.>", True)}
    assert shown["status"] == "active"
    listed = await process.ask(operator, "tenants.list", "all")
    assert [t["tenant"] for t in listed["tenants"]] == ["platform", "st-marys"]


async def test_tenant_survives_a_restart(site: Site, process: Process, operator: Caller) -> None:
    before = await process.ask(operator, "tenants.create", "st-marys")
    await process.plane.stop()

    after = await (await site.start()).ask(operator, "tenants.show", "st-marys")

    assert after == before


async def test_a_second_tenant_of_the_same_name_is_refused(process: Process, operator: Caller) -> None:
    await process.ask(operator, "tenants.create", "st-marys")
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "tenants.create", "st-marys")
    assert refused.value.code == 409
    assert refused.value.failure.error == "tenant `st-marys` exists already"


@pytest.mark.parametrize("name", ["platform", "all", "sys", "gate", "control", "St-Marys", "-x", "x" * 64])
async def test_reserved_and_malformed_names_are_refused(
    site: Site, process: Process, operator: Caller, name: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "tenants.create", name)
    assert refused.value.code == 422
    assert [k for k in site.keys.names() if k.startswith("tenant/")] == ["tenant/platform"]


async def test_suspended_tenants_users_are_revoked_whatever_their_age_and_come_back_on_resume(
    site: Site, process: Process, operator: Caller
) -> None:
    account = (await process.ask(operator, "tenants.create", "st-marys"))["account"]
    admin = await process.issue(operator, "st-marys", "ann", "admin")

    await process.ask(operator, "tenants.suspend", "st-marys")
    assert decode_account(site.pusher.claims[account]).revocations["*"] > 2**35
    with pytest.raises(RefusedError) as refused:
        await process.ask(admin, "policy.show", "st-marys")
    assert refused.value.code == 401
    with pytest.raises(RefusedError) as refused:
        await process.issue(operator, "st-marys", "bob", "admin")
    assert refused.value.code == 409

    await process.ask(operator, "tenants.resume", "st-marys")
    assert "*" not in decode_account(site.pusher.claims[account]).revocations
    assert (await process.ask(admin, "policy.show", "st-marys"))["epoch"] == 1


async def test_deleted_tenant_leaves_no_keys_no_claims_and_its_name_can_be_used_again(
    site: Site, process: Process, operator: Caller
) -> None:
    account = (await process.ask(operator, "tenants.create", "st-marys"))["account"]
    admin = await process.issue(operator, "st-marys", "ann", "admin")

    await process.ask(operator, "tenants.delete", "st-marys")

    assert account not in site.pusher.claims
    assert "tenant/st-marys" not in site.keys.names()
    assert await site.storage.credentials.get(f"st-marys.{admin.user}") is None
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "tenants.show", "st-marys")
    assert refused.value.code == 404
    with pytest.raises(RefusedError) as refused:
        await process.ask(admin, "policy.show", "st-marys")
    assert refused.value.code == 401
    assert (await process.ask(operator, "tenants.create", "st-marys"))["account"] != account


@pytest.mark.parametrize("command", ["tenants.suspend", "tenants.resume", "tenants.delete"])
async def test_the_platforms_own_tenant_is_left_alone(process: Process, operator: Caller, command: str) -> None:
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, command, "platform")
    assert refused.value.code == 409


async def test_tenant_may_be_created_with_its_policy(process: Process, operator: Caller) -> None:
    text = policy("st-marys", nurse="call: [vitals.*]")
    shown = await process.ask(operator, "tenants.create", "st-marys", {"policy": text})
    assert shown["roles"] == ["nurse"]


async def test_another_tenants_policy_creates_nothing(site: Site, process: Process, operator: Caller) -> None:
    text = policy("elsewhere", nurse="call: [vitals.*]")
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "tenants.create", "st-marys", {"policy": text})
    assert refused.value.code == 422
    assert "tenant/st-marys" not in site.keys.names()


async def test_new_release_brings_its_platform_policy_into_force(
    site: Site, process: Process, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.plane.stop()
    newer = control_harness.PLATFORM_POLICY + "  auditor:\n    admin: [status.show]\n"
    monkeypatch.setattr(control_harness, "PLATFORM_POLICY", newer)
    again = await site.start()
    assert (await again.ask(operator, "policy.show", "platform"))["epoch"] == 2
    auditor = await again.platform_caller("auditor", "eve")
    assert (await again.ask(auditor, "status.show", "all"))["tenants"] == {"active": 1}


async def test_new_release_with_other_limits_writes_every_accounts_claims_anew(
    site: Site, process: Process, operator: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = (await process.ask(operator, "tenants.create", "st-marys"))["account"]
    before = decode_account(site.pusher.claims[account])
    await process.plane.stop()
    monkeypatch.setattr(accounts, "_TENANT_LIMITS", dataclasses.replace(accounts._TENANT_LIMITS, connections=7))
    monkeypatch.setattr(accounts, "_GATE_LIMITS", dataclasses.replace(accounts._GATE_LIMITS, payload_bytes=7))
    await site.start()
    after = decode_account(site.pusher.claims[account])
    assert after.limits.connections == 7
    assert after.issued_at > before.issued_at
    assert decode_account(site.pusher.claims[site.platform.gate.public.text]).limits.payload_bytes == 7
