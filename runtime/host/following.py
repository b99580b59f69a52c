"""Follows the control plane: polls for changed tenants, reports, and knows how fresh its knowledge is.

A host that has not heard from the control plane for `LEASE_S` cannot know of revocations, so `lease_holds` turns
false and everything that it serves is refused until the next successful poll (an error is a deny).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from runtime.envelope.hostsync import HostReport, SyncReply, TenantSnapshot
from runtime.host.ports import ControlLink

log = logging.getLogger(__name__)

LEASE_S = 10.0
RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0


class Follower:
    """One long poll at a time; `report_changed` makes it poll anew at once."""

    def __init__(
        self,
        link: ControlLink,
        *,
        apply: Callable[[TenantSnapshot], None],
        report: Callable[[], HostReport],
        monotonic: Callable[[], float],
    ) -> None:
        self._link = link
        self._apply = apply
        self._report = report
        self._monotonic = monotonic
        self._changed = asyncio.Event()
        self._heard_at = float("-inf")
        self.revision = 0
        self.first_sync = asyncio.Event()

    @property
    def lease_holds(self) -> bool:
        """Whether the control plane was heard within the lease."""
        return self._monotonic() - self._heard_at <= LEASE_S

    def report_changed(self) -> None:
        """Tell the control plane at once instead of at the end of the current poll."""
        self._changed.set()

    async def run(self) -> None:
        """Poll until cancelled; failures are retried with growing pauses."""
        pause = RETRY_MIN_S
        while True:
            try:
                reply = await self._poll()
            except Exception as error:  # noqa: BLE001 - any failure means: not heard; the lease decides what follows
                log.warning("the control plane did not answer: %s", error)
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                pause = min(pause * 2, RETRY_MAX_S)
                continue
            pause = RETRY_MIN_S
            if reply is not None:
                self._take(reply)

    async def _poll(self) -> SyncReply | None:
        """One poll; None when it was given up because the report changed."""
        self._changed.clear()
        poll = asyncio.create_task(self._link.sync(since=self.revision, report=self._report()))
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({poll, changed}, return_when=asyncio.FIRST_COMPLETED)
            return poll.result() if poll.done() else None
        finally:
            for task in (poll, changed):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    def _take(self, reply: SyncReply) -> None:
        self._heard_at = self._monotonic()
        for snapshot in reply.tenants:
            self._apply(snapshot)
        # INVARIANT: the revision moves only after every snapshot up to it is in force, because it acknowledges them.
        self.revision = reply.revision
        self.first_sync.set()
