"""Takes account claims to the servers' resolvers, over a connection in the system account.

Rules it keeps: SEC-9: a push has succeeded when every expected server confirmed it, and not before; a server that
refuses is an error, not a shorter list. Who confirmed is counted by the server's id, so one that answers twice counts
once.

It doesn't decide what is newer: whoever holds the system account's credentials is trusted with that (one writer).
"""

import json
from dataclasses import dataclass
from typing import Any

from authz.errors import AuthzError
from authz.tokens import decode_account
from runtime.bus import subjects
from runtime.bus.connection import Connection
from runtime.bus.errors import BusError, ClaimsPushError, NoRespondersError, RequestTimeoutError
from runtime.bus.message import Message

_OK = 200
_ANSWER_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Confirmation:
    server: str
    ok: bool
    detail: str


class ClaimsPusher:
    """Pushes, looks up and deletes account claims.

    Args:
        connection: Of a user in the system account.
        expected_servers: How many must confirm, unless a call says otherwise.
        timeout: Seconds for all of them together.
    """

    def __init__(self, connection: Connection, *, expected_servers: int = 1, timeout: float = _ANSWER_S) -> None:
        self._connection = connection
        self._expected = expected_servers
        self._timeout = timeout

    async def push(self, account_jwt: str, expected_servers: int | None = None) -> None:
        """Replace an account's claims on every server.

        Raises:
            ClaimsPushError: Not all of them confirmed; some may have taken the claims all the same.
        """
        account = _account_of(account_jwt)
        await self._ask_all(subjects.CLAIMS_UPDATE, account_jwt, account, expected_servers)

    async def delete(self, account: str, *, operator_jwt: str, expected_servers: int | None = None) -> None:
        """Remove an account from every server; its users are cut off. Repeating it does no harm.

        Args:
            account: Its public key.
            operator_jwt: The request, signed by the operator, that names the account.
            expected_servers: How many must confirm.

        Raises:
            ClaimsPushError: Not all of them confirmed.
        """
        await self._ask_all(subjects.CLAIMS_DELETE, operator_jwt, account, expected_servers)

    async def lookup(self, account: str) -> str | None:
        """Read the claims that the servers hold of an account; None if they hold none.

        Raises:
            ClaimsPushError: No server answered.
        """
        if account not in await self.accounts():
            return None
        try:
            answer = await self._connection.request(subjects.claims_lookup(account), b"", timeout=self._timeout)
        except (RequestTimeoutError, NoRespondersError) as error:
            raise ClaimsPushError(account, answered=0, expected=1, detail="no server answered") from error
        return answer.data.decode("ascii", "replace") or None

    async def accounts(self) -> frozenset[str]:
        """The accounts that the servers know.

        Raises:
            ClaimsPushError: No server answered.
        """
        try:
            answer = await self._connection.request(subjects.CLAIMS_LIST, b"", timeout=self._timeout)
        except (RequestTimeoutError, NoRespondersError) as error:
            raise ClaimsPushError("*", answered=0, expected=1, detail="no server answered") from error
        listed = _read(answer).get("data")
        return frozenset(str(account) for account in listed) if isinstance(listed, list) else frozenset()

    async def _ask_all(self, subject: str, token: str, account: str, expected: int | None) -> None:
        expected = self._expected if expected is None else expected
        try:
            answers = await self._connection.request_many(
                subject, token.encode(), count=expected, timeout=self._timeout
            )
        except BusError as error:
            raise ClaimsPushError(account, answered=0, expected=expected, detail=str(error)) from error
        confirmations = [_confirmation(answer) for answer in answers]
        refusals = [confirmation.detail for confirmation in confirmations if not confirmation.ok]
        confirmed = {confirmation.server for confirmation in confirmations if confirmation.ok}
        if refusals or len(confirmed) < expected:
            detail = refusals[0] if refusals else ""
            raise ClaimsPushError(account, answered=len(confirmed), expected=expected, detail=detail)


def _account_of(account_jwt: str) -> str:
    try:
        return decode_account(account_jwt).subject.text
    except AuthzError as error:
        raise ClaimsPushError("?", answered=0, expected=1, detail=str(error)) from error


def _read(answer: Message) -> dict[str, Any]:
    try:
        body = json.loads(answer.data)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _confirmation(answer: Message) -> _Confirmation:
    body = _read(answer)
    server, data, error = body.get("server"), body.get("data"), body.get("error")
    return _Confirmation(
        server=str(server.get("id")) if isinstance(server, dict) else "?",
        ok=isinstance(data, dict) and data.get("code") == _OK and not error,
        detail=str(error.get("description", "refused"))[:200] if isinstance(error, dict) else "refused",
    )
