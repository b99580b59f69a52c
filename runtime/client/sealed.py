"""Composes sealed requests, and reads the sealed answers to them (SEC-12).

Rules it keeps: where a sealed answer is due nothing else is taken, be it plaintext, an answer to another call, or one
under a key of another label, data subject or tenant; why one does not open is for the log. A failure is read in the
clear: it says that nothing was answered, and holds no data.
"""

from __future__ import annotations

import logging

from runtime.bus.message import Message
from runtime.client.answers import Answer, failure_error, object_of
from runtime.client.composing import error_headers
from runtime.client.errors import AnswerRefusedError, ClientError
from runtime.client.exchange import Attempt, Outgoing
from runtime.client.keys import CallerKeys
from runtime.envelope.errors import EnvelopeError, SealError
from runtime.envelope.keyid import KeyScope
from runtime.envelope.messages import Failure, Result
from runtime.envelope.sealedmessages import SealedResult, open_response, parse_any_response, seal_request

log = logging.getLogger(__name__)


async def sealed_request(
    attempt: Attempt, capability: str, data: bytes, *, scope: KeyScope, keys: CallerKeys
) -> Outgoing[Answer]:
    """A request sealed by the active key of `scope`, whose answer must be sealed by a key of `scope` too.

    Raises:
        ClientError: The key is not to be had.
    """
    payload = seal_request(
        agent_id=attempt.agent_id,
        capability=capability,
        correlation_id=attempt.correlation_id,
        timestamp=attempt.timestamp,
        data=data,
        dek=await keys.sealing(scope, attempt),
    )

    async def read(message: Message) -> Answer:
        return await _read(message, attempt, capability, scope, keys)

    return Outgoing(payload=payload, read=read)


async def _read(message: Message, attempt: Attempt, capability: str, scope: KeyScope, keys: CallerKeys) -> Answer:
    # (1) well formed, (2) a failure, or sealed, (3) to this call, (4) under a key of its scope, (5) it opens for it
    error_code, error_text = error_headers(message)
    try:
        answer = parse_any_response(message.data, error_code=error_code, error_text=error_text)
    except EnvelopeError as error:
        raise _refused(f"the answer can't be read: {error}", attempt) from error
    if isinstance(answer, Failure):
        raise failure_error(answer, attempt.correlation_id)
    if isinstance(answer, Result):
        raise _refused("the answer came in the clear, where a sealed one is due", attempt)
    if answer.correlation_id != attempt.correlation_id or answer.capability != capability:
        raise _refused("the answer is to another call", attempt)
    if answer.key_id.scope != scope:
        raise _refused(f"the answer is not sealed by a key of `{scope}`", attempt)
    result = await _opened(answer, attempt, capability, keys)
    return Answer(
        result=object_of(result.result, attempt.correlation_id),
        agent_id=result.agent_id,
        correlation_id=attempt.correlation_id,
    )


async def _opened(sealed: SealedResult, attempt: Attempt, capability: str, keys: CallerKeys) -> Result:
    try:
        dek = await keys.opening(sealed.key_id, attempt)
        return open_response(sealed, capability=capability, correlation_id=attempt.correlation_id, dek=dek)
    except (SealError, EnvelopeError, ClientError) as error:
        log.warning("[%s] the answer does not open: %s", attempt.correlation_id, getattr(error, "reason", error))
        raise _refused("the sealed answer does not open", attempt) from error


def _refused(message: str, attempt: Attempt) -> AnswerRefusedError:
    return AnswerRefusedError(code=500, message=message, correlation_id=attempt.correlation_id)
