from dataclasses import replace
from typing import Any

import pytest
from unit.authz.claimsets import ACCOUNT, NOW, PERMISSIONS, ROLE_KEY, USER, user_claims

from authz.errors import IdentityError
from authz.keys import AccountSeed, UserSeed
from authz.principals import Principal, PrincipalCache, TenantTrust, authenticate
from authz.requestinfo import RequestInfo
from authz.tokens import encode_user

TRUST = TenantTrust(
    tenant="st-marys", account=ACCOUNT.public.text, roles={ROLE_KEY.public.text: "nurse"}, revocations={}
)
INFO = RequestInfo(account=ACCOUNT.public.text, user_jwt=encode_user(user_claims(), ROLE_KEY), kind="Client")
SIGNERS = {key.public: key for key in (ACCOUNT, ROLE_KEY)}


def token(**changes: Any) -> str:
    claims = user_claims(**changes)
    return encode_user(claims, SIGNERS[claims.issuer])


def call(
    info: RequestInfo = INFO,
    *,
    subject_account: str = ACCOUNT.public.text,
    trust: TenantTrust = TRUST,
    now: float = NOW,
    cache: PrincipalCache | None = None,
    **changes: Any,
) -> Principal:
    """Authenticate with a cold cache, or the one given; `changes` are made to the server's line."""
    return authenticate(
        replace(info, **changes),
        subject_account=subject_account,
        trust=trust,
        now=now,
        cache=PrincipalCache() if cache is None else cache,
    )


def refused(**changes: Any) -> str:
    """The reason, the same with a cold cache and with one that already knows the token."""
    warm = PrincipalCache()
    call(cache=warm)
    reasons = set()
    for cache in (PrincipalCache(), warm):
        with pytest.raises(IdentityError) as caught:
            call(cache=cache, **changes)
        reasons.add(caught.value.reason)
    assert len(reasons) == 1
    return reasons.pop()


def test_nobody_is_trusted_by_default() -> None:
    nothing = TenantTrust(tenant="", account="", roles={}, revocations={})
    with pytest.raises(IdentityError):
        call(RequestInfo(account="", user_jwt="", kind=""), trust=nothing, subject_account="")
    with pytest.raises(IdentityError):
        call(RequestInfo(account="", user_jwt="", kind="Client"), trust=nothing, subject_account="")


def test_a_good_caller_is_who_the_token_says() -> None:
    assert call() == Principal(
        tenant="st-marys",
        account=ACCOUNT.public.text,
        user=USER.public.text,
        name="alice",
        role="nurse",
        tags=("ward-3",),
        issued_at=NOW,
        expires_at=NOW + 3600,
        assurance="asserted",
    )


@pytest.mark.parametrize("kind", ["", "client", "Leafnode", "JetStream", "System", "Account", "Router", "Gateway"])
def test_only_an_ordinary_client_connection_is_a_caller(kind: str) -> None:
    assert refused(kind=kind) == "caller-kind"


def test_a_request_by_way_of_another_service_is_refused() -> None:
    assert refused(service=ACCOUNT.public.text) == "caller-indirect"


def test_the_account_must_agree_everywhere() -> None:
    other = AccountSeed.generate().public.text
    assert refused(subject_account=other) == "account-mismatch"
    assert refused(account=other) == "account-mismatch"
    assert refused(trust=replace(TRUST, account=other)) == "account-mismatch"
    assert refused(account=other, subject_account=other) == "account-mismatch"


def test_a_token_of_another_account_is_refused_even_if_everything_else_agrees() -> None:
    other = AccountSeed.generate().public
    assert refused(user_jwt=token(issuer_account=other)) == "account-mismatch"
    # ... and if that account's key is taken for a role key of this tenant
    assert refused(user_jwt=token(issuer_account=None)) == "account-mismatch"


def test_a_suspended_tenants_users_are_refused() -> None:
    assert refused(trust=replace(TRUST, suspended=True)) == "tenant-suspended"


