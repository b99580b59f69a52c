"""NATS JWTs: signing claims, and verifying tokens back into claims.

Rules it keeps: verification is total (whatever the input, only a `TokenError` comes out), bounded in size,
and strict: the header is exactly NATS's, the issuer is a key of the kind that may issue, the signature is
the issuer's. `ed25519-nkey` is registered with an instance of PyJWS of our own, which knows no other
algorithm. Not here: whether an issuer is *trusted*, and revocation (`authz.principals`).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from jwt import PyJWTError
from jwt.algorithms import Algorithm
from jwt.api_jws import PyJWS

from authz.claims import AccountClaims, OperatorClaims, UserClaims
from authz.claimsreader import parse_account, parse_operator, parse_user
from authz.claimswriter import render_account, render_account_deletion, render_operator, render_user
from authz.errors import (
    SignatureInvalidError,
    TokenExpiredError,
    TokenIssuerError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
)
from authz.keys import AccountPublicKey, AccountSeed, OperatorPublicKey, OperatorSeed

ALGORITHM: Final = "ed25519-nkey"
HEADER: Final = {"typ": "JWT", "alg": ALGORITHM}
MAX_USER_TOKEN: Final = 8 * 1024  # bytes: it must fit a header block of 16 KiB, inside JSON
MAX_ACCOUNT_TOKEN: Final = 1024 * 1024  # bytes: the server's own limit on what can be pushed to it

_COMPACT_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

ClaimsT = TypeVar("ClaimsT", UserClaims, AccountClaims, OperatorClaims)


class _NkeyAlgorithm(Algorithm):
    """Ed25519 by NKeys: signs with a seed, verifies with a public key."""

    def prepare_key(self, key: Any) -> Any:
        return key

    def sign(self, msg: bytes, key: Any) -> bytes:
        signature: bytes = key.sign(msg)
        return signature

    def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
        try:
            key.verify(msg, sig)
        except SignatureInvalidError:
            return False
        return True

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyJWT's signature
        raise NotImplementedError

    @staticmethod
    def from_jwk(jwk: Any) -> Any:
        raise NotImplementedError


def _nkey_jws() -> PyJWS:
    jws = PyJWS(algorithms=[])
    jws.register_algorithm(ALGORITHM, _NkeyAlgorithm())
    return jws


_JWS: Final = _nkey_jws()


def encode_user(claims: UserClaims, signer: AccountSeed) -> str:
    """Sign a user's claims.

    Raises:
        TokenIssuerError: `claims.issuer` is not the signer's key.
    """
    return _sign(render_user(claims), claims.issuer, signer)


def encode_account(claims: AccountClaims, signer: OperatorSeed) -> str:
    """Sign an account's claims.

    Raises:
        TokenIssuerError: `claims.issuer` is not the signer's key.
    """
    return _sign(render_account(claims), claims.issuer, signer)


def encode_operator(claims: OperatorClaims, signer: OperatorSeed) -> str:
    """Sign an operator's claims, with its own identity key.

    Raises:
        TokenIssuerError: `claims.issuer` is not the signer's key, or not the operator itself.
    """
    _require_self_issued(claims)
    return _sign(render_operator(claims), claims.issuer, signer)


def encode_account_deletion(accounts: Sequence[AccountPublicKey], signer: OperatorSeed, *, issued_at: int) -> str:
    """Sign the request to remove accounts from the servers' resolvers (a generic claim, as nats-server defines it)."""
    return _sign(render_account_deletion(accounts, signer.public, issued_at=issued_at), signer.public, signer)


def decode_user(token: str, *, now: float | None) -> UserClaims:
    """Verify a user's token: its form, that `iss` signed it, and, when `now` is given, its times.

    Raises:
        TokenError: it is refused; the subclass says why.
    """
    claims = _verify(token, parse_user, MAX_USER_TOKEN)
    if now is not None:
        check_times(claims, now=now)
    return claims


def decode_account(token: str) -> AccountClaims:
    """Verify an account's token: its form, and that `iss`, an operator's key, signed it.

    Raises:
        TokenError: it is refused; the subclass says why.
    """
    return _verify(token, parse_account, MAX_ACCOUNT_TOKEN)


def decode_operator(token: str) -> OperatorClaims:
    """Verify an operator's token: its form, and that the operator itself signed it.

    Raises:
        TokenError: it is refused; the subclass says why.
    """
    claims = _verify(token, parse_operator, MAX_ACCOUNT_TOKEN)
    _require_self_issued(claims)
    return claims


def check_times(claims: UserClaims, *, now: float) -> None:
    """Return when the claims are in force at `now` (unix seconds): from `nbf` on and before `exp`.

    Raises:
        TokenExpiredError: `exp` has come.
        TokenNotYetValidError: `nbf` has not.
    """
    if claims.expires_at is not None and now >= claims.expires_at:
        raise TokenExpiredError(expired_at=claims.expires_at)
    if claims.not_before is not None and now < claims.not_before:
        raise TokenNotYetValidError(valid_from=claims.not_before)


def _sign(payload: bytes, issuer: AccountPublicKey | OperatorPublicKey, signer: AccountSeed | OperatorSeed) -> str:
    if issuer != signer.public:
        raise TokenIssuerError("the claims name another issuer than the key that signs them")
    return _JWS.encode(payload, signer, algorithm=ALGORITHM)  # type: ignore[arg-type]  # our algorithm's own key type


def _verify(unverified_token: str, parse: Callable[[bytes], ClaimsT], limit: int) -> ClaimsT:
    # (1) size and form, before anything is decoded
    if len(unverified_token) > limit:
        raise TokenMalformedError(f"token is longer than {limit} bytes")
    if not _COMPACT_FORM.fullmatch(unverified_token):
        raise TokenMalformedError("token is not three base64url parts")
    # (2) header: exactly NATS's, so no other algorithm can be asked for
    try:
        unverified = _JWS.decode_complete(unverified_token, options={"verify_signature": False})
    except (PyJWTError, ValueError) as error:
        raise TokenMalformedError("token is not a JWT") from error
    if unverified["header"] != HEADER:
        raise TokenMalformedError("token's header is not that of a NATS JWT")
    # (3) claims of the expected kind, with keys of the right kinds
    claims = parse(unverified["payload"])
    # (4) signature, by the issuer that the claims name
    try:
        _JWS.decode_complete(unverified_token, claims.issuer, algorithms=[ALGORITHM])  # type: ignore[arg-type]
    except PyJWTError as error:
        raise TokenSignatureError(f"token was not signed by its issuer `{claims.issuer}`") from error
    return claims


def _require_self_issued(claims: OperatorClaims) -> None:
    if claims.issuer != claims.subject:
        raise TokenIssuerError("an operator's token is signed by the operator itself")
