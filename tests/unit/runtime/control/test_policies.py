import pytest
from control_harness import Caller, Process, RefusedError, Site, policy

from authz.tokens import decode_account

NURSE = policy("st-marys", nurse="call: [vitals.*]", admin='admin: ["policy.*", "credentials.*"]')


@pytest.fixture
async def account(process: Process, operator: Caller) -> str:
    created = await process.ask(operator, "tenants.create", "st-marys", {"policy": NURSE})
    text: str = created["account"]
    return text


def roles_of(site: Site, account: str) -> dict[str, str]:
    return {key.role: key.key.text for key in decode_account(site.pusher.claims[account]).signing_keys}


async def test_applied_policy_is_in_force_at_the_server_and_its_changes_are_told(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    before = roles_of(site, account)
    wider = policy("st-marys", nurse="call: [vitals.*]", clerk="call: [invoice.*]")

    applied = await process.ask(operator, "policy.apply", "st-marys", {"policy": wider})

    after = roles_of(site, account)
    assert applied["epoch"] == 2
    assert set(after) == {"nurse", "clerk"}
    assert after["nurse"] == before["nurse"]
    assert {"role": "clerk", "kind": "added", "action": "call", "pattern": "invoice.*"} in applied["changes"]
    assert (await process.ask(operator, "policy.show", "st-marys"))["policy"] == wider


async def test_same_policy_again_changes_nothing(site: Site, process: Process, operator: Caller, account: str) -> None:
    claims = site.pusher.claims[account]
    applied = await process.ask(operator, "policy.apply", "st-marys", {"policy": NURSE})
    assert (applied["epoch"], applied["changes"]) == (1, [])
    assert site.pusher.claims[account] == claims


async def test_role_that_went_and_came_back_has_a_new_key_so_old_credentials_stay_void(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    admin = await process.issue(operator, "st-marys", "ann", "admin")
    before = roles_of(site, account)
    await process.ask(operator, "policy.apply", "st-marys", {"policy": policy("st-marys", nurse="call: [vitals.*]")})
    listed = await process.ask(operator, "credentials.list", "st-marys")
    assert listed["credentials"][0]["status"] == "role removed"

    await process.ask(operator, "policy.apply", "st-marys", {"policy": NURSE})

    assert roles_of(site, account)["nurse"] == before["nurse"]
    assert roles_of(site, account)["admin"] != before["admin"]
    with pytest.raises(RefusedError) as refused:
        await process.ask(admin, "policy.show", "st-marys")
    assert refused.value.code == 401


async def test_keys_of_roles_that_went_are_dropped_from_the_key_store(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    del account
    await process.ask(operator, "policy.apply", "st-marys", {"policy": policy("st-marys", clerk="call: [a]")})
    stored = site.keys.get("tenant/st-marys")
    assert b"clerk" in stored
    assert b"nurse" not in stored


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "tenant: elsewhere\nroles:\n  a:\n    call: [x]\n",
            "the policy is for tenant `elsewhere`, not for `st-marys`",
        ),
        ("tenant: st-marys\nroles:\n  a:\n    call: [x]\n  a:\n    call: [y]\n", "the policy is not valid"),
        ("tenant: st-marys\nroles:\n  a:\n    fly: [x]\n", "the policy is not valid"),
        ("", "the policy is not valid"),
        ("tenant: [st-marys", "the policy is not valid"),
        ("tenant: st-marys\nroles:\n  a:\n    inherits: [a]\n", "the policy is not valid"),
    ],
)
async def test_bad_policy_is_refused_and_nothing_changes(
    process: Process, operator: Caller, account: str, text: str, said: str
) -> None:
    site = process.site
    claims = site.pusher.claims[account]
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "policy.apply", "st-marys", {"policy": text})
    assert (refused.value.code, refused.value.failure.error) == (422, said)
    assert site.pusher.claims[account] == claims
    assert (await process.ask(operator, "policy.show", "st-marys"))["epoch"] == 1


async def test_each_fault_of_a_policy_is_told_with_its_line(process: Process, operator: Caller, account: str) -> None:
    del account
    text = "tenant: st-marys\nroles:\n  a:\n    fly: [x]\n  b:\n    call: [x..y]\n"
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "policy.apply", "st-marys", {"policy": text})
    assert [fault.path for fault in refused.value.failure.fields] == ["line 4", "line 6"]


async def test_policy_of_too_many_roles_is_refused(process: Process, operator: Caller, account: str) -> None:
    del account
    text = policy("st-marys", **{f"r{n}": "call: [x]" for n in range(257)})
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "policy.apply", "st-marys", {"policy": text})
    assert refused.value.code == 422


async def test_platforms_own_policy_cannot_be_replaced(process: Process, operator: Caller) -> None:
    shown = await process.ask(operator, "policy.show", "platform")
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "policy.apply", "platform", {"policy": shown["policy"]})
    assert refused.value.code == 409


async def test_tenants_administrator_applies_a_policy_to_its_own_tenant_only(
    process: Process, operator: Caller, account: str
) -> None:
    del account
    await process.ask(operator, "tenants.create", "acme")
    admin = await process.issue(operator, "st-marys", "ann", "admin")
    assert (await process.ask(admin, "policy.apply", "st-marys", {"policy": NURSE + "\n"}))["epoch"] == 2
    for target in ("acme", "platform", "nowhere"):
        with pytest.raises(RefusedError) as refused:
            await process.ask(admin, "policy.apply", target, {"policy": NURSE})
        assert refused.value.code == 403


async def test_two_changes_in_one_second_have_rising_issue_dates(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    """SEC-9."""
    site.now = lambda: 2_000_000_000.5
    dates = []
    for n in range(3):
        text = policy("st-marys", nurse=f"call: [vitals.v{n}]")
        await process.ask(await process.platform_caller("operator", "o"), "policy.apply", "st-marys", {"policy": text})
        dates.append(decode_account(site.pusher.claims[account]).issued_at)
    del operator
    assert dates == [2_000_000_000, 2_000_000_001, 2_000_000_002]


async def test_issue_dates_rise_when_the_clock_goes_back(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    """SEC-9."""
    before = decode_account(site.pusher.claims[account]).issued_at
    now = site.now()
    site.now = lambda: now - 50
    await process.ask(operator, "policy.apply", "st-marys", {"policy": NURSE + "#"})
    assert decode_account(site.pusher.claims[account]).issued_at == before + 1
