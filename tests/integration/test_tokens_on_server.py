"""A real nats-server accepts the tokens that `authz` makes, and enforces what they say; it refuses those it should."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from toyplatform import HOST, NURSE, RawClient, ServerRefusedError, Tenant, ToyPlatform, new_tenant

from authz.creds import Creds, format_creds
from authz.keys import AccountSeed, UserSeed
from authz.permissions import SubjectPermissions
from authz.requestinfo import read_request_info
from authz.tokens import decode_user

VIOLATION = "Permissions Violation"


@pytest.fixture(scope="module")
def acme() -> Tenant:
    return new_tenant("acme")


@pytest.fixture(scope="module")
def platform(acme: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyPlatform]:
    with ToyPlatform(acme).running(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def alice(platform: ToyPlatform, acme: Tenant) -> Iterator[RawClient]:
    with platform.connect(acme.user()) as client:
        yield client


@pytest.fixture
def host(platform: ToyPlatform) -> Iterator[RawClient]:
    with platform.connect(platform.host()) as client:
        client.subscribe("tenant.*.capabilities.>")
        yield client


def refused(platform: ToyPlatform, creds: Creds) -> bool:
    try:
        with platform.connect(creds):
            return False
    except (ServerRefusedError, ConnectionError):
        return True


async def test_nats_py_connects_with_a_creds_file(platform: ToyPlatform, acme: Tenant, tmp_path: Path) -> None:
    creds = acme.user()
    (tmp_path / "user.creds").write_text(format_creds(creds))
    client = await nats.connect(
        f"nats://127.0.0.1:{platform.port}",
        user_credentials=str(tmp_path / "user.creds"),
        inbox_prefix=f"_INBOX.{creds.seed.public}".encode(),
        allow_reconnect=False,
    )
    answer = json.loads((await client.request("$SYS.REQ.USER.INFO", b"", timeout=5)).data)["data"]
    await client.close()
    assert answer["user"] == creds.seed.public.text
    assert answer["account"] == acme.account.public.text


def test_a_scoped_user_has_exactly_the_template_of_its_role(alice: RawClient) -> None:
    alice.subscribe(alice.inbox + ">")
    alice.publish("$SYS.REQ.USER.INFO", b"", reply=alice.inbox + "1")
    permissions = json.loads(alice.receive().payload)["data"]["permissions"]
    assert {way: sorted(permissions[way]["allow"]) for way in ("publish", "subscribe")} == {
        "publish": sorted(NURSE.publish_allow),
        "subscribe": [alice.inbox + ">"],
    }


@pytest.mark.parametrize("subject", ["ai.capabilities.invoice.send", "ai.events.x", "other", "$SYS.REQ.ACCOUNT.PING"])
def test_a_publish_outside_the_template_is_refused(alice: RawClient, subject: str) -> None:
    alice.publish(subject)
    with pytest.raises(ServerRefusedError, match=VIOLATION):
        alice.flush()


@pytest.mark.parametrize("subject", [">", "_INBOX.>", f"_INBOX.{'U' * 56}.>", "ai.capabilities.>"])
def test_a_subscription_outside_the_template_is_refused(alice: RawClient, subject: str) -> None:
    with pytest.raises(ServerRefusedError, match=VIOLATION):
        alice.subscribe(subject)


def test_a_request_through_the_shared_import_carries_the_callers_token(
    platform: ToyPlatform, acme: Tenant, host: RawClient
) -> None:
    creds = acme.user("alice", tags=("ward-3",))
    with platform.connect(creds) as alice:
        alice.subscribe(alice.inbox + ">")
        alice.publish("ai.capabilities.vitals.assess", b"{}", reply=alice.inbox + "7")
        message = host.receive()
        info = read_request_info(message.header_block)
        assert message.subject == f"tenant.{acme.account.public}.capabilities.vitals.assess"
        assert message.reply.startswith("_R_.")
        assert (info.account, info.user_jwt, info.kind) == (acme.account.public.text, creds.jwt, "Client")
        assert info.service is None
        assert decode_user(info.user_jwt, now=time.time()).tags == ("ward-3",)

        host.publish(message.reply, b"answer")
        host.flush()
        answer = alice.receive()
        assert (answer.subject, answer.payload) == (alice.inbox + "7", b"answer")


def test_a_host_may_answer_once_and_publish_nothing_else(host: RawClient, alice: RawClient) -> None:
    alice.publish("ai.capabilities.vitals.assess", reply=alice.inbox + "1")
    alice.flush()
    reply = host.receive().reply
    host.publish(reply, b"answer")
    host.flush()
    host.publish(reply, b"second answer")
    with pytest.raises(ServerRefusedError, match=VIOLATION):
        host.flush()
    host.publish("tenant.x.capabilities.y", b"request")
    with pytest.raises(ServerRefusedError, match=VIOLATION):
        host.flush()


def test_a_request_that_nobody_serves_is_answered_with_no_responders(alice: RawClient) -> None:
    alice.subscribe(alice.inbox + ">")
    alice.publish("ai.capabilities.vitals.assess", reply=alice.inbox + "1")
    assert alice.receive().header_block.startswith(b"NATS/1.0 503")


def test_the_server_refuses_a_token_that_is_expired_or_not_yet_valid(platform: ToyPlatform, acme: Tenant) -> None:
    now = int(time.time())
    assert not refused(platform, acme.user(not_before=now - 5))
    assert refused(platform, acme.user(expires_at=now - 1))
    assert refused(platform, acme.user(not_before=now + 600))


def test_the_server_refuses_a_token_whose_signature_or_seed_is_not_its_own(platform: ToyPlatform, acme: Tenant) -> None:
    creds = acme.user()
    head, body, signature = creds.jwt.split(".")
    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[9] ^= 1
    forged = base64.urlsafe_b64encode(flipped).rstrip(b"=").decode()
    assert refused(platform, Creds(jwt=f"{head}.{body}.{forged}", seed=creds.seed))
    assert refused(platform, Creds(jwt=creds.jwt, seed=UserSeed.generate()))
    assert refused(platform, Creds(jwt=creds.jwt[:-10], seed=creds.seed))


def test_the_server_refuses_a_token_of_a_key_that_is_not_the_accounts(platform: ToyPlatform, acme: Tenant) -> None:
    stranger = Tenant(name="acme", account=acme.account, nurse=AccountSeed.generate())
    assert refused(platform, stranger.user())


def test_the_server_refuses_a_scoped_user_with_permissions_of_its_own(platform: ToyPlatform, acme: Tenant) -> None:
    # `token-unscoped` in `authenticate` is the second line behind this one.
    assert refused(platform, acme.user(permissions=HOST))


def test_with_strict_signing_keys_the_identity_key_signs_no_users(platform: ToyPlatform, acme: Tenant) -> None:
    anything = SubjectPermissions()
    assert refused(platform, acme.user(issuer=acme.account.public, issuer_account=None, permissions=anything))


def test_an_empty_allow_list_means_everything_to_the_server(tmp_path: Path, acme: Tenant) -> None:
    # The fact behind SEC-3: a role that grants nothing has to deny `>` explicitly.
    with ToyPlatform(acme, strict=False).running(tmp_path) as platform:
        creds = acme.user(issuer=acme.account.public, issuer_account=None, permissions=SubjectPermissions())
        with platform.connect(creds) as client:
            client.subscribe(">")
            client.publish("anything.at.all", b"x")
            assert client.receive().subject == "anything.at.all"


def test_the_server_cuts_a_connection_when_its_token_expires(platform: ToyPlatform, acme: Tenant) -> None:
    with (
        platform.connect(acme.user(expires_at=int(time.time()) + 2)) as alice,
        pytest.raises((ServerRefusedError, ConnectionError), match=r"Expired|closed"),
    ):
        alice.receive()


def test_the_server_refuses_a_revoked_user_and_admits_one_issued_later(tmp_path: Path) -> None:
    acme, now = new_tenant("acme"), int(time.time())
    earlier, later = acme.user(issued_at=now - 10), acme.user(issued_at=now - 8)
    banned = acme.user(issued_at=now - 8)
    revocations = {"*": now - 10, banned.seed.public.text: now - 8}

    class Revoking(ToyPlatform):
        def tenant_token(self, tenant: Tenant) -> str:
            return self.account_token(tenant, revocations=revocations)

    with Revoking(acme).running(tmp_path) as platform:
        assert refused(platform, earlier)
        assert refused(platform, banned)
        assert not refused(platform, later)
