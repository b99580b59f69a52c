"""P2 and SEC-2: two tenants on one real nats-server, with the accounts that the control plane makes.

The attacker holds two credentials of tenant `acme`: `greedy`, whose policy grants all that a policy can, and one
that no policy can give, signed by the account's identity key and allowed every subject there is. What even that one
can't do is kept by the accounts alone, not by anybody's template.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from built_accounts import BuiltAccounts, Observer, unbounded
from toyplatform import ServerRefusedError, Tenant

from authz.claims import AccountClaims
from runtime.control import accounts

# One of each family of subjects; the other tenant's account and user, and a reply in flight, are filled in.
FAMILIES = [
    "ai.capabilities.vitals.assess",
    "ai.streams.vitals.assess",
    "ai.admin.policy.show.rival",
    "ai.events.vitals.alert",
    "ai.workflows.discharge.1.started",
    "ai.agents.presence.joined",
    "ai.metrics.vitals.calls",
    "tenant.{account}.capabilities.vitals.assess",
    "tenant.{account}.admin.policy.show.rival",
    "_INBOX.{user}.1",
    "{reply}",
    "$SRV.PING",
    "$SRV.INFO.vitals",
    "$KV.tenants.rival",
    "$O.snapshots.C.x",
    "$JS.API.INFO",
    "$JS.API.STREAM.CREATE.grab",
    "$JS.API.STREAM.UPDATE.KV_tenants",
    "$JS.API.STREAM.MSG.GET.SECRETS",
    "$JS.API.CONSUMER.CREATE.KV_tenants.c",
    "$JS.API.DIRECT.GET.KV_tenants.$KV.tenants.rival",
    "$JS.ACK.SECRETS.c.1.1.1.1.0",
    "$JS.ACK.hub.{account}.SECRETS.c.1.1.1.1.0.x",
    "$JS.FC.SECRETS.c.x",
    "$JS.EVENT.ADVISORY.STREAM.CREATED.SECRETS",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS._INBOX.{user}.1",
    "$MQTT.sub.x",
    "$SYS.REQ.USER.INFO",
    "$SYS.ACCOUNT.{account}.CONNECT",
    "anything.at.all",
]
SYSTEM = [
    "$SYS.REQ.USER.INFO",
    "$SYS.REQ.CLAIMS.LIST",
    "$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.PING.ACCOUNTZ",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS.REQ.SERVER.PING.SUBSZ",
    "$SYS.REQ.SERVER.PING.JSZ",
    *(
        f"$SYS.REQ.ACCOUNT.{which}.{what}"
        for which in ("PING", "{account}")
        for what in ("CONNZ", "SUBSZ", "INFO", "CONNS", "JSZ", "STATZ", "LEAFZ")
    ),
]


class MistakenPlatform(BuiltAccounts):
    """Its first tenant's claims import under the second one's account."""

    def tenant_claims(self, tenant: Tenant) -> AccountClaims:
        claims = super().tenant_claims(tenant)
        mine, others = (str(each.account.public) for each in self.tenants)
        return replace(
            claims, imports=tuple(replace(i, subject=i.subject.replace(mine, others)) for i in claims.imports)
        )


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltAccounts]:
    folder: Path = tmp_path_factory.mktemp("server")
    platform = BuiltAccounts()
    platform.store = folder / "jetstream"
    with platform.running(folder):
        yield platform


@pytest.fixture
def acme(platform: BuiltAccounts) -> Tenant:
    return platform.tenants[0]


@pytest.fixture
def rival(platform: BuiltAccounts) -> Tenant:
    return platform.tenants[1]


@pytest.fixture(params=["greedy", "unbounded"])
def attacker(request: pytest.FixtureRequest, platform: BuiltAccounts, acme: Tenant) -> Iterator[Observer]:
    creds = acme.user("mallory") if request.param == "greedy" else unbounded(acme)
    with platform.observe(acme, creds) as client:
        client.subscribe(client.inbox + ">")
        yield client


def test_p2_nothing_that_a_tenant_publishes_arrives_at_another(
    platform: BuiltAccounts, rival: Tenant, acme: Tenant, attacker: Observer
) -> None:
    with (
        platform.observe(rival) as victim,
        platform.observe(platform.gate) as gate,
        platform.observe(platform.control) as control,
    ):
        for observer in (victim, gate, control):
            observer.subscribe(">")
        victim.publish("ai.capabilities.vitals.assess", b"the victim's own", reply=victim.inbox + "own")
        victim.flush()
        (own,) = [message for message in gate.collect()[0] if message.payload == b"the victim's own"]
        for family in FAMILIES:
            subject = family.format(account=rival.account.public, user=victim.user, reply=own.reply)
            attacker.publish(subject, b"attack", reply=f"{victim.inbox}stolen")
            attacker.publish(subject, b"attack", reply=own.reply)
            attacker.publish(subject, b"attack", reply="ai.capabilities.vitals.assess")
        attacker.collect()
        assert [m for m in victim.collect()[0] if b"attack" in m.payload] == []
        arrived = [m for m in gate.collect()[0] + control.collect()[0] if b"attack" in m.payload]
        assert arrived
        assert {m.subject.split(".")[1] for m in arrived} == {str(acme.account.public)}


PUBLISHED_BY_GREEDY = {
    "ai.capabilities.vitals.assess",
    "ai.events.vitals.alert",
    "$SYS.REQ.USER.INFO",
}


def test_p2_what_the_widest_policy_lets_a_role_send_and_hear_is_this_and_no_more(
    platform: BuiltAccounts, rival: Tenant, acme: Tenant
) -> None:
    """The matrix of every family against the server's word, for the role of a policy that grants all it can."""
    with platform.observe(acme, acme.user("mallory")) as greedy:
        families = {
            f: f.format(account=rival.account.public, user=rival.user().seed.public, reply="_R_.x.y") for f in FAMILIES
        }
        sent, heard = set(), set()
        for family, subject in families.items():
            greedy.publish(subject, b"attack")
            if not greedy.collect()[1]:
                sent.add(family)
            greedy.send(f"SUB {subject} m\r\n".encode())
            if not greedy.collect()[1]:
                heard.add(family)
        for own in ("ai.admin.policy.show.acme", "ai.admin.credentials.issue.acme", "ai.admin.agents.deploy.acme"):
            greedy.publish(own, b"own")
            assert greedy.collect()[1] == []
        for others in ("rival", "platform", "*", "acme.rival", "all"):
            greedy.publish(f"ai.admin.policy.show.{others}", b"attack")
            assert greedy.collect()[1], others
    assert sent == PUBLISHED_BY_GREEDY
    assert heard == {"ai.events.vitals.alert"}


