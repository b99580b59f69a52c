import base64
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from unit.authz.claimsets import (
    ACCOUNT,
    LIMITS,
    NOW,
    OPERATOR,
    PERMISSIONS,
    ROLE_KEY,
    account_claims,
    operator_claims,
    user_claims,
)

from authz import tokens
from authz.errors import (
    TokenError,
    TokenExpiredError,
    TokenIssuerError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
)
from authz.keys import AccountSeed, OperatorSeed
from authz.tokens import (
    MAX_USER_TOKEN,
    decode_account,
    decode_operator,
    decode_user,
    encode_account,
    encode_operator,
    encode_user,
)


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(payload: Any, *, header: Any = None, signer: Any = ROLE_KEY) -> str:
    """A token with any header and payload, truly signed by `signer`."""
    signed = f"{part(header or {'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(payload)}"
    return f"{signed}.{part(signer.sign(signed.encode()))}"


def payload_of(token: str) -> Any:
    segment = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def user_payload(**changes: Any) -> Any:
    return payload_of(encode_user(user_claims(), ROLE_KEY)) | changes


def nats_changed(**changes: Any) -> Any:
    payload = user_payload()
    payload["nats"] |= changes
    return payload


def test_a_user_token_is_read_back_as_its_claims() -> None:
    for claims in (
        user_claims(),
        user_claims(expires_at=None, tags=()),
        user_claims(not_before=NOW - 5),
        user_claims(permissions=PERMISSIONS, issuer=ACCOUNT.public, issuer_account=None),
        user_claims(permissions=replace(PERMISSIONS, publish_allow=(), publish_deny=(), responses=None)),
    ):
        signer = ACCOUNT if claims.issuer == ACCOUNT.public else ROLE_KEY
        decoded = decode_user(encode_user(claims, signer), now=NOW)
        assert decoded == claims
        assert decoded.account == ACCOUNT.public
        assert len(decoded.jti) == 52


def test_an_account_token_is_read_back_as_its_claims() -> None:
    for claims in (
        account_claims(),
        account_claims(signing_keys=(), exports=(), imports=(), revocations={}, tags=()),
    ):
        assert decode_account(encode_account(claims, OPERATOR)) == claims


def test_an_operator_token_is_read_back_as_its_claims() -> None:
    for claims in (operator_claims(), operator_claims(signing_keys=(), system_account=None)):
        assert decode_operator(encode_operator(claims, OPERATOR)) == claims


def test_equal_claims_give_equal_tokens_and_their_id_covers_all_of_them() -> None:
    token = encode_user(user_claims(), ROLE_KEY)
    assert encode_user(user_claims(jti="ignored"), ROLE_KEY) == token
    other = encode_user(user_claims(issued_at=NOW + 1), ROLE_KEY)
    assert payload_of(other)["jti"] != payload_of(token)["jti"]


def test_a_scoped_user_states_no_permission_and_no_limit() -> None:
    assert set(user_payload()["nats"]) == {"issuer_account", "tags", "type", "version"}


def test_claims_are_signed_only_by_the_issuer_they_name() -> None:
    with pytest.raises(TokenIssuerError):
        encode_user(user_claims(), AccountSeed.generate())
    with pytest.raises(TokenIssuerError):
        encode_account(account_claims(), OperatorSeed.generate())
    with pytest.raises(TokenIssuerError):
        encode_operator(operator_claims(), OperatorSeed.generate())
    with pytest.raises(TokenIssuerError):
        encode_operator(operator_claims(subject=OperatorSeed.generate().public), OPERATOR)


def test_an_operator_token_of_another_operator_is_refused() -> None:
    payload = payload_of(encode_operator(operator_claims(), OPERATOR))
    other = OperatorSeed.generate()
    with pytest.raises(TokenIssuerError):
        decode_operator(forge(payload | {"iss": other.public.text}, signer=other))


