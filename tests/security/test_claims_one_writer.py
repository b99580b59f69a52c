"""SEC-9, P3: revocations take hold at once, and nothing brings a revoked user back."""

import asyncio
import time
from pathlib import Path

import pytest
from control_harness import RefusedError, policy
from fixtures_control import LivePlatform

from authz.creds import Creds
from authz.keys import UserSeed
from authz.tokens import decode_account, decode_user
from runtime.bus.claims_push import ClaimsPusher
from runtime.bus.connection import connect
from runtime.bus.errors import ConnectFailedError
from runtime.bus.errors import RefusedError as ServerRefusedError
from runtime.control.claims import ClaimsWriter
from runtime.control.errors import ClaimsRollbackError

POLICY = policy("st-marys", nurse="call: [vitals.*]", admin='admin: ["policy.*"]')
SOON_S = 10


class Watched:
    """A connection that tells when the server cut it for good."""

    def __init__(self) -> None:
        self.cut = asyncio.Event()

    async def is_cut(self) -> None:
        async with asyncio.timeout(SOON_S):
            await self.cut.wait()


async def watch(live: LivePlatform, creds: Creds) -> Watched:
    watched = Watched()
    await live.connect(creds, on_closed=watched.cut.set)
    return watched


async def is_refused(live: LivePlatform, creds: Creds) -> bool:
    try:
        await live.connect(creds)
    except ConnectFailedError as error:
        return error.reason == "auth"
    return False


async def account_of(live: LivePlatform, tenant: str) -> str:
    assert live.plane is not None
    view = live.plane.state.tenant(tenant)
    assert view is not None
    return view.record.account


async def claims_on_server(live: LivePlatform, account: str) -> str:
    token = await (await pusher(live)).lookup(account)
    assert token is not None
    return token


async def pusher(live: LivePlatform) -> ClaimsPusher:
    """What someone who stole the credential of SYS could do."""
    return ClaimsPusher((await live.connect(live.platform.system_creds(time.time()))).connection)


async def test_revoked_user_is_cut_while_connected_and_kept_out(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "ann", "nurse")
    watched = await watch(live, creds)

    await operator.ask("credentials.revoke", "st-marys", {"name": "ann"})

    await watched.is_cut()
    assert await is_refused(live, creds)


