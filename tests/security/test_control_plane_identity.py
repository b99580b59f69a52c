"""SEC-1, SEC-2, SEC-4 and P2 at the control plane's front door, on a real server with the accounts it makes itself.

What the templates stop never gets there; so that the door itself is tried, a role's template is widened first, by
claims that stolen keys of SYS and the operator would make.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from control_harness import RefusedError, policy
from fixtures_control import LiveCaller, LivePlatform
from fixtures_gate import RawTls, error_of, info_line
from fixtures_server import Realm

from authz.claims import ScopedSigningKey, UserClaims
from authz.creds import Creds
from authz.keys import AccountPublicKey, UserSeed
from authz.permissions import SubjectPermissions
from authz.subjects import overlaps
from authz.tokens import decode_account, decode_user, encode_account, encode_user
from runtime.bus.claims_push import ClaimsPusher
from runtime.bus.connection import connect
from runtime.bus.errors import ConnectFailedError, InvalidSubjectError
from runtime.bus.errors import RefusedError as ServerRefusedError
from runtime.bus.journal import AppendStream
from runtime.bus.message import Message
from runtime.control.tenantkeys import TenantKeyring

POLICY = policy(
    "st-marys",
    viewer='admin: ["policy.show"]',
    admin='admin: [">"]',
    nurse="call: [vitals.*]",
)
WIDE = SubjectPermissions(publish_allow=(">",), subscribe_allow=("_INBOX.{{subject()}}.>",))
SOON_S = 10
APPLY = "ai.admin.policy.apply.st-marys"


class Site:
    """A platform with the tenants `st-marys` and `acme`, and someone in each role of the first."""

    def __init__(self, live: LivePlatform, operator: LiveCaller, users: dict[str, Creds]) -> None:
        self.live, self.operator, self.users = live, operator, users

    def account(self, tenant: str = "st-marys") -> str:
        assert self.live.plane is not None
        view = self.live.plane.state.tenant(tenant)
        assert view is not None
        return view.record.account

    async def pusher(self) -> ClaimsPusher:
        return ClaimsPusher((await self.live.connect(self.live.platform.system_creds(time.time()))).connection)

    async def widen(self, role: str) -> None:
        """Let the server pass everything that the role sends."""

        pusher = await self.pusher()
        token = await pusher.lookup(self.account())
        assert token is not None
        claims = decode_account(token)
        keys = tuple(
            dataclasses.replace(key, template=WIDE) if isinstance(key, ScopedSigningKey) and key.role == role else key
            for key in claims.signing_keys
        )
        wide = dataclasses.replace(claims, signing_keys=keys, issued_at=claims.issued_at + 1)
        await pusher.push(encode_account(wide, self.live.platform.operator))

    async def raw(self, role: str, act: Callable[[RawTls], Any]) -> Any:
        """Run `act` with a raw client in a thread."""
        port = int(self.live.server.url.rsplit(":", 1)[1])

        def run() -> Any:
            with RawTls(port, self.users[role], self.live.endpoint().tls) as client:
                return act(client)

        return await asyncio.to_thread(run)

    async def code(self, role: str, subject: str, block: bytes = b"", body: bytes = b"{}") -> int:
        """The code that the door answers with."""

        def act(client: RawTls) -> Message:
            client.subscribe(client.inbox + "*")
            client.publish(subject, body, block=block, reply=client.inbox + "1")
            answer = client.receive()
            return Message(answer.subject, answer.reply, answer.payload, answer.header_block)

        return error_of(await self.raw(role, act))

    async def epoch(self) -> int:
        epoch: int = (await self.operator.ask("policy.show", "st-marys"))["epoch"]
        return epoch


@pytest.fixture
async def site(live: LivePlatform) -> Site:
    operator = await live.operator()
    await operator.ask("tenants.create", "st-marys", {"policy": POLICY})
    await operator.ask("tenants.create", "acme")
    users = {role: await operator.issue("st-marys", role, role) for role in ("viewer", "admin", "nurse")}
    return Site(live, operator, users)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not happened():  # noqa: ASYNC110 - only the process under attack knows when
            await asyncio.sleep(0.01)


# --- SEC-1 ----------------------------------------------------------------------------------------------------------


async def test_sec_1a_forged_identity_changes_no_policy(site: Site) -> None:
    """A viewer whose template lets everything through writes an administrator's line, in each way that passes."""
    await site.widen("viewer")
    forged = info_line(site.users["admin"], site.account())
    start, end = b"NATS/1.0\r\n", b"\r\n\r\n"
    attacks = {
        "none": b"",
        "plain": start + forged + end,
        "lower case": start + forged.lower() + end,
        "doubled name": start + b"X: Nats-Request-InfoNats-Request-Info: a\r\n" + forged + b"\r\nY: zz",
        "space before the colon": start + forged.replace(b"Info:", b"Info :") + b"\r\nY: zz",
        "unterminated": start + b"X: y",
        "early end": start + forged.lower() + end + end,
    }
    before = await site.epoch()
    codes = {name: await site.code("viewer", APPLY, block) for name, block in attacks.items()}
    assert codes.pop("none") == codes.pop("plain") == 403
    assert set(codes.values()) == {401}
    assert await site.epoch() == before


