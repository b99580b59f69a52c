"""Runs an agent in memory, for its author's tests and ours: everything that a caller meets but the server.

    async with testing.run(VitalsAgent(), policy=POLICY) as harness:
        answer = await harness.call("vitals.assess", {...}, role="nurse")

Each call is made with a real token, minted for it, and passes the real dispatcher under the real, compiled policy:
what is denied, over a limit, late or malformed fails here as it does in production, with the same errors as
`runtime.client`. Sealing and signing are real too, with data keys made here: a call to a sensitive capability is
sealed and signed unasked, as the client does. The agent may call others too, as its own role `agent:<name>`; `others`
stands in for them.

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
from runtime.bus import subjects
from runtime.client.answers import failure_error
from runtime.client.errors import CallFailedError, DeadlineError, DeniedError, InvalidRequestError
from runtime.dispatch import (
    AuditRecord,
    CallContext,
    Counters,
    Dispatcher,
    DispatchLimits,
    ServedCapability,
    TenantView,
)
from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyRefusedError
from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keyring import Keyring
from runtime.envelope.messages import Failure, build_request, failure_headers_of
from runtime.envelope.sealedmessages import SealedResult, open_response, parse_any_response, seal_request
from runtime.envelope.sender import HEADER, sign_sender
from runtime.host.served import InlineCapability

DEFAULT_ROLE = "caller"
AnswerOf = Callable[[dict[str, Any]], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]

_LIFETIME_S = 3600
_STAND_IN = "other"
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
        self._keys = Keyring()
        self.records: list[AuditRecord] = []
        self.apply(policy or _open_policy(agent, self._served))
        self._dispatcher = Dispatcher(
            view=lambda: self._view,
            capabilities=self._served,
            parse_subject=subjects.parse_gate_capability,
            published_as=subjects.capability,
            keys_of=lambda agent_id: _AgentKeys(self, agent_id),
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
        self._policy = compiled
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
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Call a capability as a caller with `role`, and return its result.

        Args:
            capability: Such as `vitals.assess`.
            data: The input: a mapping of JSON types, or a pydantic model.
            role: One of the policy's roles; `agent:<name>` for an agent's own.
            name: The caller's name, as the agent sees it.
            timeout: Seconds that the caller gives; the capability's own timeout is the upper bound.
            seal: The label to seal under; unless given, that of a sensitive capability. What is sealed is signed.
            subject: With a label, whom the data is about, such as `patient/4711`.

        Raises:
            CallFailedError: From `runtime.client`, the subclass says why: `DeniedError` and so on.
            UnknownRoleError: The policy has no such role.
        """
        plain = data.model_dump(mode="json", by_alias=True) if isinstance(data, BaseModel) else data
        data_bytes, cid = json.dumps(plain, allow_nan=False).encode(), str(uuid.uuid4())
        served = self._served.get(capability)
        label = seal or (served.sensitive if served is not None else None)
        body = build_request(agent_id=name, correlation_id=cid, timestamp=time.time(), data=data_bytes)
        if label is None:
            return await self.call_raw(capability, body, role=role, name=name, timeout=timeout)
        if not self._holds(role, label):
            if seal is None:
                await self._try_in_the_clear(capability, body, role=role, name=name)
            failure = Failure(code=403, error="insufficient permissions", required=f"data:{label}", role=role)
            raise failure_error(failure, cid)
        dek = self.data_key(KeyScope.of(label, subject))
        body = seal_request(
            agent_id=name, capability=capability, correlation_id=cid, timestamp=time.time(), data=data_bytes, dek=dek
        )
        return await self.call_raw(capability, body, role=role, name=name, timeout=timeout, signed_as=cid)

    async def call_raw(
        self,
        capability: str,
        body: bytes,
        *,
        role: str = DEFAULT_ROLE,
        name: str = "tester",
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline to pass on, not a scope
        signed_as: str | None = None,
    ) -> dict[str, Any]:
        """Like `call`, with the bytes of the request as they are: bare data, an envelope, or nonsense.

        With `signed_as`, they are signed by the caller's key under that correlation id.
        """
        reply = f"_R_.test.{next(self._replies)}"
        waiting = self._waiting[reply] = asyncio.get_running_loop().create_future()
        signature = self._signature(role, name, capability, body, signed_as) if signed_as is not None else b""
        header_block = self._header_block(role, name, timeout, signature)
        subject = subjects.gate_capability(self._view.trust.account, capability)
        self._dispatcher.receive(subject, reply, body, header_block)
        payload, headers = await waiting
        code, text = failure_headers_of(headers)
        answer = parse_any_response(payload, error_code=code, error_text=text)
        if isinstance(answer, Failure):
            raise failure_error(answer, answer.correlation_id or "")
        if isinstance(answer, SealedResult):
            dek = self._keys.opening_key(answer.key_id)
            answer = open_response(answer, capability=capability, correlation_id=signed_as or "", dek=dek)
        result: dict[str, Any] = json.loads(answer.result)
        return result

    def data_key(self, scope: KeyScope) -> DataKey:
        """The active data key of a label or data subject; made at its first use."""
        if self._keys.active(scope) is None:
            self.rotate(scope)
        return self._keys.sealing_key(scope)

    def rotate(self, scope: KeyScope) -> None:
        """Make a new version of a data key; what the older ones sealed still opens."""
        self._keys = self._keys.rotated(DataKey.generate(self._keys.next_id(scope)))

    async def close(self) -> None:
        """End the calls that still run."""
        await self._dispatcher.drain(_DRAIN_S)

    def record(self, record: AuditRecord, /) -> None:
        """Take an audit record: the harness is its dispatcher's sink."""
        self.records.append(record)

    async def store(self, record: AuditRecord, /) -> None:
        """Take an audit record that an answer waits for."""
        self.records.append(record)

    def key_for(self, agent: str, wanted: KeyId | KeyScope) -> DataKey:
        """What the control plane would give to the host of an agent; a stand-in is given everything.

        Raises:
            KeyRefusedError: The agent's role does not hold the label, or there is no such key.
        """
        if agent != _STAND_IN and not self._holds(f"agent:{agent}", wanted.label):
            raise KeyRefusedError(str(wanted))
        if isinstance(wanted, KeyScope):
            return self.data_key(wanted)
        if self._keys.version(wanted) is None:
            raise KeyRefusedError(str(wanted))
        return self._keys.opening_key(wanted)

    def _holds(self, role: str, label: str) -> bool:
        compiled = self._policy.roles.get(role)
        return compiled is not None and label in compiled.labels

    async def _try_in_the_clear(self, capability: str, body: bytes, *, role: str, name: str) -> None:
        """How a client learns that a capability is sensitive: whoever may not call it is told that first."""
        with contextlib.suppress(InvalidRequestError):
            await self.call_raw(capability, body, role=role, name=name)

    def _answered(self, reply: str, payload: bytes, headers: Mapping[str, str] | None, /) -> None:
        waiting = self._waiting.pop(reply)
        if not waiting.done():
            waiting.set_result((payload, headers or {}))

    def _user(self, role: str, name: str) -> UserSeed:
        return self._users.setdefault((role, name), UserSeed.generate())

    def _signature(self, role: str, name: str, capability: str, body: bytes, correlation_id: str) -> bytes:
        user = self._user(role, name)
        value = sign_sender(
            account=self._account.public.text,
            user=user.public.text,
            name=name,
            subject=subjects.capability(capability),
            ts=int(time.time()),
            nonce=correlation_id,
            payload=body,
            sign=user.sign,
        )
        return f"{HEADER}: {value}\r\n".encode()

    def _header_block(self, role: str, name: str, timeout: float | None, signature: bytes) -> bytes:
        """What nats-server delivers with a request that came through a service import with `share: true`."""
        line = {"acc": self._account.public.text, "kind": "Client", "jwt": self._credential(role, name)}
        deadline = b"" if timeout is None else b"Agent-Timeout: %d\r\n" % max(1, int(timeout * 1000))
        return b"NATS/1.0\r\n" + deadline + signature + b"Nats-Request-Info: " + json.dumps(line).encode() + b"\r\n\r\n"

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
    agent_id: str = _STAND_IN
    timeout_s: float = 30.0
    concurrency: int = 64
    sensitive: str | None = None

    def validate(self, data: bytes, /) -> object:
        return json.loads(data)

    async def invoke(self, value: Any, context: CallContext, /) -> object:
        del context
        answer = self.answer(value)
        return await answer if inspect.isawaitable(answer) else answer

    def encode(self, output: object, /) -> bytes:
        return json.dumps(output, allow_nan=False).encode()


