"""The published vectors: made again they are the same, and the code reads each as they say."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from authz.keys import AccountPublicKey, UserPublicKey, UserSeed
from runtime.envelope import keyid
from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyWrapError, SealError, SenderError
from runtime.envelope.keywrap import OneTimeKey, UnwrapCall, UnwrappedKey, open_unwrap_answer
from runtime.envelope.sealedmessages import (
    SealedRequest,
    SealedResult,
    build_sealed_request,
    build_sealed_response,
    open_request,
    open_response,
    parse_any_request,
    parse_any_response,
)
from runtime.envelope.sealing import Binding, open_token
from runtime.envelope.sender import parse_sender, sign_sender, verify_sender
from runtime.envelope.unwrap import parse_unwrap_answer
from scripts.make_vectors import FOLDER, vectors

Case = dict[str, Any]


def load(name: str) -> Case:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


SEALING, SENDER, UNWRAP, MESSAGES = (load(f"{name}.json") for name in ("sealing", "agent-sender", "unwrap", "messages"))


def titled(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case["title"] for case in cases])


def test_vectors_made_again_are_the_same_bytes() -> None:
    made = vectors()
    assert {path.name: path.read_text(encoding="utf-8") for path in Path(FOLDER).iterdir()} == made


def binding_of(case: Case) -> tuple[Binding, DataKey]:
    b = case["binding"]
    key_id = keyid.parse(b["key_id"])
    binding = Binding(
        key_id=key_id,
        direction=b["direction"],
        name=b["name"],
        correlation_id=b["correlation_id"],
        timestamp=float(b["time"]),
        sequence=b["sequence"],
        alg=b["alg"],
    )
    return binding, DataKey(key_id, bytes.fromhex(case["dek"]))


@titled(SEALING["valid"])
def test_token_opens(case: Case) -> None:
    binding, dek = binding_of(case)
    assert open_token(case["token"], binding, dek) == case["payload"].encode()
    assert dek.decrypt(case["token"]) == (case["header"] + case["payload"]).encode()


@titled(SEALING["invalid"])
def test_token_does_not_open(case: Case) -> None:
    binding, dek = binding_of(case)
    with pytest.raises(SealError) as caught:
        open_token(case["token"], binding, dek)
    assert caught.value.reason == case["reason"]


def verify(case: Case) -> None:
    message = case["message"]
    verify_sender(
        parse_sender(case["header"]),
        account=message["account"],
        user=message["user"],
        subject=message["subject"],
        payload=message["payload"].encode(),
        correlation_id=message["correlation_id"],
        now=case["now"],
        verify=UserPublicKey(message["user"]).verify,
    )


@titled(SENDER["valid"])
def test_signature_is_taken_and_made_alike(case: Case) -> None:
    verify(case)
    message = case["message"]
    made = sign_sender(
        account=message["account"],
        user=message["user"],
        name="ada",
        subject=message["subject"],
        ts=parse_sender(case["header"]).ts,
        nonce=message["correlation_id"],
        payload=message["payload"].encode(),
        sign=UserSeed(bytes.fromhex(SENDER["user_seed"])).sign,
    )
    assert made == case["header"]


@titled(SENDER["invalid"])
def test_signature_is_refused(case: Case) -> None:
    with pytest.raises(SenderError) as caught:
        verify(case)
    assert caught.value.reason == case["reason"]


def unwrapped(case: Case) -> UnwrappedKey:
    wanted = case["wanted"]
    return open_unwrap_answer(
        parse_unwrap_answer(json.dumps(case["answer"]).encode()),
        UnwrapCall(**case["call"]),
        wanted=keyid.parse(wanted) if "@" in wanted else keyid.parse_scope(wanted),
        one_time_key=OneTimeKey(X25519PrivateKey.from_private_bytes(bytes.fromhex(case["one_time_secret"]))),
        now=case["now"],
        verify=AccountPublicKey(UNWRAP["control"]).verify,
    )


@titled(UNWRAP["valid"])
def test_answer_brings_its_key(case: Case) -> None:
    key = unwrapped(case)
    assert key.dek == DataKey(keyid.parse(case["answer"]["key_id"]), bytes.fromhex(case["dek"]))
    assert (key.state, key.expires_at) == (case["answer"]["state"], case["answer"]["expires_at"])


@titled(UNWRAP["invalid"])
def test_answer_is_refused(case: Case) -> None:
    with pytest.raises(KeyWrapError) as caught:
        unwrapped(case)
    assert caught.value.reason == case["reason"]


def test_sealed_request_is_read_and_built_alike() -> None:
    case = MESSAGES["request"]
    sealed = parse_any_request(case["body"].encode(), fallback_id="")
    assert isinstance(sealed, SealedRequest)
    dek = DataKey(sealed.key_id, bytes.fromhex(MESSAGES["dek"]))
    assert open_request(sealed, capability=MESSAGES["capability"], dek=dek).data == case["data"].encode()
    built = build_sealed_request(
        agent_id=sealed.agent_id,
        correlation_id=sealed.correlation_id,
        timestamp=sealed.timestamp,
        key_id=sealed.key_id,
        token=sealed.token,
    )
    assert built == case["body"].encode()


def test_sealed_response_is_read_and_built_alike() -> None:
    case = MESSAGES["response"]
    sealed = parse_any_response(case["body"].encode())
    assert isinstance(sealed, SealedResult)
    dek = DataKey(sealed.key_id, bytes.fromhex(MESSAGES["dek"]))
    capability, cid = MESSAGES["capability"], MESSAGES["correlation_id"]
    opened = open_response(sealed, capability=capability, correlation_id=cid, dek=dek)
    assert opened.result == case["result"].encode()
    built = build_sealed_response(
        agent_id=sealed.agent_id,
        capability=capability,
        correlation_id=cid,
        timestamp=sealed.timestamp,
        key_id=sealed.key_id,
        token=sealed.token,
    )
    assert built == case["body"].encode()
