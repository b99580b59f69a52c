"""A real nats-server with the accounts as the control plane makes them, and clients that show what they are refused.

`acme` has two attackers: `greedy`, with all that a policy can grant, and `unbounded`, with more than any
policy gives. What even that one can't do is kept by the accounts alone.
"""

import json
import re
import time

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


class BuiltAccounts(ToyPlatform):
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
