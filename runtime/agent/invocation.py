"""What a handler may know and use of the call it is answering.

A frozen view: the verified caller as plain data, the deadline, a logger under the correlation id, and calls
to other capabilities, which go out under the *agent's* role and never under the caller's.

Holds no credential and no connection: calls go through the injected `Caller`, whose default grants nothing.
"""

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from runtime.agent.capability import is_capability_name, is_label
from runtime.agent.errors import DeadlinePassedError, NotGrantedError


@dataclass(frozen=True, kw_only=True, slots=True)
class CallerInfo:
    """The verified principal of a call, as plain data.

    `user` is the caller's public key; `name`, `role` and `tags` come from the signed credential.
    `assurance` is `signed` when the caller's own key signed this very request, else `asserted` (by the
    server alone).
    """

    tenant: str
    user: str
    name: str
    role: str
    tags: tuple[str, ...] = ()
    assurance: Literal["asserted", "signed"] = "asserted"


class Caller(Protocol):
    """Calls capabilities under the agent's own role."""

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109 - a deadline to pass on, not a scope
        correlation_id: str,
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """The `result` that `capability` answered with.

        Args:
            capability: the capability's name, already checked.
            data: the request's data, JSON types only.
            timeout: seconds, never more than the calling handler has left.
            correlation_id: of the call being answered, so that both are one trace.
            seal: the label to seal under, already checked; None leaves it to what the capability asks for.
            subject: whom the data is about, such as `patient/4711`; needs `seal`.

        Raises:
            NotGrantedError: the agent's role doesn't allow the call.
            DeadlinePassedError: no answer within `timeout`.
            CallRefusedError: the capability answered with a failure.
        """
        ...


@dataclass(frozen=True, slots=True)
class NoCaller:
    """The caller of an agent without any grant: refuses every call."""

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any],  # noqa: ARG002 - the port's signature
        *,
        timeout: float,  # noqa: ARG002, ASYNC109 - the port's signature
        correlation_id: str,  # noqa: ARG002 - the port's signature
        seal: str | None = None,  # noqa: ARG002 - the port's signature
        subject: str | None = None,  # noqa: ARG002 - the port's signature
    ) -> dict[str, Any]:
        """Refuse.

        Raises:
            NotGrantedError: always.
        """
        raise NotGrantedError(capability)


NO_CALLER = NoCaller()


class CorrelatedLogger(logging.LoggerAdapter[logging.Logger]):
    """Puts the correlation id before each message, and into the record as `correlation_id`."""

    def __init__(self, logger: logging.Logger, correlation_id: str) -> None:
        super().__init__(logger, {"correlation_id": correlation_id})
        # The prefix becomes part of a format string.
        self._prefix = f"[{correlation_id}] ".replace("%", "?")

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The message with its prefix; the author's own `extra` is kept."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return self._prefix + str(msg), kwargs


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """One call being answered.

    Attributes:
        capability: the capability that was called.
        principal: who calls, verified.
        correlation_id: names this call in the caller's answer, the log and the audit record.
        deadline: when the call times out, in seconds of `clock`.
        agent: the agent that answers; names its logger.
        caller: the way to other capabilities.
        clock: monotonic seconds.
    """

    capability: str
    principal: CallerInfo
    correlation_id: str
    deadline: float
    agent: str = "agent"
    caller: Caller = field(default=NO_CALLER, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def remaining(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.deadline - self.clock())

    @property
    def logger(self) -> CorrelatedLogger:
        """The agent's logger under this call's correlation id. Keep what the caller sent out of it."""
        return CorrelatedLogger(agent_logger(self.agent), self.correlation_id)

    async def call(
        self,
        capability: str,
        data: Mapping[str, Any] | BaseModel,
        timeout: float | None = None,  # noqa: ASYNC109 - a deadline to pass on, not a scope
        *,
        seal: str | None = None,
        subject: str | None = None,
    ) -> dict[str, Any]:
        """Call another capability under the agent's own role.

        Args:
            capability: its name.
            data: its request, a mapping of JSON types or a pydantic model.
            timeout: seconds; at most what is left of this call, which is also the default.
            seal: the label to seal the request under, such as `phi`; the agent's role must hold it.
            subject: whom the data is about, such as `patient/4711`: sealed under that data subject's own key.

        Raises:
            ValueError: `seal` is not a label, or there is a `subject` without it.
            NotGrantedError: the agent's role doesn't allow it, or the name can't be a capability's.
            DeadlinePassedError: no time is left, or no answer came in time.
            CallRefusedError: the capability answered with a failure.
        """
        if not is_capability_name(capability):
            raise NotGrantedError(capability, "not a capability name:")
        if seal is not None and not is_label(seal):
            raise ValueError("`seal` is not a data label")
        if subject is not None and seal is None:
            raise ValueError("a data `subject` goes with the label to `seal` under")
        left = self.remaining()
        allowed = left if timeout is None else min(timeout, left)
        if not allowed > 0:
            raise DeadlinePassedError(capability)
        payload = data.model_dump(mode="json", by_alias=True) if isinstance(data, BaseModel) else data
        return await self.caller.call(
            capability,
            payload,
            timeout=allowed,
            correlation_id=self.correlation_id,
            seal=seal,
            subject=subject,
        )


def agent_logger(agent: str) -> logging.Logger:
    """The logger of an agent."""
    return logging.getLogger(f"garrison.agent.{agent}")