def test_a_token_is_refused_from_the_second_it_expires() -> None:
    token = encode_user(user_claims(expires_at=NOW + 60), ROLE_KEY)
    assert decode_user(token, now=NOW + 59.9).expires_at == NOW + 60
    with pytest.raises(TokenExpiredError) as caught:
        decode_user(token, now=NOW + 60)
    assert caught.value.expired_at == NOW + 60
    assert decode_user(token, now=None).name == "alice"


def test_a_token_is_refused_before_its_time() -> None:
    token = encode_user(user_claims(not_before=NOW + 5), ROLE_KEY)
    with pytest.raises(TokenNotYetValidError) as caught:
        decode_user(token, now=NOW + 4.9)
    assert caught.value.valid_from == NOW + 5
    assert decode_user(token, now=NOW + 5).not_before == NOW + 5


def test_a_token_signed_by_another_key_is_refused() -> None:
    with pytest.raises(TokenSignatureError):
        decode_user(forge(user_payload(), signer=AccountSeed.generate()), now=NOW)


def test_a_token_with_any_bit_flipped_is_refused() -> None:
    token = encode_user(user_claims(), ROLE_KEY)
    for position in range(0, len(token), 7):
        flipped = token[:position] + chr(ord(token[position]) ^ 1) + token[position + 1 :]
        with pytest.raises(TokenError):
            decode_user(flipped, now=NOW)


def test_a_truncated_token_is_refused() -> None:
    token = encode_user(user_claims(), ROLE_KEY)
    for length in range(0, len(token), 11):
        with pytest.raises(TokenError):
            decode_user(token[:length], now=NOW)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT", "alg": "none"},
        {"typ": "JWT", "alg": "HS256"},
        {"typ": "JWT", "alg": "EdDSA"},
        {"typ": "JWT", "alg": "ed25519"},
        {"typ": "jwt", "alg": "ed25519-nkey"},
        {"alg": "ed25519-nkey"},
        {"typ": "JWT"},
        {"typ": "JWT", "alg": "ed25519-nkey", "kid": "1"},
        {"typ": "JWT", "alg": "ed25519-nkey", "b64": False, "crit": ["b64"]},
        ["JWT", "ed25519-nkey"],
        b"{",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_header_other_than_that_of_nats_is_refused(header: Any) -> None:
    with pytest.raises(TokenMalformedError):
        decode_user(forge(user_payload(), header=header)[:MAX_USER_TOKEN], now=NOW)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "\ud800.a.b",
        "e30.e30.e30",
        "a b.c.d",
        "A" * (MAX_USER_TOKEN + 1),
    ],
)
def test_text_that_is_no_token_is_refused(token: str) -> None:
    for decode in (lambda text: decode_user(text, now=NOW), decode_account, decode_operator):
        with pytest.raises(TokenMalformedError):
            decode(token)


