"""Runs an agent in memory, for its author's tests and ours: everything that a caller meets but the server.

    async with testing.run(VitalsAgent(), policy=POLICY) as harness:
        answer = await harness.call("vitals.assess", {...}, role="nurse")

Each call is made with a real token, minted for it, and passes the real dispatcher under the real, compiled policy:
what is denied, over a limit, late or malformed fails here as it does in production, with the same errors as
`runtime.client`. The agent may call others too, as its own role `agent:<name>`; `others` stands in for them.

It has no server, so what nats-server refuses by itself (a publish, a connection) is not tried.
"""

import asyncio
import contextlib
import inspect
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from authz.claims import UserClaims
from authz.compiler import compile_policy
from authz.keys import AccountSeed, UserSeed
from authz.policyfile import load_policy
from authz.principals import TenantTrust
from authz.tokens import encode_user
from runtime.agent import (
    Agent,
    Caller,
    CallRefusedError,
    DeadlinePassedError,
    NotGrantedError,
    capability_table,
)
from runtime.bus.subjects import gate_capability, parse_gate_capability
from runtime.client.answers import failure_error
from runtime.client.errors import CallFailedError, DeadlineError, DeniedError
from runtime.dispatch import (
    AuditRecord,
    CallContext,
    Counters,
    Dispatcher,
    DispatchLimits,
    ServedCapability,
    TenantView,
)
from runtime.envelope.messages import Failure, build_request, failure_headers_of, parse_response
from runtime.host.served import InlineCapability

DEFAULT_ROLE = "caller"
AnswerOf = Callable[[dict[str, Any]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]

_LIFETIME_S = 3600
_DRAIN_S = 1.0


class UnknownRoleError(Exception):
    """A test called under a role that its policy does not have."""

    def __init__(self, role: str, known: list[str]) -> None:
        self.role = role
        self.known = known
        super().__init__(f"the policy has no role `{role}`; it has {', '.join(f'`{name}`' for name in known)}")


class Harness:
    """One tenant with one agent; made by `run`.

    Attributes:
        records: The audit records so far, one for each decision.
    """

    def __init__(
        self, agent: Agent, *, policy: str | None, others: Mapping[str, AnswerOf], limits: DispatchLimits | None
    ) -> None:
        caller = _AgentCaller(self, f"agent:{agent.name}")
        self._served: dict[str, ServedCapability] = {name: _Other(answer=fn) for name, fn in others.items()}
        for name, spec in capability_table(agent).items():
            self._served[name] = InlineCapability(spec=spec, agent_id=agent.name, caller=caller)
        self._account = AccountSeed.generate()
        self._role_keys: dict[str, AccountSeed] = {}
        self._users: dict[tuple[str, str], UserSeed] = {}
        self._tokens: dict[tuple[str, str], str] = {}
        self._waiting: dict[str, asyncio.Future[tuple[bytes, Mapping[str, str]]]] = {}
        self._replies = itertools.count(1)
        self._epoch = 0
        self.records: list[AuditRecord] = []
        self.apply(policy or _open_policy(agent, self._served))
        self._dispatcher = Dispatcher(
            view=lambda: self._view,
            capabilities=self._served,
            parse_subject=parse_gate_capability,
            respond=self._answered,
            audit=self,
            limits=limits,
        )

    @property
    def counters(self) -> Counters:
        """What the dispatcher has counted."""
        return self._dispatcher.counters

    def apply(self, policy: str) -> None:
        """Put another policy in force, as YAML; it counts from the next call on.

        Raises:
            PolicyFileError: It has faults.
        """
        compiled = compile_policy(load_policy(policy))
        self._epoch += 1
        for role in compiled.roles:
            self._role_keys.setdefault(role, AccountSeed.generate())
        keys = {self._role_keys[role].public.text: role for role in compiled.roles}
        trust = TenantTrust(tenant=compiled.tenant, account=self._account.public.text, roles=keys, revocations={})
        self._view = TenantView(trust=trust, policy=compiled, epoch=self._epoch)

    def revoke(self, *, role: str = DEFAULT_ROLE, name: str = "tester") -> None:
        """Revoke a caller's credential: from its next call on it is refused with 401."""
        trust = self._view.trust
        revoked = {**trust.revocations, self._user(role, name).public.text: int(time.time())}
        self._view = replace(self._view, trust=replace(trust, revocations=revoked))

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any] | BaseModel,
        *,
        role: str = DEFAULT_ROLE,
        name: str = "tester",
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline to pass on, not a scope
    ) -> dict[str, Any]:
        """Call a capability as a caller with `role`, and return its result.

        Args:
            capability: Such as `vitals.assess`.
            data: The input: a mapping of JSON types, or a pydantic model.
            role: One of the policy's roles; `agent:<name>` for an agent's own.
            name: The caller's name, as the agent sees it.
            timeout: Seconds that the caller gives; the capability's own timeout is the upper bound.

        Raises:
            CallFailedError: From `runtime.client`, the subclass says why: `DeniedError` and so on.
            UnknownRoleError: The policy has no such role.
        """
        plain = data.model_dump(mode="json", by_alias=True) if isinstance(data, BaseModel) else data
        body = build_request(
            agent_id=name,
            correlation_id=str(uuid.uuid4()),
            timestamp=time.time(),
            data=json.dumps(plain, allow_nan=False).encode(),
        )
        return await self.call_raw(capability, body, role=role, name=name, timeout=timeout)

    async def call_raw(
        self,
        capability: str,
        body: bytes,
        *,
        role: str = DEFAULT_ROLE,
        name: str = "tester",
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline to pass on, not a scope
    ) -> dict[str, Any]:
        """Like `call`, with the bytes of the request as they are: bare data, an envelope, or nonsense."""
        reply = f"_R_.test.{next(self._replies)}"
        waiting = self._waiting[reply] = asyncio.get_running_loop().create_future()
        header_block = self._header_block(role, name, timeout)
        subject = gate_capability(self._view.trust.account, capability)
        self._dispatcher.receive(subject, reply, body, header_block)
        payload, headers = await waiting
        code, text = failure_headers_of(headers)
        answer = parse_response(payload, error_code=code, error_text=text)
        if isinstance(answer, Failure):
            raise failure_error(answer, answer.correlation_id or "")
        result: dict[str, Any] = json.loads(answer.result)
        return result

    async def close(self) -> None:
        """End the calls that still run."""
        await self._dispatcher.drain(_DRAIN_S)

    def record(self, record: AuditRecord, /) -> None:
        """Take an audit record: the harness is its dispatcher's sink."""
        self.records.append(record)

    def _answered(self, reply: str, payload: bytes, headers: Mapping[str, str] | None, /) -> None:
        waiting = self._waiting.pop(reply)
        if not waiting.done():
            waiting.set_result((payload, headers or {}))

    def _user(self, role: str, name: str) -> UserSeed:
        return self._users.setdefault((role, name), UserSeed.generate())

    def _header_block(self, role: str, name: str, timeout: float | None) -> bytes:
        """What nats-server delivers with a request that came through a service import with `share: true`."""
        line = {"acc": self._account.public.text, "kind": "Client", "jwt": self._credential(role, name)}
        deadline = b"" if timeout is None else b"Agent-Timeout: %d\r\n" % max(1, int(timeout * 1000))
        return b"NATS/1.0\r\n" + deadline + b"Nats-Request-Info: " + json.dumps(line).encode() + b"\r\n\r\n"

    def _credential(self, role: str, name: str) -> str:
        """The token of a caller, the same for all its calls."""
        if role not in self._view.trust.roles.values():
            raise UnknownRoleError(role, sorted(self._view.trust.roles.values()))
        if (role, name) not in self._tokens:
            self._tokens[role, name] = self._issue(role, name)
        return self._tokens[role, name]

    def _issue(self, role: str, name: str) -> str:
        key, now = self._role_keys[role], int(time.time())
        claims = UserClaims(
            name=name,
            subject=self._user(role, name).public,
            issuer=key.public,
            issuer_account=self._account.public,
            issued_at=now,
            expires_at=now + _LIFETIME_S,
        )
        return encode_user(claims, key)


