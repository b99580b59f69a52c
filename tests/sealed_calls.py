"""A bench whose capability is sensitive: requests sealed and signed as a client does it, and what may differ."""

import json
from collections.abc import Mapping
from typing import Any

from dispatch_bench import CID, NOW, Answer, Bench
from envelope_keys import data_key

from authz.keys import UserSeed
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import parse
from runtime.envelope.sealedmessages import SealedResult, open_response, parse_any_response, seal_request
from runtime.envelope.sender import HEADER, sign_sender

PHI = data_key(parse("phi@1"), fill=1)
PATIENT = data_key(parse("phi/patient/4711@2"), fill=2)
MARKED = "s3cr3t-hba1c-8.4"


class SealedBench(Bench):
    """`vitals.assess` takes data labelled `phi` only, which nurses and billing may call and nurses hold."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.served.sensitive = "phi"
        self.rules.allowed["billing"] = {"vitals.assess"}
        self.rules.labels["nurse"] = {"phi", "hr"}
        for dek in (PHI, PATIENT):
            self.keys.at_hand |= {dek.key_id: dek, dek.key_id.scope: dek}

    def keys_elsewhere(self) -> None:
        """The host has none of the keys at hand."""
        self.keys.elsewhere, self.keys.at_hand = self.keys.at_hand, {}

    def sealed(self, dek: DataKey = PHI, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "agent_id": "ward-3",
            "capability": "vitals.assess",
            "correlation_id": CID,
            "timestamp": self.time.wall,
            "data": json.dumps({"value": MARKED}).encode(),
        }
        return seal_request(dek=dek, **(fields | changes))

    def signature(self, payload: bytes, *, signer: UserSeed | None = None, **changes: Any) -> str:
        user = signer or self.user
        fields: dict[str, Any] = {
            "account": self.account.public.text,
            "user": self.user.public.text,
            "name": "nina",
            "subject": "ai.capabilities.vitals.assess",
            "ts": int(self.time.wall),
            "nonce": CID,
            "payload": payload,
        }
        return sign_sender(sign=user.sign, **(fields | changes))

    def signed_header(self, payload: bytes, *, token: str | None = None, **changes: Any) -> bytes:
        line = f"{HEADER}: {self.signature(payload, **changes)}\r\n".encode()
        return self.header(before=line, token=token or self.token())

    async def call_sealed(self, payload: bytes | None = None, **where: Any) -> Answer:
        body = self.sealed() if payload is None else payload
        return await self.call(body, header=where.pop("header", None) or self.signed_header(body), **where)

    def opened(self, answer: Answer, dek: DataKey = PHI, *, correlation_id: str = CID) -> Any:
        sealed = parse_any_response(json.dumps(answer.body).encode())
        assert isinstance(sealed, SealedResult)
        result = open_response(sealed, capability="vitals.assess", correlation_id=correlation_id, dek=dek)
        return json.loads(result.result)


def changed(payload: bytes, **changes: object) -> bytes:
    """The envelope with other fields in the clear."""
    return json.dumps(json.loads(payload) | changes).encode()


def required(answer: Answer) -> tuple[int, Any]:
    body: Mapping[str, Any] = answer.body
    return answer.code, body.get("required")


__all__ = ["CID", "MARKED", "NOW", "PATIENT", "PHI", "SealedBench", "changed", "required"]
