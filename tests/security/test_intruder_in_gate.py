"""SEC-1b and SEC-2: what somebody could do who got a leaf node into GATE, and that nobody gets one there.

A leaf node's messages carry whatever reply and whatever headers its owner writes: no line of the server's is added, and
`_R_.` is not refused. So a forger there has the bytes right, and only the embedded token is left to be judged. In a
GATE as the control plane makes it there is no leaf node.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from built_accounts import EVERYTHING, BuiltAccounts
from leaf_client import RawLeaf
from toyplatform import RawClient, Tenant, ToyPlatform, new_tenant

from authz.errors import IdentityError
from authz.principals import Principal, PrincipalCache, TenantTrust, authenticate
from authz.requestinfo import read_request_info

Line = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A gate that takes leaf nodes, as ours never does; an intruder's leaf node in it; and a host."""

    acme: Tenant
    rival: Tenant
    host: RawClient
    leaf: RawLeaf

    def true_line(self, **changes: object) -> Line:
        """What the server writes of a true nurse of `acme`; her token is no secret."""
        return {"acc": str(self.acme.account.public), "kind": "Client", "jwt": self.acme.user("matron").jwt} | changes

    def caller_of(self, line: Line, **trusted: str) -> Principal:
        """Whom the dispatcher takes the intruder for."""
        subject = f"tenant.{self.acme.account.public}.capabilities.vitals.assess"
        block = b"NATS/1.0\r\nNats-Request-Info: " + json.dumps(line).encode() + b"\r\n\r\n"
        self.leaf.publish(subject, b"{}", block=block, reply="_R_.forged.1")
        message = self.host.receive()
        assert (message.reply, message.header_block) == ("_R_.forged.1", block)
        account = self.acme.account.public.text
        roles = {self.acme.nurse.public.text: "nurse"} | trusted
        return authenticate(
            read_request_info(message.header_block),
            subject_account=message.subject.split(".")[1],
            trust=TenantTrust(tenant="acme", account=account, roles=roles, revocations={}),
            now=time.time(),
            cache=PrincipalCache(),
        )


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    acme, rival = new_tenant("acme"), new_tenant("rival")
    with (
        ToyPlatform(acme, rival).running(tmp_path_factory.mktemp("server")) as platform,
        platform.connect(platform.host()) as host,
    ):
        host.subscribe("tenant.*.capabilities.>")
        with RawLeaf(platform.leaf_port, platform.gate.user("leaf", permissions=EVERYTHING)) as leaf:
            yield Scene(acme=acme, rival=rival, host=host, leaf=leaf)


def altered(token: str, **claims: object) -> str:
    """The token with other claims, under the signature of the old ones."""
    header, payload, signature = token.split(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | claims
    return f"{header}.{base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b'=').decode()}.{signature}"


def self_signed(scene: Scene) -> str:
    """Claims that name acme's own role key as issuer, under the signature of a key of the intruder's."""
    mallory = new_tenant("mallory")
    header, payload, _ = scene.acme.user("root").jwt.split(".")
    signature = mallory.nurse.sign(f"{header}.{payload}".encode())
    return f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


ATTACKS: dict[str, tuple[str, Callable[[Scene], Line]]] = {
    "a token with the name changed": (
        "token-signature",
        lambda s: s.true_line(jwt=altered(s.acme.user().jwt, name="root")),
    ),
    "a token with its end put off": (
        "token-signature",
        lambda s: s.true_line(jwt=altered(s.acme.user(expires_at=1).jwt, exp=2**40)),
    ),
    "a token that the intruder signed": ("token-signature", lambda s: s.true_line(jwt=self_signed(s))),
    "a token that has expired": ("token-expired", lambda s: s.true_line(jwt=s.acme.user(expires_at=1).jwt)),
    "a token that is not in force yet": (
        "token-not-yet-valid",
        lambda s: s.true_line(jwt=s.acme.user(not_before=2**40).jwt),
    ),
    "a token with permissions of its own": (
        "token-unscoped",
        lambda s: s.true_line(jwt=s.acme.user(permissions=EVERYTHING).jwt),
    ),
    "a token of another tenant": ("account-mismatch", lambda s: s.true_line(jwt=s.rival.user().jwt)),
    "a line of another account": ("account-mismatch", lambda s: s.true_line(acc=str(s.rival.account.public))),
    "a token of a role that is gone": (
        "role-unknown",
        lambda s: s.true_line(jwt=s.acme.user(issuer=s.acme.account.public).jwt),
    ),
    "no token": ("token-malformed", lambda s: s.true_line(jwt="")),
    "a request by way of a service": ("caller-indirect", lambda s: s.true_line(svc=str(s.rival.account.public))),
    "a leaf node's": ("caller-kind", lambda s: s.true_line(kind="Leafnode")),
    "a router's": ("caller-kind", lambda s: s.true_line(kind="Router")),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_sec_1b_forger_with_all_the_bytes_right_is_known_by_the_token(scene: Scene, attack: str) -> None:
    reason, line = ATTACKS[attack]
    with pytest.raises(IdentityError) as caught:
        # The other tenant's role key is trusted too, so that the key does not give its token away.
        scene.caller_of(line(scene), **{scene.rival.nurse.public.text: "nurse"})
    assert caught.value.reason == reason


def test_sec_1b_nothing_beside_the_token_is_whom_the_caller_is(scene: Scene) -> None:
    line = scene.true_line(user="UROOT", name="root", name_tag="root", tags=["admin"], nkey="UROOT", host="::1")
    principal = scene.caller_of(line)
    assert (principal.name, principal.role, principal.tags) == ("matron", "nurse", ())
    assert principal.user.startswith("U")
    assert principal.user != "UROOT"


def test_sec_2_true_token_in_an_intruders_hands_is_believed_so_nobody_may_get_there(scene: Scene) -> None:
    """The attack that the next test's rule is for: tokens are no secrets, and here nothing else is asked for."""
    assert scene.caller_of(scene.true_line()).name == "matron"


def test_sec_2_no_leaf_node_gets_into_gate_or_control_or_a_tenant(tmp_path: Path) -> None:
    platform = BuiltAccounts()
    platform.store = tmp_path / "jetstream"
    with platform.running(tmp_path):
        for account in (platform.gate, platform.control, *platform.tenants):
            creds = account.user("leaf", issuer=account.account.public, permissions=EVERYTHING)
            platform.connect(creds).close()
            with pytest.raises(ConnectionError, match="maximum account active connections exceeded"):
                RawLeaf(platform.leaf_port, creds).close()
