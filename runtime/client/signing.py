"""The caller's own signature on what it sends: the second witness (SEC-11), made unseen.

The key is the one that the connection signed in with, so the two witnesses agree by construction; credentials that
are read anew at a reconnection sign from then on. What is signed and how it is written is `runtime.envelope.sender`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from runtime.client.errors import ClientError
from runtime.envelope.sender import HEADER, sign_sender

if TYPE_CHECKING:
    from authz.creds import Creds

__all__ = ["HEADER", "Signer"]

_LONGEST_NAME = 128


class Signer:
    """Signs as the user of one set of credentials. Prints none of it."""

    __slots__ = ("_seed", "account", "name", "user")

    def __init__(self, creds: Creds, *, account: str, name: str) -> None:
        self._seed = creds.seed
        self.account = account
        self.user = creds.seed.public.text
        self.name = name if name.isascii() and name.isprintable() else ""

    @classmethod
    def of(cls, creds: Creds) -> Self:
        """The signer of these credentials.

        Raises:
            ClientError: Their JWT is malformed.
        """
        from authz.errors import AuthzError
        from authz.tokens import decode_user

        try:
            claims = decode_user(creds.jwt, now=None)
        except AuthzError as error:
            raise ClientError(f"the credentials hold no usable JWT: {error}") from error
        return cls(creds, account=claims.account.text, name=claims.name)

    def sign(self, *, subject: str, payload: bytes, correlation_id: str, now: float) -> str:
        """The value of `HEADER` for one message.

        Args:
            subject: As it will be published.
            payload: All of it.
            correlation_id: As in the payload's envelope.
            now: Unix seconds.
        """
        return sign_sender(
            account=self.account,
            user=self.user,
            name=self.name[:_LONGEST_NAME],
            subject=subject,
            ts=int(now),
            nonce=correlation_id,
            payload=payload,
            sign=self._seed.sign,
        )

    def __repr__(self) -> str:
        return f"Signer(user={self.user!r}, seed=<redacted>)"
