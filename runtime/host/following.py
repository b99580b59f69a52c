"""Follows the control plane: polls for changed tenants, reports, and knows how fresh its knowledge is.

Rules it keeps:
- A host that has not heard from the control plane for `LEASE_S` cannot know of revocations, so `lease_holds` turns
  false and everything that it serves is refused until the next successful poll (an error is a deny).
- The lease counts from when a poll was *sent*: its answer may have lain in a buffer while this process, or the
  control plane, stood still. So it never outlasts what the control plane takes for the host's lease.
- A revision is acknowledged only after every snapshot up to it is in force.
"""

import asyncio
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
        self._current_at = float("-inf")
        self._hold = False
        self.revision = 0

    @property
    def lease_holds(self) -> bool:
        """Whether what is known is from within the lease."""
        return self._monotonic() - self._current_at <= LEASE_S

    def report_changed(self) -> None:
        """Tell the control plane at once instead of at the end of the current poll."""
        self._changed.set()

    async def run(self) -> None:
        """Poll until cancelled; failures are retried with growing pauses."""
        pause = RETRY_MIN_S
        while True:
            try:
                if await self._poll():
                    pause = RETRY_MIN_S
                    self._hold = True
            except Exception as error:  # noqa: BLE001 - any failure means: not heard; the lease decides what follows
                log.warning("the control plane did not answer: %s", error)
                # The lease may be nearly over: ask for an answer at once, news or not.
                self._hold = False
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                pause = min(pause * 2, RETRY_MAX_S)

    async def _poll(self) -> bool:
        """One poll; false when it was given up because the report changed."""
        self._changed.clear()
        asked_at = self._monotonic()
        asking = self._link.sync(since=self.revision, report=self._report(), hold=self._hold)
        poll = asyncio.ensure_future(asking)
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({poll, changed}, return_when=asyncio.FIRST_COMPLETED)
            if poll.done():
                self._take(poll.result(), asked_at)
            return poll.done()
        finally:
            poll.cancel()
            changed.cancel()
            await asyncio.wait({poll, changed})
            if not poll.cancelled():
                poll.exception()  # one that ended while it was given up is no leak to warn about

    def _take(self, reply: SyncReply, asked_at: float) -> None:
        for snapshot in reply.tenants:
            self._apply(snapshot)
        # INVARIANT: the revision moves only after every snapshot up to it is in force, because it acknowledges them.
        self.revision = reply.revision
        self._current_at = asked_at
