"""`Client`: what a caller uses.

    async with Client.connect(Path("nurse")) as client:
        score = await client.call("vitals.assess", {"observations": [...]})

Rules it keeps: nothing is repeated unless that is safe (`exchange`); what administers is signed by the caller's own
key, and so is what is sealed, unseen (SEC-11); a call that a refusal says must be signed or sealed is sent once more
so, and the next one so from the start; every error is a `ClientError`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from runtime.bus import subjects
from runtime.bus.errors import InvalidSubjectError
from runtime.client.answers import Answer
from runtime.client.composing import encoded, plain_request, question
from runtime.client.errors import CallFailedError, InvalidRequestError, KeyRefusedError
from runtime.client.exchange import CONNECT_TIMEOUT_S, Attempt, Errand, Exchange, Outgoing
from runtime.client.folder import read_folder
from runtime.client.identity import Identify, Identity
from runtime.client.needs import NOTHING, Need, Needs, asked_for, described
from runtime.client.retry import RetryPolicy

if TYPE_CHECKING:
    from runtime.client.keys import CallerKeys

# In the clear, then signed, then sealed, then sealed under the label that it is now: no refusal asks for more.
_WAYS = 4


class Client:
    """A caller's connection to the platform. Made by `Client.connect`; use it with `async with`."""

    def __init__(self, identify: Identify, *, retry: RetryPolicy, connect_timeout: float) -> None:
        self._exchange = Exchange(identify, retry=retry, connect_timeout=connect_timeout)
        self._caller_keys: CallerKeys | None = None
        self._needs = Needs()

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
        await self._exchange.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; the client can't be used again."""
        await self._exchange.close()

    @property
    def exchange(self) -> Exchange:
        """The connection itself, for requests that compose and read themselves."""
        return self._exchange

    @property
    def identity(self) -> Identity:
        """Who this client is, as its folder says."""
        return self._exchange.identity

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
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Call a capability and return its result.

        Args:
            capability: Such as `vitals.assess`.
            data: The input, one JSON object.
            timeout: Seconds until an answer is of no more use; the agent is told, and the answer "deadline passed"
                may arrive a moment later than that.
            idempotent: Whether the call may safely be repeated when it is not known if it was carried out.
            seal: The label of the data, such as `phi`: it leaves this process sealed, and only a sealed answer is
                taken. Without it, a capability that takes sealed data only is learned from its refusal.
            subject: With `seal`, whom the data is about, such as `patient/4711`: sealed by a key of their own.

        Raises:
            ClientError: The subclass says whose fault it is.
        """
        options: dict[str, Any] = {"timeout": timeout, "idempotent": idempotent, "seal": seal, "subject": subject}
        return (await self.ask(capability, data, **options)).result

    async def ask(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - a deadline to pass on, not a scope
        idempotent: bool = False,
        seal: str | None = None,
        subject: str | None = None,
    ) -> Answer:
        """Like `call`, with what is known about the answer."""
        where, deadline = _subject(subjects.capability, capability), time.monotonic() + timeout
        asked, text = asked_for(seal, subject), encoded(data)
        need = asked or await self._learned(where, capability, deadline)
        for _ in range(_WAYS - 1):
            try:
                return await self._exchange.send(
                    self._call(where, capability, text, need), deadline=deadline, idempotent=idempotent
                )
            except KeyRefusedError:
                self._needs.forget(capability)
                raise
            except CallFailedError as error:
                stricter = None if asked else need.stricter(error)
                if stricter is None:
                    raise
                need = self._needs.learn(capability, stricter, time.monotonic())
        return await self._exchange.send(
            self._call(where, capability, text, need), deadline=deadline, idempotent=idempotent
        )

    async def _learned(self, where: str, capability: str, deadline: float) -> Need:
        """What the capability needs, asked of it when unknown: data must not leave in the clear to find out."""
        known = self._needs.of(capability, time.monotonic())
        if known is not None:
            return known

        async def compose(attempt: Attempt) -> Outgoing[str | None]:
            return question(attempt, capability)

        missing = f"call: [{capability}]"
        errand = Errand(subject=where, name=capability, missing=missing, signed=False, compose=compose)
        try:
            need = described(await self._exchange.send(errand, deadline=deadline, idempotent=True))
        except CallFailedError as error:
            stricter = NOTHING.stricter(error)
            if stricter is None:
                raise
            need = stricter
        return self._needs.learn(capability, need, time.monotonic())

    async def admin(
        self,
        command: str,
        target: str,
        data: Mapping[str, Any] | None = None,
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - a deadline to pass on, not a scope
    ) -> dict[str, Any]:
        """Send an administrative command, signed, and return its result.

        Args:
            command: Two words, such as `policy.apply`.
            target: What it is about: a tenant, a host, or `all`.
            data: The command's input.
            timeout: Seconds to wait.

        Raises:
            ClientError: The subclass says whose fault it is.
        """
        text = encoded(data or {})

        async def compose(attempt: Attempt) -> Outgoing[Answer]:
            return plain_request(attempt, command, text)

        errand = Errand(
            subject=_subject(subjects.admin, command, target),
            name=command,
            missing=f"admin: [{command}]",
            signed=True,
            compose=compose,
            undone_if_unavailable=False,
        )
        return (await self._exchange.send(errand, deadline=time.monotonic() + timeout)).result

    def _call(self, where: str, capability: str, data: bytes, need: Need) -> Errand[Answer]:
        async def compose(attempt: Attempt) -> Outgoing[Answer]:
            if need.scope is None:
                return plain_request(attempt, capability, data)
            from runtime.client.sealed import sealed_request

            return await sealed_request(attempt, capability, data, scope=need.scope, keys=self._keys())

        return Errand(
            subject=where,
            name=capability,
            missing=f"call: [{capability}]",
            signed=need.signed,
            compose=compose,
        )

    def _keys(self) -> CallerKeys:
        if self._caller_keys is None:
            from runtime.client.keys import CallerKeys

            self._caller_keys = CallerKeys(self._exchange)
        return self._caller_keys


def _subject(build: Any, *parts: str) -> str:
    try:
        return str(build(*parts))
    except InvalidSubjectError as error:
        what = " ".join(f"`{part[:100]!a}`" for part in parts)
        raise InvalidRequestError(code=400, message=f"no such name can exist: {what}", correlation_id="") from error
