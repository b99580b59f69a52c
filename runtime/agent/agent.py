"""`Agent`: the class that authors subclass.

One instance serves all calls of a deployment: `setup` runs before the first, `teardown` after the last. It
holds no connection and no credential; what a handler may use comes with its `Invocation`.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from runtime.agent.errors import AgentDefinitionError
from runtime.agent.invocation import agent_logger

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_WORD_STARTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Agent:
    """Base of all agents.

    Offer capabilities by decorated, typed methods::

        class HelloAgent(Agent):
            @capability("greeting")
            async def greeting(self, request: Greeting) -> Greeted: ...

    or list their names in `capabilities` and override `process_capability`.

    Attributes:
        name: how the agent is called in policy, log and audit, `[a-z0-9][a-z0-9_-]{0,62}`; by default the
            class's name in kebab-case (`HelloAgent` is `hello-agent`).
        version: the author's version of the agent.
        capabilities: the names that `process_capability` answers.
    """

    name: ClassVar[str] = "agent"
    version: ClassVar[str] = "0.1.0"
    capabilities: Sequence[str] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Name the class after itself, unless it names itself."""
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = kebab_case(cls.__name__)

    async def setup(self) -> None:
        """Prepare what the handlers need: load a model, open a file. Runs once, before the first call."""

    async def teardown(self) -> None:
        """Give back what `setup` took. Runs once, after the last call has ended."""

    async def process_capability(self, capability: str, request: dict[str, Any]) -> Mapping[str, Any]:
        """Answer a capability listed in `capabilities`.

        Args:
            capability: its full name.
            request: the request's data.

        Raises:
            AgentDefinitionError: always; a class that lists `capabilities` overrides this.
        """
        del request
        fix = "override process_capability, or decorate a method with @capability"
        raise AgentDefinitionError(type(self).__name__, f"nothing answers `{capability}`", fix)

    @property
    def logger(self) -> logging.Logger:
        """The agent's logger, for `setup` and `teardown`; inside a call use the invocation's."""
        return agent_logger(self.name)


def kebab_case(class_name: str) -> str:
    """`HelloWorldAgent` to `hello-world-agent`, `HTTPProxy` to `http-proxy`."""
    return _WORD_STARTS.sub("-", class_name).replace("_", "-").strip("-").lower()


def checked_name(agent: Agent) -> str:
    """The agent's name.

    Raises:
        AgentDefinitionError: it doesn't fit the rule.
    """
    if not isinstance(agent.name, str) or _NAME.fullmatch(agent.name) is None:
        fix = "set `name` to a lower-case letter or digit, then up to 62 of [a-z0-9_-]"
        raise AgentDefinitionError(type(agent).__name__, "its `name` can't name an agent", fix)
    return agent.name