async def test_sec_1c_deputys_answer_and_a_message_without_reply_change_nothing(site: Site) -> None:
    """The server's own services answer whoever asks, to wherever the asker says; here, into the import."""
    assert site.live.plane is not None
    service = site.live.plane._service
    before = await site.epoch()
    body = b'{"policy": "tenant: st-marys\\nroles: {}\\n"}'

    def act(client: RawTls) -> None:
        client.publish("$SYS.REQ.USER.INFO", b"", reply=APPLY)
        client.publish(APPLY, body)
        client.flush()

    await site.raw("admin", act)
    await until(lambda: service.dropped == 2)
    assert await site.epoch() == before


async def test_sec_1b_user_whom_only_the_server_still_believes_is_not_authenticated(site: Site) -> None:
    """P3: older claims, pushed by whoever stole the key of SYS, bring a revoked user back to the server only."""
    old = await (await site.pusher()).lookup(site.account())
    assert old is not None
    assert await site.code("viewer", "ai.admin.policy.show.st-marys") == 200
    await site.operator.ask("credentials.revoke", "st-marys", {"name": "viewer"})
    await (await site.pusher()).push(old)
    assert await site.code("viewer", "ai.admin.policy.show.st-marys") == 401


async def test_sec_1b_role_that_only_the_server_still_knows_is_not_authenticated(site: Site) -> None:
    old = await (await site.pusher()).lookup(site.account())
    assert old is not None
    await site.operator.ask("policy.apply", "st-marys", {"policy": policy("st-marys", admin='admin: [">"]')})
    await (await site.pusher()).push(old)
    assert await site.code("viewer", "ai.admin.policy.show.st-marys") == 401
    assert await site.code("admin", "ai.admin.policy.show.st-marys") == 200


async def test_sec_1b_suspended_tenants_user_is_not_authenticated_even_if_the_server_lets_it_in(site: Site) -> None:
    old = await (await site.pusher()).lookup(site.account())
    assert old is not None
    await site.operator.ask("tenants.suspend", "st-marys")
    await (await site.pusher()).push(old)
    assert await site.code("admin", "ai.admin.policy.show.st-marys") == 401


async def test_sec_1b_user_outside_every_role_is_kept_out_by_the_operators_rule(site: Site) -> None:
    """The operator's token demands signing keys: even a tenant's own identity key makes no user beside the roles."""
    assert site.live.plane is not None
    view = site.live.plane.state.tenant("st-marys")
    assert view is not None
    identity = TenantKeyring(site.live.keystore).load("st-marys", view.record.roles).identity
    seed = UserSeed.generate()
    claims = UserClaims(
        name="root",
        subject=seed.public,
        issuer=identity.public,
        issuer_account=AccountPublicKey.parse(site.account()),
        issued_at=int(time.time()),
        expires_at=int(time.time()) + 60,
        permissions=SubjectPermissions(publish_allow=(">",), subscribe_allow=(">",)),
    )
    with pytest.raises(ConnectFailedError) as caught:
        await site.live.connect(Creds(jwt=encode_user(claims, identity), seed=seed))
    assert caught.value.reason == "auth"


# --- P2: who may administer whom ------------------------------------------------------------------------------------