@contextlib.asynccontextmanager
async def run(
    agent: Agent,
    *,
    policy: str | None = None,
    others: Mapping[str, AnswerOf] | None = None,
    limits: DispatchLimits | None = None,
) -> AsyncIterator[Harness]:
    """Set the agent up, serve it in memory, and tear it down at the end.

    Args:
        agent: The agent.
        policy: The tenant's policy, as YAML. Without one, role `caller` may call everything, and so may the agent.
        others: Stand-ins for the capabilities that the agent calls: each is given the request's data.
        limits: What the tenant may use, to try what happens beyond it.

    Raises:
        AgentDefinitionError: The class can't be served as it is written.
        PolicyFileError: The policy has faults.
    """
    harness = Harness(agent, policy=policy, others=others or {}, limits=limits)
    await agent.setup()
    try:
        yield harness
    finally:
        await harness.close()
        await agent.teardown()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Other:
    """A capability of another agent, as a plain function."""

    answer: AnswerOf
    agent_id: str = "other"
    timeout_s: float = 30.0
    concurrency: int = 64

    def validate(self, data: bytes, /) -> object:
        return json.loads(data)

    async def invoke(self, value: Any, context: CallContext, /) -> object:
        del context
        answer = self.answer(value)
        return await answer if inspect.isawaitable(answer) else answer

    def encode(self, output: object, /) -> bytes:
        return json.dumps(output, allow_nan=False).encode()


class _AgentCaller(Caller):
    """The agent's own way to call: through the same dispatcher, under its own role."""

    def __init__(self, harness: Harness, role: str) -> None:
        self._harness = harness
        self._role = role

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - a deadline to pass on, not a scope
        correlation_id: str,  # noqa: ARG002 - each call has its own here
    ) -> dict[str, Any]:
        """Call as the agent; see `runtime.agent.Caller`."""
        try:
            return await self._harness.call(capability, data, role=self._role, name=self._role[6:], timeout=timeout)
        except (DeniedError, UnknownRoleError) as error:
            raise NotGrantedError(capability) from error
        except DeadlineError as error:
            raise DeadlinePassedError(capability) from error
        except CallFailedError as error:
            raise CallRefusedError(capability, error.code, error.message) from error


def _open_policy(agent: Agent, served: Mapping[str, ServedCapability]) -> str:
    """A policy under which every test passes that is not about policy. JSON is YAML."""
    grants = {"call": sorted(served)}
    return json.dumps({"tenant": "test", "roles": {DEFAULT_ROLE: grants}, "agents": {agent.name: grants}})
