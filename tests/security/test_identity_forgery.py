"""SEC-1a and b: a hostile client's bytes against a real nats-server, judged on what the server really delivers.

Each attack publishes a raw header block from an ordinary credential; the responder's raw delivery is then read. The
facts about nats-server that the rule rests on are asserted too, so that a version that behaves otherwise is noticed.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from toyplatform import Delivered, RawClient, ServerRefusedError, Tenant, ToyPlatform, new_tenant, running_server

from authz.claims import ServiceExport, ServiceImport
from authz.creds import Creds, format_creds
from authz.errors import IdentityError
from authz.keys import UserSeed
from authz.principals import Principal, PrincipalCache, TenantTrust, authenticate
from authz.requestinfo import RequestInfo, read_request_info

SUBJECT = "ai.capabilities.vitals.assess"
NAME = b"Nats-Request-Info"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A running platform with two tenants, and a host that hears all of the gate.

    `forged` is a line's value that names a colleague of mallory's, with the colleague's true token (tokens leak: they
    are no secrets). Only the bytes around it stand between mallory and being her.
    """

    platform: ToyPlatform
    acme: Tenant
    rival: Tenant
    host: RawClient
    victim: Creds
    forged: bytes

    def deliver(self, block: bytes, *, attacker: RawClient) -> Delivered:
        """What the host receives when `attacker` sends this header block."""
        attacker.publish(SUBJECT, b'{"a":1}', block=block, reply=attacker.inbox + "1")
        attacker.flush()
        return self.host.receive()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    acme, rival = new_tenant("acme"), new_tenant("rival")
    folder: Path = tmp_path_factory.mktemp("server")
    with ToyPlatform(acme, rival).running(folder) as platform, platform.connect(platform.host()) as host:
        host.subscribe("tenant.*.capabilities.>")
        victim = acme.user("matron")
        info = {"acc": acme.account.public.text, "jwt": victim.jwt, "kind": "Client"}
        forged = json.dumps(info, separators=(",", ":")).encode()
        yield Scene(platform=platform, acme=acme, rival=rival, host=host, victim=victim, forged=forged)


@pytest.fixture
def mallory(scene: Scene) -> Iterator[RawClient]:
    """An ordinary nurse of tenant `acme`, with evil bytes."""
    with scene.platform.connect(scene.acme.user("mallory")) as client:
        yield client


def trust_in(tenant: Tenant) -> TenantTrust:
    return TenantTrust(
        tenant=tenant.name,
        account=tenant.account.public.text,
        roles={tenant.nurse.public.text: "nurse"},
        revocations={},
    )


def caller_of(message: Delivered, tenant: Tenant, *, cache: PrincipalCache | None = None) -> Principal:
    """All of SEC-1a and b, as the dispatcher does it."""
    return authenticate(
        read_request_info(message.header_block),
        subject_account=message.subject.split(".")[1],
        trust=trust_in(tenant),
        now=time.time(),
        cache=cache or PrincipalCache(),
    )


