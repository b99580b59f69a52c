"""A nats-server in operator mode with one tenant and one gate, and a client that sends and shows raw bytes.

For tests of what nats-server itself does with our tokens and with a hostile client's bytes: no TLS, no client library.
"""

import base64
import contextlib
import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from authz.claims import (
    UNLIMITED,
    AccountClaims,
    AccountLimits,
    OperatorClaims,
    ScopedSigningKey,
    ServiceExport,
    ServiceImport,
    UserClaims,
)
from authz.creds import Creds
from authz.keys import AccountSeed, OperatorSeed, UserSeed
from authz.permissions import ResponsePermission, SubjectPermissions
from authz.tokens import encode_account, encode_operator, encode_user

NURSE = SubjectPermissions(
    publish_allow=("ai.capabilities.vitals.*", "$SYS.REQ.USER.INFO"),
    subscribe_allow=("_INBOX.{{subject()}}.>",),
)
HOST = SubjectPermissions(
    publish_deny=(">",),
    subscribe_allow=("tenant.*.capabilities.>",),
    responses=ResponsePermission(max=1, ttl_s=31),
)


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """One tenant's keys: its account, and the signing key of its role `nurse`."""

    name: str
    account: AccountSeed
    nurse: AccountSeed

    def user(self, name: str = "alice", **changes: Any) -> Creds:
        """Credentials of a nurse, good for an hour unless changed."""
        seed = UserSeed.generate()
        fields: dict[str, Any] = {
            "name": name,
            "subject": seed.public,
            "issuer": self.nurse.public,
            "issuer_account": self.account.public,
            "issued_at": int(time.time()),
            "expires_at": int(time.time()) + 3600,
        }
        claims = UserClaims(**fields | changes)
        signer = self.account if claims.issuer == self.account.public else self.nurse
        return Creds(jwt=encode_user(claims, signer), seed=seed)


def new_tenant(name: str) -> Tenant:
    return Tenant(name=name, account=AccountSeed.generate(), nurse=AccountSeed.generate())


def limits(**changes: Any) -> AccountLimits:
    fields: dict[str, Any] = {
        "connections": UNLIMITED,
        "subscriptions": UNLIMITED,
        "payload_bytes": UNLIMITED,
        "imports": UNLIMITED,
        "exports": UNLIMITED,
        "wildcard_exports": True,
        "leaf_nodes": UNLIMITED,
    }
    return AccountLimits(**fields | changes)


class ToyPlatform:
    """Operator, system account, gate and tenants, as tokens that a server can be started with."""

    def __init__(self, *tenants: Tenant, strict: bool = True) -> None:
        self.operator = OperatorSeed.generate()
        self.signing = OperatorSeed.generate()
        self.system = new_tenant("SYS")
        self.gate = new_tenant("GATE")
        self.tenants = tenants
        self.port = 0
        self.leaf_port = 0
        self._strict = strict

    def host(self) -> Creds:
        """Credentials of a host in the gate, with permissions of its own."""
        return self.gate.user("host", permissions=HOST)

    def operator_token(self) -> str:
        claims = OperatorClaims(
            name="toy",
            subject=self.operator.public,
            issuer=self.operator.public,
            issued_at=int(time.time()),
            signing_keys=(self.signing.public,),
            system_account=self.system.account.public,
            strict_signing_keys=self._strict,
        )
        return encode_operator(claims, self.operator)

    def account_token(self, tenant: Tenant, **changes: Any) -> str:
        fields: dict[str, Any] = {
            "name": tenant.name,
            "subject": tenant.account.public,
            "issuer": self.signing.public,
            "issued_at": int(time.time()),
            "limits": limits(),
            "signing_keys": (ScopedSigningKey(key=tenant.nurse.public, role="nurse", template=NURSE),),
        }
        return encode_account(AccountClaims(**fields | changes), self.signing)

    def tenant_token(self, tenant: Tenant) -> str:
        """The tenant's account, with the gate's service imported."""
        capabilities = ServiceImport(
            subject=f"tenant.{tenant.account.public}.capabilities.>",
            account=self.gate.account.public,
            local_subject="ai.capabilities.>",
            share=True,
        )
        return self.account_token(tenant, imports=(capabilities,))

    def gate_token(self) -> str:
        capabilities = ServiceExport(
            subject="tenant.*.capabilities.>", account_token_position=2, response_threshold_s=31
        )
        return self.account_token(self.gate, exports=(capabilities,), signing_keys=(self.gate.nurse.public,))

    def configuration(self) -> str:
        tokens = {
            self.system.account.public: self.account_token(self.system),
            self.gate.account.public: self.gate_token(),
            **{tenant.account.public: self.tenant_token(tenant) for tenant in self.tenants},
        }
        preload = "\n".join(f"  {key}: {token}" for key, token in tokens.items())
        return (
            f"operator: {self.operator_token()}\nsystem_account: {self.system.account.public}\n"
            f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}\n"
        )

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[Self]:
        """The platform's server, ready, on a free port of the loopback, and another for leaf nodes."""
        leaf_nodes = "leafnodes: { host: 127.0.0.1, port: -1 }\n"
        with running_server(folder, self.configuration() + leaf_nodes) as port:
            log = (folder / "server.log").read_text()
            self.port = port
            self.leaf_port = int(re.findall(r"leafnode connections on 127\.0\.0\.1:(\d+)", log)[0])
            yield self

    def connect(self, creds: Creds, **options: Any) -> "RawClient":
        return RawClient(self.port, creds, **options)


