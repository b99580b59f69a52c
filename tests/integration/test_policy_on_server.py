"""Compiled policies on a real nats-server: the server lets through what `decide` allows, and no more.

Where a rule closes a hole of NATS, the hole is shown beside it, on a template that the compiler never makes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from fixtures_server import JETSTREAM, MakeRealm, Realm, limits

from authz.compiler import compile_policy
from authz.decisions import CompiledPolicy
from authz.guards import empty_means_deny
from authz.patterns import publish_subjects, subscribe_subjects
from authz.permissions import SubjectPermissions
from authz.policy import ACTIONS, Action
from authz.policyfile import load_policy
from runtime.bus.connection import Connection
from runtime.bus.errors import NoRespondersError, RefusedError

POLICY = """\
tenant: st-marys
roles:
  nurse:
    call: [vitals.*]
    subscribe: [vitals.alert]
    data: [phi]
  trainee:
    inherits: [nurse]
    subscribe: ["vitals.*"]
    deny:
      call: [vitals.purge]
      subscribe: [vitals.secret]
  billing:
    call: ["invoice.>"]
  clerk:
    data: [phi]
  ward-monitor:
    publish: [vitals.reading]
  admin:
    admin: [policy.apply, credentials.*]
    deny: {admin: [credentials.purge]}
  head:
    call: [">"]
    publish: [">"]
    subscribe: [">"]
    admin: [">"]
agents:
  vitals:
    publish: ["vitals.>"]
    deny: {publish: [vitals.reading]}