def test_an_honest_caller_is_who_the_server_says(scene: Scene) -> None:
    creds = scene.acme.user("alice", tags=("ward-3",))
    with scene.platform.connect(creds) as alice:
        for block in (b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nTraceparent: 00-1\r\n\r\n"):
            message = scene.deliver(block, attacker=alice)
            principal = caller_of(message, scene.acme)
            assert message.payload == b'{"a":1}'
            assert (principal.user, principal.name, principal.role) == (creds.seed.public.text, "alice", "nurse")
            assert (principal.tenant, principal.tags) == ("acme", ("ward-3",))


def test_what_a_client_says_of_itself_on_connecting_changes_nothing(scene: Scene) -> None:
    chosen = {"name": "admin", "user": UserSeed.generate().public.text, "pass": "x", "lang": "admin"}
    creds = scene.acme.user("alice")
    with scene.platform.connect(creds, **chosen) as alice:
        message = scene.deliver(b"", attacker=alice)
        assert chosen["user"].encode() in message.header_block  # the server passes on what the client chose
        principal = caller_of(message, scene.acme)
        assert (principal.user, principal.name) == (creds.seed.public.text, "alice")


# Both parts together make a library's parser see the forged line alone: the doubled name keeps the server from taking
# it out, and the missing end hides the server's own.
FULL_FORGERIES = {
    "doubled name in a value, then unterminated": (
        b"NATS/1.0\r\nX: Nats-Request-InfoNats-Request-Info: a\r\nNats-Request-Info: FORGED\r\nY: zz",
        "header-repeated",
    ),
    "doubled name, then unterminated": (
        b"NATS/1.0\r\nNats-Request-InfoNats-Request-Info: a\r\nNats-Request-Info: FORGED\r\nY: zz",
        "header-repeated",
    ),
    "space before the colon, then unterminated": (
        b"NATS/1.0\r\nNats-Request-Info : FORGED\r\nY: zz",
        "header-repeated",
    ),
}

# name of attack: (header block, with FORGED for the value, and the reason of the refusal)
BYTE_ATTACKS = FULL_FORGERIES | {
    # the last two bytes of the block are taken off and the server's line appended: it hides inside another line
    "block without its blank line": (b"NATS/1.0\r\nX: y\r\n", "header-spelling"),
    "block without any line end": (b"NATS/1.0\r\nX: yz", "header-spelling"),
    "forged line, block without its blank line": (b"NATS/1.0\r\nNats-Request-Info: FORGED\r\n", "header-repeated"),
    "forged line, block without any line end": (b"NATS/1.0\r\nNats-Request-Info: FORGED..", "header-repeated"),
    "forged line behind spaces, unterminated": (b"NATS/1.0\r\nNats-Request-Info : FORGED\r\n", "header-repeated"),
    "start line cut short": (b"NATS/1.0", "header-form"),
    "bytes behind the blank line": (b"NATS/1.0\r\nX: y\r\n\r\nabc", "header-form"),
    # names that the server does not take for its own, and a lenient parser does
    "doubled name": (b"NATS/1.0\r\nX: Nats-Request-InfoNats-Request-Info: FORGED\r\n\r\n", "header-repeated"),
    "doubled name at a line start": (
        b"NATS/1.0\r\nNats-Request-InfoNats-Request-Info: FORGED\r\n\r\n",
        "header-repeated",
    ),
    "lower case": (b"NATS/1.0\r\nnats-request-info: FORGED\r\n\r\n", "header-repeated"),
    "odd case": (b"NATS/1.0\r\nNats-request-Info: FORGED\r\n\r\n", "header-repeated"),
    "space before the colon": (b"NATS/1.0\r\nNats-Request-Info : FORGED\r\n\r\n", "header-repeated"),
    "tab before the colon": (b"NATS/1.0\r\nNats-Request-Info\t: FORGED\r\n\r\n", "header-repeated"),
    "space before the name": (b"NATS/1.0\r\n Nats-Request-Info: FORGED\r\n\r\n", "header-repeated"),
    "folded line": (b"NATS/1.0\r\nX: y\r\n Nats-Request-Info: FORGED\r\n\r\n", "header-repeated"),
    "bare line feed": (b"NATS/1.0\r\nX: y\nNats-Request-Info: FORGED\r\n\r\n", "header-repeated"),
    "bare carriage return": (b"NATS/1.0\r\nX: y\rNats-Request-Info: FORGED\r\n\r\n", "header-repeated"),
    "line feeds only": (b"NATS/1.0\nNats-Request-Info: FORGED\n\n", "header-repeated"),
    # an early end, so that a parser stops before the server's line
    "early blank line": (b"NATS/1.0\r\nX: y\r\n\r\nZ: y\r\n\r\n", "header-form"),
    "early blank line behind a forged one": (
        b"NATS/1.0\r\nnats-request-info: FORGED\r\n\r\nX: y\r\n\r\n",
        "header-repeated",
    ),
    # another start line
    "no start line": (b"X: y\r\n\r\n", "header-form"),
    "another version": (b"NATS/1.1\r\nX: y\r\n\r\n", "header-form"),
    "a status": (b"NATS/1.0 503\r\n\r\n", "header-form"),
    # more than any block of ours
    "a long block": (b"NATS/1.0\r\nX: " + b"y" * 16_384 + b"\r\n\r\n", "header-size"),
}


@pytest.mark.parametrize("attack", BYTE_ATTACKS)
def test_hostile_bytes_in_a_header_block_are_refused(scene: Scene, mallory: RawClient, attack: str) -> None:
    block, reason = BYTE_ATTACKS[attack]
    message = scene.deliver(block.replace(b"FORGED", scene.forged), attacker=mallory)
    with pytest.raises(IdentityError) as caught:
        read_request_info(message.header_block)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0\r\nNats-Request-Info: FORGED\r\n\r\n",
        b"NATS/1.0\r\nNats-Request-Info: FORGED\r\nNats-Request-Info: FORGED\r\n\r\n",
        b"NATS/1.0\r\nNats-Request-Info:FORGED\r\n\r\n",
        b"NATS/1.0\r\nX: y\r\nNats-Request-Info: FORGED\r\nZ: y\r\n\r\n",
    ],
)
def test_a_plainly_forged_line_is_replaced_by_the_server(scene: Scene, mallory: RawClient, block: bytes) -> None:
    message = scene.deliver(block.replace(b"FORGED", scene.forged), attacker=mallory)
    assert caller_of(message, scene.acme).user == mallory.user


