"""Real servers for tests: TLS 1.3 and mutual, operator mode, JetStream, on a free port, in the test's own folder.

`realm` is a running server with the accounts SYS and ALPHA. `make_realm` makes servers to order. A `Realm` mints
accounts, users and client certificates, and connects them.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from authz.claims import AccountClaims, AccountLimits, JetStreamLimits, OperatorClaims, ScopedSigningKey, UserClaims
from authz.creds import Creds
from authz.keys import AccountSeed, OperatorSeed, UserSeed
from authz.permissions import SubjectPermissions
from authz.tokens import encode_account, encode_operator, encode_user
from certs.authority import Authority
from certs.contexts import client_context
from certs.leaves import Leaf
from runtime.bus.connection import Connection, Endpoint, connect
from runtime.bus.server import EmbeddedServer
from runtime.bus.serverconfig import ServerSettings, render

DAY = dt.timedelta(days=1)
JETSTREAM = JetStreamLimits(memory_bytes=8 << 20, disk_bytes=256 << 20, streams=20, consumers=50)
ALLOW_ALL = SubjectPermissions(publish_allow=(">",), subscribe_allow=(">",))


def limits(**changes: Any) -> AccountLimits:
    """An account's limits, finite, roomy for a test."""
    base = AccountLimits(
        connections=100, subscriptions=1000, payload_bytes=262_144, imports=10, exports=10, wildcard_exports=True
    )
    return replace(base, **changes)


@dataclass(kw_only=True)
class TestAccount:
    """An account that the test holds the keys of."""

    __test__ = False

    seed: AccountSeed
    signing: AccountSeed
    claims: AccountClaims
    roles: dict[str, AccountSeed] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.seed.public.text