def test_a_token_signed_by_another_key_is_refused() -> None:
    head, body, _ = INFO.user_jwt.split(".")
    _, _, signature = token(name="bob").split(".")
    assert refused(user_jwt=f"{head}.{body}.{signature}") == "token-signature"


@pytest.mark.parametrize("jwt", ["", "x", "a.b.c", INFO.user_jwt[:-2], INFO.user_jwt + "\n"], ids=range(5))
def test_a_missing_or_mangled_token_is_refused(jwt: str) -> None:
    assert refused(user_jwt=jwt).startswith("token-")


def test_an_expired_token_is_refused_also_when_cached() -> None:
    assert refused(now=NOW + 3600) == "token-expired"
    assert call(now=NOW + 3599.9).expires_at == NOW + 3600


def test_a_token_without_expiry_does_not_expire() -> None:
    assert call(user_jwt=token(expires_at=None), now=NOW * 2).expires_at is None


def test_a_token_before_its_time_is_refused() -> None:
    assert refused(user_jwt=token(not_before=NOW + 1)) == "token-not-yet-valid"


def test_a_token_with_permissions_of_its_own_is_refused() -> None:
    assert refused(user_jwt=token(permissions=PERMISSIONS)) == "token-unscoped"


def test_a_token_of_a_key_that_is_no_role_is_refused() -> None:
    assert refused(user_jwt=token(issuer=ACCOUNT.public, issuer_account=None)) == "role-unknown"


def test_a_role_key_taken_out_is_refused_also_when_cached() -> None:
    assert refused(trust=replace(TRUST, roles={})) == "role-unknown"
    assert refused(trust=replace(TRUST, roles={AccountSeed.generate().public.text: "nurse"})) == "role-unknown"


@pytest.mark.parametrize("who", [USER.public.text, "*"], ids=["the user", "all users"])
def test_a_revoked_user_is_refused_also_when_cached(who: str) -> None:
    assert refused(trust=replace(TRUST, revocations={who: NOW})) == "revoked"
    assert refused(trust=replace(TRUST, revocations={who: NOW + 100})) == "revoked"


def test_a_token_issued_after_the_revocation_is_accepted() -> None:
    revocations = {USER.public.text: NOW - 1, "*": NOW - 1, UserSeed.generate().public.text: NOW + 9}
    assert call(trust=replace(TRUST, revocations=revocations)).name == "alice"


def test_a_token_issued_at_time_zero_is_accepted_unless_revoked() -> None:
    assert call(user_jwt=token(issued_at=0)).issued_at == 0
    assert refused(user_jwt=token(issued_at=0), trust=replace(TRUST, revocations={"*": 0})) == "revoked"


def test_a_cached_caller_has_the_role_of_now() -> None:
    cache = PrincipalCache()
    first = call(cache=cache)
    assert call(cache=cache) is first
    renamed = call(cache=cache, trust=replace(TRUST, roles={ROLE_KEY.public.text: "matron"}))
    assert (first.role, renamed.role) == ("nurse", "matron")
    moved = call(cache=cache, trust=replace(TRUST, tenant="st-marys-2"))
    assert (moved.tenant, moved.role) == ("st-marys-2", "nurse")


def test_the_signature_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = PrincipalCache()
    call(cache=cache)
    monkeypatch.setattr("authz.principals.decode_user", None)
    assert call(cache=cache).name == "alice"


def test_the_cache_is_bounded_and_forgets_the_least_recently_used() -> None:
    cache = PrincipalCache(capacity=2)
    tokens = [token(name=name) for name in ("a", "b", "c")]
    call(cache=cache, user_jwt=tokens[0])
    call(cache=cache, user_jwt=tokens[1])
    call(cache=cache, user_jwt=tokens[0])
    call(cache=cache, user_jwt=tokens[2])
    assert len(cache) == 2
    assert set(cache._verified) == {tokens[0], tokens[2]}


def test_a_refused_token_is_not_cached() -> None:
    cache = PrincipalCache()
    with pytest.raises(IdentityError):
        call(cache=cache, user_jwt=INFO.user_jwt[:-4] + "AAAA")
    assert len(cache) == 0