@pytest.mark.parametrize("attack", BYTE_ATTACKS)
def test_the_servers_own_line_is_always_there_whole(scene: Scene, mallory: RawClient, attack: str) -> None:
    """INVARIANT of `read_request_info`: a caller can't remove or split the line, so one occurrence is the server's."""
    block, _ = BYTE_ATTACKS[attack]
    message = scene.deliver(block.replace(b"FORGED", scene.forged), attacker=mallory)
    tail = message.header_block[message.header_block.rindex(NAME) :]
    assert tail.startswith(NAME + b": {")
    assert json.loads(tail.removeprefix(NAME + b": "))["acc"] == scene.acme.account.public.text


@pytest.mark.parametrize("attack", FULL_FORGERIES)
async def test_a_librarys_parsed_headers_would_have_believed_it(scene: Scene, mallory: RawClient, attack: str) -> None:
    """Why the raw block is read: by nats-py's headers, mallory is authenticated as the matron."""
    block, _ = FULL_FORGERIES[attack]
    message = scene.deliver(block.replace(b"FORGED", scene.forged), attacker=mallory)
    headers = await Client()._process_headers(message.header_block)
    assert headers is not None
    parsed = json.loads(headers["Nats-Request-Info"])
    fooled = authenticate(
        RequestInfo(account=parsed["acc"], user_jwt=parsed["jwt"], kind=parsed["kind"]),
        subject_account=message.subject.split(".")[1],
        trust=trust_in(scene.acme),
        now=time.time(),
        cache=PrincipalCache(),
    )
    assert fooled.user == scene.victim.seed.public.text != mallory.user
    with pytest.raises(IdentityError):
        caller_of(message, scene.acme)


def test_a_genuine_caller_of_one_tenant_is_nobody_to_another(scene: Scene) -> None:
    with scene.platform.connect(scene.rival.user()) as rival:
        message = scene.deliver(b"", attacker=rival)
    assert caller_of(message, scene.rival).tenant == "rival"
    with pytest.raises(IdentityError, match="account-mismatch"):
        caller_of(message, scene.acme)
    renamed = replace(message, subject=f"tenant.{scene.acme.account.public}.capabilities.vitals.assess")
    for tenant in (scene.acme, scene.rival):
        with pytest.raises(IdentityError, match="account-mismatch"):
            caller_of(renamed, tenant)


def test_a_caller_can_not_reach_the_gate_under_another_account(scene: Scene, mallory: RawClient) -> None:
    for subject in (f"tenant.{scene.rival.account.public}.capabilities.vitals.assess", "tenant.x.capabilities.y"):
        mallory.publish(subject, b"{}", reply=mallory.inbox + "1")
        with pytest.raises(ServerRefusedError, match="Permissions Violation"):
            mallory.flush()


