"""The accounts of the design on a real server: GATE, two tenants, a host whose dispatcher serves one of them.

`gate` gives a running `Gate`. Attackers connect with what nats-server gives a tenant's user, or speak the protocol byte
for byte (`RawTls`): what they send is not stopped by any client library.
"""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from dispatch_bench import KeysInMemory, Rules, Served
from fixtures_server import JETSTREAM, MakeRealm, Realm, TestAccount, limits
from toyplatform import RawClient

from authz.claims import ServiceExport, ServiceImport
from authz.creds import Creds
from authz.permissions import ResponsePermission, SubjectPermissions
from authz.principals import TenantTrust
from runtime.bus.connection import Connection
from runtime.bus.message import Message
from runtime.bus.subjects import capability as subject_of_capability
from runtime.bus.subjects import gate_capabilities_all, gate_capabilities_export, parse_gate_capability
from runtime.dispatch import AuditRecord, Dispatcher, ServedCapability, TenantView

NURSE = SubjectPermissions(
    publish_allow=("ai.capabilities.vitals.*", "$SYS.REQ.USER.INFO", "$JS.API.INFO", "ward.*"),
    subscribe_allow=("_INBOX.{{subject()}}.>", "ward.*"),
)
EVENTUALLY_S = 10


def host_permissions(subject: str) -> SubjectPermissions:
    return SubjectPermissions(
        publish_deny=(">",), subscribe_allow=(subject,), responses=ResponsePermission(max=1, ttl_s=31)
    )


class RawTls(RawClient):
    """The NATS protocol over TLS, byte for byte; blocking, so run it in a thread."""

    def __init__(self, port: int, creds: Creds, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__(port, creds)

    def open_socket(self, port: int) -> socket.socket:
        return self._tls.wrap_socket(super().open_socket(port), server_hostname="localhost")


class Gate:
    """A host serving `vitals.assess` to the tenant ACME, whose policy grants it to `nurse` and not to `clerk`."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.acme, self.rival = realm.accounts["ACME"], realm.accounts["RIVAL"]
        self.served = Served()
        self.capabilities: dict[str, ServedCapability] = {"vitals.assess": self.served}
        self.rules = Rules(allowed={"nurse": {"vitals.assess"}})
        self.trust = TenantTrust(
            tenant="acme",
            account=self.acme.key,
            roles={key.public.text: role for role, key in self.acme.roles.items()},
            revocations={},
        )
        self.keys = KeysInMemory()
        self.records: list[AuditRecord] = []
        self.seen: list[Message] = []
        self._delivered = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, *, subject: str = "") -> None:
        """Connect the host and serve; with a `subject`, one wider than a host should have."""
        subject = subject or gate_capabilities_all(self.acme.key)
        creds = self.realm.user(self.realm.accounts["GATE"], permissions=host_permissions(subject))
        host = await self.realm.connect(creds)
        self.dispatcher = Dispatcher(
            view=lambda: TenantView(trust=self.trust, policy=self.rules, epoch=1),
            capabilities=self.capabilities,
            parse_subject=parse_gate_capability,
            published_as=subject_of_capability,
            keys_of=lambda _: self.keys,
            respond=host.respond,
            audit=self,
        )
        await host.subscribe(subject, self._receive, queue="hosts")

    def record(self, record: AuditRecord, /) -> None:
        self.records.append(record)

    async def store(self, record: AuditRecord, /) -> None:
        self.records.append(record)

    def trusting(self, **changes: Any) -> None:
        self.trust = replace(self.trust, **changes)

    def user(self, role: str = "nurse", *, account: TestAccount | None = None, **changes: Any) -> Creds:
        return self.realm.user(account or self.acme, role=role, **changes)

    async def connect(self, creds: Creds) -> Connection:
        return await self.realm.connect(creds)

    async def raw(self, creds: Creds, act: Callable[[RawTls], Any]) -> Any:
        """Run `act` with a raw client in a thread."""
        endpoint = self.realm.endpoint()
        port = int(endpoint.url.rsplit(":", 1)[1])

        def run() -> Any:
            with RawTls(port, creds, endpoint.tls) as client:
                return act(client)

        return await asyncio.to_thread(run)

    async def delivered(self, count: int = 1) -> None:
        """Return when so many messages have been delivered to the dispatcher."""
        async with asyncio.timeout(EVENTUALLY_S), self._delivered:
            await self._delivered.wait_for(lambda: len(self.seen) >= count)

    def _receive(self, message: Message) -> None:
        self.seen.append(message)
        self.dispatcher.receive(message.subject, message.reply, message.data, message.header_block)
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._delivered:
            self._delivered.notify_all()


def add_accounts(realm: Realm) -> None:
    """GATE and two tenants that import from it with `share: true`."""
    export = ServiceExport(subject=gate_capabilities_export(), account_token_position=2, response_threshold_s=31)
    gate = realm.add_account("GATE", exports=(export,))
    for name in ("ACME", "RIVAL"):
        account = realm.add_account(name, limits=limits(jetstream=JETSTREAM))
        imported = ServiceImport(
            subject=gate_capabilities_all(account.key),
            account=gate.seed.public,
            local_subject="ai.capabilities.>",
            share=True,
        )
        account.claims = replace(account.claims, imports=(imported,))
        for role in ("nurse", "clerk"):
            realm.add_role(account, role, NURSE)


@pytest.fixture
async def gate(make_realm: MakeRealm) -> Gate:
    """A running server with the design's accounts, and a host that serves ACME."""
    gate = Gate(await make_realm(prepare=add_accounts))
    await gate.open()
    return gate


def error_of(message: Message) -> int:
    """The code of an answer; 200 for a result."""
    return int(message.header("Nats-Service-Error-Code") or 200)


def info_line(creds: Creds, account: str) -> bytes:
    """The server's line as a forger would write it, with somebody else's token, which is no secret."""
    line = {"acc": account, "rtt": 1, "kind": "Client", "jwt": creds.jwt, "start": time.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return b"Nats-Request-Info: " + json.dumps(line).encode()