async def test_p2_administrator_reaches_no_other_tenant_even_when_the_server_lets_it_through(site: Site) -> None:
    with pytest.raises(ServerRefusedError):
        await (await site.live.connect(site.users["admin"])).ask("policy.show", "acme")
    await site.widen("admin")
    admin = await site.live.connect(site.users["admin"])
    answers = {}
    for command, target in (
        ("policy.show", "acme"),
        ("policy.show", "nobody"),
        ("policy.show", "platform"),
        ("credentials.issue", "acme"),
        ("credentials.list", "platform"),
        ("tenants.show", "acme"),
        ("tenants.list", "all"),
        ("tenants.delete", "st-marys"),
        ("agents.deploy", "acme"),
        ("agents.deploy", "st-marys"),
        ("agents.stop", "st-marys"),
        ("status.show", "all"),
        ("hosts.gate", "acme"),
        ("hosts.sync", "local"),
        ("audit.append", "local"),
    ):
        with pytest.raises(RefusedError) as refused:
            await admin.ask(command, target)
        answers[command, target] = refused.value.code
    assert set(answers.values()) == {403}
    with pytest.raises(RefusedError) as known:
        await admin.ask("policy.show", "acme")
    with pytest.raises(RefusedError) as unknown:
        await admin.ask("policy.show", "nobody")
    assert known.value.failure.error == unknown.value.failure.error


async def test_p2_role_may_ask_nothing_that_its_policy_does_not_grant_even_when_the_server_lets_it_through(
    site: Site,
) -> None:
    await site.widen("nurse")
    nurse = await site.live.connect(site.users["nurse"])
    for command in ("policy.show", "policy.apply", "credentials.issue", "credentials.list", "agents.list", "no.such"):
        with pytest.raises(RefusedError) as refused:
            await nurse.ask(command, "st-marys")
        assert refused.value.code == 403


# --- SEC-2 and SEC-4: nobody's credentials reach JetStream, the system, or what is CONTROL's -------------------------

NEVER_PUBLISHED = [
    *(f"$JS.API.STREAM.{verb}.grab" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "INFO", "MSG.GET")),
    *(f"$JS.API.CONSUMER.{verb}.KV_tenants.c" for verb in ("CREATE", "DURABLE.CREATE", "DELETE", "MSG.NEXT")),
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.INFO.KV_tenants",
    "$JS.API.DIRECT.GET.KV_tenants.$KV.tenants.acme",
    "$JS.ACK.KV_tenants.c.1.1.1.1.0",
    "$JS.ACK.hub.hash.KV_tenants.c.1.1.1.1.0.x",
    "$KV.tenants.acme",
    "$O.snapshots.C.x",
    "audit.records",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.CLAIMS.DELETE",
    "$SYS.REQ.CLAIMS.LIST",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS.REQ.ACCOUNT.PING.CONNZ",
    "_INBOX.x",
    "_R_.x",
]
NEVER_HEARD = [
    ">",
    "*.>",
    "_INBOX.>",
    "_R_.>",
    "$SYS.>",
    "$JS.>",
    "$KV.>",
    "$O.>",
    "tenant.*.admin.>",
    "tenant.*.capabilities.>",
    "ai.admin.>",
    "ai.capabilities.>",
    "ai.streams.>",
]


async def everybody(site: Site) -> dict[str, LiveCaller]:
    """One of each kind of credential that the control plane issues."""
    host = await site.live.host("attacker")
    seed = UserSeed.generate()
    issued = await host.ask("hosts.gate", "st-marys", {"user": seed.public.text})
    creds = {**site.users, "gate": Creds(jwt=issued["jwt"], seed=seed)}
    callers = {name: await site.live.connect(each) for name, each in creds.items()}
    return {"host": host, "operator": site.operator, **callers}


async def refusals(caller: LiveCaller, published: Iterable[str], heard: Iterable[str]) -> dict[str, bool]:
    """Of each subject, whether the server refuses it."""
    refused = {}
    for subject in published:
        try:
            await caller.connection.request(subject, b"{}", timeout=0.5)
        except ServerRefusedError:
            refused[f"pub {subject}"] = True
        except Exception:  # noqa: BLE001 - any other outcome means that the server let it through
            refused[f"pub {subject}"] = False
        else:
            refused[f"pub {subject}"] = False
    for subject in heard:
        try:
            await (await caller.connection.subscribe(subject, lambda _: None)).unsubscribe()
        except ServerRefusedError:
            refused[f"sub {subject}"] = True
        else:
            refused[f"sub {subject}"] = False
    return refused


