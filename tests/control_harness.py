"""A control plane in memory, asked as a host or an administrator would ask: real tokens, real headers, no server.

`Site` is what survives a crash (storage, keys, what the server knows); `Site.start` is a process.
"""

import asyncio
import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from signed_requests import signed_request

from authz.keys import UserSeed
from certs.leaves import new_client_key_and_csr
from runtime.bus.message import Message
from runtime.control.bootstrap import PlatformKeys, ensure_platform
from runtime.control.limits import ControlLimits
from runtime.control.memory import MemoryKeys, MemoryPusher, MemoryStorage
from runtime.control.plane import ControlPlane, Ports
from runtime.envelope.messages import Failure, Result, parse_response

PLATFORM_POLICY = """\
tenant: platform
roles:
  operator:
    admin: [">"]
  host:
    admin: [hosts.*, audit.append]
"""
QUICK = ControlLimits(
    host_lease_s=0.4,
    poll_hold_s=0.05,
    narrow_first_s=0.05,
    acknowledge_s=0.5,
    deploy_s=0.6,
    first_host_s=0.01,
    maintenance_s=0.02,
)


class RefusedError(Exception):
    """The answer was a failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.error} {failure.fields}")
        self.failure = failure
        self.code = failure.code


@dataclass(kw_only=True)
class Caller:
    """Someone with a credential."""

    account: str
    jwt: str
    name: str
    user: str
    seed: UserSeed = field(repr=False)
    certificate: str = ""


class _Subscription:
    def __init__(self, plane: "Process") -> None:
        self._plane = plane

    async def drain(self) -> None:
        self._plane.handler = None


@dataclass
class Process:
    """One run of the control plane."""

    site: "Site"
    plane: ControlPlane = field(init=False)
    handler: Callable[[Message], None] | None = None
    waiting: dict[str, "asyncio.Future[tuple[bytes, Mapping[str, str] | None]]"] = field(default_factory=dict)
    sent: list[tuple[str, bytes, Mapping[str, str] | None]] = field(default_factory=list)

    async def subscribe(self, _subject: str, handler: Callable[[Message], None]) -> _Subscription:
        self.handler = handler
        return _Subscription(self)

    def respond(self, reply: str, payload: bytes, headers: Mapping[str, str] | None) -> None:
        self.sent.append((reply, payload, headers))
        future = self.waiting.pop(reply, None)
        if future and not future.done():
            future.set_result((payload, headers))

    def deliver(self, subject: str, reply: str, data: bytes, header_block: bytes) -> None:
        assert self.handler is not None, "not serving"
        self.handler(Message(subject, reply, data, header_block))

    async def ask_raw(self, subject: str, data: bytes, header_block: bytes) -> Result | Failure:
        reply = f"_R_.{next(self.site.numbers)}"
        future = asyncio.get_running_loop().create_future()
        self.waiting[reply] = future
        self.deliver(subject, reply, data, header_block)
        async with asyncio.timeout(10):
            payload, headers = await future
        headers = headers or {}
        return parse_response(
            payload,
            error_code=headers.get("Nats-Service-Error-Code"),
            error_text=headers.get("Nats-Service-Error"),
        )

    async def ask(self, caller: Caller, command: str, target: str, data: object = None) -> dict[str, Any]:
        signs = valid_name(command) and valid_name(target)
        body, headers = signed(caller, command, target, data, at=self.site.now()) if signs else (b"{}", {})
        return await self.ask_signed(caller, command, target, body, headers)

    async def ask_signed(
        self, caller: Caller, command: str, target: str, body: bytes, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        subject = f"tenant.{caller.account}.admin.{command}.{target}"
        answer = await self.ask_raw(subject, body, header_block(caller, headers))
        if isinstance(answer, Failure):
            raise RefusedError(answer)
        result: dict[str, Any] = json.loads(answer.result)
        return result

    async def issue(self, by: Caller, tenant: str, name: str, role: str, ttl_s: int = 600) -> Caller:
        seed = UserSeed.generate()
        _, csr = new_client_key_and_csr()
        body = {"name": name, "role": role, "ttl_s": ttl_s, "user": seed.public.text, "csr": csr.decode()}
        issued = await self.ask(by, "credentials.issue", tenant, body)
        view = self.plane.state.tenant(tenant)
        assert view is not None
        return Caller(
            account=view.record.account,
            jwt=issued["jwt"],
            name=name,
            user=seed.public.text,
            seed=seed,
            certificate=issued["certificate"],
        )

    async def platform_caller(self, role: str, name: str, ttl_s: int = 3600) -> Caller:
        seed = UserSeed.generate()
        _, csr = new_client_key_and_csr()
        issued = await self.plane.issue_platform_credential(
            role=role, name=name, user=seed.public.text, csr=csr, ttl_s=ttl_s
        )
        account = self.site.platform.platform.public.text
        return Caller(account=account, jwt=issued.jwt, name=name, user=seed.public.text, seed=seed)


class Site:
    """What outlives the process."""

    def __init__(self, limits: ControlLimits = QUICK) -> None:
        self.storage: Any = MemoryStorage()
        self.keys: Any = MemoryKeys()
        self.pusher: Any = MemoryPusher()
        self.now: Callable[[], float] = time.time
        self.limits = limits
        self.platform: PlatformKeys = ensure_platform(self.keys, time.time())
        self.numbers = itertools.count(1)
        self.processes: list[Process] = []

    def ports(self, process: Process) -> Ports:
        return Ports(
            storage=self.storage,
            pusher=self.pusher,
            subscribe=process.subscribe,
            respond=process.respond,
            keys=self.keys,
            clock=lambda: self.now(),  # noqa: PLW0108 - tests replace it
        )

    def plane(self, ports: Ports, **changes: Any) -> ControlPlane:
        return ControlPlane(
            replace(ports, **changes),
            platform=self.platform,
            authority=self.platform.authority,
            platform_policy=PLATFORM_POLICY,
            limits=self.limits,
        )

    async def start(self) -> Process:
        process = Process(self)
        process.plane = self.plane(self.ports(process))
        self.processes.append(process)
        await process.plane.start()
        return process

    async def close(self) -> None:
        for process in tuple(self.processes):
            await process.plane.stop()


def valid_name(text: str) -> bool:
    """Whether a client could have sent it: its builder of subjects refuses the rest."""
    return re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", text) is not None


def signed(
    caller: Caller, command: str, target: str, data: object = None, *, at: float | None = None
) -> tuple[bytes, dict[str, str]]:
    """A command's payload and headers, signed by the caller's own key."""
    return signed_request(caller.seed, caller.account, command, target, data, at=at)


def header_block(caller: Caller, headers: Mapping[str, str] | None = None) -> bytes:
    """A client's headers, with what nats-server adds to a request that crosses a shared import."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items()).encode()
    info = {"acc": caller.account, "kind": "Client", "user": caller.user, "jwt": caller.jwt, "rtt": 1}
    return b"NATS/1.0\r\n" + lines + b"Nats-Request-Info: " + json.dumps(info).encode() + b"\r\n\r\n"


def policy(tenant: str, **roles: str) -> str:
    """A policy in which each role has one line of grants."""
    lines = [f"tenant: {tenant}", "roles:"]
    for role, grants in roles.items():
        lines += [f"  {role}:", f"    {grants}"]
    return "\n".join(lines) + "\n"
