"""A sealed call with nats-py, cryptography and PyNaCl alone. Any language that has their like can do the same.

    python examples/healthcare/plain_client.py DIR LABEL CAPABILITY DATA

DIR is what `garrison creds issue … --out DIR` wrote; LABEL is the label of the data, such as `phi`, or that and whom
it is about, such as `phi/patient/4711`; DATA is one JSON object. Prints the opened result as JSON.

The formats are those of tests/vectors; docs/callers.md explains them step by step, by the numbers below.
"""

import asyncio
import base64
import hashlib
import json
import re
import ssl
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class RefusedError(Exception):
    """The platform said no, or what came is not to be trusted."""


def lines(*parts: object) -> bytes:
    """What is signed or bound: each part on a line of its own, each line ended."""
    return "".join(f"{part}\n" for part in parts).encode()


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What the credentials folder says: who we are, and whose signature a data key must carry."""

    path: Path
    context: dict[str, Any]
    account: str
    user: str
    seed: SigningKey
    control: VerifyKey


def read_folder(path: Path) -> Folder:
    """(1) The folder."""
    context = json.loads((path / "context.json").read_text())
    creds = (path / "user.creds").read_text()
    jwt, seed = re.findall(r"-BEGIN [A-Z ]+-+\s+(\S+)\s+-+END", creds)
    claims = json.loads(decode(jwt.split(".")[1]))
    return Folder(
        path=path,
        context=context,
        account=claims["nats"].get("issuer_account") or claims["iss"],
        user=claims["sub"],
        seed=SigningKey(base64.b32decode(seed + "======")[2:34]),  # two bytes of kind, the key, a checksum
        control=VerifyKey(base64.b32decode(context["garrison"]["control"])[1:33]),  # one byte of kind
    )


async def connect(folder: Folder) -> Client:
    """Connect: mutual TLS 1.3 first, replies to the user's own inbox."""
    tls = ssl.create_default_context(cafile=str(folder.path / "ca.pem"))
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(folder.path / "client.pem", folder.path / "client-key.pem")
    return await nats.connect(
        folder.context["url"],
        tls=tls,
        tls_handshake_first=True,
        user_credentials=str(folder.path / "user.creds"),
        inbox_prefix=folder.context["inbox_prefix"],
        allow_reconnect=False,
    )


def signature(folder: Folder, subject: str, payload: bytes, correlation_id: str) -> dict[str, str]:
    """(2) The header `Agent-Sender`."""
    ts, digest = int(time.time()), hashlib.sha256(payload).hexdigest()
    signed = lines("AGENT-SENDER-V1", folder.account, folder.user, subject, ts, correlation_id, digest)
    sender = {
        "v": 1,
        "account": folder.account,
        "user": folder.user,
        "name": "plain-client",
        "sub": subject,
        "ts": ts,
        "nonce": correlation_id,
        "sig": encode(folder.seed.sign(signed).signature),
    }
    return {"Agent-Sender": json.dumps(sender, separators=(",", ":"))}


async def ask(connection: Client, folder: Folder, subject: str, envelope: dict[str, Any]) -> dict[str, Any]:
    """Send an envelope, signed; give back the answer to it."""
    payload, correlation_id = json.dumps(envelope).encode(), envelope["correlation_id"]
    headers = signature(folder, subject, payload, correlation_id)
    message: Msg = await connection.request(subject, payload, timeout=5, headers=headers)
    answer: dict[str, Any] = json.loads(message.data)
    if message.headers and "Nats-Service-Error-Code" in message.headers:
        raise RefusedError(f"{answer.get('code')}: {answer.get('error')} ({answer.get('required', '')})")
    if answer["correlation_id"] != correlation_id:
        raise RefusedError("the answer is to another request")
    return answer


def envelope_of(data: object, **sealed: object) -> dict[str, Any]:
    """An envelope with a correlation id of its own."""
    return {
        "version": "1.0",
        "agent_id": "plain-client",
        "message_type": "request",
        "timestamp": time.time(),
        "correlation_id": str(uuid.uuid4()),
        "data": data,
        **sealed,
    }