async def test_sec_4_nobodys_credentials_reach_jetstream_the_system_or_others_answers(site: Site) -> None:
    for name, caller in (await everybody(site)).items():
        refused = await refusals(caller, NEVER_PUBLISHED, NEVER_HEARD)
        assert [subject for subject, is_refused in refused.items() if not is_refused] == [], name


async def test_sec_9_not_even_the_control_plane_pushes_claims_with_its_other_credential(site: Site) -> None:
    creds = site.live.platform.control_creds(time.time())
    control = LiveCaller(await connect(site.live.endpoint(), lambda: creds, name="t"), creds)
    try:
        refused = await refusals(control, ["$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE"], ["$SYS.>", "_INBOX.>"])
    finally:
        await control.connection.close()
    assert all(refused.values())


async def test_sec_4_no_stream_of_the_control_plane_overlaps_what_calls_or_answers_travel_on(site: Site) -> None:
    """A stream on `ai.>` would answer each call with its own acknowledgement."""
    creds = site.live.platform.control_creds(time.time())
    control = await connect(site.live.endpoint(1 << 20), lambda: creds, name="t")
    try:
        streams = await control.jetstream().streams_info()
    finally:
        await control.close()
    captured = {subject for stream in streams for subject in stream.config.subjects or ()}
    assert len(captured) >= 6
    reserved = ("ai.>", "tenant.>", "_INBOX.>", "_R_.>", "$SYS.>", "$JS.>")
    assert [(a, b) for a in captured for b in reserved if overlaps(a, b)] == []


@pytest.mark.parametrize(
    "subject", ["ai.admin.policy.show", "ai.capabilities.x", "ai.streams.x", "tenant.a.admin.policy.show.a", "_INBOX.x"]
)
async def test_sec_4_stream_over_what_calls_or_answers_travel_on_is_not_made(realm: Realm, subject: str) -> None:
    """The server would make it, so the one place that makes streams refuses to."""
    connection = await realm.connect(realm.user(realm.accounts["ALPHA"]))
    with pytest.raises(InvalidSubjectError):
        await AppendStream.open(connection, "grab", subject)
    streams = await connection.jetstream().streams_info()
    assert streams == []


# --- SEC-3 and SEC-8: what is issued --------------------------------------------------------------------------------


async def test_sec_3_no_credential_is_issued_to_a_name_that_means_something_in_a_template(site: Site) -> None:
    for name in ("*", ">", "a.b", "a b", "", "{{subject()}}", "x" * 65, "\u0430nn", "ann\r\n"):
        with pytest.raises(RefusedError) as refused:
            await site.operator.issue("st-marys", name, "nurse")
        assert refused.value.code in {400, 422}, name
    listed = await site.operator.ask("credentials.list", "st-marys")
    assert {each["name"] for each in listed["credentials"]} == {"viewer", "admin", "nurse"}


async def test_sec_3_no_credential_carries_tags_for_a_template_to_use(site: Site) -> None:
    assert {decode_user(creds.jwt, now=None).tags for creds in site.users.values()} == {()}
    callers = await everybody(site)
    assert {decode_user(caller.creds.jwt, now=None).tags for caller in callers.values()} == {()}


async def test_sec_8_certificate_ends_no_later_than_the_token_that_it_was_issued_with(site: Site) -> None:
    from cryptography import x509

    from certs.leaves import new_client_key_and_csr

    for ttl_s in (60, 24 * 3600):
        _, csr = new_client_key_and_csr()
        seed = UserSeed.generate()
        body = {"name": "ann", "role": "nurse", "ttl_s": ttl_s, "user": seed.public.text, "csr": csr.decode()}
        issued = await site.operator.ask("credentials.issue", "st-marys", body)
        certificate = x509.load_pem_x509_certificate(issued["certificate"].encode())
        expires_at = decode_user(issued["jwt"], now=None).expires_at
        assert expires_at is not None
        assert certificate.not_valid_after_utc.timestamp() <= expires_at
