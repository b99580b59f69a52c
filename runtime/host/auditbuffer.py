"""Holds audit records of decisions until the control plane has stored them.

Rules it keeps:
- Bounded: when the control plane cannot be reached for long, the oldest records stay and new ones are counted as
  dropped, which shows in the host's counters.
- Records leave the buffer when they are stored, in order. One that the control plane refuses for good is counted as
  dropped and logged: it must not hold up those behind it.

Records of sensitive capabilities do not pass through here.
"""

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from runtime.host.errors import CommandRefusedError

log = logging.getLogger(__name__)

Record = dict[str, object]

CAPACITY = 20_000
BATCH = 400  # records of some 400 bytes each: well under a tenant's payload limit
LINGER_S = 0.05
RETRY_S = 0.5


class AuditBuffer:
    """A bounded queue of records with one writer task."""

    def __init__(self, store: Callable[[list[Record]], Awaitable[None]], *, capacity: int = CAPACITY) -> None:
        self._store = store
        self._capacity = capacity
        self._records: deque[Record] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        """Start the writer."""
        self._task = asyncio.create_task(self._write(), name="audit-writer")

    def record(self, record: Record) -> None:
        """Queue one record; count it as dropped when the buffer is full. Never blocks."""
        if len(self._records) >= self._capacity:
            self.dropped += 1
            return
        self._records.append(record)
        self._empty.clear()
        self._filled.set()

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound on the whole flush
        """Store what is queued, for at most `timeout` seconds, then stop; the rest counts as dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._records:
            log.error("%d audit records could not be stored before the end", len(self._records))
        self.dropped += len(self._records)
        self._records.clear()

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            await asyncio.sleep(LINGER_S)
            batch = list(itertools.islice(self._records, BATCH))
            try:
                await self._deliver(batch)
            except Exception as error:  # noqa: BLE001 - whatever failed, the records stay queued and are tried again
                log.warning("audit records could not be stored yet: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            for _ in batch:
                self._records.popleft()
            if not self._records:
                self._filled.clear()
                self._empty.set()

    async def _deliver(self, batch: list[Record]) -> None:
        """Store a batch; of one that is refused, what can be stored is. The store takes each record only once."""
        try:
            await self._store(batch)
        except CommandRefusedError as error:
            if len(batch) == 1:
                self.dropped += 1
                log.error("an audit record was refused: %s", error)  # noqa: TRY400 - no trace helps; it is the record
                return
            half = len(batch) // 2
            await self._deliver(batch[:half])
            await self._deliver(batch[half:])
