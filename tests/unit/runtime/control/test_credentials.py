import asyncio
import dataclasses
import datetime as dt

import pytest
from control_harness import QUICK, Caller, Process, RefusedError, Site, policy
from cryptography import x509

from authz.keys import AccountSeed, UserSeed
from authz.tokens import decode_account, decode_user
from certs.leaves import new_client_key_and_csr
from runtime.control.limits import ControlLimits

POLICY = policy("st-marys", nurse="call: [vitals.*]", admin='admin: ["credentials.*"]')


@pytest.fixture
async def account(process: Process, operator: Caller) -> str:
    created = await process.ask(operator, "tenants.create", "st-marys", {"policy": POLICY})
    text: str = created["account"]
    return text


def order(**changes: object) -> dict[str, object]:
    _, csr = new_client_key_and_csr()
    whole: dict[str, object] = {
        "name": "ann",
        "role": "nurse",
        "ttl_s": 60,
        "user": UserSeed.generate().public.text,
        "csr": csr.decode(),
    }
    return whole | changes


async def test_issued_token_is_scoped_to_its_role_and_outlives_its_certificate(
    process: Process, operator: Caller, account: str
) -> None:
    body = order()
    issued = await process.ask(operator, "credentials.issue", "st-marys", body)

    claims = decode_user(issued["jwt"], now=None)
    assert (claims.account.text, claims.subject.text, claims.name) == (account, body["user"], "ann")
    assert claims.permissions is None
    assert claims.expires_at == issued["expires_at"] == claims.issued_at + 60
    certificate = x509.load_pem_x509_certificate(issued["certificate"].encode())
    assert certificate.not_valid_after_utc <= dt.datetime.fromtimestamp(issued["expires_at"], tz=dt.UTC)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://garrison/st-marys/ann"]
    assert issued["ca"].startswith("-----BEGIN CERTIFICATE-----")


LOOK_ALIKE = "nurse\u0430"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "a.b"}, 422),
        ({"name": "a b"}, 422),
        ({"name": "*"}, 422),
        ({"name": ">"}, 422),
        ({"name": "$SYS"}, 422),
        ({"name": "x" * 300}, 422),
        ({"name": LOOK_ALIKE}, 422),
        ({"name": ""}, 422),
        ({"name": "ann\n"}, 422),
        ({"role": "surgeon"}, 404),
        ({"role": "nurs*"}, 404),
        ({"role": LOOK_ALIKE}, 404),
        ({"ttl_s": 0}, 422),
        ({"ttl_s": -5}, 422),
        ({"ttl_s": 1}, 422),
        ({"ttl_s": 10**9}, 422),
        ({"ttl_s": True}, 422),
        ({"ttl_s": "60"}, 422),
        ({"user": "UAAA"}, 422),
        ({"user": AccountSeed.generate().public.text}, 422),
        ({"user": UserSeed.generate().reveal()}, 422),
        ({"csr": "-----BEGIN CERTIFICATE REQUEST-----"}, 422),
        ({"admin": True}, 422),
    ],
)
async def test_bad_order_is_refused_with_one_clear_error_and_leaves_no_record(
    process: Process, operator: Caller, account: str, changes: dict[str, object], code: int
) -> None:
    del account
    site = process.site
    before = await site.storage.credentials.all()
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "credentials.issue", "st-marys", order(**changes))
    assert refused.value.code == code
    assert "\n" not in refused.value.failure.error
    assert "SU" not in refused.value.failure.error  # a seed sent by mistake is not repeated
    assert await site.storage.credentials.all() == before


async def test_revoked_user_is_in_the_accounts_claims_and_refused_here(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    admin = await process.issue(operator, "st-marys", "ann", "admin")
    assert await process.ask(admin, "credentials.list", "st-marys")

    revoked = await process.ask(operator, "credentials.revoke", "st-marys", {"name": "ann"})

    assert revoked == {"revoked": [admin.user]}
    assert (
        decode_account(site.pusher.claims[account]).revocations[admin.user]
        >= decode_user(admin.jwt, now=None).issued_at
    )
    with pytest.raises(RefusedError) as refused:
        await process.ask(admin, "credentials.list", "st-marys")
    assert refused.value.code == 401
    listed = (await process.ask(operator, "credentials.list", "st-marys"))["credentials"]
    assert [(c["name"], c["status"], c["issued_by"]) for c in listed] == [("ann", "revoked", "root")]


async def test_revocation_survives_a_restart(site: Site, process: Process, operator: Caller, account: str) -> None:
    del account
    admin = await process.issue(operator, "st-marys", "ann", "admin")
    await process.ask(operator, "credentials.revoke", "st-marys", {"user": admin.user})
    await process.plane.stop()
    again = await site.start()
    with pytest.raises(RefusedError) as refused:
        await again.ask(admin, "credentials.list", "st-marys")
    assert refused.value.code == 401


async def test_revoking_twice_says_the_same(process: Process, operator: Caller, account: str) -> None:
    del account
    nurse = await process.issue(operator, "st-marys", "ann", "nurse")
    first = await process.ask(operator, "credentials.revoke", "st-marys", {"name": "ann"})
    assert (
        await process.ask(operator, "credentials.revoke", "st-marys", {"name": "ann"})
        == first
        == {"revoked": [nurse.user]}
    )


@pytest.mark.parametrize("body", [{}, {"name": "x", "user": "y"}, {"name": "nobody"}, {"user": "U" * 56}])
async def test_revoking_nobody_is_refused(
    process: Process, operator: Caller, account: str, body: dict[str, object]
) -> None:
    del account
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "credentials.revoke", "st-marys", body)
    assert refused.value.code in {404, 422}


