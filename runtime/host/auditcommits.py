"""Stores the audit records that an answer waits for: returning means durable.

Rules it keeps: one write at a time, and what comes meanwhile goes out together with the next, so that waiting costs a
round trip and not one each; a record that can't be stored fails its own call alone. It does not try again: the call
fails, and its caller decides.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from runtime.host.errors import CommandRefusedError

Record = dict[str, object]

BATCH: Final = 200


class _Waiting(NamedTuple):
    record: Record
    stored: asyncio.Future[None]


class AuditCommits:
    """Groups concurrent stores into one write."""

    def __init__(self, store: Callable[[list[Record]], Awaitable[None]]) -> None:
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def store(self, record: Record) -> None:
        """Return when `record` is durable.

        Raises:
            Exception: It is not known to be; whatever the store raised.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(record, loop.create_future())
        self._waiting.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write(), name="audit-commits")
        await waiting.stored

    async def _write(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            await self._commit(batch)

    async def _commit(self, batch: list[_Waiting]) -> None:
        try:
            await self._store([waiting.record for waiting in batch])
        except CommandRefusedError as error:
            if len(batch) > 1:  # one of them is the cause: each for itself
                for waiting in batch:
                    await self._commit([waiting])
                return
            _end(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever failed, none of them is known to be durable
            _end(batch, error)
        else:
            _end(batch, None)


def _end(batch: list[_Waiting], error: Exception | None) -> None:
    for waiting in batch:
        if waiting.stored.done():  # its call was given up
            continue
        if error is None:
            waiting.stored.set_result(None)
        else:
            waiting.stored.set_exception(error)
