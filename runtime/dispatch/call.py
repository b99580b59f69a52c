"""One request on its way through the procedure."""

from dataclasses import dataclass

from authz.principals import Principal
from runtime.dispatch.ports import Decision, ServedCapability, TenantView
from runtime.envelope.datakey import DataKey
from runtime.envelope.keyid import KeyId


@dataclass(kw_only=True, slots=True)
class Call:
    """What is known of a request so far, and what must be given back at its end.

    Attributes:
        reply: Where its answer goes.
        correlation_id: Ours, until the caller's has been read.
        view: What decides it.
        capability: What is called.
        principal: Who calls.
        decision: The policy's answer.
        served: Who serves it.
        holds_slot: Whether it has taken a slot.
        key_id: What it was sealed with.
        sealing_key: What its answer will be sealed with.
        answered: Whether its caller has an answer.
    """

    reply: str
    correlation_id: str
    view: TenantView | None = None
    capability: str = ""
    principal: Principal | None = None
    decision: Decision | None = None
    served: ServedCapability | None = None
    holds_slot: bool = False
    key_id: KeyId | None = None
    sealing_key: DataKey | None = None
    answered: bool = False

    @property
    def is_sensitive(self) -> bool:
        """Whether it is about data that must not be told: it was sealed, or its capability wants that."""
        return self.key_id is not None or (self.served is not None and self.served.sensitive is not None)
