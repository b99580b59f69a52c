"""SEC-10 and SEC-2: the limits of the accounts that the control plane makes, each exceeded on a real nats-server.

The attackers hold more than any policy gives: a user signed by the account's own identity key.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from built_accounts import BuiltAccounts, Observer, unbounded
from toyplatform import Delivered, ServerRefusedError, Tenant

from authz.claims import AccountClaims, ServiceExport, ServiceImport
from authz.creds import Creds
from authz.tokens import _JWS, ALGORITHM
from runtime.control import accounts

CALL = "ai.capabilities.vitals.assess"


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
def mallory(platform: BuiltAccounts, acme: Tenant) -> Iterator[Observer]:
    with platform.observe(acme) as client:
        client.subscribe(client.inbox + ">")
        yield client


def test_a_tenant_can_not_take_more_connections_than_its_own(platform: BuiltAccounts) -> None:
    rival, creds = platform.tenants[1], unbounded(platform.tenants[1])
    with contextlib.ExitStack() as stack:
        for _ in range(accounts._TENANT_LIMITS.connections):
            stack.enter_context(platform.connect(creds))
        with pytest.raises((ServerRefusedError, ConnectionError)):
            platform.connect(unbounded(rival))
    log = (platform.store.parent / "server.log").read_text()
    assert "maximum account active connections exceeded" in log


def test_a_tenant_can_not_take_more_subscriptions_than_its_own(mallory: Observer) -> None:
    most = accounts._TENANT_LIMITS.subscriptions
    mallory.send(b"".join(b"SUB s.%d x%d\r\n" % (n, n) for n in range(most)))
    _, refusals = mallory.collect()
    assert any("maximum subscriptions exceeded" in refusal for refusal in refusals)


def test_a_tenants_payload_over_its_limit_cuts_the_connection(mallory: Observer) -> None:
    mallory.publish("x", bytes(accounts.TENANT_PAYLOAD))
    assert mallory.collect() == ([], [])
    mallory.publish("x", bytes(accounts.TENANT_PAYLOAD + 1))
    with pytest.raises((ServerRefusedError, ConnectionError, OSError)):
        mallory.flush()


def test_a_tenants_bearer_token_is_refused(platform: BuiltAccounts, acme: Tenant) -> None:
    """A bearer token identifies without the seed: whoever reads it is it."""
    creds = unbounded(acme)
    platform.connect(creds).close()
    with pytest.raises((ServerRefusedError, ConnectionError)):
        platform.connect(bearer(creds, acme))


def bearer(creds: Creds, tenant: Tenant) -> Creds:
    claims = _JWS.decode_complete(creds.jwt, options={"verify_signature": False})["payload"]
    changed = json.loads(claims)
    changed["nats"]["bearer_token"] = True
    return Creds(jwt=_JWS.encode(json.dumps(changed).encode(), tenant.account, algorithm=ALGORITHM), seed=creds.seed)


# --- what a tenant stores -------------------------------------------------------------------------------------------


def create(client: Observer, name: str, **settings: object) -> bytes:
    body = {"name": name, "subjects": [f"stored.{name}"], "storage": "file", "max_bytes": 1024} | settings
    return client.ask(f"$JS.API.STREAM.CREATE.{name}", body)


def test_a_tenants_storage_is_finite_in_every_way(mallory: Observer) -> None:
    assert b'"did_create":true' in create(mallory, "plain")
    assert b"requires a stream config to have max bytes set" in create(mallory, "unbounded", max_bytes=-1)
    assert b"insufficient" in create(mallory, "huge", max_bytes=1 << 30)
    assert b'"error"' in create(mallory, "memory", storage="memory")
    for number in range(1, accounts._TENANT_LIMITS.jetstream.streams):
        assert b'"did_create":true' in create(mallory, f"n{number}")
    assert b"maximum number of streams reached" in create(mallory, "onemore")
    most = accounts._TENANT_LIMITS.jetstream.consumers
    made = [consumer(mallory, f"c{number}") for number in range(most + 1)]
    assert [b'"error"' in answer for answer in made] == [False] * most + [True]
    assert b"maximum consumers limit reached" in made[-1]


def consumer(client: Observer, name: str) -> bytes:
    config = {"durable_name": name, "ack_policy": "explicit"}
    body = {"stream_name": "plain", "config": config}
    return client.ask(f"$JS.API.CONSUMER.CREATE.plain.{name}", body)


@pytest.mark.parametrize("request_", ["INFO", "STREAM.CREATE.grab", "STREAM.NAMES", "STREAM.LIST"])
def test_sec_2_gate_has_no_jetstream(platform: BuiltAccounts, request_: str) -> None:
    with platform.observe(platform.gate) as anybody:
        anybody.subscribe(anybody.inbox + ">")
        answer = anybody.ask(f"$JS.API.{request_}", {"name": "grab", "subjects": ["tenant.>"]})
    assert answer.startswith(b"NATS/1.0 503") or b"not enabled for account" in answer


def test_sec_2_from_gate_and_control_nothing_can_be_sent_to_a_tenant(platform: BuiltAccounts, acme: Tenant) -> None:
    """They import nothing: a request made there goes nowhere, whoever makes it."""
    subjects = [CALL, "ai.admin.policy.show.acme", f"tenant.{acme.account.public}.capabilities.x", "ai.events.x"]
    with platform.observe(acme) as victim, platform.observe(platform.control) as control:
        victim.subscribe(">")
        control.subscribe("tenant.>")
        for account, others in ((platform.gate, [victim, control]), (platform.control, [victim])):
            with platform.observe(account) as anybody:
                for subject in [*subjects, f"_INBOX.{victim.user}.1"]:
                    anybody.publish(subject, b"attack", reply="_INBOX.x")
                anybody.flush()
            for other in others:
                assert [m for m in other.collect()[0] if b"attack" in m.payload] == []


# --- the exports ----------------------------------------------------------------------------------------------------


class Impatient(BuiltAccounts):
    """The same accounts, whose exports end after a fifth of a second rather than 31: only the number is another."""

    def gate_token(self) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(accounts, "REQUEST_THRESHOLD_S", 0.2)
            return super().gate_token()


def test_answer_after_the_exports_threshold_goes_nowhere(tmp_path: Path) -> None:
    assert 30 < accounts.REQUEST_THRESHOLD_S <= 35
    platform = Impatient()
    platform.store = tmp_path / "jetstream"
    with (
        platform.running(tmp_path),
        platform.observe(platform.gate) as host,
        platform.observe(platform.tenants[0]) as caller,
    ):
        host.subscribe("tenant.>")
        caller.subscribe(caller.inbox + ">")
        caller.publish(CALL, b"?", reply=f"{caller.inbox}1")
        caller.flush()
        request = host.receive()
        assert caller.poll(1.5) is None  # this is how long the answer takes
        host.publish(request.reply, b"late")
        host.flush()
        assert caller.collect()[0] == []


def test_an_export_gives_one_answer_even_when_the_responder_may_send_many(
    platform: BuiltAccounts, acme: Tenant
) -> None:
    """`Singleton`: the second answer has nowhere to go, whatever its sender's permissions."""
    with platform.observe(platform.gate) as host, platform.observe(acme) as caller:
        host.subscribe("tenant.>")
        caller.subscribe(caller.inbox + ">")
        caller.publish(CALL, b"?", reply=caller.inbox + "1")
        caller.flush()
        request: Delivered = host.receive()
        for answer in (b"first", b"second", b"third"):
            host.publish(request.reply, answer)
        host.flush()
        assert [m.payload for m in caller.collect()[0]] == [b"first"]


