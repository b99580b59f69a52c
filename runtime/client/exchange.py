"""Sends requests until they are answered: connects, repeats what is safe to repeat, signs what has to be signed.

Rules it keeps: nothing is repeated unless that is safe (nobody received it, or its caller said it is idempotent), and
then within a budget; each attempt is a request of its own, composed anew, with a correlation id of its own, since a
host takes each only once; a connection that the server closed for good is rebuilt at the next request.

It does not know what is in a request or its answer: whoever sends says how to compose the one and read the other.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from runtime.bus.connection import Connection, Endpoint, connect
from runtime.bus.errors import BusError, ConnectFailedError, RefusedError
from runtime.bus.message import Message
from runtime.client.errors import ClientError, ServerRefusedError, UnavailableError
from runtime.client.identity import Identify, Identity
from runtime.client.retry import RetryBudget, RetryPolicy, delay_before
from runtime.client.signing import HEADER as SENDER_HEADER
from runtime.client.signing import Signer
from runtime.client.translation import RepeatableError, connect_error, request_error

if TYPE_CHECKING:
    from authz.creds import Creds

T = TypeVar("T")

DEADLINE_HEADER = "Agent-Timeout"
CONNECT_TIMEOUT_S = 5.0

# The agent answers 408 itself when the deadline passes; this much longer we wait for that better answer.
_GRACE_S = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One request on its way: what it is composed from.

    Attributes:
        correlation_id: Its own.
        timestamp: Unix seconds.
        deadline: By the monotonic clock.
        identity: Who sends.
        signer: Signs it; None if it goes unsigned.
    """

    correlation_id: str
    timestamp: float
    deadline: float
    identity: Identity
    signer: Signer | None

    @property
    def agent_id(self) -> str:
        """What the sender calls itself."""
        return self.identity.name or self.identity.user

    @property
    def remaining(self) -> float:
        """Seconds until an answer is of no more use; may be negative."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing(Generic[T]):
    """A composed request: its payload, and how the answer to it, and to no other, is read."""

    payload: bytes
    read: Callable[[Message], Awaitable[T]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Errand(Generic[T]):
    """What is to be sent.

    Attributes:
        subject: Where to.
        name: The capability or command, for people.
        missing: The grant that the server's refusal would point to.
        signed: Whether the sender's own signature goes with it (SEC-11).
        compose: Makes the request of one attempt.
        undone_if_unavailable: Whether an answered 503 says that nothing was done. A host's does; the control plane
            answers it also for what is stored but not yet in force everywhere.
    """

    subject: str
    name: str
    missing: str
    signed: bool
    compose: Callable[[Attempt], Awaitable[Outgoing[T]]]
    undone_if_unavailable: bool = True


class Exchange:
    """One caller's connection, and the requests over it."""

    def __init__(self, identify: Identify, *, retry: RetryPolicy, connect_timeout: float) -> None:
        self._identify = identify
        self._retry = retry
        self._budget = RetryBudget(retry)
        self._connect_timeout = connect_timeout
        self._opening = asyncio.Lock()
        self._identity: Identity | None = None
        self._connection: Connection | None = None
        self._creds: Creds | None = None
        self._signer: Signer | None = None
        self._closed = False

    @property
    def identity(self) -> Identity:
        """Who this is, as of the connection made last."""
        if self._identity is None:
            raise ClientError("the client is not connected: use it with `async with`")
        return self._identity

    async def close(self) -> None:
        """End the connection for good."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def send(self, errand: Errand[T], *, deadline: float, idempotent: bool = False) -> T:
        """Send until answered, or until repeating is not safe, not in time or not within the budget.

        Args:
            errand: What to send.
            deadline: By the monotonic clock.
            idempotent: Whether it may be repeated when it is not known if it was carried out.

        Raises:
            ClientError: The subclass says whose fault it is.
        """
        self._budget.called()
        attempt = 1
        while True:
            try:
                return await self._once(errand, deadline)
            except RepeatableError as failure:
                error, safe = failure.error, failure.reached_nobody
            attempt += 1
            delay = delay_before(attempt, self._retry, random.random)
            in_time = time.monotonic() + delay < deadline
            if not (safe or idempotent) or not in_time or attempt > self._retry.attempts or not self._budget.take():
                raise error
            await asyncio.sleep(delay)

    async def open(self) -> Connection:
        """The connection; made anew when there is none or the server closed it for good."""
        if self._closed:
            raise ClientError("the client is closed")
        if self._connection is not None:
            return self._connection
        async with self._opening:
            if self._connection is None:
                self._identity = await self._identify()
                self._connection = await self._connected(self._identity)
        return self._connection

    async def _once(self, errand: Errand[T], deadline: float) -> T:
        connection = await self.open()
        attempt = Attempt(
            correlation_id=str(uuid.uuid4()),
            timestamp=time.time(),
            deadline=deadline,
            identity=self.identity,
            signer=self._current_signer() if errand.signed else None,
        )
        outgoing = await errand.compose(attempt)
        try:
            message = await connection.request(
                errand.subject,
                outgoing.payload,
                timeout=max(0.0, attempt.remaining) + _GRACE_S,
                headers=_headers(errand, attempt, outgoing.payload),
            )
        except RefusedError as error:
            raise ServerRefusedError(subject=errand.subject, missing=errand.missing) from error
        except BusError as error:
            raise request_error(error, errand.name, attempt.correlation_id, attempt.identity.url) from error
        try:
            return await outgoing.read(message)
        except UnavailableError as error:
            raise RepeatableError(error, reached_nobody=errand.undone_if_unavailable) from error

    async def _connected(self, identity: Identity) -> Connection:
        endpoint = Endpoint(url=identity.url, tls=identity.tls_context())
        try:
            return await connect(
                endpoint,
                lambda: self._load_creds(identity),
                name=f"garrison-client {identity.name}",
                on_closed=self._forget,
                timeout=self._connect_timeout,
            )
        except ConnectFailedError as error:
            raise connect_error(error, identity) from error

    def _load_creds(self, identity: Identity) -> Creds:
        self._creds, self._signer = identity.load_creds(), None
        return self._creds

    def _current_signer(self) -> Signer:
        """SEC-11: of the key that the connection signed in with, made when first needed."""
        if self._signer is None:
            if self._creds is None:
                raise ClientError("the client is not connected: use it with `async with`")
            self._signer = Signer.of(self._creds)
        return self._signer

    def _forget(self) -> None:
        self._connection = None


def _headers(errand: Errand[T], attempt: Attempt, payload: bytes) -> dict[str, str]:
    headers = {DEADLINE_HEADER: str(max(1, int(attempt.remaining * 1000)))}
    if attempt.signer is not None:
        headers[SENDER_HEADER] = attempt.signer.sign(
            subject=errand.subject, payload=payload, correlation_id=attempt.correlation_id, now=time.time()
        )
    return headers
