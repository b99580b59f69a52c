"""The author's interface: the one package that an agent imports.

It imports nothing else of the project, so that a plugin doesn't pull in the platform, and holds neither
credentials nor connections.
"""

from runtime.agent.agent import Agent
from runtime.agent.capability import capability
from runtime.agent.errors import (
    AgentDefinitionError,
    AgentError,
    CallRefusedError,
    CapabilityError,
    DeadlinePassedError,
    FieldFault,
    HandlerExitError,
    InputInvalidError,
    NotGrantedError,
    OutputInvalidError,
    RequestRejectedError,
)
from runtime.agent.faults import rejection
from runtime.agent.invocation import Caller, CallerInfo, Invocation
from runtime.agent.models import Model, Sensitive
from runtime.agent.table import CapabilitySpec, capability_table

__all__ = [
    "Agent",
    "AgentDefinitionError",
    "AgentError",
    "CallRefusedError",
    "Caller",
    "CallerInfo",
    "CapabilityError",
    "CapabilitySpec",
    "DeadlinePassedError",
    "FieldFault",
    "HandlerExitError",
    "InputInvalidError",
    "Invocation",
    "Model",
    "NotGrantedError",
    "OutputInvalidError",
    "RequestRejectedError",
    "Sensitive",
    "capability",
    "capability_table",
    "rejection",
]