async def unwrap(connection: Client, folder: Folder, scope: str, version: str = "") -> tuple[str, Fernet]:
    """(3) Ask for a data key: the active version of `scope`, or the one of `version`. The answer is for us alone."""
    tenant = folder.context["garrison"]["tenant"]
    secret = X25519PrivateKey.generate()
    public = encode(secret.public_key().public_bytes_raw())
    label, _, about = scope.partition("/")
    wanted = {"key_id": f"{scope}@{version}"} if version else {"label": label, "subject": about or None}
    request = envelope_of({**wanted, "one_time_key": public})
    correlation_id = request["correlation_id"]
    answer = (await ask(connection, folder, f"ai.admin.keys.unwrap.{tenant}", request))["result"]
    key_id, state, enc, expires = (answer[field] for field in ("key_id", "state", "enc", "expires_at"))
    if key_id.rpartition("@")[0] != scope or expires <= time.time():
        raise RefusedError("the answer is about another key, or too old")
    if (key_id.rpartition("@")[2] != version) if version else (state != "active"):
        raise RefusedError("the answer is about another version of the key")
    signed = lines(
        "GARRISON-UNWRAP-V1", folder.account, folder.user, key_id, state, correlation_id, public, enc, expires
    )
    folder.control.verify(signed, decode(answer["sig"]))  # before anything is decrypted
    info = lines("GARRISON-UNWRAP-HPKE-V1", tenant, key_id, folder.user, correlation_id)
    return key_id, Fernet(base64.urlsafe_b64encode(HPKE.decrypt(decode(enc), secret, info=info)))


def bound(key_id: str, direction: str, capability: str, envelope: dict[str, Any]) -> bytes:
    """(4) What a sealed payload begins with: where it belongs, and nowhere else."""
    correlation_id, timestamp = envelope["correlation_id"], repr(float(envelope["timestamp"]))
    return lines("GARRISON-SEAL-V1", "fernet", key_id, direction, capability, correlation_id, 0, timestamp)


async def call(folder: Folder, scope: str, capability: str, data: dict[str, Any]) -> object:
    """Seal `data` for `scope`, call, and open the answer."""
    connection = await connect(folder)
    try:
        key_id, key = await unwrap(connection, folder, scope)
        request = envelope_of("", encrypted=True, alg="fernet", key_id=key_id)
        header = bound(key_id, "request", capability, request)
        request["data"] = key.encrypt(header + json.dumps(data).encode()).decode()
        answer = await ask(connection, folder, f"ai.capabilities.{capability}", request)
        # (5) only a sealed answer will do, under a key of the same label and data subject
        if not answer.get("encrypted") or answer["key_id"].rpartition("@")[0] != scope:
            raise RefusedError("the answer is not sealed as it must be")
        if answer["key_id"] != key_id:  # it was rotated meanwhile
            _, key = await unwrap(connection, folder, scope, answer["key_id"].rpartition("@")[2])
        plaintext = key.decrypt(answer["result"])
        header = bound(answer["key_id"], "response", capability, answer)
        if not plaintext.startswith(header):
            raise RefusedError("the answer was sealed for something else")
        return json.loads(plaintext[len(header) :])
    finally:
        await connection.close()


def main(directory: str, scope: str, capability: str, data: str) -> int:
    """Call, and print the result; 0 if there is one."""
    try:
        result = asyncio.run(call(read_folder(Path(directory)), scope, capability, json.loads(data)))
    except (RefusedError, NoRespondersError, NatsTimeoutError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except (BadSignatureError, InvalidToken, InvalidTag):
        sys.stderr.write("error: an answer is not what it says it is\n")
        return 1
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 5:  # noqa: PLR2004 - itself, and four words
        sys.exit("usage: plain_client.py DIR LABEL CAPABILITY DATA")
    sys.exit(main(*sys.argv[1:]))
