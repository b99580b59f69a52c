"""An agent running inside the host's process: first-party code, loaded from its snapshot and started.

Not a sandbox: whoever deploys an inline agent trusts its code with the host's memory.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.agent import Agent, CapabilitySpec, capability_table
from runtime.envelope.hostsync import Deployed
from runtime.host.errors import AgentLoadError
from runtime.host.loader import LoadedCode, load_agent_class

log = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class InlineAgent:
    """A started agent and the capabilities that it offers."""

    deployed: Deployed
    agent: Agent
    code: LoadedCode
    capabilities: Mapping[str, CapabilitySpec]

    async def stop(self) -> None:
        """Run the agent's teardown, bounded; what it raises is logged, since nobody can act on it any more."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.agent.teardown()
        except Exception:
            log.exception("agent `%s`: teardown failed", self.deployed.agent)
        finally:
            self.code.unload()


async def start_inline(deployed: Deployed, folder: Path) -> InlineAgent:
    """Load and start the agent of `deployed` from its unpacked snapshot.

    Raises:
        AgentLoadError: Its code does not import, is not an agent, or its `setup` fails or takes too long.
    """
    name = deployed.agent
    # Importing runs the agent's code and may read large files: not on the event loop.
    code = await asyncio.to_thread(load_agent_class, folder, deployed.entry, agent=name)
    try:
        agent = code.agent_class()
        capabilities = capability_table(agent)
        async with asyncio.timeout(START_TIMEOUT_S):
            await agent.setup()
    except TimeoutError as error:
        code.unload()
        raise AgentLoadError(name, f"setup took longer than {START_TIMEOUT_S:.0f} s") from error
    except Exception as error:
        code.unload()
        log.info("agent `%s` did not start", name, exc_info=True)
        message = " ".join(str(error).split())[:300]
        raise AgentLoadError(name, f"did not start: {type(error).__name__}: {message}") from error
    return InlineAgent(deployed=deployed, agent=agent, code=code, capabilities=capabilities)