class RawClient:
    """An attacker's client: TLS, and whatever bytes one likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def hpub(self, subject: bytes, reply: bytes, header_block: bytes, payload: bytes = b"") -> None:
        """Publish with a header block that no library would write."""
        total = len(header_block) + len(payload)
        self.send(b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, len(header_block), total, header_block, payload))

    async def until(self, marker: bytes) -> bytes:
        """Read until a line holds `marker`; returns everything read."""
        seen = b""
        while marker not in seen:
            line = await self.reader.readline()
            if not line:
                raise ConnectionError(seen.decode("utf-8", "replace"))
            seen += line
        return seen

    async def round_trip(self) -> bytes:
        """Return what the server says to all that was sent so far."""
        self.send(b"PING\r\n")
        return await self.until(b"PONG\r\n")

    def close(self) -> None:
        self._writer.transport.abort()


class Realm:
    """One operator, one CA, one server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.operator = OperatorSeed.generate()
        self.authority = Authority.create("test CA", now=time.time())
        self.accounts: dict[str, TestAccount] = {}
        self._names = itertools.count(1)
        self._connections: list[Connection] = []
        self._raw: list[RawClient] = []
        self._sys: Connection | None = None
        for name in ("resolver", "store", "tls", "run"):
            (folder / name).mkdir(parents=True)
        self.ca_file = self._write("tls/ca.pem", self.authority.certificate_pem)
        self.sys = self.add_account("SYS")
        server = self.authority.issue_server(
            dns_names=["localhost"], ip_addresses=["127.0.0.1"], now=time.time(), lifetime=DAY
        )
        self.write_leaf("server", server)
        self.settings = ServerSettings(
            host="127.0.0.1",
            port=-1,
            server_name="test",
            operator_jwt=encode_operator(
                OperatorClaims(
                    name="test",
                    subject=self.operator.public,
                    issuer=self.operator.public,
                    issued_at=int(time.time()),
                    system_account=self.sys.seed.public,
                ),
                self.operator,
            ),
            system_account=self.sys.key,
            resolver_dir=folder / "resolver",
            store_dir=folder / "store",
            certificate=folder / "tls/server.pem",
            private_key=folder / "tls/server-key.pem",
            client_ca=self.ca_file,
        )
        self.client_files = self.new_client_files()
        self.config = folder / "server.conf"
        self.server = EmbeddedServer(self.config, folder / "server.log", folder / "run")

    # --- server -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start, or start again on the same port."""
        if self.server.url:
            self.settings = replace(self.settings, port=int(self.server.url.rsplit(":", 1)[1]))
        self.config.write_text(render(self.settings), encoding="utf-8")
        await self.server.start()

    async def close(self) -> None:
        for raw in self._raw:
            raw.close()
        for connection in self._connections:
            await connection.close()
        await self.server.kill()

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    # --- claims -----------------------------------------------------------------------------------------------------

    def add_account(self, name: str, **changes: Any) -> TestAccount:
        """Make an account; it is known to a server that starts later, or after `push`."""
        seed, signing = AccountSeed.generate(), AccountSeed.generate()
        claims = AccountClaims(
            name=name,
            subject=seed.public,
            issuer=self.operator.public,
            issued_at=int(time.time()),
            limits=limits(),
            signing_keys=(signing.public,),
        )
        account = TestAccount(seed=seed, signing=signing, claims=replace(claims, **changes))
        if "signing_keys" in changes:
            account.claims = replace(account.claims, signing_keys=(signing.public, *changes["signing_keys"]))
        self.accounts[name] = account
        self._write(f"resolver/{account.key}.jwt", self.account_jwt(account).encode())
        return account

    def add_role(self, account: TestAccount, role: str, template: SubjectPermissions) -> None:
        """Give the account a scoped signing key; `push` it when the server runs."""
        account.roles[role] = key = AccountSeed.generate()
        scoped = ScopedSigningKey(key=key.public, role=role, template=template)
        account.claims = replace(account.claims, signing_keys=(*account.claims.signing_keys, scoped))
        self._write(f"resolver/{account.key}.jwt", self.account_jwt(account).encode())

    def replace(self, account: TestAccount, **changes: Any) -> None:
        """Change an account's claims before the server starts."""
        account.claims = replace(account.claims, **changes)
        self._write(f"resolver/{account.key}.jwt", self.account_jwt(account).encode())

    def account_jwt(self, account: TestAccount) -> str:
        return encode_account(account.claims, self.operator)

    async def push(self, account: TestAccount, **changes: Any) -> None:
        """Change the account's claims on the running server."""
        issued_at = max(int(time.time()), account.claims.issued_at + 1)
        account.claims = replace(account.claims, **{"issued_at": issued_at, **changes})
        answer = await (await self.sys_connection()).request(
            "$SYS.REQ.CLAIMS.UPDATE", self.account_jwt(account).encode(), timeout=5
        )
        assert json.loads(answer.data)["data"]["code"] == 200, answer.data

    async def sys_connection(self) -> Connection:
        if self._sys is None:
            self._sys = await self.connect(self.user(self.sys))
        return self._sys

    def user(
        self,
        account: TestAccount,
        *,
        role: str | None = None,
        permissions: SubjectPermissions = ALLOW_ALL,
        name: str = "",
        ttl: float | None = 3600,
        **changes: Any,
    ) -> Creds:
        """Mint credentials: under a role's scoped key, or with permissions of their own."""
        now, seed = int(time.time()), UserSeed.generate()
        signer = account.roles[role] if role else account.signing
        claims = UserClaims(
            name=name or f"user{next(self._names)}",
            subject=seed.public,
            issuer=signer.public,
            issuer_account=account.seed.public,
            issued_at=now,
            expires_at=None if ttl is None else int(now + ttl),
            permissions=None if role else permissions,
        )
        return Creds(jwt=encode_user(replace(claims, **changes), signer), seed=seed)

    # --- connecting -------------------------------------------------------------------------------------------------

    def write_leaf(self, name: str, leaf: Leaf) -> tuple[Path, Path]:
        return (
            self._write(f"tls/{name}.pem", leaf.certificate_pem),
            self._write(f"tls/{name}-key.pem", leaf.key_pem),
        )

    def new_client_files(self, authority: Authority | None = None) -> tuple[Path, Path]:
        """Issue a client certificate, by this realm's CA or a foreign one; certificate and key file."""
        number = next(self._names)
        leaf = (authority or self.authority).issue_client(
            uri=f"spiffe://garrison/alpha/client{number}", now=time.time(), lifetime=DAY
        )
        return self.write_leaf(f"client{number}", leaf)

    def endpoint(self, **changes: Any) -> Endpoint:
        certificate, key = self.client_files
        tls = client_context(ca=self.ca_file, certificate=certificate, key=key)
        return replace(Endpoint(url=self.server.url, tls=tls), **changes)

    async def connect(self, creds: Creds, **options: Any) -> Connection:
        """Connect; closed with the realm."""
        endpoint = options.pop("endpoint", None) or self.endpoint()
        connection = await connect(endpoint, lambda: creds, **{"name": "test", **options})
        self._connections.append(connection)
        return connection

    async def raw(self, creds: Creds, **connect_options: Any) -> RawClient:
        """Connect as an attacker with valid credentials would; closed with the realm."""
        host, port = self.server.url.removeprefix("nats://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=self.endpoint().tls, limit=1 << 22)
        client = RawClient(reader, writer)
        self._raw.append(client)
        info = json.loads((await client.until(b"INFO")).split(b" ", 1)[1])
        signature = base64.b64encode(creds.seed.sign(info["nonce"].encode())).decode()
        options = {"jwt": creds.jwt, "sig": signature, "headers": True, "no_responders": True, "verbose": False}
        client.send(b"CONNECT " + json.dumps({"protocol": 1, **options, **connect_options}).encode() + b"\r\n")
        await client.round_trip()
        return client

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path


MakeRealm = Callable[..., Awaitable[Realm]]


@pytest.fixture
async def make_realm(tmp_path: Path) -> AsyncIterator[MakeRealm]:
    """Make servers: `await make_realm(prepare=fn)`, where `fn(realm)` adds accounts before the start."""
    async with contextlib.AsyncExitStack() as stack:
        counter = itertools.count(1)

        async def make(*, prepare: Callable[[Realm], Any] | None = None, start: bool = True) -> Realm:
            realm = Realm(tmp_path / f"realm{next(counter)}")
            stack.push_async_callback(realm.close)
            if prepare is not None:
                prepare(realm)
            if start:
                await realm.start()
            return realm

        yield make


@pytest.fixture
async def realm(make_realm: MakeRealm) -> Realm:
    """A running server with an account ALPHA that has JetStream."""
    return await make_realm(prepare=lambda r: r.add_account("ALPHA", limits=limits(jetstream=JETSTREAM)))
