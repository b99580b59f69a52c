"""`Client`: what a caller uses.

    async with Client.connect(Path("nurse")) as client:
        score = await client.call("vitals.assess", {"observations": [...]})

Rules it keeps: nothing is repeated unless that is safe (nobody received it, or its caller said it is idempotent), and
then within a budget; a connection that the server closed for good is rebuilt from the folder at the next call, so
that renewed credentials are picked up; what administers is signed by the caller's own key, unseen (SEC-11); every
error is a `ClientError`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from runtime.bus import subjects
from runtime.bus.connection import Connection, Endpoint, connect
from runtime.bus.errors import BusError, ConnectFailedError, InvalidSubjectError, RefusedError
from runtime.client.answers import Answer, read_answer
from runtime.client.errors import ClientError, InvalidRequestError, ServerRefusedError, UnavailableError
from runtime.client.folder import read_folder
from runtime.client.identity import Identify, Identity
from runtime.client.retry import RetryBudget, RetryPolicy, delay_before
from runtime.client.signing import HEADER as SENDER_HEADER
from runtime.client.signing import Signer
from runtime.client.translation import RepeatableError, connect_error, request_error
from runtime.envelope.messages import ERROR_CODE_HEADER, ERROR_TEXT_HEADER, build_request

if TYPE_CHECKING:
    from authz.creds import Creds

DEADLINE_HEADER = "Agent-Timeout"
CONNECT_TIMEOUT_S = 5.0

# The agent answers 408 itself when the deadline passes; this much longer we wait for that better answer.
_GRACE_S = 0.25


class Client:
    """A caller's connection to the platform. Made by `Client.connect`; use it with `async with`."""

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

    @classmethod
    def connect(
        cls, folder: Path | str, *, retry: RetryPolicy | None = None, connect_timeout: float = CONNECT_TIMEOUT_S
    ) -> Client:
        """A client that connects on `async with`.

        Args:
            folder: A credentials folder, as `garrison creds issue` writes it.
            retry: How calls are repeated that are safe to repeat.
            connect_timeout: Seconds to try to connect.
        """
        path = Path(folder)

        async def identify() -> Identity:
            return await asyncio.to_thread(read_folder, path)

        return cls.identified_by(identify, retry=retry, connect_timeout=connect_timeout)

    @classmethod
    def identified_by(
        cls, identify: Identify, *, retry: RetryPolicy | None = None, connect_timeout: float = CONNECT_TIMEOUT_S
    ) -> Client:
        """Like `connect`, for credentials that are not in a folder; `identify` is asked at each new connection."""
        return cls(identify, retry=retry or RetryPolicy(), connect_timeout=connect_timeout)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; the client can't be used again."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @property
    def identity(self) -> Identity:
        """Who this client is, as its folder says."""
        if self._identity is None:
            raise ClientError("the client is not connected: use it with `async with`")
        return self._identity

    @property
    def user(self) -> str:
        """The public key of the caller's user."""
        return self.identity.user

    @property
    def tenant(self) -> str:
        """The name of the caller's tenant, or "" if the folder does not say."""
        return self.identity.tenant

    @property
    def role(self) -> str:
        """The name of the caller's role, or "" if the folder does not say."""
        return self.identity.role

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - a deadline to pass on, not a scope
        idempotent: bool = False,
    ) -> dict[str, Any]:
        """Call a capability and return its result.

        Args:
            capability: Such as `vitals.assess`.
            data: The input, one JSON object.
            timeout: Seconds until an answer is of no more use; the agent is told, and the answer "deadline passed"
                may arrive a moment later than that.
            idempotent: Whether the call may safely be repeated when it is not known if it was carried out.

        Raises:
            ClientError: The subclass says whose fault it is.
        """
        return (await self.ask(capability, data, timeout=timeout, idempotent=idempotent)).result

    async def ask(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - a deadline to pass on, not a scope
        idempotent: bool = False,
    ) -> Answer:
        """Like `call`, with what is known about the answer."""
        subject = _subject(subjects.capability, capability)
        missing = f"call: [{capability}]"
        return await self._exchange(subject, capability, missing, data, within=timeout, idempotent=idempotent)

    async def admin(
        self,
        command: str,
        target: str,
        data: Mapping[str, Any] | None = None,
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - a deadline to pass on, not a scope
    ) -> dict[str, Any]:
        """Send an administrative command and return its result.

        Args:
            command: Two words, such as `policy.apply`.
            target: What it is about: a tenant, a host, or `all`.
            data: The command's input.
            timeout: Seconds to wait.

        Raises:
            ClientError: The subclass says whose fault it is.
        """
        subject = _subject(subjects.admin, command, target)
        missing = f"admin: [{command}]"
        answer = await self._exchange(subject, command, missing, data or {}, within=timeout, signed=True)
        return answer.result

    async def _exchange(
        self,
        subject: str,
        name: str,
        missing: str,
        data: Mapping[str, Any],
        *,
        within: float,
        idempotent: bool = False,
        signed: bool = False,
    ) -> Answer:
        """Send until answered, or until repeating is not safe, not in time or not within the budget."""
        deadline = time.monotonic() + within
        exchange = self._prepared(subject, name, missing, data, deadline=deadline, signed=signed)
        self._budget.called()
        attempt = 1
        while True:
            try:
                return await self._once(exchange)
            except RepeatableError as failure:
                error, safe = failure.error, failure.reached_nobody
            attempt += 1
            delay = delay_before(attempt, self._retry, random.random)
            in_time = time.monotonic() + delay < deadline
            if not (safe or idempotent) or not in_time or attempt > self._retry.attempts or not self._budget.take():
                raise error
            await asyncio.sleep(delay)
            # A host takes a correlation id once, so that a copy is no second call: each attempt has its own.
            exchange = self._prepared(subject, name, missing, data, deadline=deadline, signed=signed)

    def _prepared(
        self, subject: str, name: str, missing: str, data: Mapping[str, Any], *, deadline: float, signed: bool
    ) -> _Exchange:
        correlation_id = str(uuid.uuid4())
        payload = build_request(
            agent_id=self.identity.name or self.identity.user,
            correlation_id=correlation_id,
            timestamp=time.time(),
            data=_encoded(data, correlation_id),
        )
        return _Exchange(
            subject=subject,
            name=name,
            missing=missing,
            payload=payload,
            correlation_id=correlation_id,
            deadline=deadline,
            signed=signed,
        )

    async def _once(self, exchange: _Exchange) -> Answer:
        connection = await self._open()
        remaining = exchange.deadline - time.monotonic()
        headers = {DEADLINE_HEADER: str(max(1, int(remaining * 1000)))}
        if exchange.signed:
            headers[SENDER_HEADER] = self._signature(exchange)
        try:
            message = await connection.request(
                exchange.subject, exchange.payload, timeout=max(0.0, remaining) + _GRACE_S, headers=headers
            )
        except RefusedError as error:
            raise ServerRefusedError(subject=exchange.subject, missing=exchange.missing) from error
        except BusError as error:
            raise request_error(error, exchange.name, exchange.correlation_id, self.identity.url) from error
        try:
            return read_answer(
                message.data,
                error_code=message.header(ERROR_CODE_HEADER),
                error_text=message.header(ERROR_TEXT_HEADER),
                correlation_id=exchange.correlation_id,
                capability=exchange.name,
            )
        except UnavailableError as error:
            raise RepeatableError(error, reached_nobody=True) from error

    async def _open(self) -> Connection:
        """The connection; made anew from the folder when there is none or the server closed it for good."""
        if self._closed:
            raise ClientError("the client is closed")
        if self._connection is not None:
            return self._connection
        async with self._opening:
            if self._connection is None:
                self._identity = await self._identify()
                self._connection = await self._connected(self._identity)
        return self._connection

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

    def _signature(self, exchange: _Exchange) -> str:
        """SEC-11: signed by the key that the connection signed in with, made when first needed."""
        if self._signer is None:
            if self._creds is None:
                raise ClientError("the client is not connected")
            self._signer = Signer.of(self._creds)
        return self._signer.sign(
            subject=exchange.subject,
            payload=exchange.payload,
            correlation_id=exchange.correlation_id,
            now=time.time(),
        )

    def _forget(self) -> None:
        self._connection = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Exchange:
    """One request, sent once: `missing` is the grant that the server's refusal would point to."""

    subject: str
    name: str
    missing: str
    payload: bytes
    correlation_id: str
    deadline: float
    signed: bool


def _subject(build: Any, *parts: str) -> str:
    try:
        return str(build(*parts))
    except InvalidSubjectError as error:
        what = " ".join(f"`{part[:100]!a}`" for part in parts)
        raise InvalidRequestError(code=400, message=f"no such name can exist: {what}", correlation_id="") from error


def _encoded(data: Mapping[str, Any], correlation_id: str) -> bytes:
    """`data` as JSON. A number that JSON can't hold is an error and never becomes `null`."""
    try:
        encoded = msgspec.json.encode(data)
        if b"null" in encoded:  # msgspec writes NaN as null; only then is the slower, strict encoder asked
            json.dumps(data, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the data can't be written as JSON: {error}"
        raise InvalidRequestError(code=400, message=message, correlation_id=correlation_id) from error
    return encoded
