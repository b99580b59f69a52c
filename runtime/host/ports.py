"""What a host needs from outside, as Protocols: the wiring provides them from the bus and the client."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from runtime.agent import Caller
from runtime.dispatch.ports import KeySource
from runtime.envelope.hostsync import HostReport, SyncReply


class BusMessage(Protocol):
    """A delivered message, headers unparsed."""

    subject: str
    reply: str
    data: bytes
    header_block: bytes


class Subscription(Protocol):
    """A live subscription."""

    async def drain(self) -> None:
        """Take no new messages; let those already delivered be handled."""


class GateConnection(Protocol):
    """A connection in the GATE account that can see one tenant's requests and answer them, nothing else."""

    async def subscribe(self, subject: str, handler: Callable[[BusMessage], None], *, queue: str = "") -> Subscription:
        """Deliver each message on `subject` to `handler`, sharing them within `queue`."""

    def respond(self, reply: str, payload: bytes, headers: Mapping[str, str] | None) -> None:
        """Queue an answer for sending; never blocks."""

    async def flush(self) -> None:
        """Return when the server has processed all that was sent."""

    async def close(self) -> None:
        """Close at once."""


class HeldKeys(KeySource, Protocol):
    """The data keys that one agent of one tenant may use."""

    def drop(self) -> None:
        """Forget all of them, because what the agent may use has changed."""


class OpenCaller(Caller, Protocol):
    """A connection in a tenant's account under an agent's own role."""

    async def close(self) -> None:
        """Close at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenGate:
    """A GATE connection, and for how many seconds its credentials are good."""

    connection: GateConnection
    lifetime_s: float


class Connector(Protocol):
    """Opens the connections that a host holds for its tenants, with credentials of its own making."""

    async def open_gate(self, tenant: str, *, on_closed: Callable[[], None]) -> OpenGate:
        """Open a GATE connection of `tenant`; `on_closed` is called once when it is gone for good."""

    async def open_caller(self, tenant: str, agent: str) -> OpenCaller:
        """A connection in the tenant's account under the role `agent:<agent>`, opened at the first call."""


class ControlLink(Protocol):
    """The host's side of the control plane's commands."""

    async def sync(self, *, since: int, report: HostReport, hold: bool) -> SyncReply:
        """Acknowledge `since`, report, and hear what is newer; `hold` waits for it, for a bounded time."""

    async def snapshot(self, digest: str) -> bytes:
        """Fetch a deployment's snapshot; its digest has been checked."""

    async def append_audit(self, records: list[dict[str, object]]) -> None:
        """Store audit records; returning means that they are durable.

        Raises:
            CommandRefusedError: These records are not taken, ever.
        """
