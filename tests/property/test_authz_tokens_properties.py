"""Every reader of `authz` is total and gives back what was written, whatever the bytes."""

import base64
import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.authz.claimsets import ACCOUNT, NOW, OPERATOR, ROLE_KEY, USER, user_claims

from authz.claims import (
    AccountClaims,
    AccountLimits,
    JetStreamLimits,
    OperatorClaims,
    ScopedSigningKey,
    ServiceExport,
    ServiceImport,
    UserClaims,
)
from authz.creds import Creds, format_creds, parse_creds
from authz.errors import CredsFormatError, IdentityError, KeyFormatError, TokenError
from authz.keys import AccountPublicKey, AccountSeed, OperatorPublicKey, OperatorSeed, UserPublicKey, UserSeed
from authz.permissions import ResponsePermission, SubjectPermissions
from authz.principals import PrincipalCache, TenantTrust, authenticate
from authz.requestinfo import RequestInfo, read_request_info
from authz.tokens import (
    decode_account,
    decode_operator,
    decode_user,
    encode_account,
    encode_operator,
    encode_user,
)

RAW = st.binary(min_size=32, max_size=32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.integers(0, 2**53)
LIMITS = st.integers(-1, 2**62)
SUBJECTS = st.lists(TEXT, max_size=3).map(tuple)
SECONDS = st.integers(0, 10_000_000).map(lambda milliseconds: milliseconds / 1000)
OPERATORS = RAW.map(OperatorSeed).map(lambda seed: seed.public)
ACCOUNTS = RAW.map(AccountSeed).map(lambda seed: seed.public)
USERS = RAW.map(UserSeed).map(lambda seed: seed.public)

PERMISSIONS = st.builds(
    SubjectPermissions,
    publish_allow=SUBJECTS,
    publish_deny=SUBJECTS,
    subscribe_allow=SUBJECTS,
    subscribe_deny=SUBJECTS,
    responses=st.none() | st.builds(ResponsePermission, max=LIMITS, ttl_s=SECONDS),
)
USER_CLAIMS = st.builds(
    UserClaims,
    name=TEXT,
    subject=USERS,
    issuer=st.just(ROLE_KEY.public),
    issuer_account=st.none() | ACCOUNTS,
    issued_at=TIMES,
    expires_at=st.none() | st.integers(1, 2**53),
    not_before=st.none() | st.integers(1, 2**53),
    permissions=st.none() | PERMISSIONS,
    tags=SUBJECTS,
)
JETSTREAM = st.builds(
    JetStreamLimits,
    **dict.fromkeys(
        [
            "memory_bytes",
            "disk_bytes",
            "streams",
            "consumers",
            "max_ack_pending",
            "memory_max_stream_bytes",
            "disk_max_stream_bytes",
        ],
        LIMITS,
    ),
    max_bytes_required=st.booleans(),
)
ACCOUNT_LIMITS = st.builds(
    AccountLimits,
    **dict.fromkeys(
        ["connections", "subscriptions", "payload_bytes", "data", "imports", "exports", "leaf_nodes"], LIMITS
    ),
    wildcard_exports=st.booleans(),
    disallow_bearer=st.booleans(),
    jetstream=JETSTREAM,
)
SCOPES = st.builds(ScopedSigningKey, key=ACCOUNTS, role=TEXT, template=PERMISSIONS, description=TEXT)
EXPORTS = st.builds(
    ServiceExport,
    subject=TEXT,
    account_token_position=st.integers(0, 255),
    response_threshold_s=SECONDS,
    response_type=st.sampled_from(["Singleton", "Stream", "Chunked"]),
    name=TEXT,
)
IMPORTS = st.builds(ServiceImport, subject=TEXT, account=ACCOUNTS, local_subject=TEXT, share=st.booleans(), name=TEXT)
ACCOUNT_CLAIMS = st.builds(
    AccountClaims,
    name=TEXT,
    subject=ACCOUNTS,
    issuer=st.just(OPERATOR.public),
    issued_at=TIMES,
    limits=ACCOUNT_LIMITS,
    signing_keys=st.lists(ACCOUNTS | SCOPES, max_size=2).map(tuple),
    exports=st.lists(EXPORTS, max_size=2).map(tuple),
    imports=st.lists(IMPORTS, max_size=2).map(tuple),
    revocations=st.dictionaries(TEXT, TIMES, max_size=2),
    tags=SUBJECTS,
)
OPERATOR_CLAIMS = st.builds(
    OperatorClaims,
    name=TEXT,
    subject=st.just(OPERATOR.public),
    issuer=st.just(OPERATOR.public),
    issued_at=TIMES,
    signing_keys=st.lists(OPERATORS, max_size=2).map(tuple),
    system_account=st.none() | ACCOUNTS,
    strict_signing_keys=st.booleans(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)

USER_TOKEN = encode_user(user_claims(), ROLE_KEY)
GOOD_BLOCK = (
    b"NATS/1.0\r\nNats-Request-Info: "
    + json.dumps({"acc": ACCOUNT.public.text, "jwt": USER_TOKEN, "kind": "Client"}).encode()
    + b"\r\n\r\n"
)
PIECES = [
    b"NATS/1.0",
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b" ",
    b":",
    b": ",
    b"X",
    b"Nats-Request-Info",
    b"nats-request-info",
    b"Nats-Request-Info: ",
    b'{"acc":"A","jwt":"t","kind":"Client"}',
    b"\x00",
    b"\xff",
]


def part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(USER_CLAIMS)
def test_user_claims_survive_their_token(claims: UserClaims) -> None:
    token = encode_user(claims, ROLE_KEY)
    decoded = decode_user(token, now=None)
    assert decoded == claims
    assert encode_user(decoded, ROLE_KEY) == token


@given(ACCOUNT_CLAIMS)
def test_account_claims_survive_their_token(claims: AccountClaims) -> None:
    token = encode_account(claims, OPERATOR)
    decoded = decode_account(token)
    assert decoded == claims
    assert encode_account(decoded, OPERATOR) == token


@given(OPERATOR_CLAIMS)
def test_operator_claims_survive_their_token(claims: OperatorClaims) -> None:
    token = encode_operator(claims, OPERATOR)
    decoded = decode_operator(token)
    assert decoded == claims
    assert encode_operator(decoded, OPERATOR) == token


@given(st.text() | st.text("aA0-_.=eyJ", max_size=40))
@example("\ud800.a.a")
def test_reading_a_token_only_ever_refuses_it(text: str) -> None:
    for decode in (partial(decode_user, now=NOW), decode_account, decode_operator):
        with pytest.raises(TokenError):
            decode(text)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_reading_signed_nonsense_only_ever_refuses_it(payload: bytes) -> None:
    signed = f"{USER_TOKEN.split('.')[0]}.{part(payload)}"
    token = f"{signed}.{part(ROLE_KEY.sign(signed.encode()))}"
    for decode in (partial(decode_user, now=NOW), decode_account, decode_operator):
        with pytest.raises(TokenError):
            decode(token)


@given(st.sampled_from(["iss", "sub", "iat", "exp", "nbf", "name", "jti", "nats", "aud"]), JSON)
def test_changing_any_claim_of_a_signed_token_gives_a_valid_one_or_a_refusal(field: str, value: Any) -> None:
    head, body, _ = USER_TOKEN.split(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | {field: value}
    signed = f"{head}.{part(json.dumps(payload).encode())}"
    with suppress(TokenError):
        decoded = decode_user(f"{signed}.{part(ROLE_KEY.sign(signed.encode()))}", now=None)
        assert decoded.issuer == ROLE_KEY.public
        assert decode_user(encode_user(decoded, ROLE_KEY), now=None) == decoded


@given(st.integers(0, len(USER_TOKEN) - 1), st.characters())
def test_a_token_changed_in_one_character_is_refused(position: int, character: str) -> None:
    changed = USER_TOKEN[:position] + character + USER_TOKEN[position + 1 :]
    if changed != USER_TOKEN:
        with pytest.raises(TokenError):
            decode_user(changed, now=NOW)


@given(RAW)
def test_keys_survive_their_text(raw: bytes) -> None:
    for kind in (OperatorSeed, AccountSeed, UserSeed):
        seed = kind(raw)
        assert kind.parse(seed.reveal()) == seed
        assert type(seed.public).parse(str(seed.public)) == seed.public


@given(st.text() | st.text("ABCOSU234567", min_size=54, max_size=60))
def test_reading_a_key_accepts_only_its_one_spelling(text: str) -> None:
    for public_kind in (OperatorPublicKey, AccountPublicKey, UserPublicKey):
        with suppress(KeyFormatError):
            assert str(public_kind.parse(text)) == text
    for seed_kind in (OperatorSeed, AccountSeed, UserSeed):
        with suppress(KeyFormatError):
            assert seed_kind.parse(text).reveal() == text


@given(RAW, st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}", fullmatch=True))
def test_creds_survive_their_file(raw: bytes, jwt: str) -> None:
    creds = Creds(jwt=jwt, seed=UserSeed(raw))
    assert parse_creds(format_creds(creds)) == creds


@given(st.text(), st.integers(0, 600), st.integers(0, 600))
def test_reading_creds_only_ever_refuses_or_reads_the_same(noise: str, start: int, end: int) -> None:
    text = format_creds(Creds(jwt=USER_TOKEN, seed=USER))
    for changed in (noise, text[:start] + noise + text[start + end :]):
        with suppress(CredsFormatError):
            creds = parse_creds(changed)
            assert parse_creds(format_creds(creds)) == creds


@given(st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join))
def test_reading_a_header_block_only_ever_refuses_or_reads_one_line(block: bytes) -> None:
    with suppress(IdentityError):
        info = read_request_info(block)
        assert block.lower().count(b"nats-request-info") == 1
        assert block.startswith(b"NATS/1.0\r\n")
        assert block.endswith(b"\r\n\r\n")
        assert info == RequestInfo(account="A", user_jwt="t", kind="Client")


@given(st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join))
def test_whatever_is_put_before_the_servers_line_it_is_read_right_or_refused(noise: bytes) -> None:
    """As nats-server does it: two bytes off the caller's block, its own line appended."""
    server_line = GOOD_BLOCK.removeprefix(b"NATS/1.0\r\n")
    with suppress(IdentityError):
        info = read_request_info(noise[:-2] + server_line)
        assert (info.account, info.user_jwt) == (ACCOUNT.public.text, USER_TOKEN)


@given(
    st.builds(
        RequestInfo,
        account=TEXT | st.just(ACCOUNT.public.text),
        user_jwt=TEXT | st.just(USER_TOKEN),
        kind=TEXT | st.just("Client"),
        service=st.none() | TEXT,
    ),
    TEXT | st.just(ACCOUNT.public.text),
    st.dictionaries(TEXT | st.just(ROLE_KEY.public.text), TEXT, max_size=2),
    st.integers(0, NOW * 2),
)
def test_authentication_gives_the_tokens_user_or_a_refusal(
    info: RequestInfo, subject_account: str, roles: dict[str, str], now: int
) -> None:
    trust = TenantTrust(tenant="t", account=ACCOUNT.public.text, roles=roles, revocations={})
    with suppress(IdentityError):
        principal = authenticate(info, subject_account=subject_account, trust=trust, now=now, cache=PrincipalCache())
        assert (principal.user, principal.name) == (USER.public.text, "alice")
        assert principal.role == roles[ROLE_KEY.public.text]
        assert now < NOW + 3600