def test_p2_events_of_one_tenant_are_not_heard_by_another_that_may_hear_all_of_its_own(
    platform: BuiltAccounts, rival: Tenant, acme: Tenant
) -> None:
    with (
        platform.observe(acme, acme.user("mallory")) as listener,
        platform.observe(rival, rival.user("victim")) as victim,
        platform.observe(acme, acme.user("friend")) as friend,
    ):
        listener.subscribe("ai.events.>")
        victim.publish("ai.events.vitals.alert", b"private")
        victim.flush()
        friend.publish("ai.events.vitals.alert", b"own")
        friend.flush()
        assert [message.payload for message in listener.collect()[0]] == [b"own"]


def test_p2_nothing_that_a_tenant_does_is_seen_by_another(
    platform: BuiltAccounts, rival: Tenant, attacker: Observer
) -> None:
    for number, subject in enumerate((">", "*.>", "_INBOX.>", "_R_.>", "tenant.>", "$SYS.>", "$JS.>", "ai.events.>")):
        attacker.send(f"SUB {subject} s{number}\r\n".encode())
    attacker.publish("ai.events.own.event", b"heard")
    assert b"heard" in [message.payload for message in attacker.collect()[0]]
    with (
        platform.observe(rival) as victim,
        platform.observe(platform.gate) as gate,
        platform.observe(platform.control) as control,
    ):
        for observer in (gate, control):
            observer.subscribe(">")
        for number, family in enumerate(FAMILIES):
            subject = family.format(account=rival.account.public, user=victim.user, reply="_R_.x")
            victim.publish(subject, b"private", reply=f"{victim.inbox}{number}")
        victim.flush()
        for responder in (gate, control):
            for message in responder.collect()[0]:
                responder.publish(message.reply, b"private answer")
            responder.flush()
        victim.flush()
    seen, _ = attacker.collect()
    assert [message for message in seen if b"private" in message.payload or b"rival" in message.payload] == []


