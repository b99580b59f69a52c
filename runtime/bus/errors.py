"""What can go wrong on the bus, grouped by whose fault it is.

Every error is a ``BusError`` with fields, so that callers branch on types and values and never on texts. No library
error leaves this package.
"""

from typing import Literal

Direction = Literal["publish", "subscribe"]
ConnectFailure = Literal["unreachable", "tls", "auth", "expired", "limit", "protocol", "credentials"]


class BusError(Exception):
    """Base of all errors of the bus."""


class NoRespondersError(BusError):
    """Nobody serves the subject: the server said so at once."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody answers on `{subject}`")
        self.subject = subject


class RequestTimeoutError(BusError):
    """No answer came in time; the request may have been carried out all the same."""

    def __init__(self, subject: str, timeout: float) -> None:
        super().__init__(f"no answer on `{subject}` within {timeout:g} s")
        self.subject = subject
        self.timeout = timeout


class RefusedError(BusError):
    """The server's permissions don't let this user publish to, or subscribe to, the subject."""

    def __init__(self, subject: str, direction: Direction) -> None:
        verb = "publishing to" if direction == "publish" else "subscribing to"
        super().__init__(f"the server refused {verb} `{subject}`")
        self.subject = subject
        self.direction: Direction = direction


class PayloadTooLargeError(BusError):
    """The payload is over the limit; nothing was sent (the server would have cut the connection)."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"payload of {size} bytes is over the limit of {limit}")
        self.size = size
        self.limit = limit


class ConnectionLostError(BusError):
    """The connection is gone, for now or for good.

    Attributes:
        sent: Whether the request may have reached the server. When False it is safe to repeat.
    """

    def __init__(self, message: str = "the connection to the server was lost", *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class ConnectFailedError(BusError):
    """No connection came about.

    Attributes:
        reason: ``unreachable`` (nobody listens, or too late), ``tls`` (certificates don't match), ``auth`` (the server
            does not accept the credentials), ``expired`` (they are past their time), ``limit`` (the account's or
            server's connections are used up), ``protocol`` (whoever answers is not our server),
            ``credentials`` (they could not be read; the cause says why).
    """

    def __init__(self, reason: ConnectFailure, message: str) -> None:
        super().__init__(message)
        self.reason: ConnectFailure = reason


class InvalidSubjectError(BusError):
    """A subject, queue name or header that can't be put on the wire."""

    def __init__(self, text: str) -> None:
        super().__init__(f"`{text[:100]!a}` can't be used on the wire")
        self.text = text


class ServerError(BusError):
    """Base of what goes wrong with a nats-server of our own."""


class PortInUseError(ServerError):
    """Somebody else listens on the port already."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is already in use")
        self.host = host
        self.port = port


class ServerStartError(ServerError):
    """The server ended, or did not become ready, while starting.

    Attributes:
        detail: The last lines of its log that say why.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(f"{message}: {detail}" if detail else message)
        self.detail = detail


class ServerConfigError(ServerError):
    """A setting that can't be written into the server's configuration."""


class ClaimsPushError(BusError):
    """Not every expected server took the account claims.

    Attributes:
        account: The account's public key.
        answered: How many servers confirmed.
        expected: How many had to.
    """

    def __init__(self, account: str, *, answered: int, expected: int, detail: str = "") -> None:
        suffix = f": {detail}" if detail else ""
        super().__init__(f"claims of account {account} confirmed by {answered} of {expected} servers{suffix}")
        self.account = account
        self.answered = answered
        self.expected = expected


class StorageError(BusError):
    """Base of what goes wrong with buckets, blobs and streams."""


class KeyExistsError(StorageError):
    """The key was to be created but is there."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(f"`{key}` exists already in {bucket}")
        self.bucket = bucket
        self.key = key


class RevisionMismatchError(StorageError):
    """Somebody else changed the key since it was read."""

    def __init__(self, bucket: str, key: str, expected: int) -> None:
        super().__init__(f"`{key}` in {bucket} is not at revision {expected} any more")
        self.bucket = bucket
        self.key = key
        self.expected = expected


class StorageUnavailableError(StorageError):
    """JetStream did not do what was asked: not there, out of space, or too late."""