def test_a_token_longer_than_its_kind_may_be_is_refused_though_truly_signed() -> None:
    name = "a" * (MAX_USER_TOKEN * 3 // 4 - 600)
    assert decode_user(encode_user(user_claims(name=name), ROLE_KEY), now=NOW).name == name
    with pytest.raises(TokenMalformedError, match="longer than"):
        decode_user(encode_user(user_claims(name=name + "a" * 400), ROLE_KEY), now=NOW)


def test_a_padded_or_newline_ended_token_is_refused() -> None:
    token = encode_user(user_claims(), ROLE_KEY)
    for variant in (token + "=", token + "==", token + "\n", " " + token):
        with pytest.raises(TokenMalformedError):
            decode_user(variant, now=NOW)


def test_a_token_of_one_kind_is_refused_as_another() -> None:
    made = {
        "user": encode_user(user_claims(), ROLE_KEY),
        "account": encode_account(account_claims(), OPERATOR),
        "operator": encode_operator(operator_claims(), OPERATOR),
    }
    decoders = {
        "user": lambda t: decode_user(t, now=NOW),
        "account": decode_account,
        "operator": decode_operator,
    }
    for kind, token in made.items():
        for other, decode in decoders.items():
            if kind != other:
                with pytest.raises(TokenMalformedError):
                    decode(token)


@pytest.mark.parametrize(
    "payload",
    [
        user_payload(iss=OPERATOR.public.text),
        user_payload(iss=user_claims().subject.text),
        user_payload(sub=ACCOUNT.public.text),
        user_payload(sub="*"),
        user_payload(iat=-1),
        user_payload(iat="1"),
        user_payload(iat=True),
        user_payload(iat=1.5),
        user_payload(exp=2**60),
        user_payload(aud="x"),
        user_payload(name=None),
        {key: value for key, value in user_payload().items() if key != "iat"},
        nats_changed(bearer_token=True),
        nats_changed(subs=10),
        nats_changed(subs=-1),
        nats_changed(pub={"allow": [">"]}),
        nats_changed(issuer_account=OPERATOR.public.text),
        nats_changed(version=1),
        nats_changed(type="account"),
        nats_changed(allowed_connection_types=["MQTT"]),
        b"\xff{}",
        b"{}",
        b"[]",
        b"[" * 3000,
    ],
)
def test_claims_of_another_form_are_refused_though_truly_signed(payload: Any) -> None:
    with pytest.raises(TokenMalformedError):
        decode_user(forge(payload), now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW},
        {"nbf": NOW},
        {"iss": ACCOUNT.public.text},
        {"sub": OPERATOR.public.text},
    ],
)
def test_account_and_operator_claims_of_another_form_are_refused(change: Any) -> None:
    account = payload_of(encode_account(account_claims(), OPERATOR)) | change
    with pytest.raises(TokenMalformedError):
        decode_account(forge(account, signer=OPERATOR))
    operator = payload_of(encode_operator(operator_claims(), OPERATOR)) | change
    if "sub" in change:
        operator["sub"] = ACCOUNT.public.text
    with pytest.raises(TokenMalformedError):
        decode_operator(forge(operator, signer=OPERATOR))


def test_a_scope_with_an_empty_template_is_refused() -> None:
    # To nats-server it would mean: everything.
    payload = payload_of(encode_account(account_claims(), OPERATOR))
    payload["nats"]["signing_keys"][1]["template"] = {}
    with pytest.raises(TokenMalformedError):
        decode_account(forge(payload, signer=OPERATOR))


def test_the_global_jwt_registry_does_not_learn_our_algorithm() -> None:
    assert "ed25519-nkey" not in jwt.api_jws.PyJWS().get_algorithms()
    assert "ed25519-nkey" not in jwt.PyJWT()._jws.get_algorithms()


def test_limits_are_written_as_nats_names_them() -> None:
    limits = payload_of(encode_account(account_claims(limits=LIMITS), OPERATOR))["nats"]["limits"]
    assert limits == {
        "conn": 10,
        "subs": 100,
        "payload": 262144,
        "data": -1,
        "imports": 2,
        "disallow_bearer": True,
        "disk_storage": 1 << 20,
        "streams": 4,
        "consumer": -1,
    }


def test_a_scoped_key_is_written_as_nats_names_it() -> None:
    scope = payload_of(encode_account(account_claims(), OPERATOR))["nats"]["signing_keys"][1]
    assert scope == {
        "kind": "user_scope",
        "key": ROLE_KEY.public.text,
        "role": "nurse",
        "description": "wards",
        "template": {
            "pub": {"allow": list(PERMISSIONS.publish_allow), "deny": list(PERMISSIONS.publish_deny)},
            "sub": {"allow": list(PERMISSIONS.subscribe_allow)},
            "resp": {"max": 1, "ttl": 30_500_000_000},
            "subs": -1,
            "data": -1,
            "payload": -1,
        },
    }


def test_nkeys_have_no_jwk_form() -> None:
    algorithm = tokens._JWS.get_algorithm_by_name("ed25519-nkey")
    for convert in (algorithm.to_jwk, algorithm.from_jwk):
        with pytest.raises(NotImplementedError):
            convert(ROLE_KEY)