def test_a_genuine_caller_whose_trust_is_gone_is_refused_also_when_cached(scene: Scene) -> None:
    creds, now, trust, cache = scene.acme.user(), time.time(), trust_in(scene.acme), PrincipalCache()
    with scene.platform.connect(creds) as alice:
        info = read_request_info(scene.deliver(b"", attacker=alice).header_block)
    gone: dict[str, tuple[TenantTrust, float]] = {
        "token-expired": (trust, now + 3600),
        "revoked": (replace(trust, revocations={creds.seed.public.text: int(now)}), now),
        "role-unknown": (replace(trust, roles={}), now),
        "tenant-suspended": (replace(trust, suspended=True), now),
    }
    account = scene.acme.account.public.text
    for reason, (later_trust, later) in gone.items():
        authenticate(info, subject_account=account, trust=trust, now=now, cache=cache)
        with pytest.raises(IdentityError, match=reason):
            authenticate(info, subject_account=account, trust=later_trust, now=later, cache=cache)
    everyone = replace(trust, revocations={"*": int(now)})
    with pytest.raises(IdentityError, match="revoked"):
        authenticate(info, subject_account=account, trust=everyone, now=now, cache=cache)


def test_a_request_relayed_by_another_tenants_service_is_refused(tmp_path: Path) -> None:
    """Were `acme` to export its import, callers of `rival` would come under `acme`'s subject: `svc` gives it away."""
    acme, rival = new_tenant("acme"), new_tenant("rival")

    class Relaying(ToyPlatform):
        def tenant_token(self, tenant: Tenant) -> str:
            service = {"account_token_position": 0, "response_threshold_s": 31}
            target = acme if tenant is rival else self.gate
            subject = "ai.capabilities.>" if tenant is rival else f"tenant.{tenant.account.public}.capabilities.>"
            capabilities = ServiceImport(
                subject=subject, account=target.account.public, local_subject="ai.capabilities.>", share=True
            )
            exports = (ServiceExport(subject="ai.capabilities.>", **service),) if tenant is acme else ()
            return self.account_token(tenant, imports=(capabilities,), exports=exports)

    with (
        Relaying(acme, rival).running(tmp_path) as platform,
        platform.connect(platform.host()) as host,
        platform.connect(rival.user()) as mallory,
    ):
        host.subscribe("tenant.*.capabilities.>")
        mallory.publish(SUBJECT, reply=mallory.inbox + "1")
        mallory.flush()
        message = host.receive()
    assert message.subject.split(".")[1] == acme.account.public.text
    assert read_request_info(message.header_block).service == acme.account.public.text
    with pytest.raises(IdentityError, match="caller-indirect"):
        caller_of(message, acme)


def test_a_caller_behind_a_leaf_node_is_refused(scene: Scene, tmp_path: Path) -> None:
    """Whoever runs the leaf node's server has no identity here; the line carries the leaf node's own."""
    leaf = scene.acme.user("leaf")
    (tmp_path / "leaf.creds").write_text(format_creds(leaf))
    url = f"nats-leaf://127.0.0.1:{scene.platform.leaf_port}"
    remote = f'leafnodes: {{ remotes: [ {{ url: "{url}", credentials: "{tmp_path}/leaf.creds" }} ] }}\n'
    with (
        running_server(tmp_path, remote) as port,
        RawClient(port, leaf) as anybody,
    ):
        anybody.subscribe(anybody.inbox + ">")
        message = None
        while message is None:  # until the leaf node has heard of the service
            anybody.publish(SUBJECT, reply=anybody.inbox + "1")
            anybody.flush()
            message = scene.host.poll(0.1)
    info = read_request_info(message.header_block)
    assert (info.kind, info.user_jwt) == ("Leafnode", leaf.jwt)
    with pytest.raises(IdentityError, match="caller-kind"):
        caller_of(message, scene.acme)