class Overreaching(BuiltAccounts):
    """A control plane that has made a mistake in its first tenant's claims."""

    def __init__(self, **mistake: object) -> None:
        super().__init__()
        self.mistake = mistake

    def tenant_claims(self, tenant: Tenant) -> AccountClaims:
        claims = super().tenant_claims(tenant)
        if tenant is not self.tenants[0]:
            return claims
        return replace(claims, **self.mistake)


SERVICE = ServiceExport(subject="ai.events.>", account_token_position=0, response_threshold_s=1)


def test_a_tenants_claims_with_an_export_are_void(tmp_path: Path) -> None:
    """Exports 0: should the control plane ever write one into a tenant's claims, the server refuses them whole."""
    assert is_refused(tmp_path, Overreaching(exports=(SERVICE,)))


def test_a_tenants_claims_with_a_third_import_are_void(tmp_path: Path) -> None:
    platform = Overreaching()
    gate = platform.gate.account.public
    claims = platform.tenant_claims(platform.tenants[0])
    more = ServiceImport(
        subject=f"tenant.{platform.tenants[0].account.public}.capabilities.x",
        account=gate,
        local_subject="more.x",
        share=True,
    )
    platform.mistake = {"imports": (*claims.imports, more)}
    assert is_refused(tmp_path, platform)


def is_refused(folder: Path, platform: Overreaching) -> bool:
    """Whether a user of the first tenant is kept out, though one of the second gets in."""
    platform.store = folder / "jetstream"
    with platform.running(folder):
        platform.connect(unbounded(platform.tenants[1])).close()
        try:
            platform.connect(unbounded(platform.tenants[0])).close()
        except (ServerRefusedError, ConnectionError):
            return True
    return False
