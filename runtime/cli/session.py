"""Runs one command's conversation with the platform: connects, asks, closes.

The client is imported here and not at the top: `garrison --help` and every command that stays on this machine start
without the network's modules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from runtime.client import Client

T = TypeVar("T")

ADMIN_TIMEOUT_S = 30.0
# Somebody waits at a terminal, so not long; but a server takes 2 s to say that it knows no such account.
CONNECT_TIMEOUT_S = 4.0


def converse(folder: Path, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a client connected by the credentials in `folder`."""
    import asyncio
    import logging

    from runtime.client import Client

    # What goes wrong is told once, as the command's error; without a handler Python would print warnings besides.
    logging.getLogger().addHandler(logging.NullHandler())

    async def conversation() -> T:
        async with Client.connect(folder, connect_timeout=CONNECT_TIMEOUT_S) as client:
            return await work(client)

    return asyncio.run(conversation())


def administer(
    folder: Path,
    command: str,
    target: str,
    data: Mapping[str, Any] | None = None,
    *,
    timeout: float = ADMIN_TIMEOUT_S,
) -> dict[str, Any]:
    """Send one administrative command and return its result."""

    async def ask(client: Client) -> dict[str, Any]:
        return await client.admin(command, target, data or {}, timeout=timeout)

    return converse(folder, ask)