async def test_reissue_after_a_revocation_is_dated_in_a_later_second(
    process: Process, operator: Caller, account: str
) -> None:
    """SEC-9."""
    del account
    first = await process.issue(operator, "st-marys", "ann", "nurse")
    await process.ask(operator, "credentials.revoke", "st-marys", {"name": "ann"})
    view = process.plane.state.tenant("st-marys")
    assert view is not None
    again = await process.issue(operator, "st-marys", "ann", "nurse")
    assert decode_user(again.jwt, now=None).issued_at > view.record.revocations[first.user]


async def test_revoked_key_stays_banned(process: Process, operator: Caller, account: str) -> None:
    """SEC-9."""
    del account
    body = order()
    await process.ask(operator, "credentials.issue", "st-marys", body)
    await process.ask(operator, "credentials.revoke", "st-marys", {"name": "ann"})
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "credentials.issue", "st-marys", body)
    assert refused.value.code == 409


async def test_key_is_not_shared_between_names(process: Process, operator: Caller, account: str) -> None:
    del account
    body = order()
    await process.ask(operator, "credentials.issue", "st-marys", body)
    await process.ask(operator, "credentials.issue", "st-marys", body)  # a repeat, as after a lost answer
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "credentials.issue", "st-marys", {**body, "name": "eve"})
    assert refused.value.code == 409
    listed = (await process.ask(operator, "credentials.list", "st-marys"))["credentials"]
    assert len(listed) == 1


async def test_revocation_is_kept_until_the_last_token_it_covers_has_expired(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    """SEC-9."""
    old = await process.issue(operator, "st-marys", "ann", "nurse", ttl_s=60)
    long = await process.issue(operator, "st-marys", "bea", "nurse", ttl_s=900)
    third = await process.issue(operator, "st-marys", "cid", "nurse", ttl_s=900)
    for name in ("ann", "bea"):
        await process.ask(operator, "credentials.revoke", "st-marys", {"name": name})
    start = site.now()
    site.now = lambda: start + 120
    await process.ask(operator, "credentials.revoke", "st-marys", {"name": "cid"})
    revocations = decode_account(site.pusher.claims[account]).revocations
    assert old.user not in revocations
    assert {long.user, third.user} <= set(revocations)


async def test_gate_credential_only_listens_to_one_tenant_and_ends_with_its_host(
    process: Process, host: Caller, operator: Caller, account: str
) -> None:
    """SEC-2."""
    short = await process.platform_caller("host", "brief", ttl_s=30)
    for caller in (host, short):
        issued = await process.ask(caller, "hosts.gate", "st-marys", {"user": UserSeed.generate().public.text})
        claims = decode_user(issued["jwt"], now=None)
        assert claims.permissions is not None
        assert claims.permissions.publish_deny == (">",)
        assert claims.permissions.subscribe_allow == (f"tenant.{account}.capabilities.>",)
        assert claims.permissions.responses is not None
        assert claims.permissions.responses.max == 1
        ends = decode_user(caller.jwt, now=None).expires_at
        assert claims.expires_at is not None
        assert ends is not None
        assert claims.expires_at <= ends
    listed = (await process.ask(operator, "credentials.list", "st-marys"))["credentials"]
    assert listed == []


async def test_what_a_host_asked_for_is_revoked_with_the_host(
    site: Site, process: Process, host: Caller, operator: Caller, account: str
) -> None:
    del account
    user = UserSeed.generate().public.text
    await process.ask(host, "hosts.gate", "st-marys", {"user": user})
    await process.ask(operator, "credentials.revoke", "platform", {"name": "local"})
    gate = decode_account(site.pusher.claims[site.platform.gate.public.text])
    assert user in gate.revocations


async def test_last_seen_is_told(process: Process, operator: Caller, account: str) -> None:
    del account
    admin = await process.issue(operator, "st-marys", "ann", "admin")
    listed = (await process.ask(admin, "credentials.list", "st-marys"))["credentials"]
    assert listed[0]["last_seen"] is not None


async def test_agents_role_is_not_given_to_people(process: Process, operator: Caller, account: str) -> None:
    del account
    text = POLICY + "agents:\n  vitals:\n    publish: [vitals.alert]\n"
    await process.ask(operator, "policy.apply", "st-marys", {"policy": text})
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "credentials.issue", "st-marys", order(role="agent:vitals"))
    assert refused.value.code == 422


