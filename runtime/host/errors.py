"""What can go wrong while a host runs agents; each message is one line for the operator."""


class HostError(Exception):
    """Base of everything a host raises."""


class CommandRefusedError(HostError):
    """The control plane understood a command and refuses it: sending it again would change nothing."""

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(f"the control plane refuses `{command}`: {reason}")
        self.command = command


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


def one_line(error: BaseException) -> str:
    """An error of foreign code as one line of bounded length, with its type."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
