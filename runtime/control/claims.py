"""The one writer of account claims (SEC-9).

Rules it keeps: for each account `iat` only rises, and what was pushed once is never replaced by anything older;
claims are pushed only after the record that holds them is stored; a push that was not confirmed by every server is
repeated until it is. On any doubt about what the servers know (our restart, theirs) everything is pushed again.

Not here: what the claims say (`runtime.control.accounts`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from authz.tokens import decode_account
from runtime.bus.errors import BusError
from runtime.control.errors import ClaimsRollbackError, UnavailableError
from runtime.control.ports import ClaimsPusher

_FAILURES_MAX: Final = 3
_log = logging.getLogger(__name__)


class ClaimsWriter:
    """Pushes claims and remembers what has been confirmed."""

    def __init__(self, pusher: ClaimsPusher) -> None:
        self._pusher = pusher
        self._newest: dict[str, tuple[int, str]] = {}
        self._unconfirmed: dict[str, object] = {}  # each doubt is an object: a push settles the doubts before it only
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def pending(self) -> tuple[str, ...]:
        """Accounts whose newest claims are not confirmed yet."""
        return tuple(sorted(self._unconfirmed))

    async def push(self, account_jwt: str) -> None:
        """Return when every server has these claims of an account, or newer ones; the same again is fine.

        Raises:
            ClaimsRollbackError: newer claims were pushed before, or others of the same second; nothing was done.
            UnavailableError: not confirmed; they will be pushed again until they are.
        """
        await self._confirm(self._admit(account_jwt))

    async def delete(self, account: str, operator_jwt: str) -> None:
        """Remove an account's claims from every server; repeating it does no harm.

        Raises:
            UnavailableError: not confirmed.
        """
        async with self._turns[account]:
            try:
                await self._pusher.delete(account, operator_jwt=operator_jwt)
            except BusError as error:
                raise UnavailableError("the server did not confirm that the account is gone; try again") from error
        self._newest.pop(account, None)
        self._unconfirmed.pop(account, None)

    def note(self, account_jwts: Iterable[str]) -> None:
        """Note an account's current claims for the next `push_pending`.

        Raises:
            ClaimsRollbackError: newer ones were noted or pushed before.
        """
        for account_jwt in account_jwts:
            self._admit(account_jwt)

    def doubt_all(self) -> None:
        """A server joined or came back: whatever it knows, everything is to be pushed again."""
        self._unconfirmed.update({account: object() for account in self._newest})

    async def push_pending(self) -> None:
        """Push what is not confirmed yet. After some failures the rest is left for the next time, and goes first."""
        failures = 0
        for account in tuple(self._unconfirmed):
            try:
                await self._confirm(account)
            except UnavailableError:
                failures += 1
                if account in self._unconfirmed:
                    self._unconfirmed[account] = self._unconfirmed.pop(account)
            if failures == _FAILURES_MAX:
                _log.warning("claims of %d accounts are not confirmed yet", len(self._unconfirmed))
                return

    def _admit(self, account_jwt: str) -> str:
        claims = decode_account(account_jwt)
        account = claims.subject.text
        newest = self._newest.get(account)
        if newest and newest[1] == account_jwt:
            return account
        if newest and claims.issued_at <= newest[0]:
            raise ClaimsRollbackError(account=account, issued_at=claims.issued_at, pushed=newest[0])
        self._newest[account] = (claims.issued_at, account_jwt)
        self._unconfirmed[account] = object()
        return account

    async def _confirm(self, account: str) -> None:
        async with self._turns[account]:
            doubt = self._unconfirmed.get(account)
            if doubt is None:
                return
            _, account_jwt = self._newest[account]
            try:
                await self._pusher.push(account_jwt)
            except BusError as error:
                _log.warning("pushing claims of account %s: %s", account, error)
                raise UnavailableError(
                    "stored, but not yet confirmed by the server; it will be as soon as the server answers"
                ) from error
            if self._unconfirmed.get(account) is doubt:
                del self._unconfirmed[account]
