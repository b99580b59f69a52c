"""How a handler is run: one shape of call for `async def` and `def`, with and without an `Invocation`.

Rules it keeps: a handler can't end the process (`sys.exit()` ends its own call only); a blocking `def`
never holds up the event loop; a call has ended when its code has really ended, so that the slot it takes is
honest.

It sets no deadline and no limit: the dispatcher does, by cancelling, and by not starting more calls than it
may.
"""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from runtime.agent.errors import HandlerExitError
from runtime.agent.invocation import Invocation

Invoke = Callable[[Any, Invocation], Awaitable[Any]]


def async_invoker(method: Callable[..., Awaitable[Any]], *, wants_context: bool) -> Invoke:
    """An `async def` handler as `invoke(request, invocation)`."""

    async def invoke(request: Any, invocation: Invocation) -> Any:
        try:
            return await (method(request, invocation) if wants_context else method(request))
        except (SystemExit, KeyboardInterrupt) as error:
            raise HandlerExitError(f"handler of `{invocation.capability}` tried to end the process") from error

    return invoke


def thread_invoker(method: Callable[..., Any], *, wants_context: bool) -> Invoke:
    """A `def` handler as `invoke(request, invocation)`, each call in a daemon thread of its own.

    Not an executor: the loop's is shared with everything else in the process, so handlers that hang would
    use it up, and Python waits for executor threads before it exits. How many threads there are is bounded
    by the dispatcher.
    """

    async def invoke(request: Any, invocation: Invocation) -> Any:
        arguments = (request, invocation) if wants_context else (request,)
        try:
            return await _in_thread(method, arguments, name=f"capability {invocation.capability}")
        except (SystemExit, KeyboardInterrupt) as error:
            raise HandlerExitError(f"handler of `{invocation.capability}` tried to end the process") from error

    return invoke


async def _in_thread(method: Callable[..., Any], arguments: tuple[Any, ...], *, name: str) -> Any:
    """Run a blocking call; return or raise what it does.

    A first cancellation waits for the thread's end, since a thread can't be stopped and its slot is still
    taken. A second one (the host is closing) leaves the thread behind.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    outcome: list[tuple[Any, BaseException | None]] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.append((context.run(method, *arguments), None))
        except BaseException as error:  # noqa: BLE001 - handed over to the awaiting task, whatever it is
            outcome.append((None, error))
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:
            return  # the loop has closed: nobody waits any more

    threading.Thread(target=work, name=name, daemon=True).start()
    try:
        await ended.wait()
    except asyncio.CancelledError:
        await ended.wait()
        raise
    result, error = outcome[0]
    if isinstance(error, StopIteration):
        raise RuntimeError("handler raised StopIteration") from error  # noqa: TRY004 - as Python does itself
    if error is not None:
        raise error
    return result