def test_p2_the_system_tells_a_tenant_nothing_of_another(
    platform: BuiltAccounts, rival: Tenant, attacker: Observer
) -> None:
    with platform.observe(rival) as victim:
        victim.subscribe("secret.subject")
        told = {
            subject: attacker.ask(subject, {})
            for subject in (family.format(account=rival.account.public) for family in SYSTEM)
        }
    assert attacker.user.encode() in told["$SYS.REQ.USER.INFO"]
    secrets = (str(rival.account.public), victim.user, '"rival"', "secret.subject")
    leaks = {
        s: answer for s, answer in told.items() if any(x.encode() in answer.replace(s.encode(), b"") for x in secrets)
    }
    assert leaks == {}


def test_p2_stored_objects_of_a_tenant_are_not_there_for_another(
    platform: BuiltAccounts, rival: Tenant, acme: Tenant
) -> None:
    stream = {"name": "SECRETS", "subjects": ["ai.events.>"], "storage": "file", "max_bytes": 65536}
    with platform.observe(rival) as victim, platform.observe(acme) as attacker:
        for client in (victim, attacker):
            client.subscribe(client.inbox + ">")
        assert b'"error"' not in victim.ask("$JS.API.STREAM.CREATE.SECRETS", stream)
        assert b'"stream":"SECRETS"' in victim.ask("ai.events.vitals.alert", "private")
        assert b'"SECRETS"' in victim.ask("$JS.API.STREAM.NAMES", {})
        for request, body in {
            "STREAM.NAMES": {},
            "STREAM.LIST": {},
            "STREAM.INFO.SECRETS": {},
            "STREAM.MSG.GET.SECRETS": {"seq": 1},
            "DIRECT.GET.SECRETS": {"seq": 1},
            "STREAM.PURGE.SECRETS": {},
            "STREAM.DELETE.SECRETS": {},
            "CONSUMER.NAMES.SECRETS": {},
        }.items():
            answer = attacker.ask(f"$JS.API.{request}", body)
            assert b"SECRETS" not in answer.replace(request.encode(), b"")  # a 503 names what was asked
            assert b'"error"' in answer or b'"total":0' in answer or answer.startswith(b"NATS/1.0 503"), answer
        assert b'"data"' in victim.ask("$JS.API.STREAM.MSG.GET.SECRETS", {"seq": 1})


def test_p2_claims_that_import_under_another_tenants_account_are_void(tmp_path: Path) -> None:
    """Should the control plane ever make that mistake, the server holds the account in the subject to the importer."""
    platform = MistakenPlatform()
    platform.store = tmp_path / "jetstream"
    with (
        platform.running(tmp_path),
        platform.observe(platform.gate) as gate,
        platform.observe(platform.tenants[0]) as caller,
    ):
        gate.subscribe(">")
        caller.publish("ai.capabilities.vitals.assess", b"posing as rival", reply=caller.inbox + "1")
        caller.collect()
        assert [m for m in gate.collect()[0] if m.payload == b"posing as rival"] == []


def test_sec_2_a_hosts_credentials_receive_one_tenants_requests_and_cannot_ask(
    platform: BuiltAccounts, acme: Tenant, rival: Tenant
) -> None:
    gate, mine = platform.gate, str(acme.account.public)
    creds = gate.user("host", permissions=accounts.gate_permissions(mine), issuer=gate.account.public)
    with platform.observe(gate, creds) as host, platform.observe(acme) as caller, platform.observe(rival) as other:
        host.send(f"SUB tenant.{mine}.capabilities.> 1\r\n".encode())
        assert host.collect()[1] == []
        for subject in (f"tenant.{rival.account.public}.capabilities.>", "tenant.*.capabilities.>", ">", "_INBOX.>"):
            host.send(f"SUB {subject} 2\r\n".encode())
            assert host.collect()[1], subject
        for subject in ("ai.capabilities.vitals.assess", f"tenant.{mine}.capabilities.x", "$JS.API.INFO", "_R_.x"):
            host.publish(subject, b"x", reply="y")
            assert host.collect()[1], subject
        for client in (caller, other):
            client.subscribe(client.inbox + ">")
            client.publish("ai.capabilities.vitals.assess", b"?", reply=client.inbox + "1")
            client.collect()
        (request,) = host.collect()[0]
        host.publish(request.reply, b"first")
        host.publish(request.reply, b"second")
        assert host.collect()[1]
        assert [message.payload for message in caller.collect()[0]] == [b"first"]


def test_sec_2_neither_gate_nor_control_can_be_entered_by_a_tenants_key(platform: BuiltAccounts, acme: Tenant) -> None:
    for account in (platform.gate, platform.control):
        creds = acme.user("mallory", issuer_account=account.account.public)
        with pytest.raises((ServerRefusedError, ConnectionError)):
            platform.observe(account, creds)
