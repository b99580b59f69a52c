"""The errors of `authz`, grouped by whose fault they are.

Rules it keeps: every error has fields, a one-line lower-case message, and a name that ends in `Error`; no
message holds a secret or more of a caller's input than is needed to recognise it. Not here: what a caller
is told (the envelope decides).
"""

from typing import ClassVar, Literal

IdentityFault = Literal[
    "header-missing",  # no header block, or not one with the server's line
    "header-size",  # block longer than any that a server of ours would deliver
    "header-form",  # block not framed as NATS frames it
    "header-repeated",  # the line's name occurs twice: one of them is a forgery
    "header-spelling",  # the name occurs, but not as the server writes it
    "info-malformed",  # the line's JSON is not what the server writes
    "caller-kind",  # not an ordinary client connection
    "caller-indirect",  # the request came by way of another service
    "account-mismatch",  # subject, line, token and tenant don't name one account
    "tenant-suspended",
    "token-refused",
    "token-malformed",
    "token-signature",
    "token-issuer",
    "token-expired",
    "token-not-yet-valid",
    "token-unscoped",  # states permissions of its own, so no role's template binds it
    "role-unknown",  # not issued by a current role key of the tenant
    "revoked",
]


class AuthzError(Exception):
    """Base of every error that `authz` raises on purpose."""


class KeyFormatError(AuthzError):
    """Text that is not the kind of NKey it should be."""

    def __init__(self, *, expected: str, fault: str) -> None:
        super().__init__(f"not an {expected}: {fault}" if expected[0] in "aeio" else f"not a {expected}: {fault}")
        self.expected = expected
        self.fault = fault


class SignatureInvalidError(AuthzError):
    """A signature that the key did not make over the data."""

    def __init__(self, *, key: str) -> None:
        super().__init__(f"signature was not made by `{key}`")
        self.key = key


class TokenError(AuthzError):
    """A NATS JWT that can't be accepted; subclasses say why."""

    slug: ClassVar[IdentityFault] = "token-refused"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class TokenMalformedError(TokenError):
    """Not a NATS JWT of the kind expected: form, header or claims are wrong."""

    slug = "token-malformed"


class TokenSignatureError(TokenError):
    """Well formed, but not signed by the key that it names as its issuer."""

    slug = "token-signature"


class TokenIssuerError(TokenError):
    """The issuer is a key of a kind, or a key, that may not issue this token."""

    slug = "token-issuer"


class TokenExpiredError(TokenError):
    """Its `exp` has come."""

    slug = "token-expired"

    def __init__(self, *, expired_at: int) -> None:
        super().__init__(f"token expired at {expired_at}")
        self.expired_at = expired_at


class TokenNotYetValidError(TokenError):
    """Its `nbf` lies ahead."""

    slug = "token-not-yet-valid"

    def __init__(self, *, valid_from: int) -> None:
        super().__init__(f"token is not valid before {valid_from}")
        self.valid_from = valid_from


class CredsFormatError(AuthzError):
    """Text that is not a NATS credentials file."""

    def __init__(self, *, fault: str) -> None:
        super().__init__(f"not a credentials file: {fault}")
        self.fault = fault


class IdentityError(AuthzError):
    """SEC-1: who is calling could not be established. Becomes 401.

    `reason` is a short stable slug for logs, counters and audit. The caller never sees it.
    """

    def __init__(self, reason: IdentityFault) -> None:
        super().__init__(f"caller not authenticated: {reason}")
        self.reason: str = reason
