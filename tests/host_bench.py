"""A hosted tenant on a bench: the real host parts and real agents' code; connections and control plane in memory."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch_bench import KeysInMemory
from msgspec.structs import replace

from authz.claims import UserClaims
from authz.keys import AccountSeed, UserSeed
from authz.tokens import encode_user
from runtime.dispatch.outcomes import AuditRecord
from runtime.envelope.hostsync import AgentReport, Deployed, TenantSnapshot
from runtime.host.ports import BusMessage, OpenCaller, OpenGate
from runtime.host.services import HostServices
from runtime.host.snapshot import pack_file
from runtime.host.snapshots import SnapshotCache
from runtime.host.tenant import HostedTenant

POLICY = """\
tenant: st-marys
roles:
  nurse:
    call: [vitals.*, greeting]
  billing:
    call: [invoice.*]
"""

HEAD = """\
import asyncio
from pathlib import Path
from runtime.agent import Agent, capability

"""


def agent_code(*capabilities: str, says: str = "", body: str = "", head: str = "") -> str:
    """An agent of one module: each capability answers what it `says`, or waits for a file where the request has one."""
    lines = [HEAD, head, "\nclass Probe(Agent):\n", body]
    for number, name in enumerate(capabilities):
        lines.append(
            f'    @capability("{name}", timeout=20)\n'
            f"    async def handle_{number}(self, request: dict) -> dict:\n"
            '        if "began" in request:\n'
            '            Path(request["began"]).touch()\n'
            '            while not Path(request["end"]).exists():\n'
            "                await asyncio.sleep(0.005)\n"
            f'        return {{"says": "{says}"}}\n'
        )
    return "".join(lines) + "    pass\n"


@dataclass(frozen=True)
class Message:
    subject: str
    reply: str
    data: bytes
    header_block: bytes


@dataclass(frozen=True)
class Answer:
    reply: str
    body: dict[str, Any]
    code: int
    by: "GateDouble"


@dataclass(eq=False)
class SubscriptionDouble:
    gate: "GateDouble"
    subject: str

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.gate.handlers.pop(self.subject, None)


@dataclass(eq=False)
class GateDouble:
    """A GATE connection in memory."""

    connector: "ConnectorDouble"
    on_closed: Callable[[], None]
    handlers: dict[str, Callable[[BusMessage], None]] = field(default_factory=dict)
    closed: bool = False

    async def subscribe(
        self, subject: str, handler: Callable[[BusMessage], None], *, queue: str = ""
    ) -> SubscriptionDouble:
        await asyncio.sleep(0)
        assert queue == "agents"
        if self.connector.subscribe_fails:
            raise ConnectionError("the server went away")
        self.handlers[subject] = handler
        return SubscriptionDouble(self, subject)

    def respond(self, reply: str, payload: bytes, headers: Mapping[str, str] | None) -> None:
        if self.closed:
            return
        code = int((headers or {}).get("Nats-Service-Error-Code", 200))
        waiting = self.connector.waiting.pop(reply)
        if not waiting.done():
            waiting.set_result(Answer(reply, json.loads(payload), code, self))

    async def flush(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.closed = True
        self.handlers.clear()

    def end(self) -> None:
        """Go away for good by itself, as at expiry."""
        self.closed = True
        self.handlers.clear()
        self.on_closed()


@dataclass(eq=False)
class ConnectorDouble:
    """Opens connections in memory, or fails to, as the test wants."""

    lifetime_s: float = 3600.0
    open_fails: int = 0
    subscribe_fails: bool = False
    gates: list[GateDouble] = field(default_factory=list)
    waiting: dict[str, "asyncio.Future[Answer]"] = field(default_factory=dict)

    async def open_gate(self, tenant: str, *, on_closed: Callable[[], None]) -> OpenGate:
        assert tenant == "st-marys"
        await asyncio.sleep(0)
        if self.open_fails:
            self.open_fails -= 1
            raise ConnectionError("nobody there")
        gate = GateDouble(self, on_closed)
        self.gates.append(gate)
        return OpenGate(connection=gate, lifetime_s=self.lifetime_s)

    async def open_caller(self, tenant: str, agent: str) -> OpenCaller:
        raise NotImplementedError(tenant, agent)

    @property
    def live(self) -> list[GateDouble]:
        return [gate for gate in self.gates if not gate.closed]


@dataclass
class ControlDouble:
    """Knows snapshots by their digests."""

    stored: dict[str, bytes] = field(default_factory=dict)
    snapshot_fails: int = 0

    async def snapshot(self, digest: str) -> bytes:
        if self.snapshot_fails:
            self.snapshot_fails -= 1
            raise ConnectionError("storage is not there yet")
        return self.stored[digest]


@dataclass(eq=False)
class KeysDouble(KeysInMemory):
    """Data keys in memory, and whether they were forgotten."""

    dropped: bool = False

    def drop(self) -> None:
        self.dropped = True


class TenantBench:
    """The tenant `st-marys` with the roles nurse and billing, on one host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.account, self.nurse_key, self.clerk_key = (AccountSeed.generate() for _ in range(3))
        self.nurse = UserSeed.generate()
        self.connector, self.control = ConnectorDouble(), ControlDouble()
        self.lease = True
        self.records: list[AuditRecord] = []
        self.keys: dict[tuple[str, str], list[KeysDouble]] = {}
        self.changed = asyncio.Event()
        self._numbers = itertools.count(1)
        self.snapshot = TenantSnapshot(
            tenant="st-marys",
            account=self.account.public.text,
            revision=1,
            status="active",
            policy=POLICY,
            roles={self.nurse_key.public.text: "nurse", self.clerk_key.public.text: "billing"},
            revocations={},
        )
        services = HostServices(
            connector=self.connector,
            snapshots=SnapshotCache(folder / "work", self.control),  # type: ignore[arg-type]
            audit=self,
            subject_of=lambda account, capability: f"tenant.{account}.capabilities.{capability}",
            parse_subject=self.parse_subject,
            published_as=lambda capability: f"ai.capabilities.{capability}",
            open_keys=self.open_keys,
            lease_holds=lambda: self.lease,
            report_changed=self.changed.set,
        )
        self.tenant = HostedTenant(self.snapshot, services)

    @staticmethod
    def parse_subject(subject: str) -> tuple[str, str] | None:
        _, account, _, capability = subject.split(".", 3)
        return account, capability

    def record(self, record: AuditRecord, /) -> None:
        self.records.append(record)

    async def store(self, record: AuditRecord, /) -> None:
        self.records.append(record)

    def open_keys(self, tenant: str, agent: str) -> KeysDouble:
        opened = KeysDouble()
        self.keys.setdefault((tenant, agent), []).append(opened)
        return opened

    def packed(self, agent: str, code: str) -> Deployed:
        """Store the code as a snapshot, and name it as the next deployment of `agent`."""
        number = next(self._numbers)
        source = self.folder / f"source{number}"
        source.mkdir()
        (source / "agent.py").write_text(code)
        packed = pack_file(source / "agent.py")
        self.control.stored[packed.digest] = packed.data
        return Deployed(agent=agent, digest=packed.digest, entry="agent:Probe", revision=number)

    def apply(self, **changes: Any) -> None:
        """Put a newer snapshot in force."""
        self.snapshot = replace(self.snapshot, revision=self.snapshot.revision + 1, **changes)
        self.tenant.apply(self.snapshot)

    def want(self, *deployed: Deployed) -> None:
        self.apply(deployments=deployed)

    async def deploy(self, agent: str, code: str) -> AgentReport:
        """Deploy beside what is there, and wait until it runs or failed."""
        new = self.packed(agent, code)
        self.want(*(each for each in self.snapshot.deployments if each.agent != agent), new)
        return await self.settled(agent, new.revision)

    async def settled(self, agent: str, revision: int) -> AgentReport:
        """Wait until a deployment runs or failed."""
        async with asyncio.timeout(20):
            while True:
                self.changed.clear()
                for report in self.tenant.reports():
                    if (report.agent, report.revision) == (agent, revision) and report.state != "starting":
                        return report
                await self.changed.wait()

    def token(self, role: AccountSeed | None = None) -> str:
        now = int(time.time())
        signer = role or self.nurse_key
        claims = UserClaims(
            name="nina",
            subject=self.nurse.public,
            issuer=signer.public,
            issuer_account=self.account.public,
            issued_at=now - 60,
            expires_at=now + 600,
        )
        return encode_user(claims, signer)

    def send(self, capability: str, data: object = None, *, role: AccountSeed | None = None) -> Awaitable[Answer]:
        """Deliver a request as the server would: to one of the connections that subscribe."""
        subject = f"tenant.{self.account.public.text}.capabilities.{capability}"
        handlers = [gate.handlers[subject] for gate in self.connector.live if subject in gate.handlers]
        assert handlers, "no responders"
        info = {"acc": self.account.public.text, "kind": "Client", "jwt": self.token(role)}
        header = b"NATS/1.0\r\nNats-Request-Info: " + json.dumps(info).encode() + b"\r\n\r\n"
        reply = f"_R_.{next(self._numbers)}"
        answer = self.connector.waiting[reply] = asyncio.get_running_loop().create_future()
        handlers[-1](Message(subject, reply, json.dumps(data or {}).encode(), header))
        return answer

    async def call(self, capability: str, data: object = None, *, role: AccountSeed | None = None) -> Answer:
        async with asyncio.timeout(20):
            return await self.send(capability, data, role=role)

    async def says(self, capability: str) -> str:
        """Which version answers."""
        answer = await self.call(capability)
        assert answer.code == 200, answer.body
        return str(answer.body["result"]["says"])

    async def begin(self, capability: str) -> tuple[Awaitable[Answer], Path]:
        """A call whose handler has begun, and the file that lets it end."""
        name = next(self._numbers)
        began, end = self.folder / f"began{name}", self.folder / f"end{name}"
        answer = self.send(capability, {"began": str(began), "end": str(end)})
        await until(began.exists)
        return answer, end

    def serves(self, capability: str) -> bool:
        """Whether the server would find a responder."""
        subject = f"tenant.{self.account.public.text}.capabilities.{capability}"
        return any(subject in gate.handlers for gate in self.connector.live)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
