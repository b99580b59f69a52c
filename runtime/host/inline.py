"""An agent running inside the host's process: first-party code, loaded from its snapshot and started.

Rules it keeps: whatever the agent's code raises while it is imported, made, set up or torn down ends there, attempts
to end the process included; each of these is bounded in time, and import, which may block, has a thread of its own.

Not a sandbox: whoever deploys an inline agent trusts its code with the host's memory, and with its event loop.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.agent import Agent, CapabilitySpec, capability_table
from runtime.envelope.hostsync import Deployed
from runtime.host.errors import AgentLoadError, one_line
from runtime.host.loader import LoadedCode, load_agent_class

log = logging.getLogger(__name__)

# Import and setup together; well below what the control plane waits for, so that a failure is taken back.
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
CANCEL_GRACE_S = 1.0


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
            await _contained(self.agent.teardown, STOP_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent has been stopped
            log.warning("agent `%s`: teardown failed: %s", self.deployed.agent, one_line(error))
        finally:
            self.code.unload()


async def start_inline(deployed: Deployed, folder: Path) -> InlineAgent:
    """Load and start the agent of `deployed` from its unpacked snapshot.

    Raises:
        AgentLoadError: Its code does not import, is not an agent, or its `setup` fails or takes too long.
    """
    name = deployed.agent
    deadline = time.monotonic() + START_TIMEOUT_S
    try:
        code = await _load(folder, deployed.entry, name)
    except TimeoutError as error:
        raise AgentLoadError(name, f"importing it took longer than {START_TIMEOUT_S:g} s") from error
    try:
        agent, capabilities = _make(code, name)
        await _set_up(agent, name, deadline - time.monotonic())
    except BaseException:
        code.unload()
        raise
    return InlineAgent(deployed=deployed, agent=agent, code=code, capabilities=capabilities)


def _make(code: LoadedCode, name: str) -> tuple[Agent, Mapping[str, CapabilitySpec]]:
    try:
        agent = code.agent_class()
        return agent, capability_table(agent)
    except BaseException as error:
        log.info("agent `%s` could not be made", name, exc_info=True)
        raise AgentLoadError(name, f"did not start: {one_line(error)}") from error


async def _set_up(agent: Agent, name: str, seconds: float) -> None:
    try:
        await _contained(agent.setup, seconds)
    except _TooLongError as error:
        raise AgentLoadError(name, f"setup took longer than {START_TIMEOUT_S:g} s") from error
    except Exception as error:
        log.info("agent `%s` was not set up", name, exc_info=True)
        raise AgentLoadError(name, f"did not start: {one_line(error)}") from error


class _TooLongError(Exception):
    """An agent's own `TimeoutError` is another thing."""


async def _contained(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Await an agent's method in a task of its own: it can end neither the process nor us, nor keep us waiting.

    Raises:
        _TooLongError: It took longer; it has been cancelled, and is left behind if it does not heed that.
        Exception: What it raised.
    """

    async def run() -> BaseException | None:
        try:
            await work()
        except BaseException as error:  # noqa: BLE001 - a task must not raise SystemExit: the event loop would
            return error
        return None

    task = asyncio.create_task(run())
    try:
        ended, _ = await asyncio.wait({task}, timeout=max(seconds, 0))
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not ended:
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_GRACE_S)
        raise _TooLongError
    error = asyncio.CancelledError() if task.cancelled() else task.result()
    if isinstance(error, Exception):
        raise error
    if error is not None:
        raise RuntimeError(one_line(error)) from error


async def _load(folder: Path, entry: str, name: str) -> LoadedCode:
    """Import in a thread of its own: not the loop's executor, whose threads Python waits for before it exits.

    Raises:
        AgentLoadError: As `load_agent_class` does.
        TimeoutError: It took too long; the thread is left behind.
    """
    loop = asyncio.get_running_loop()
    loaded: asyncio.Future[LoadedCode] = loop.create_future()

    def deliver(code: LoadedCode | None, error: Exception | None) -> None:
        if loaded.done():  # given up
            if code is not None:
                code.unload()
        elif code is not None:
            loaded.set_result(code)
        else:
            loaded.set_exception(error or RuntimeError("nothing was loaded"))

    def work() -> None:
        code, failure = None, None
        try:
            code = load_agent_class(folder, entry, agent=name)
        except Exception as error:  # noqa: BLE001 - handed over, whatever it is
            failure = error
        try:
            loop.call_soon_threadsafe(deliver, code, failure)
        except RuntimeError:
            return  # the loop has closed: nobody waits any more

    threading.Thread(target=work, name=f"import {name}", daemon=True).start()
    async with asyncio.timeout(START_TIMEOUT_S):
        return await loaded
