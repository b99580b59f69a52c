"""Who a client is and where it connects, wherever that comes from."""

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from authz.creds import Creds


class Identity(Protocol):
    """What a connection needs. Everything but `user` and `control` is information, never proof."""

    @property
    def url(self) -> str:
        """The server's address."""

    @property
    def user(self) -> str:
        """The public key of the user."""

    @property
    def name(self) -> str:
        """The user's name."""

    @property
    def tenant(self) -> str:
        """The tenant's name, or "" if unknown."""

    @property
    def role(self) -> str:
        """The role's name, or "" if unknown."""

    @property
    def control(self) -> str:
        """The public key of the control plane, which signs data keys; "" if it is not pinned."""

    @property
    def expires_at(self) -> int | None:
        """Unix seconds at which the JWT expires, or None."""

    def load_creds(self) -> Creds:
        """The credentials, read anew at each (re)connect."""

    def tls_context(self) -> ssl.SSLContext:
        """The TLS context of a connection as this user."""


Identify = Callable[[], Awaitable[Identity]]