"""

RESOURCES: dict[Action, list[str]] = {
    "call": ["vitals.assess", "vitals.purge", "vitals", "vitals.assess.deep", "invoice.create", "invoice.a.b", "x"],
    "publish": ["vitals.alert", "vitals.reading", "vitals.a.b", "x"],
    "subscribe": ["vitals.alert", "vitals.secret", "vitals.reading", "x"],
    "admin": ["policy.apply", "policy.show", "credentials.issue", "credentials.purge", "agents.list", "hosts.sync"],
}

INBOX = "_INBOX.{{subject()}}.>"
LISTENING = ["ai.capabilities.>", "ai.capabilities.vitals.assess", "ai.streams.>", "ai.admin.>", "ai.>", "ai.*.>", ">"]
SYSTEM = ["$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO.x"]
JETSTREAM_API = [
    "$JS.API.INFO",
    "$JS.API.STREAM.CREATE.grab",
    "$JS.API.STREAM.UPDATE.grab",
    "$JS.API.CONSUMER.CREATE.grab",
    "$JS.ACK.grab.c.1.1.1.1.0",
]


@dataclass(frozen=True)
class Caller:
    tenant: str
    role: str


@pytest.fixture(scope="module")
def policy() -> CompiledPolicy:
    return compile_policy(load_policy(POLICY))


async def realm_with(make_realm: MakeRealm, templates: Mapping[str, SubjectPermissions]) -> Realm:
    """A server whose account ALPHA has a scoped key for each template."""

    def prepare(realm: Realm) -> None:
        alpha = realm.add_account("ALPHA", limits=limits(jetstream=JETSTREAM))
        for role, template in templates.items():
            realm.add_role(alpha, role, template)

    return await make_realm(prepare=prepare)


@pytest.fixture
async def hospital(make_realm: MakeRealm, policy: CompiledPolicy) -> Realm:
    return await realm_with(make_realm, {name: role.permissions for name, role in policy.roles.items()})


async def as_role(realm: Realm, role: str, **changes: str) -> Connection:
    return await realm.connect(realm.user(realm.accounts["ALPHA"], role=role, **changes))


async def lets_publish(connection: Connection, subject: str) -> bool:
    """Whether the server takes a request on the subject; nobody answers there."""
    try:
        await connection.request(subject, b"", timeout=5)
    except NoRespondersError:
        return True
    except RefusedError:
        return False
    return True


async def lets_subscribe(connection: Connection, subject: str, queue: str = "") -> bool:
    try:
        subscription = await connection.subscribe(subject, lambda _: None, queue=queue)
    except RefusedError:
        return False
    await subscription.unsubscribe()
    return True


async def server_lets(connection: Connection, action: Action, resource: str, tenant: str) -> bool:
    if action == "subscribe":
        return await lets_subscribe(connection, subscribe_subjects(action, resource)[0])
    return await lets_publish(connection, publish_subjects(action, resource, tenant=tenant)[0])


async def test_the_server_lets_through_exactly_what_the_policy_decides(hospital: Realm, policy: CompiledPolicy) -> None:
    for role in policy.roles:
        connection = await as_role(hospital, role)
        decided, enforced = {}, {}
        for action in ACTIONS:
            for resource in RESOURCES.get(action, []):
                decided[action, resource] = policy.decide(Caller("st-marys", role), action, resource).allowed
                enforced[action, resource] = await server_lets(connection, action, resource, "st-marys")
        assert enforced == decided, role


async def test_administration_of_another_tenant_never_leaves_the_account(hospital: Realm) -> None:
    connection = await as_role(hospital, "head")
    assert await lets_publish(connection, "ai.admin.policy.apply.st-marys")
    for subject in ("ai.admin.policy.apply.other", "ai.admin.policy.apply.*", "ai.admin.hosts.gate.st-marys"):
        assert not await lets_publish(connection, subject)


async def test_what_is_denied_is_not_delivered_through_a_wildcard_either(hospital: Realm) -> None:
    trainee = await as_role(hospital, "trainee")
    publisher = await hospital.connect(hospital.user(hospital.accounts["ALPHA"]))
    heard: list[str] = []
    await trainee.subscribe("ai.events.vitals.*", lambda message: heard.append(message.subject))
    await publisher.publish("ai.events.vitals.secret", b"")
    await publisher.publish("ai.events.vitals.alert", b"")
    await publisher.flush()
    await trainee.flush()
    assert heard == ["ai.events.vitals.alert"]


async def test_a_subscription_wider_than_the_grant_is_refused(hospital: Realm) -> None:
    nurse = await as_role(hospital, "nurse")
    assert await lets_subscribe(nurse, "ai.events.vitals.alert")
    for subject in ("ai.events.vitals.*", "ai.events.>", "ai.events.*.alert"):
        assert not await lets_subscribe(nurse, subject)


# --- SEC-3 ------------------------------------------------------------------------------------------------------------


async def test_an_empty_allow_list_would_be_everything_and_is_closed(make_realm: MakeRealm) -> None:
    """SEC-3: what the server makes of an empty template, and of the compiler's."""
    no_publish = SubjectPermissions(subscribe_allow=(INBOX,))
    no_subscribe = SubjectPermissions(publish_allow=("x",))
    realm = await realm_with(
        make_realm,
        {
            "open-publish": no_publish,
            "closed-publish": empty_means_deny(no_publish),
            "open-subscribe": no_subscribe,
            "closed-subscribe": empty_means_deny(no_subscribe),
        },
    )
    assert await lets_publish(await as_role(realm, "open-publish"), "anything.at.all")
    assert not await lets_publish(await as_role(realm, "closed-publish"), "anything.at.all")
    assert await lets_subscribe(await as_role(realm, "open-subscribe"), ">")
    assert not await lets_subscribe(await as_role(realm, "closed-subscribe"), "anything.at.all")


async def test_a_role_that_grants_no_subject_can_do_nothing_but_ask_who_it_is(hospital: Realm) -> None:
    clerk = await as_role(hospital, "clerk")
    assert b'"user"' in (await clerk.request("$SYS.REQ.USER.INFO", b"", timeout=5)).data
    for subject in ("x", "ai.events.x", "ai.capabilities.vitals.assess", "_INBOX.x", "_R_.x"):
        assert not await lets_publish(clerk, subject)
    for subject in ("x", "ai.events.x", ">"):
        assert not await lets_subscribe(clerk, subject)


