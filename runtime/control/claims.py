"""The one writer of account claims (SEC-9).

Rules it keeps: for each account `iat` only rises, and what was pushed once is never replaced by anything older;
claims are pushed only after the record that holds them is stored; a push that was not confirmed by every server is
repeated until it is. On any doubt about what the servers know (our restart, theirs) everything is pushed again.

Not here: what the claims say (`runtime.control.accounts`).
"""

import asyncio
import logging
from collections.abc import Iterable

from authz.tokens import decode_account
from runtime.bus.errors import BusError
from runtime.control.errors import ClaimsRollbackError, UnavailableError
from runtime.control.ports import ClaimsPusher

_log = logging.getLogger(__name__)


class ClaimsWriter:
    """Pushes claims and remembers what has been confirmed."""

    def __init__(self, pusher: ClaimsPusher) -> None:
        self._pusher = pusher
        self._newest: dict[str, tuple[int, str]] = {}
        self._unconfirmed: set[str] = set()
        self._turn = asyncio.Lock()

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
        async with self._turn:
            try:
                await self._pusher.delete(account, operator_jwt=operator_jwt)
            except BusError as error:
                raise UnavailableError("the server did not confirm that the account is gone; try again") from error
        self._newest.pop(account, None)
        self._unconfirmed.discard(account)

    def note(self, account_jwts: Iterable[str]) -> None:
        """Note an account's current claims for the next `push_pending`.

        Raises:
            ClaimsRollbackError: newer ones were noted or pushed before.
        """
        for account_jwt in account_jwts:
            self._admit(account_jwt)

    def doubt_all(self) -> None:
        """A server joined or came back: whatever it knows, everything is to be pushed again."""
        self._unconfirmed.update(self._newest)

    async def push_pending(self) -> None:
        """Push what is not confirmed yet; what fails stays for the next time."""
        for account in self.pending:
            try:
                await self._confirm(account)
            except UnavailableError:
                _log.warning("claims of account %s are not confirmed yet", account)

    def _admit(self, account_jwt: str) -> str:
        claims = decode_account(account_jwt)
        account = claims.subject.text
        newest = self._newest.get(account)
        if newest and newest[1] == account_jwt:
            return account
        if newest and claims.issued_at <= newest[0]:
            raise ClaimsRollbackError(account=account, issued_at=claims.issued_at, pushed=newest[0])
        self._newest[account] = (claims.issued_at, account_jwt)
        self._unconfirmed.add(account)
        return account

    async def _confirm(self, account: str) -> None:
        async with self._turn:
            if account not in self._unconfirmed:
                return
            _, account_jwt = self._newest[account]
            try:
                await self._pusher.push(account_jwt)
            except BusError as error:
                _log.warning("pushing claims of account %s: %s", account, error)
                raise UnavailableError(
                    "stored, but not yet confirmed by the server; it will be as soon as the server answers"
                ) from error
            if self._newest[account][1] == account_jwt:
                self._unconfirmed.discard(account)
