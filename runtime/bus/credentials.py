"""What a connection needs of credentials: a user JWT, and a seed that signs and never shows itself.

``authz.creds.Creds`` is the real thing. This module reads, without trusting it, the one thing that the client side
wants to know of its own JWT before it knocks: when it ends. The server is who verifies.
"""

import base64
import binascii
import json
from typing import Protocol


class _PublicKey(Protocol):
    @property
    def text(self) -> str: ...


class _Seed(Protocol):
    @property
    def public(self) -> _PublicKey: ...

    def sign(self, data: bytes, /) -> bytes: ...


class Credentials(Protocol):
    """A user JWT with its seed."""

    @property
    def jwt(self) -> str:
        """The user JWT."""
        ...

    @property
    def seed(self) -> _Seed:
        """The user's secret key."""
        ...


def expiry_of(unverified_jwt: str) -> float | None:
    """Read when a JWT ends, in Unix seconds; None if never, or if that can't be read (the server will say so)."""
    try:
        payload = unverified_jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        expiry = claims.get("exp")
    except (IndexError, ValueError, AttributeError, RecursionError, binascii.Error):
        return None
    return float(expiry) if isinstance(expiry, int) and expiry > 0 else None