async def test_credentials_are_bounded_so_that_all_of_them_can_be_revoked() -> None:
    site = Site(dataclasses.replace(QUICK, credentials_max=3, credentials_kept_max=4))
    process = await site.start()
    operator = await process.platform_caller("operator", "root")
    await process.ask(operator, "tenants.create", "st-marys", {"policy": POLICY})
    for name in ("a", "b", "c"):
        await process.issue(operator, "st-marys", name, "nurse", ttl_s=60)
    with pytest.raises(RefusedError) as refused:
        await process.issue(operator, "st-marys", "d", "nurse")
    assert refused.value.code == 429
    start = site.now()
    site.now = lambda: start + 120
    for name in ("d", "e"):
        await process.issue(operator, "st-marys", name, "nurse")
    listed = (await process.ask(operator, "credentials.list", "st-marys"))["credentials"]
    assert [c["name"] for c in listed if c["status"] == "active"] == ["d", "e"]
    assert len(listed) == 4
    await site.close()


def test_every_credential_that_may_exist_can_be_revoked_at_once() -> None:
    limits = ControlLimits()
    one = len(f'"{UserSeed.generate().public}":1800000000,')
    assert one * (1 + 4 / 3) <= limits.revocation_bytes  # in the record, and in the claims, which are base64
    all_revoked = limits.revocation_bytes * limits.credentials_max
    assert all_revoked + limits.policy_record_bytes_max <= limits.record_bytes_max < 1024 * 1024


async def test_policy_that_would_leave_no_room_for_revocations_is_refused(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    grants = ", ".join(f"a{n:03}.{'x' * 50}" for n in range(60))
    wide = "tenant: st-marys\nroles:\n  base:\n    call: [" + grants + "]\n"
    wide += "".join(f"  r{n}:\n    inherits: [base]\n    call: [x]\n" for n in range(100))
    claims = site.pusher.claims[account]
    with pytest.raises(RefusedError) as refused:
        await process.ask(operator, "policy.apply", "st-marys", {"policy": wide})
    assert refused.value.code == 413
    assert site.pusher.claims[account] == claims


async def test_tenant_whose_keys_are_damaged_does_not_keep_the_others_from_starting(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    del account
    await process.ask(operator, "tenants.create", "acme")
    await process.plane.stop()
    site.keys.put("tenant/st-marys", b"damaged")
    again = await site.start()
    await again.issue(operator, "acme", "ann", "admin")
    with pytest.raises(RefusedError) as refused:
        await again.issue(operator, "st-marys", "ann", "nurse")
    assert refused.value.code == 500


async def test_request_that_waited_while_its_sender_was_revoked_is_not_carried_out(
    site: Site, process: Process, operator: Caller, account: str
) -> None:
    del account
    text = policy("st-marys", nurse="call: [x]", admin='admin: ["credentials.*", "policy.*"]')
    await process.ask(operator, "policy.apply", "st-marys", {"policy": text})
    mallory = await process.issue(operator, "st-marys", "mallory", "admin")
    asked = [
        ("credentials.issue", order()),
        ("policy.apply", {"policy": text + "#"}),
        ("credentials.revoke", {"name": "x"}),
    ]
    async with process.plane._changes.turn("st-marys"):
        revoking = asyncio.create_task(process.ask(operator, "credentials.revoke", "st-marys", {"name": "mallory"}))
        await asyncio.sleep(0.01)
        late = [asyncio.create_task(process.ask(mallory, command, "st-marys", body)) for command, body in asked]
        await asyncio.sleep(0.01)
    await revoking
    for outcome in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(outcome, RefusedError)
        assert outcome.code == 401
    assert len(await site.storage.credentials.all()) == 2  # the operator's and mallory's


async def test_host_that_is_revoked_while_it_asks_gets_nothing(
    process: Process, host: Caller, operator: Caller, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del account
    site = process.site
    create, reached, go_on = site.storage.credentials.create, asyncio.Event(), asyncio.Event()

    async def slowly(key: str, value: bytes) -> int:
        reached.set()
        await go_on.wait()
        revision: int = await create(key, value)
        return revision

    monkeypatch.setattr(site.storage.credentials, "create", slowly)
    body = {"user": UserSeed.generate().public.text}
    asking = asyncio.create_task(process.ask(host, "hosts.gate", "st-marys", body))
    await reached.wait()
    await process.ask(operator, "credentials.revoke", "platform", {"name": "local"})
    go_on.set()
    with pytest.raises(RefusedError) as refused:
        await asking
    assert refused.value.code == 401