async def test_nobody_hears_another_users_inbox(hospital: Realm) -> None:
    """SEC-3: the template holds the user's own key, so even the widest role hears its own inbox alone."""
    head, victim = await as_role(hospital, "head"), await as_role(hospital, "nurse")
    assert await lets_subscribe(head, f"{head.inbox_prefix}.x")
    for subject in (f"{victim.inbox_prefix}.>", f"{victim.inbox_prefix}.x", "_INBOX.>", "_INBOX.*.x", "*.>"):
        assert not await lets_subscribe(head, subject)
        assert not await lets_subscribe(head, subject, queue="q")
    assert not await lets_publish(head, f"{victim.inbox_prefix}.x")


async def test_a_template_by_name_would_open_every_inbox_to_a_user_named_star(make_realm: MakeRealm) -> None:
    """SEC-3: why templates hold the user's key, and names are of a grammar."""
    by_name = SubjectPermissions(publish_allow=("x",), subscribe_allow=("_INBOX.{{name()}}.>", INBOX))
    realm = await realm_with(make_realm, {"by-name": by_name})
    victim = await as_role(realm, "by-name", name="nurse-1")
    star = await as_role(realm, "by-name", name="*")
    assert await lets_subscribe(star, f"{victim.inbox_prefix}.>")
    assert not await lets_subscribe(victim, f"{star.inbox_prefix}.>")


# --- SEC-4 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["head", "admin", "agent:vitals"])
async def test_no_role_reaches_jetstream_or_the_system(hospital: Realm, role: str) -> None:
    """SEC-4: administrators included."""
    connection = await as_role(hospital, role)
    for subject in (*JETSTREAM_API, *SYSTEM):
        assert not await lets_publish(connection, subject)
    for subject in ("$SYS.>", "$JS.>", "$JS.EVENT.>", "$KV.>"):
        assert not await lets_subscribe(connection, subject)


async def test_the_system_would_answer_a_role_that_could_ask(make_realm: MakeRealm) -> None:
    """SEC-4: the account really has JetStream and the server really answers; only the template is in the way."""
    careless = SubjectPermissions(publish_allow=(">",), subscribe_allow=(INBOX,))
    realm = await realm_with(make_realm, {"careless": careless})
    connection = await as_role(realm, "careless")
    stream = b'{"name":"grab","subjects":["ai.>"],"storage":"memory","no_ack":false}'
    assert b'"did_create":true' in (await connection.request("$JS.API.STREAM.CREATE.grab", stream, timeout=5)).data
    # The stream now answers every call in the account with its own acknowledgement.
    answer = await connection.request("ai.capabilities.vitals.assess", b"{}", timeout=5)
    assert answer.data.startswith(b'{"stream":"grab"')


# --- SEC-5 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["head", "nurse", "agent:vitals"])
async def test_nobody_listens_in_on_requests(hospital: Realm, role: str) -> None:
    """SEC-5: a subscriber in the account would read each request, and could answer it first."""
    connection = await as_role(hospital, role)
    for subject in LISTENING:
        assert not await lets_subscribe(connection, subject)
        assert not await lets_subscribe(connection, subject, queue="replicas")


async def test_a_listener_would_read_and_answer_calls(make_realm: MakeRealm, policy: CompiledPolicy) -> None:
    """SEC-5: what the rule prevents, with a template that breaks it."""
    careless = SubjectPermissions(publish_allow=(">",), subscribe_allow=("ai.>",))
    realm = await realm_with(make_realm, {"careless": careless, "nurse": policy.roles["nurse"].permissions})
    listener, nurse = await as_role(realm, "careless"), await as_role(realm, "nurse")
    await listener.subscribe("ai.capabilities.>", lambda message: listener.respond(message.reply, message.data))
    answer = await nurse.request("ai.capabilities.vitals.assess", b'{"patient": 4711}', timeout=5)
    assert answer.data == b'{"patient": 4711}'
