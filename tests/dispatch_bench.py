"""A real `Dispatcher` on a bench: real keys and tokens, header blocks as the server writes them, the rest in memory."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from authz.claims import UserClaims
from authz.keys import AccountSeed, UserSeed
from authz.permissions import SubjectPermissions
from authz.principals import Principal, TenantTrust
from authz.tokens import encode_user
from runtime.dispatch import AuditRecord, CallContext, Clock, Dispatcher, DispatchLimits, ServedCapability, TenantView
from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyRefusedError
from runtime.envelope.keyid import KeyId, KeyScope

NOW = 1_800_000_000
CID = "7d0f1a52-6c1b-4a44-9d0e-0f4e5f6a7b8c"


@dataclass
class Time:
    """A clock that stands still until it is moved."""

    wall: float = NOW
    monotonic: float = 1000.0

    def move(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@dataclass(frozen=True)
class Line:
    line: int
    text: str


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    reason: str
    rule: Line | None


@dataclass
class Rules:
    """A policy with `role: {capability}`, and labels likewise."""

    allowed: dict[str, set[str]]
    labels: dict[str, set[str]] = field(default_factory=dict)

    def decide(self, principal: Principal, action: str, resource: str) -> Verdict:
        granted = {"call": self.allowed, "data": self.labels}[action]
        allowed = resource in granted.get(principal.role, set())
        if allowed:
            return Verdict(allowed=True, reason="granted", rule=Line(4, "nurse: call vitals.*"))
        return Verdict(allowed=False, reason="no rule", rule=None)


async def echo(value: Any, context: CallContext) -> Any:
    del context
    return value


@dataclass
class Served:
    """A capability whose handler is any coroutine function of (value, context); it notes what reached it."""

    handler: Callable[[Any, CallContext], Awaitable[Any]] = echo
    agent_id: str = "vitals"
    timeout_s: float = 5.0
    concurrency: int = 4
    sensitive: str | None = None
    validate: Callable[[bytes], Any] = json.loads
    encode: Callable[[Any], bytes] = field(default=lambda output: json.dumps(output).encode())
    reached: list[CallContext] = field(default_factory=list)

    async def invoke(self, value: Any, context: CallContext) -> Any:
        self.reached.append(context)
        return await self.handler(value, context)


@dataclass(eq=False)
class KeysInMemory:
    """Data keys: those at hand, and those to be fetched; `error` instead, and only once `gate` is open."""

    at_hand: dict[KeyId | KeyScope, DataKey] = field(default_factory=dict)
    elsewhere: dict[KeyId | KeyScope, DataKey] = field(default_factory=dict)
    error: Exception | None = None
    gate: asyncio.Event | None = None
    fetched: list[str] = field(default_factory=list)

    def cached(self, key_id: KeyId, /) -> DataKey | None:
        return self.at_hand.get(key_id)

    def cached_active(self, scope: KeyScope, /) -> DataKey | None:
        return self.at_hand.get(scope)

    async def fetch(self, wanted: KeyId | KeyScope, /) -> DataKey:
        self.fetched.append(str(wanted))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if wanted not in self.elsewhere:
            raise KeyRefusedError(str(wanted))
        return self.elsewhere[wanted]


@dataclass(frozen=True)
class Answer:
    """One answer as sent."""

    reply: str
    body: dict[str, Any]
    headers: Mapping[str, str] | None

    @property
    def code(self) -> int:
        return int(self.headers["Nats-Service-Error-Code"]) if self.headers else 200


class Bench:
    """One tenant with one role key (`nurse`), one agent with `vitals.assess`, and whatever a test changes."""

    def __init__(self, **limits: Any) -> None:
        self.account = AccountSeed.generate()
        self.role_key = AccountSeed.generate()
        self.clerk_key = AccountSeed.generate()
        self.user = UserSeed.generate()
        self.time = Time()
        self.rules = Rules(allowed={"nurse": {"vitals.assess", "vitals.absent"}})
        self.trust = TenantTrust(
            tenant="st-marys",
            account=self.account.public.text,
            roles={self.role_key.public.text: "nurse", self.clerk_key.public.text: "billing"},
            revocations={},
        )
        self.served = Served()
        self.capabilities: dict[str, ServedCapability] = {"vitals.assess": self.served}
        self.keys = KeysInMemory()
        self.answers: list[Answer] = []
        self.records: list[AuditRecord] = []
        self.stored: list[AuditRecord] = []
        self.answered = asyncio.Event()
        self.dispatcher = Dispatcher(
            view=self.view,
            capabilities=self.capabilities,
            parse_subject=self.parse_subject,
            published_as=self.published_as,
            keys_of=self.keys_of,
            respond=self.respond,
            audit=self,
            clock=Clock(wall=lambda: self.time.wall, monotonic=lambda: self.time.monotonic),
            limits=DispatchLimits(**limits),
        )

    def view(self) -> TenantView:
        return TenantView(trust=self.trust, policy=self.rules, epoch=7)

    def trusting(self, **changes: Any) -> None:
        self.trust = replace(self.trust, **changes)

    @staticmethod
    def another_user() -> UserSeed:
        return UserSeed.generate()

    @staticmethod
    def parse_subject(subject: str) -> tuple[str, str] | None:
        parts = subject.split(".", 3)
        is_one = len(parts) == 4 and parts[0] == "tenant" and parts[2] == "capabilities"
        return (parts[1], parts[3]) if is_one else None

    def respond(self, reply: str, payload: bytes, headers: Mapping[str, str] | None, /) -> None:
        self.answers.append(Answer(reply, json.loads(payload), headers))
        self.answered.set()

    @staticmethod
    def published_as(capability: str) -> str:
        return f"ai.capabilities.{capability}"

    def keys_of(self, agent_id: str) -> "KeysInMemory":
        assert agent_id == self.served.agent_id
        return self.keys

    def record(self, record: AuditRecord, /) -> None:
        self.records.append(record)

    async def store(self, record: AuditRecord, /) -> None:
        self.stored.append(record)
        self.records.append(record)

    def token(self, *, signer: AccountSeed | None = None, **changes: Any) -> str:
        fields: dict[str, Any] = {
            "name": "nina",
            "subject": self.user.public,
            "issuer": (signer or self.role_key).public,
            "issuer_account": self.account.public,
            "issued_at": NOW - 60,
            "expires_at": NOW + 3600,
        }
        return encode_user(UserClaims(**(fields | changes)), signer or self.role_key)

    def info(self, **changes: Any) -> bytes:
        fields: dict[str, Any] = {"acc": self.account.public.text, "kind": "Client", "jwt": changes.pop("token", None)}
        fields["jwt"] = fields["jwt"] or self.token()
        return json.dumps(fields | changes).encode()

    def header(self, *, before: bytes = b"", **changes: Any) -> bytes:
        return b"NATS/1.0\r\n" + before + b"Nats-Request-Info: " + self.info(**changes) + b"\r\n\r\n"

    def subject(self, capability: str = "vitals.assess", account: str = "") -> str:
        return f"tenant.{account or self.account.public.text}.capabilities.{capability}"

    def send(
        self,
        data: bytes = b'{"a":1}',
        *,
        header: bytes | None = None,
        subject: str | None = None,
        reply: str = "_R_.x.y",
    ) -> None:
        self.answered.clear()
        self.dispatcher.receive(subject or self.subject(), reply, data, self.header() if header is None else header)

    async def call(self, data: bytes = b'{"a":1}', **where: Any) -> Answer:
        """Send, and wait for an answer."""
        self.send(data, **where)
        await self.answered.wait()
        return self.answers[-1]

    async def settled(self) -> None:
        """Return when no handler runs any more."""
        await self.dispatcher.drain(5, only=list(self.capabilities.values()))


def unscoped() -> SubjectPermissions:
    """Permissions of a credential that is not bound to a role."""
    return SubjectPermissions(publish_allow=(">",), subscribe_allow=(">",))


def envelope(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "version": "1.0",
        "agent_id": "ward-3",
        "message_type": "request",
        "timestamp": float(NOW),
        "correlation_id": CID,
        "data": {"a": 1},
    }
    return json.dumps(fields | changes).encode()
