"""Writes the published test vectors of the wire formats, tests/vectors/*.json: the same in every run.

`python scripts/make_vectors.py` after a format changed, which is a new version of that format. Keys are made up.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.plainformats import base64url, fernet, hpke, lines, nkey, sha256_hex, sign, x25519_public

FOLDER = Path(__file__).parents[1] / "tests" / "vectors"

Case = dict[str, Any]

_ACCOUNT_PREFIX, _USER_PREFIX = 0, 20 << 3
DEK = bytes(range(32))
OTHER_DEK = bytes(range(32, 64))
CONTROL_SEED, ACCOUNT_SEED, USER_SEED, OTHER_SEED = (bytes([n]) * 32 for n in (1, 2, 3, 4))
ONE_TIME, EPHEMERAL = bytes([5]) * 32, bytes([6]) * 32
CONTROL = nkey(_ACCOUNT_PREFIX, CONTROL_SEED)
ACCOUNT = nkey(_ACCOUNT_PREFIX, ACCOUNT_SEED)
USER = nkey(_USER_PREFIX, USER_SEED)
IV = bytes(range(64, 80))
CID = "7d0f1a52-6c1b-4a44-9d0e-0f4e5f6a7b8c"
OTHER_CID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
TIME = 1_700_000_000
DATA = '{"name":"Ada","spo2":96}'
RESULT = '{"score":3,"risk":"low-medium"}'

_CALL: Case = {
    "alg": "fernet",
    "key_id": "phi@1",
    "direction": "request",
    "name": "vitals.assess",
    "correlation_id": CID,
    "sequence": 0,
    "time": "1700000000.5",
}


def _header(binding: Case, magic: str = "GARRISON-SEAL-V1") -> bytes:
    fields = ("alg", "key_id", "direction", "name", "correlation_id", "sequence", "time")
    return lines(magic, *(binding[field] for field in fields))


def _token(binding: Case, payload: bytes, dek: bytes = DEK) -> str:
    return fernet(dek, _header(binding) + payload, time=TIME, iv=IV)


def _sealed(title: str, payload: str, dek: bytes = DEK, **changes: Any) -> Case:
    binding = {**_CALL, **changes}
    return {
        "title": title,
        "dek": dek.hex(),
        "binding": binding,
        "iv": IV.hex(),
        "fernet_time": TIME,
        "header": _header(binding).decode(),
        "payload": payload,
        "token": _token(binding, payload.encode(), dek),
    }


def _shut(title: str, reason: str, token: str | None = None, dek: bytes = DEK, **changes: Any) -> Case:
    token = _token(_CALL, DATA.encode()) if token is None else token
    return {"title": title, "reason": reason, "dek": dek.hex(), "binding": {**_CALL, **changes}, "token": token}


def sealing() -> Case:
    """Tokens that open, and tokens that must not."""
    good = _token(_CALL, DATA.encode())
    valid = [
        _sealed("a request", DATA),
        _sealed("its answer", RESULT, direction="response", time="1700000000.75"),
        _sealed("a data subject's own key", DATA, OTHER_DEK, key_id="phi/patient/4711@2"),
        _sealed("a time without a fraction, as some languages write it", DATA, time="1700000000"),
        _sealed("the third chunk of a streamed answer", RESULT, direction="chunk", sequence=2),
        _sealed("an event", DATA, direction="event", name="ai.events.vitals.alert"),
        _sealed("nothing", ""),
        _sealed("letters of all kinds", '{"name":"Zoë Ünal 王"}\n'),
    ]
    invalid = [
        _shut("another tenant's key of the same name", "token-refused", dek=OTHER_DEK),
        _shut("another label", "key-id", key_id="billing@1"),
        _shut("another data subject", "key-id", key_id="phi/patient/4711@1"),
        _shut("another version", "key-id", key_id="phi@2"),
        _shut("sent back as an answer", "direction", direction="response"),
        _shut("another capability", "name", name="vitals.export"),
        _shut("another call", "correlation-id", correlation_id=OTHER_CID),
        _shut("another place in a stream", "sequence", sequence=1),
        _shut("another time", "time", time="1700000060.5"),
        _shut("another algorithm inside", "alg", _token({**_CALL, "alg": "none"}, DATA.encode())),
        _shut("another version of the format", "magic", fernet(DEK, _header(_CALL, "GARRISON-SEAL-V2"), time=0, iv=IV)),
        _shut("no bound header", "header", fernet(DEK, DATA.encode(), time=TIME, iv=IV)),
        _shut("a bit flipped in the ciphertext", "token-refused", good[:60] + chr(ord(good[60]) ^ 1) + good[61:]),
        _shut("the last character cut off", "token-form", good[:-1]),
        _shut("a line end in the middle, which lenient decoders skip", "token-form", good[:40] + "\n" + good[40:]),
    ]
    return {"format": "GARRISON-SEAL-V1", "valid": valid, "invalid": invalid}


_MESSAGE: Case = {
    "account": ACCOUNT,
    "user": USER,
    "subject": "ai.capabilities.vitals.assess",
    "correlation_id": CID,
    "payload": '{"version":"1.0"}',
}


def _signed(title: str, *, seed: bytes = USER_SEED, now: float = TIME, **changes: Any) -> Case:
    message = {**_MESSAGE, **changes}
    names = ("account", "user", "subject")
    digest = sha256_hex(message["payload"].encode())
    text = lines("AGENT-SENDER-V1", *(message[n] for n in names), TIME, message["correlation_id"], digest)
    value = {
        "v": 1,
        "account": message["account"],
        "user": message["user"],
        "name": "ada",
        "sub": message["subject"],
        "ts": TIME,
        "nonce": message["correlation_id"],
        "sig": sign(seed, text),
    }
    header = json.dumps(value, separators=(",", ":"))
    return {"title": title, "message": message, "now": now, "signed_text": text.decode(), "header": header}


def _refused(title: str, reason: str, case: Case, **known: Any) -> Case:
    message = {**case["message"], **known}
    return {"title": title, "reason": reason, "message": message, "now": case["now"], "header": case["header"]}


def agent_sender() -> Case:
    """Signatures to take, and signatures to refuse."""
    good = _signed("a call")
    sealed = _sealed_request()
    valid = [
        good,
        _signed("a sealed call", payload=sealed),
        _signed("half a minute early", now=TIME + 30),
        _signed("half a minute late", now=TIME - 30),
        _signed("administration", subject="ai.admin.keys.rotate.acme", payload="{}"),
    ]
    changed = {**good, "header": good["header"].replace('"sig":"', '"sig":"A')[:-3] + '"}'}
    invalid = [
        _refused("of another account", "account", good, account=CONTROL),
        _refused("of another user", "user", good, user=nkey(_USER_PREFIX, OTHER_SEED)),
        _refused("moved to another subject", "subject", good, subject="ai.capabilities.vitals.export"),
        _refused("moved to another call", "correlation-id", good, correlation_id=OTHER_CID),
        _refused("over another payload", "signature", good, payload='{"version":"1.0" }'),
        _refused("signed by somebody else", "signature", _signed("", seed=OTHER_SEED)),
        _refused("a minute old", "time", _signed("", now=TIME + 60)),
        _refused("a minute ahead", "time", _signed("", now=TIME - 60)),
        _refused("another signature", "signature", changed),
        _refused("an unknown version", "malformed", {**good, "header": good["header"].replace('"v":1', '"v":2')}),
        _refused("an unknown field", "malformed", {**good, "header": good["header"][:-1] + ',"role":"nurse"}'}),
    ]
    return {"format": "AGENT-SENDER-V1", "user_seed": USER_SEED.hex(), "valid": valid, "invalid": invalid}


_UNWRAP: Case = {"tenant": "acme", "account": ACCOUNT, "user": USER, "correlation_id": CID}


def _answer(title: str, *, key_id: str = "phi@1", state: str = "active", seed: bytes = CONTROL_SEED) -> Case:
    expires_at = TIME + 300
    one_time_key = base64url(x25519_public(ONE_TIME))
    info = lines("GARRISON-UNWRAP-HPKE-V1", "acme", key_id, USER, CID)
    enc = base64url(hpke(DEK, recipient=x25519_public(ONE_TIME), info=info, ephemeral=EPHEMERAL))
    text = lines("GARRISON-UNWRAP-V1", ACCOUNT, USER, key_id, state, CID, one_time_key, enc, expires_at)
    answer = {"key_id": key_id, "state": state, "enc": enc, "expires_at": expires_at, "sig": sign(seed, text)}
    return {
        "title": title,
        "call": _UNWRAP,
        "wanted": key_id,
        "now": TIME,
        "one_time_secret": ONE_TIME.hex(),
        "one_time_key": one_time_key,
        "info": info.decode(),
        "signed_text": text.decode(),
        "answer": answer,
        "dek": DEK.hex(),
    }


def _not_taken(title: str, reason: str, case: Case, **changes: Any) -> Case:
    kept = ("call", "wanted", "now", "one_time_secret", "answer")
    return {"title": title, "reason": reason, **{name: case[name] for name in kept}, **changes}


def unwrap() -> Case:
    """Answers that bring a key, and answers to refuse."""
    good = _answer("a version by its id")
    valid = [
        good,
        {**_answer("the active version of a label"), "wanted": "phi"},
        _answer("a version that only opens", key_id="phi/patient/4711@2", state="opening"),
    ]
    invalid = [
        _not_taken("of another tenant", "refused", good, call={**_UNWRAP, "tenant": "globex"}),
        _not_taken("to another account", "signature", good, call={**_UNWRAP, "account": CONTROL}),
        _not_taken("to another user", "signature", good, call={**_UNWRAP, "user": nkey(_USER_PREFIX, OTHER_SEED)}),
        _not_taken("to another request", "signature", good, call={**_UNWRAP, "correlation_id": OTHER_CID}),
        _not_taken("to another one-time key", "signature", good, one_time_secret=EPHEMERAL.hex()),
        _not_taken("for another key", "other-key", good, wanted="phi@2"),
        _not_taken(
            "a version that only opens, to who would seal", "other-key", _answer("", state="opening"), wanted="phi"
        ),
        _not_taken("expired", "expired", good, now=TIME + 300),
        _not_taken("not signed by the control plane", "signature", _answer("", seed=OTHER_SEED)),
        _not_taken("made active by others", "signature", good, answer={**good["answer"], "state": "opening"}),
        _not_taken("kept for longer", "signature", good, answer={**good["answer"], "expires_at": TIME + 900}),
    ]
    return {"format": "GARRISON-UNWRAP-V1", "control": CONTROL, "valid": valid, "invalid": invalid}


def _compact(**fields: Any) -> str:
    return json.dumps({"version": "1.0", **fields}, separators=(",", ":"))


def _sealed_request() -> str:
    return _compact(
        agent_id="ward-3",
        message_type="request",
        timestamp=1700000000.5,
        correlation_id=CID,
        encrypted=True,
        alg="fernet",
        key_id="phi@1",
        data=_token(_CALL, DATA.encode()),
    )


def messages() -> Case:
    """One sealed call, whole: the request and its answer as they travel, and what they say."""
    answered = {**_CALL, "direction": "response", "time": "1700000000.75"}
    answer = _compact(
        agent_id="vitals",
        capability="vitals.assess",
        message_type="response",
        timestamp=1700000000.75,
        correlation_id=CID,
        encrypted=True,
        alg="fernet",
        key_id="phi@1",
        result=_token(answered, RESULT.encode()),
    )
    return {
        "format": "envelope 1.0",
        "dek": DEK.hex(),
        "capability": "vitals.assess",
        "correlation_id": CID,
        "request": {"body": _sealed_request(), "data": DATA},
        "response": {"body": answer, "result": RESULT},
    }


def vectors() -> dict[str, str]:
    """The text of each file by its name."""
    made = {"sealing": sealing(), "agent-sender": agent_sender(), "unwrap": unwrap(), "messages": messages()}
    return {f"{name}.json": json.dumps(case, indent=1, ensure_ascii=False) + "\n" for name, case in made.items()}


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in vectors().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
