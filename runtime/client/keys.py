"""The data keys that a caller uses: asked for from the control plane, kept by `runtime.keyring`.

Rules it keeps: an answer is taken only if it is signed by the key that the credentials pin, for the very request that
this caller signed; a refusal names the missing grant; keys live no longer than the credentials that they were given
to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from authz.errors import KeyFormatError
from authz.keys import AccountPublicKey
from runtime.bus import subjects
from runtime.bus.message import Message
from runtime.client.answers import read_result
from runtime.client.composing import enveloped, error_headers
from runtime.client.errors import (
    AnswerRefusedError,
    CallFailedError,
    ClientError,
    DeadlineError,
    DeniedError,
    FolderError,
    KeyRefusedError,
    ServerRefusedError,
    UnavailableError,
)
from runtime.client.exchange import Attempt, Errand, Exchange, Outgoing
from runtime.client.identity import Identity
from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyRefusedError as NotGivenError
from runtime.envelope.errors import KeyUnavailableError, KeyWrapError
from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keywrap import UnwrapCall
from runtime.envelope.unwrap import UnwrapAnswer, UnwrapRequest, build_unwrap_request, parse_unwrap_answer
from runtime.keyring.cache import KeyCache
from runtime.keyring.unwrapping import Unwrapping

UNWRAP = "keys.unwrap"
ASK_TIMEOUT_S = 5.0
_NOT_FOUND = 404


class UnwrapAsk:
    """Asks the control plane for one key, as whoever `exchange` is.

    Args:
        exchange: Sends, signed.
        command: `keys.unwrap`, or `hosts.unwrap` for a host.
        tenant: Whose key.
    """

    def __init__(self, exchange: Exchange, *, tenant: str, command: str = UNWRAP) -> None:
        self._exchange = exchange
        self._command = command
        self._tenant = tenant

    async def __call__(self, request: UnwrapRequest) -> tuple[UnwrapAnswer, UnwrapCall]:
        """Send one request; what comes back is not verified yet.

        Raises:
            KeyRefusedError: Of the envelope: the control plane says no.
            KeyWrapError: The answer is malformed.
            ClientError: It could not be asked.
        """
        errand = Errand(
            subject=subjects.admin(self._command, self._tenant),
            name=self._command,
            missing=f"admin: [{self._command}]",
            signed=True,
            compose=lambda attempt: self._composed(attempt, request),
        )
        try:
            return await self._exchange.send(errand, deadline=time.monotonic() + ASK_TIMEOUT_S)
        except (DeniedError, ServerRefusedError) as error:
            raise NotGivenError(str(request.wanted)) from error
        except CallFailedError as error:
            if error.code == _NOT_FOUND:
                raise NotGivenError(str(request.wanted)) from error
            raise

    async def _composed(self, attempt: Attempt, request: UnwrapRequest) -> Outgoing[tuple[UnwrapAnswer, UnwrapCall]]:
        signer = attempt.signer
        if signer is None:
            raise ClientError("a key can't be asked for without a signature")
        call = UnwrapCall(
            tenant=self._tenant, account=signer.account, user=signer.user, correlation_id=attempt.correlation_id
        )

        async def read(message: Message) -> tuple[UnwrapAnswer, UnwrapCall]:
            error_code, error_text = error_headers(message)
            result = read_result(
                message.data,
                error_code=error_code,
                error_text=error_text,
                correlation_id=attempt.correlation_id,
                capability=self._command,
            )
            return parse_unwrap_answer(result.result), call

        return Outgoing(payload=enveloped(attempt, build_unwrap_request(request)), read=read)


class CallerKeys:
    """A caller's keys at hand; asks for what is not."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._of: tuple[Identity, str] | None = None
        self._cache: KeyCache | None = None

    async def sealing(self, scope: KeyScope, attempt: Attempt) -> DataKey:
        """The version of `scope` that seals.

        Raises:
            ClientError: It is not to be had.
        """
        cache = self._cache_of(attempt)
        at_hand = cache.cached_active(scope)
        return at_hand if at_hand is not None else await _in_time(cache.fetch(scope), scope, attempt)

    async def opening(self, key_id: KeyId, attempt: Attempt) -> DataKey:
        """That version.

        Raises:
            ClientError: It is not to be had.
        """
        cache = self._cache_of(attempt)
        at_hand = cache.cached(key_id)
        return at_hand if at_hand is not None else await _in_time(cache.fetch(key_id), key_id, attempt)

    def _cache_of(self, attempt: Attempt) -> KeyCache:
        identity = attempt.identity
        # A reconnection may bring another user than the identity's: the signer is who asks.
        of = (identity, attempt.signer.user if attempt.signer is not None else "")
        if self._cache is None or self._of != of:
            ask = UnwrapAsk(self._exchange, tenant=_tenant_of(identity))
            self._cache = KeyCache(Unwrapping(ask, verify=_pinned(identity).verify))
            self._of = of
        return self._cache


async def _in_time(work: Awaitable[DataKey], wanted: KeyId | KeyScope, attempt: Attempt) -> DataKey:
    try:
        async with asyncio.timeout(max(0.0, attempt.remaining)):
            return await work
    except KeyUnavailableError as error:
        raise _caller_error(error, wanted, attempt) from error
    except TimeoutError as error:
        message = f"no answer about the key `{wanted}` in time; nothing was sent"
        raise DeadlineError(code=408, message=message, correlation_id=attempt.correlation_id) from error


def _caller_error(error: KeyUnavailableError, wanted: KeyId | KeyScope, attempt: Attempt) -> ClientError:
    cause, known_by = error.__cause__, attempt.correlation_id
    if isinstance(error, NotGivenError):
        label = wanted.label
        return KeyRefusedError(
            code=403,
            message=f"the key `{wanted}` is not given to this role: it does not hold the label `{label}`",
            correlation_id=cause.correlation_id if isinstance(cause, CallFailedError) else known_by,
            required=f"data:{label}",
            role=attempt.identity.role,
        )
    if isinstance(cause, KeyWrapError):
        message = f"the answer about the key `{wanted}` is not the control plane's to this request"
        return AnswerRefusedError(code=500, message=message, correlation_id=known_by)
    if isinstance(cause, ClientError):
        return cause
    return UnavailableError(code=503, message=f"the key `{wanted}` can't be had now", correlation_id=known_by)


def _tenant_of(identity: Identity) -> str:
    if not identity.tenant:
        raise _unfit(identity, "do not say of which tenant they are")
    return identity.tenant


def _pinned(identity: Identity) -> AccountPublicKey:
    # SEC-11: without a pinned key anybody who can answer could hand us a key of his own.
    try:
        return AccountPublicKey.parse(identity.control)
    except KeyFormatError as error:
        raise _unfit(identity, "pin no key of the control plane, so nothing can be sealed with them") from error


def _unfit(identity: Identity, fault: str) -> FolderError:
    path = str(getattr(identity, "path", ""))
    where = f" in `{path}`" if path else ""
    return FolderError(
        f"the credentials of `{identity.name}`{where} {fault}",
        path=path,
        remedy="issue credentials with `garrison creds issue`",
    )