@contextlib.contextmanager
def running_server(folder: Path, configuration: str) -> Iterator[int]:
    """A server, ready, on a free port of the loopback, which is given. It logs to `server.log`."""
    (folder / "server.conf").write_text(configuration)
    binary = Path(sys.executable).parent / "nats-server"
    command = [binary, "-a", "127.0.0.1", "-p", "-1", "-c", folder / "server.conf", "--ports_file_dir", folder]
    log = folder / "server.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            yield _port_of(server, folder)
        finally:
            server.terminate()
            server.wait(10)


def _port_of(server: subprocess.Popen[bytes], folder: Path) -> int:
    written = folder / f"nats-server_{server.pid}.ports"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(json.loads(written.read_text())["nats"][0].rsplit(":", 1)[1])
        time.sleep(0.005)
    raise AssertionError((folder / "server.log").read_text())


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """A message as the server wrote it."""

    subject: str
    reply: str
    header_block: bytes
    payload: bytes


class ServerRefusedError(Exception):
    """The server's `-ERR`."""


class RawClient:
    """The NATS protocol over a socket, byte for byte."""

    def __init__(self, port: int, creds: Creds, **options: Any) -> None:
        self._socket = self.open_socket(port)
        self._read = self._socket.makefile("rb")
        self.user = creds.seed.public.text
        self.inbox = f"_INBOX.{self.user}."
        try:
            self._sign_in(creds, options)
        except BaseException:
            self.close()
            raise

    def _sign_in(self, creds: Creds, options: dict[str, Any]) -> None:
        nonce = json.loads(self._line().removeprefix(b"INFO ")).get("nonce", "")
        signature = base64.urlsafe_b64encode(creds.seed.sign(nonce.encode())).rstrip(b"=").decode()
        hello = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
        hello |= {"jwt": creds.jwt, "sig": signature, "lang": "raw", "version": "0"} | options
        self.send(b"CONNECT " + json.dumps(hello).encode() + b"\r\n")
        self.flush()

    def close(self) -> None:
        self._read.close()
        self._socket.close()

    def open_socket(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def subscribe(self, subject: str) -> None:
        self.send(f"SUB {subject} 1\r\n".encode())
        self.flush()

    def publish(self, subject: str, payload: bytes = b"{}", *, block: bytes = b"", reply: str = "") -> None:
        """Publish with any header block, well formed or not."""
        where = f"{subject} {reply}".encode()
        if block:
            sizes = f" {len(block)} {len(block) + len(payload)}\r\n".encode()
            self.send(b"HPUB " + where + sizes + block + payload + b"\r\n")
        else:
            self.send(b"PUB " + where + f" {len(payload)}\r\n".encode() + payload + b"\r\n")

    def flush(self) -> None:
        """Return when the server has handled all that was sent."""
        self.send(b"PING\r\n")
        refusal = None
        while (line := self._line()) != b"PONG":
            try:
                self._refuse(line)
            except ServerRefusedError as error:
                refusal = error
        if refusal:
            raise refusal

    def receive(self) -> Delivered:
        """The next message."""
        while not (found := re.match(rb"(H?)MSG (\S+) \S+ (?:(\S+) )??(?:(\d+) )?(\d+)$", line := self._line())):
            self._refuse(line)
        with_headers, subject, reply, header_size, size = found.groups()
        if not with_headers and header_size:
            reply, header_size = header_size, None
        content = self._read.read(int(size) + 2)[:-2]
        cut = int(header_size or 0)
        return Delivered(
            subject=subject.decode(),
            reply=(reply or b"").decode(),
            header_block=content[:cut],
            payload=content[cut:],
        )

    def poll(self, seconds: float) -> Delivered | None:
        """The next message, if one comes in time."""
        readable, _, _ = select.select([self._socket], [], [], seconds)
        return self.receive() if readable else None

    def _line(self) -> bytes:
        line = self._read.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        return line.rstrip(b"\r\n")

    def _refuse(self, line: bytes) -> None:
        if line == b"PING":
            self.send(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            raise ServerRefusedError(line.decode())