async def test_revoked_name_is_issued_anew_with_another_key(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    seed = UserSeed.generate()
    old = await operator.issue("st-marys", "ann", "nurse", seed=seed)
    await operator.ask("credentials.revoke", "st-marys", {"name": "ann"})

    with pytest.raises(RefusedError) as refused:
        await operator.issue("st-marys", "ann", "nurse", seed=seed)
    new = await operator.issue("st-marys", "ann", "nurse")

    assert refused.value.code == 409
    assert await is_refused(live, old)
    await live.connect(new)
    assert decode_user(new.jwt, now=None).issued_at > decode_user(old.jwt, now=None).issued_at


async def test_reissue_to_a_revoked_name_is_dated_in_a_later_second_than_the_revocation(live: LivePlatform) -> None:
    """In the same second the revocation would cover the new token too, should it name the user's key again."""
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    account = await account_of(live, "st-marys")
    for _ in range(3):  # whatever the fraction of the second that it begins in
        old = await operator.issue("st-marys", "ann", "nurse")
        await operator.ask("credentials.revoke", "st-marys", {"name": "ann"})
        new = await operator.issue("st-marys", "ann", "nurse")
        revoked_at = decode_account(await claims_on_server(live, account)).revocations[old.seed.public.text]
        assert decode_user(new.jwt, now=None).issued_at > revoked_at


async def test_revocation_outlasts_later_changes_of_the_claims(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    ann = await operator.issue("st-marys", "ann", "nurse")
    bea = await operator.issue("st-marys", "bea", "nurse")
    for name in ("ann", "bea"):
        await operator.ask("credentials.revoke", "st-marys", {"name": name})
    await operator.ask("policy.apply", "st-marys", {"policy": POLICY + "# changed\n"})
    await operator.ask("tenants.suspend", "st-marys")
    await operator.ask("tenants.resume", "st-marys")
    revocations = decode_account(await claims_on_server(live, await account_of(live, "st-marys"))).revocations
    assert set(revocations) == {ann.seed.public.text, bea.seed.public.text}
    assert [await is_refused(live, creds) for creds in (ann, bea)] == [True, True]


async def test_issue_dates_on_the_server_rise_with_every_change_within_one_second(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    account = await account_of(live, "st-marys")
    dates = [decode_account(await claims_on_server(live, account)).issued_at]
    for n in range(5):
        await operator.ask("policy.apply", "st-marys", {"policy": POLICY + f"# {n}\n"})
        dates.append(decode_account(await claims_on_server(live, account)).issued_at)
    assert dates == sorted(set(dates))


async def test_server_believes_older_claims_so_our_writer_refuses_to_push_them(live: LivePlatform) -> None:
    """The attack, and why SYS has one user: older claims, validly signed, bring a revoked user back."""
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "ann", "nurse")
    account = await account_of(live, "st-marys")
    older = await claims_on_server(live, account)
    await operator.ask("credentials.revoke", "st-marys", {"name": "ann"})
    newer = await claims_on_server(live, account)

    writer = ClaimsWriter(await pusher(live))
    await writer.push(newer)
    with pytest.raises(ClaimsRollbackError):
        await writer.push(older)
    assert await is_refused(live, creds)

    await (await pusher(live)).push(older)
    assert not await is_refused(live, creds)


async def test_rollback_in_the_resolver_of_a_server_that_was_away_is_undone(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "ann", "nurse")
    account = await account_of(live, "st-marys")
    older = await claims_on_server(live, account)
    await operator.ask("credentials.revoke", "st-marys", {"name": "ann"})

    await live.server.kill()
    stored = resolver_file(live.folder, account)
    stored.write_text(older, encoding="ascii")
    await live.start_server()

    async with asyncio.timeout(SOON_S):
        while not await is_refused(live, creds):  # noqa: ASYNC110 - only the server knows when
            await asyncio.sleep(0.05)


async def test_start_of_the_control_plane_undoes_a_rollback(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "ann", "nurse")
    account = await account_of(live, "st-marys")
    older = await claims_on_server(live, account)
    await operator.ask("credentials.revoke", "st-marys", {"name": "ann"})
    await live.stop_plane()
    await (await pusher(live)).push(older)
    assert not await is_refused(live, creds)

    await live.start_plane()

    assert await is_refused(live, creds)


async def test_suspended_tenant_is_cut_kept_out_and_comes_back(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "ann", "nurse")
    watched = await watch(live, creds)

    await operator.ask("tenants.suspend", "st-marys")
    await watched.is_cut()
    assert await is_refused(live, creds)

    await operator.ask("tenants.resume", "st-marys")
    assert not await is_refused(live, creds)


async def test_deleted_tenant_is_cut_and_gone_from_the_server(live: LivePlatform) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "ann", "nurse")
    account = await account_of(live, "st-marys")
    watched = await watch(live, creds)

    await operator.ask("tenants.delete", "st-marys")

    await watched.is_cut()
    assert await is_refused(live, creds)
    assert account not in await (await pusher(live)).accounts()
    await live.server.kill()
    await live.start_server()
    assert await is_refused(live, creds)


async def test_role_that_went_takes_its_users_with_it_and_its_return_does_not_bring_them_back(
    live: LivePlatform,
) -> None:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    creds = await operator.issue("st-marys", "ann", "nurse")
    watched = await watch(live, creds)

    await operator.ask("policy.apply", "st-marys", {"policy": policy("st-marys", other="call: [x]")})
    await watched.is_cut()
    await operator.ask("policy.apply", "st-marys", {"policy": POLICY})
    assert await is_refused(live, creds)


async def test_hosts_credential_in_gate_only_hears_its_tenant(live: LivePlatform) -> None:
    """SEC-2."""
    operator, host = await live.operator(), await live.host()
    for tenant in ("st-marys", "acme"):
        await operator.ask("tenants.create", tenant)
    seed = UserSeed.generate()
    issued = await host.ask("hosts.gate", "acme", {"user": seed.public.text})
    gate = await live.connect(Creds(jwt=issued["jwt"], seed=seed))
    mine, other = await account_of(live, "acme"), await account_of(live, "st-marys")

    await gate.connection.subscribe(f"tenant.{mine}.capabilities.>", lambda _: None, queue="hosts")
    for subject in (f"tenant.{other}.capabilities.>", "tenant.*.capabilities.>", ">", "_R_.>"):
        with pytest.raises(ServerRefusedError):
            await gate.connection.subscribe(subject, lambda _: None)
    with pytest.raises(ServerRefusedError):
        await gate.connection.request(f"tenant.{mine}.capabilities.x", b"{}", timeout=5)


async def test_what_a_host_asked_for_is_cut_when_the_host_is_revoked(live: LivePlatform) -> None:
    operator, host = await live.operator(), await live.host()
    await operator.ask("tenants.create", "acme")
    seed = UserSeed.generate()
    issued = await host.ask("hosts.gate", "acme", {"user": seed.public.text})
    watched = await watch(live, Creds(jwt=issued["jwt"], seed=seed))

    await operator.ask("credentials.revoke", "platform", {"name": "local"})

    await watched.is_cut()


async def test_only_the_control_plane_may_speak_in_its_accounts(live: LivePlatform) -> None:
    """SEC-2: nobody else's credential is issued there; its own can't listen to other accounts' inboxes."""
    control = await connect(live.endpoint(), lambda: live.platform.control_creds(time.time()), name="t")
    try:
        for subject in ("_INBOX.>", ">", "$SYS.>"):
            with pytest.raises(ServerRefusedError):
                await control.subscribe(subject, lambda _: None)
    finally:
        await control.close()


def resolver_file(folder: Path, account: str) -> Path:
    (path,) = (folder / "resolver").rglob(f"{account}.jwt")
    return path
