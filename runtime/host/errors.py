"""What can go wrong while a host runs agents; each message is one line for the operator."""


class HostError(Exception):
    """Base of everything a host raises."""


class SnapshotError(HostError):
    """A deployment's snapshot is not what its digest says, or cannot be unpacked."""


class AgentLoadError(HostError):
    """An agent's code could not be loaded or did not start.

    Attributes:
        agent: The deployment's name.
    """

    def __init__(self, agent: str, message: str) -> None:
        super().__init__(f"agent `{agent}`: {message}")
        self.agent = agent


class CapabilityTakenError(AgentLoadError):
    """Another agent of the same tenant already serves a capability."""
