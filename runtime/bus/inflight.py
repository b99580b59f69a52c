"""Requests that wait for their answer, each under an unguessable token.

Rules it keeps: an answer finds its request by a token of 128 random bits, since arriving in the right inbox proves
nothing (SEC-3). A deadline costs one timer of the loop, not a task. Whatever ends a request removes it, so nothing
leaks.

It sends nothing: the client does.
"""

import asyncio
import os
from collections.abc import Iterator

from runtime.bus.errors import (
    BusError,
    ConnectionLostError,
    NoRespondersError,
    RefusedError,
    RequestTimeoutError,
)
from runtime.bus.message import Message

_TOKEN_BYTES = 16
_POOL_TOKENS = 256
_NO_RESPONDERS_BLOCK = b"NATS/1.0 503"


def _random_tokens() -> Iterator[str]:
    # One system call buys many tokens.
    while True:
        pool = os.urandom(_TOKEN_BYTES * _POOL_TOKENS).hex()
        for start in range(0, len(pool), 2 * _TOKEN_BYTES):
            yield pool[start : start + 2 * _TOKEN_BYTES]


class InFlight:
    """The table of one connection's unanswered requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tokens = _random_tokens()
        self._waiting: dict[str, tuple[asyncio.Future[Message], str]] = {}
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, subject: str) -> tuple[str, asyncio.Future[Message]]:
        """Register a request; the caller must ``close`` it, whatever happens."""
        token = next(self._tokens)
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[token] = (future, subject)
        return token, future

    def close(self, token: str) -> None:
        """Forget a request."""
        self._waiting.pop(token, None)
        if self._emptied is not None and not self._waiting and not self._emptied.done():
            self._emptied.set_result(None)

    def time_out(self, token: str, timeout: float) -> None:
        """Fail a request whose deadline has passed."""
        entry = self._waiting.get(token)
        if entry is not None:
            _fail(entry[0], RequestTimeoutError(entry[1], timeout))

    def answer(self, token: str, message: Message) -> None:
        """Hand an answer to its request; an unknown or already answered token is ignored."""
        entry = self._waiting.get(token)
        if entry is None or entry[0].done():
            return
        if message.header_block.startswith(_NO_RESPONDERS_BLOCK) and not message.data:
            entry[0].set_exception(NoRespondersError(entry[1]))
        else:
            entry[0].set_result(message)

    def refuse(self, lowered_subject: str) -> bool:
        """Fail the requests to a subject that the server refused, which it names in lower case.

        Returns:
            Whether any request was waiting on it.
        """
        refused = [entry for entry in self._waiting.values() if entry[1].lower() == lowered_subject]
        for future, subject in refused:
            _fail(future, RefusedError(subject, "publish"))
        return bool(refused)

    def lose_all(self) -> None:
        """Fail every request: the connection that their answers would come by is gone."""
        for future, _ in self._waiting.values():
            _fail(future, ConnectionLostError())

    async def emptied(self) -> None:
        """Wait until nothing is in flight."""
        while self._waiting:
            self._emptied = self._loop.create_future()
            await self._emptied


def _fail(future: asyncio.Future[Message], error: BusError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # the caller may be gone by now: that is no leak to warn about