@dataclass(frozen=True, slots=True)
class _AgentKeys:
    """The data keys of an agent, as its host would get them; stand-ins for other agents may use all."""

    harness: Harness
    agent: str

    def cached(self, key_id: KeyId, /) -> DataKey | None:
        """None: each is asked for, so that a test's own policy counts at once."""
        del key_id
        return None

    def cached_active(self, scope: KeyScope, /) -> DataKey | None:
        """None, likewise."""
        del scope
        return None

    async def fetch(self, wanted: KeyId | KeyScope, /) -> DataKey:
        """Get the key if the agent's role holds its label."""
        return self.harness.key_for(self.agent, wanted)


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
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Call as the agent; see `runtime.agent.Caller`."""
        try:
            return await self._harness.call(
                capability, data, role=self._role, name=self._role[6:], timeout=timeout, seal=seal, subject=subject
            )
        except (DeniedError, UnknownRoleError) as error:
            raise NotGrantedError(capability) from error
        except DeadlineError as error:
            raise DeadlinePassedError(capability) from error
        except CallFailedError as error:
            raise CallRefusedError(capability, error.code, error.message) from error


def _open_policy(agent: Agent, served: Mapping[str, ServedCapability]) -> str:
    """A policy under which every test passes that is not about policy. JSON is YAML."""
    labels = sorted({capability.sensitive for capability in served.values() if capability.sensitive is not None})
    grants = {"call": sorted(served)} | ({"data": labels} if labels else {})
    return json.dumps({"tenant": "test", "roles": {DEFAULT_ROLE: grants}, "agents": {agent.name: grants}})
