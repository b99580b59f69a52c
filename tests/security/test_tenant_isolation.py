"""P2 and SEC-2: two tenants on one real nats-server, with the accounts that the control plane makes.

The attacker holds two credentials of tenant `acme`: `greedy`, whose policy grants all that a policy can, and one
that no policy can give, signed by the account's identity key and allowed every subject there is. What even that one
can't do is kept by the accounts alone, not by anybody's template.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from toyplatform import Delivered, RawClient, ServerRefusedError, Tenant, ToyPlatform, new_tenant

from authz.claims import AccountClaims, ScopedSigningKey
from authz.compiler import compile_policy
from authz.creds import Creds
from authz.permissions import SubjectPermissions
from authz.policyfile import load_policy
from authz.tokens import encode_account
from runtime.control import accounts

GREEDY = (
    'tenant: acme\nroles:\n  greedy:\n    call: [">"]\n    publish: [">"]\n    subscribe: [">"]\n    admin: [">"]\n'
)
EVERYTHING = SubjectPermissions(publish_allow=(">",), subscribe_allow=(">",))
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
    "$KV.policies.rival",
    "$JS.API.STREAM.MSG.GET.SECRETS",
    "$JS.ACK.SECRETS.c.1.1.1.1.0",
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


class Platform(ToyPlatform):
    """The server, with the accounts as the control plane makes them, and JetStream."""

    def __init__(self) -> None:
        self.control = new_tenant("CONTROL")
        super().__init__(new_tenant("acme"), new_tenant("rival"), strict=False)

    def tenant_token(self, tenant: Tenant) -> str:
        return encode_account(self.tenant_claims(tenant), self.signing)

    def tenant_claims(self, tenant: Tenant) -> AccountClaims:
        template = compile_policy(load_policy(GREEDY)).roles["greedy"].permissions
        return accounts.tenant_account(
            tenant=tenant.name,
            account=tenant.account.public,
            issuer=self.signing.public,
            issued_at=int(time.time()),
            roles={"greedy": ScopedSigningKey(key=tenant.nurse.public, role="greedy", template=template)},
            revocations={},
            suspended=False,
            gate=self.gate.account.public,
            control=self.control.account.public,
        )

    def gate_token(self) -> str:
        claims = accounts.gate_account(
            account=self.gate.account.public,
            signing=self.gate.nurse.public,
            issuer=self.signing.public,
            issued_at=int(time.time()),
            revocations={},
        )
        return encode_account(claims, self.signing)

    def control_token(self) -> str:
        claims = accounts.control_account(
            account=self.control.account.public,
            signing=self.control.nurse.public,
            issuer=self.signing.public,
            issued_at=int(time.time()),
        )
        return encode_account(claims, self.signing)

    def configuration(self) -> str:
        control = f"  {self.control.account.public}: {self.control_token()}\n}}\n"
        head, _, _ = super().configuration().rpartition("}")
        return f"{head}{control}jetstream {{ store_dir: {json.dumps(str(self.store))} }}\n"

    def observe(self, tenant: Tenant, creds: Creds | None = None) -> "Observer":
        return Observer(self.port, creds or unbounded(tenant))


class MistakenPlatform(Platform):
    """Its first tenant's claims import under the second one's account."""

    def tenant_claims(self, tenant: Tenant) -> AccountClaims:
        claims = super().tenant_claims(tenant)
        mine, others = (str(each.account.public) for each in self.tenants)
        return replace(
            claims, imports=tuple(replace(i, subject=i.subject.replace(mine, others)) for i in claims.imports)
        )


class Observer(RawClient):
    """A client that tells what it has received so far, and what it was refused."""

    def collect(self) -> tuple[list[Delivered], list[str]]:
        """Everything that the server sent before now. Others' messages are here once their `flush` has returned."""
        self.send(b"PING\r\n")
        messages: list[Delivered] = []
        refusals: list[str] = []
        while (line := self._line()) != b"PONG":
            if line.startswith(b"-ERR"):
                refusals.append(line.decode())
            elif found := re.match(rb"(H?)MSG (\S+) \S+ (?:(\S+) )??(?:(\d+) )?(\d+)$", line):
                messages.append(self._message(*found.groups()))
        return messages, refusals

    def ask(self, subject: str, body: object) -> bytes:
        """The answer to a request, headers and all: the server's own, its refusal, or that nobody is there."""
        self.publish(subject, json.dumps(body).encode(), reply=self.inbox + "answer")
        try:
            answer = self.receive()
        except ServerRefusedError as error:
            return str(error).encode()
        return answer.header_block + answer.payload

    def _message(self, with_headers: bytes, subject: bytes, reply: bytes, cut: bytes, size: bytes) -> Delivered:
        if not with_headers and cut:
            reply, cut = cut, b""
        content = self._read.read(int(size) + 2)[:-2]
        header_size = int(cut or 0)
        return Delivered(
            subject=subject.decode(),
            reply=(reply or b"").decode(),
            header_block=content[:header_size],
            payload=content[header_size:],
        )


def unbounded(tenant: Tenant) -> Creds:
    """What no policy gives: a user signed by the account's identity key, allowed every subject."""
    return tenant.user("unbounded", issuer=tenant.account.public, permissions=EVERYTHING)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("server")
    platform = Platform()
    platform.store = folder / "jetstream"
    with platform.running(folder):
        yield platform


@pytest.fixture
def acme(platform: Platform) -> Tenant:
    return platform.tenants[0]


@pytest.fixture
def rival(platform: Platform) -> Tenant:
    return platform.tenants[1]


@pytest.fixture(params=["greedy", "unbounded"])
def attacker(request: pytest.FixtureRequest, platform: Platform, acme: Tenant) -> Iterator[Observer]:
    creds = acme.user("mallory") if request.param == "greedy" else unbounded(acme)
    with platform.observe(acme, creds) as client:
        client.subscribe(client.inbox + ">")
        yield client


def test_p2_nothing_that_a_tenant_publishes_arrives_at_another(
    platform: Platform, rival: Tenant, acme: Tenant, attacker: Observer
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


def test_p2_nothing_that_a_tenant_does_is_seen_by_another(
    platform: Platform, rival: Tenant, attacker: Observer
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


def test_p2_the_system_tells_a_tenant_nothing_of_another(platform: Platform, rival: Tenant, attacker: Observer) -> None:
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
    platform: Platform, rival: Tenant, acme: Tenant
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
    platform: Platform, acme: Tenant, rival: Tenant
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


def test_sec_2_neither_gate_nor_control_can_be_entered_by_a_tenants_key(platform: Platform, acme: Tenant) -> None:
    for account in (platform.gate, platform.control):
        creds = acme.user("mallory", issuer_account=account.account.public)
        with pytest.raises((ServerRefusedError, ConnectionError)):
            platform.observe(account, creds)
