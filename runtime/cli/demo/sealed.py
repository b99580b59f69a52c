"""Scenes about sealed calls: what a listener with every right sees of one, and what can be done with it."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.bus.connection import connect
from runtime.bus.message import Message
from runtime.cli.demo.rawclient import RawClient
from runtime.cli.demo.root import gate_user_with_every_right, platform_keys
from runtime.cli.demo.stage import ASSESS, Stage, score_line
from runtime.client import KeyRefusedError
from runtime.envelope.sender import HEADER, sign_sender

Act = Callable[[], Awaitable[str]]

_PATIENT = b"4711"  # the marked secret: the reference to the patient in the observations


@dataclass(kw_only=True, slots=True)
class SealedScenes:
    """Played in order: the first captures the call that the others tamper with."""

    stage: Stage
    _heard: list[Message] = field(default_factory=list)

    def scenes(self) -> tuple[tuple[str, str, Act], ...]:
        """Every scene: what is tried, what should come of it, and how it is done."""
        lacks_label = "403 by the dispatcher: porter lacks data:phi"
        return (
            ("nurse's call, heard with every right in the gate", "sealed both ways", self._is_overheard),
            ("the captured request, sent again", "409 by the dispatcher", self._replayed),
            ("its token, moved to another call", "400 by the dispatcher", self._moved_to_another_call),
            ("its token, moved to the other tenant", "400 by the dispatcher", self._moved_to_other_tenant),
            ("its token, sent by a role without the label", lacks_label, self._sent_without_label),
            ("role without the label asks for the key", "no key: porter lacks data:phi", self._asks_for_key),
            ("plaintext to a sensitive capability", "400 by the dispatcher: required sealed:phi", self._sent_plain),
            ("audit record of the nurse's call", "alice, nurse, signed: allow under phi@1", self._audit_record),
        )

    async def _is_overheard(self) -> str:
        creds = gate_user_with_every_right(platform_keys(self.stage.folder))
        listener = await connect(self.stage.platform.own_endpoint(), lambda: creds, name="eavesdropper")
        try:
            await listener.subscribe(">", self._heard.append)
            async with self.stage.client("alice") as nurse:
                await nurse.call("vitals.assess", self.stage.observation)
            await listener.flush()
        finally:
            await listener.close()
        if any(_PATIENT in message.data + message.header_block for message in self._heard):
            return "the patient was heard"
        self._heard = [message for message in self._heard if b'"encrypted":true' in message.data]
        kinds = [json.loads(message.data)["message_type"] for message in self._heard]
        return "sealed both ways" if kinds == ["request", "response"] else f"heard {kinds}"

    async def _replayed(self) -> str:
        request = self._heard[0]
        lines = [line for line in request.header_block.split(b"\r\n") if line.startswith(HEADER.encode())]
        return await self._send("alice", request.data, lines[0])

    async def _moved_to_another_call(self) -> str:
        return await self._resent("alice", correlation_id=str(uuid.uuid4()), timestamp=time.time())

    async def _moved_to_other_tenant(self) -> str:
        return await self._resent("lena")

    async def _sent_without_label(self) -> str:
        return await self._resent("pete")

    async def _asks_for_key(self) -> str:
        async with self.stage.client("pete") as porter:
            try:
                return score_line(await porter.call("vitals.assess", self.stage.observation))
            except KeyRefusedError as error:
                return f"no key: {error.role} lacks {error.required}"

    async def _sent_plain(self) -> str:
        return await self._send("alice", json.dumps(self.stage.observation).encode(), b"X: plain")

    async def _audit_record(self) -> str:
        call_id = json.loads(self._heard[0].data)["correlation_id"]
        records = [json.loads(data)["record"] for _, data in await self.stage.platform.audit_records()]
        for record in records:
            if record.get("correlation_id") == call_id and record.get("effect") == "allow":
                who = f"{record['name']}, {record['role']}, {record['assurance']}"
                return f"{who}: {record['effect']} under {record['key_id']}"
        return "no record of it"

    async def _resent(self, person: str, **changes: Any) -> str:
        """Send the captured token in an envelope that `person` signed."""
        folder = self.stage.folders[person]
        envelope = {**json.loads(self._heard[0].data), **changes}
        body, creds = json.dumps(envelope).encode(), folder.load_creds()
        value = sign_sender(
            account=self.stage.accounts[folder.tenant],
            user=folder.user,
            name=folder.name,
            subject=ASSESS,
            ts=int(time.time()),
            nonce=str(envelope["correlation_id"]),
            payload=body,
            sign=creds.seed.sign,
        )
        return await self._send(person, body, f"{HEADER}: {value}".encode())

    async def _send(self, person: str, body: bytes, header: bytes) -> str:
        folder = self.stage.folders[person]
        client = await RawClient.connect(self.stage.platform.url, folder.tls_context(), folder.load_creds())
        with contextlib.closing(client):
            answer = await client.request(ASSESS, b"NATS/1.0\r\n" + header + b"\r\n\r\n", body)
        return outcome(answer)


def outcome(answer: bytes) -> str:
    """What the dispatcher's answer says: its code, and what was lacking."""
    body = json.loads(answer[answer.index(b"{") :])
    code, required, role = body.get("code", 200), body.get("required"), body.get("role")
    if role is not None:
        return f"{code} by the dispatcher: {role} lacks {required}"
    return f"{code} by the dispatcher" + (f": required {required}" if required else "")
