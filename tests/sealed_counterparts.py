"""A control plane and a host, as small as can be, that answer sealed calls in the caller's own account.

Each does what the real one does as long as nobody turns one of its knobs: those are an attacker's, who got the right
to answer. For tests of what the caller then takes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from fixtures_server import Realm

from authz.keys import AccountSeed
from runtime.bus.connection import Connection
from runtime.bus.message import Message
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import KeyId, KeyScope, parse
from runtime.envelope.keywrap import UnwrapCall, build_unwrap_answer
from runtime.envelope.messages import Failure, build_error, build_response, parse_request
from runtime.envelope.sealedmessages import SealedRequest, open_request, parse_any_request, seal_response
from runtime.envelope.sender import Sender, read_sender
from runtime.envelope.unwrap import UnwrapAnswer, UnwrapRequest, parse_unwrap_request

CAPABILITY = "vitals.assess"
SECRET = "heart rate 131"
Change = Callable[[Any], Any]


def unchanged(value: Any) -> Any:
    return value


@dataclass(kw_only=True)
class ToyControl:
    """Hands out keys, made when first asked for."""

    connection: Connection
    seed: AccountSeed = field(default_factory=AccountSeed.generate)
    deks: dict[KeyId, DataKey] = field(default_factory=dict)
    asked: list[tuple[UnwrapRequest, Sender]] = field(default_factory=list)
    refusal: Failure | None = None
    # The knobs.
    signer: AccountSeed | None = None
    other_call: Change = unchanged
    other_wanted: Change = unchanged
    other_answer: Change = unchanged

    def dek(self, wanted: KeyId | KeyScope) -> DataKey:
        if isinstance(wanted, KeyScope):
            known = [key_id.version for key_id in self.deks if key_id.scope == wanted]
            wanted = wanted.at(max(known, default=1))
        return self.deks.setdefault(wanted, DataKey.generate(wanted))

    def rotate(self, scope: KeyScope) -> None:
        newest = self.dek(scope).key_id
        self.dek(scope.at(newest.version + 1))

    def answer(self, message: Message) -> None:
        request = parse_request(message.data, fallback_id="")
        unwrap, sender = parse_unwrap_request(request.data), read_sender(message.header_block)
        assert sender is not None
        self.asked.append((unwrap, sender))
        if self.refusal is not None:
            refusal = replace(self.refusal, correlation_id=request.correlation_id, agent_id="control")
            self.connection.respond(message.reply, build_error(refusal), refusal.headers)
            return
        result = self.other_answer(self._unwrapped(unwrap, sender))
        body = build_response(
            agent_id="control",
            capability="keys.unwrap",
            correlation_id=request.correlation_id,
            timestamp=time.time(),
            result=msgspec.json.encode(result),
        )
        self.connection.respond(message.reply, body)

    def _unwrapped(self, unwrap: UnwrapRequest, sender: Sender) -> UnwrapAnswer:
        call = UnwrapCall(tenant="alpha", account=sender.account, user=sender.user, correlation_id=sender.nonce)
        dek = self.dek(self.other_wanted(unwrap.wanted))
        return build_unwrap_answer(
            self.other_call(call),
            dek=dek,
            state="active" if dek is self.dek(dek.key_id.scope) else "opening",
            one_time_key=unwrap.one_time_key,
            expires_at=int(time.time()) + 300,
            sign=(self.signer or self.seed).sign,
        )


@dataclass(kw_only=True)
class ToyHost:
    """Serves `vitals.assess`: opens what comes, refuses the rest, and answers sealed."""

    connection: Connection
    control: ToyControl
    seen: list[Message] = field(default_factory=list)
    opened: list[Any] = field(default_factory=list)
    required: str = "sealed:phi"
    behave: Callable[[ToyHost, Message, SealedRequest], None] | None = None

    def answer(self, message: Message) -> None:
        self.seen.append(message)
        request = parse_any_request(message.data, fallback_id="")
        if not isinstance(request, SealedRequest):
            self.refuse(message, request.correlation_id, code=400, required=self.required)
            return
        dek = self.control.dek(request.key_id)
        self.opened.append(json.loads(open_request(request, capability=CAPABILITY, dek=dek).data))
        if self.behave is not None:
            self.behave(self, message, request)
        else:
            self.connection.respond(message.reply, self.sealed(request))

    def sealed(self, request: SealedRequest, *, capability: str = CAPABILITY, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "agent_id": "vitals",
            "capability": capability,
            "correlation_id": request.correlation_id,
            "timestamp": time.time(),
            "result": json.dumps({"risk": "high", "why": SECRET}).encode(),
            "dek": self.control.dek(request.key_id.scope),
        }
        return seal_response(**fields | changes)

    def plain(self, request: SealedRequest, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "agent_id": "vitals",
            "capability": CAPABILITY,
            "correlation_id": request.correlation_id,
            "timestamp": time.time(),
            "result": json.dumps({"risk": "low", "why": SECRET}).encode(),
        }
        return build_response(**fields | changes)

    def refuse(self, message: Message, correlation_id: str, *, code: int, required: str) -> None:
        failure = Failure(
            code=code, error="refused", required=required, correlation_id=correlation_id, agent_id="vitals"
        )
        self.connection.respond(message.reply, build_error(failure), failure.headers)


async def sealed_counterparts(realm: Realm) -> tuple[ToyControl, ToyHost]:
    """Both, listening in ALPHA."""
    control = ToyControl(connection=await realm.connect(realm.user(realm.accounts["ALPHA"])))
    host = ToyHost(connection=await realm.connect(realm.user(realm.accounts["ALPHA"])), control=control)
    await control.connection.subscribe("ai.admin.keys.unwrap.alpha", control.answer)
    await host.connection.subscribe(f"ai.capabilities.{CAPABILITY}", host.answer)
    await control.connection.flush()
    await host.connection.flush()
    return control, host


def key(text: str) -> KeyId:
    return parse(text)
