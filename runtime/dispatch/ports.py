"""What dispatch needs from outside, as small Protocols, and the values that cross them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from authz.principals import Principal, TenantTrust
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import KeyId, KeyScope

ParseSubject = Callable[[str], tuple[str, str] | None]
"""Takes a delivered subject apart into (account, capability); None for any other subject."""

PublishedAs = Callable[[str], str]
"""Builds the subject that a caller publishes on to reach a capability."""


class KeySource(Protocol):
    """The data keys that one agent may use. What is at hand comes at once; only the rest is waited for."""

    def cached(self, key_id: KeyId, /) -> DataKey | None:
        """Return that version if it is at hand."""

    def cached_active(self, scope: KeyScope, /) -> DataKey | None:
        """Return the version that seals, if it is at hand."""

    async def fetch(self, wanted: KeyId | KeyScope, /) -> DataKey:
        """Get that version, or the one that seals.

        Raises:
            KeyDestroyedError: It was destroyed.
            KeyRefusedError: It is not given to this agent.
            KeyUnavailableError: It could not be had this time.
        """


KeysOf = Callable[[str], KeySource]
"""Gives the keys of an agent, by its id."""


class Respond(Protocol):
    """Queues an answer for sending; synchronous, does not block, sends these headers and no others."""

    def __call__(self, reply: str, payload: bytes, headers: Mapping[str, str] | None, /) -> None:
        """Send `payload` to `reply`."""


class Rule(Protocol):
    """The line of policy that decided."""

    @property
    def line(self) -> int:
        """Its number in the tenant's policy file."""

    @property
    def text(self) -> str:
        """What it says."""


class Decision(Protocol):
    """What a policy answers."""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""

    @property
    def reason(self) -> str:
        """Why, for log and audit."""

    @property
    def rule(self) -> Rule | None:
        """The line that decided, None where no line speaks of it."""


class Decider(Protocol):
    """A tenant's compiled policy."""

    def decide(self, principal: Principal, action: str, resource: str) -> Decision:
        """Decide one request; an error inside is a deny."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantView:
    """All that decides who may call, of one moment: replaced as a whole, and each request uses one."""

    trust: TenantTrust
    policy: Decider
    epoch: int


class CallContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler may know of its call; `deadline` in monotonic seconds. A struct, being built for every call."""

    capability: str
    agent_id: str
    principal: Principal
    correlation_id: str
    deadline: float


class ServedCapability(Protocol):
    """One capability as a host serves it, in-process or sandboxed.

    INVARIANT: `invoke` ends only when the handler has really ended, a cancelled one too: its slot depends on it.
    """

    @property
    def agent_id(self) -> str:
        """The agent that offers it."""

    @property
    def timeout_s(self) -> float:
        """The longest that one call may take, in seconds."""

    @property
    def concurrency(self) -> int:
        """How many calls may run at once."""

    @property
    def sensitive(self) -> str | None:
        """The label under which requests must be sealed, and signed by their callers; None for plain data."""

    def validate(self, data: bytes, /) -> object:
        """Read the input by the handler's model; raises `InputRefusedError`."""

    async def invoke(self, value: object, context: CallContext, /) -> object:
        """Run the handler; raises `RequestRefusedError` for what its author wants the caller to know."""

    def encode(self, output: object, /) -> bytes:
        """Check the output by the handler's model and encode it as JSON; raises anything when it does not fit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Where time comes from: `wall` in Unix seconds, `monotonic` in seconds."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
