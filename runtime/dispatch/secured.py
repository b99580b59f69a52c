"""Steps 6 to 8 for what is signed or sealed: the second witness (SEC-11), and the data's own key (SEC-12).

Rules they keep: as in `steps`; and whoever lacks the label learns nothing of the key, since it is neither looked for
nor used before the policy has said yes; why a signature or a token was refused is for log and audit, the caller's text
is constant.
"""

import functools
from dataclasses import replace
from typing import Final, NamedTuple

from authz.keys import UserPublicKey
from authz.principals import Principal
from runtime.dispatch.errors import RefusedError
from runtime.dispatch.ports import Decider, KeySource, PublishedAs, ServedCapability
from runtime.envelope.datakey import DataKey
from runtime.envelope.describing import DescribeRequest
from runtime.envelope.errors import (
    EnvelopeError,
    KeyDestroyedError,
    KeyRefusedError,
    KeyUnavailableError,
    SealError,
    SenderError,
)
from runtime.envelope.messages import Request
from runtime.envelope.sealedmessages import SealedRequest, open_request
from runtime.envelope.sender import read_sender
from runtime.envelope.sender import verify_sender as verify_signature

DATA: Final = "data"
SIGNED: Final = "signed"
_SERVERS_LINE: Final = b"\r\nNats-Request-Info: "
_END: Final = b"\r\n\r\n"
_KNOWN_SENDERS: Final = 4_096


class CallKeys(NamedTuple):
    """The keys of one call: what opens the request, and what seals its answer."""

    opening: DataKey
    sealing: DataKey


def require_sealed(request: Request | SealedRequest | DescribeRequest, served: ServedCapability) -> None:
    """(6) Refuse what came in the clear, or under another label, to a sensitive capability.

    Its caller is told the label, so that it can seal; the payload was sent already, and is not looked at.
    """
    label = served.sensitive
    if label is None or isinstance(request, DescribeRequest):  # a question carries no data
        return
    if not isinstance(request, SealedRequest):
        raise RefusedError(400, "plaintext", error="not sealed", required=f"sealed:{label}")
    if request.key_id.label != label:
        raise RefusedError(400, "label", error="sealed under another label", required=f"sealed:{label}")


def verify_sender(
    header_block: bytes,
    data: bytes,
    request: Request | SealedRequest | DescribeRequest,
    principal: Principal,
    *,
    capability: str,
    published_as: PublishedAs,
    is_required: bool,
    now: float,
) -> Principal:
    """(7) Verify the caller's own signature, wherever there is one; the two witnesses must agree (SEC-11).

    Args:
        header_block: Raw.
        data: The payload as delivered.
        request: What was read from it.
        principal: Whom the first witness names.
        capability: What is called.
        published_as: Builds the subject that the caller published on.
        is_required: Whether there must be one.
        now: Unix seconds.

    Returns:
        The principal; where there was a signature, as `signed`.
    """
    try:
        # INVARIANT: (2) took the block, so the server's line is there once, and last. The caller wrote what is before,
        # which is short; the token in that line is long.
        sender = read_sender(header_block[: header_block.find(_SERVERS_LINE)] + _END)
        if sender is None:
            if is_required:
                raise RefusedError(401, "sender-missing", error="not signed", required=SIGNED)
            return principal
        verify_signature(
            sender,
            account=principal.account,
            user=principal.user,
            subject=published_as(capability),
            payload=data,
            correlation_id=request.correlation_id,
            now=now,
            verify=_public_key(principal.user).verify,
        )
    except SenderError as error:
        raise RefusedError(401, f"sender-{error.reason}") from error
    return replace(principal, assurance="signed")


def require_label(sealed: SealedRequest, principal: Principal, policy: Decider) -> None:
    """(8) Refuse whose role does not hold the label, before any key is looked for."""
    label = sealed.key_id.label
    if policy.decide(principal, DATA, label).allowed is not True:
        raise RefusedError(403, "label-denied", required=f"{DATA}:{label}", role=principal.role)


def keys_at_hand(sealed: SealedRequest, keys: KeySource) -> CallKeys | None:
    """(8) Return the keys of the call if both are at hand: the normal case."""
    opening, sealing = keys.cached(sealed.key_id), keys.cached_active(sealed.key_id.scope)
    return CallKeys(opening, sealing) if opening is not None and sealing is not None else None


async def fetch_keys(sealed: SealedRequest, keys: KeySource) -> CallKeys:
    """(8) Get the keys of the call. The answer's, too, is had before the handler runs: no result is lost for it."""
    try:
        opening = await keys.fetch(sealed.key_id)
        return CallKeys(opening, keys.cached_active(sealed.key_id.scope) or await keys.fetch(sealed.key_id.scope))
    except (KeyDestroyedError, KeyRefusedError) as error:
        raise RefusedError(400, "key-unknown", error="unknown key") from error
    except KeyUnavailableError as error:
        raise RefusedError(503, "key-unavailable") from error


def open_sealed(sealed: SealedRequest, capability: str, key: DataKey) -> Request:
    """(8) Open a request to the capability that was authorized; it opens nowhere else."""
    try:
        return open_request(sealed, capability=capability, dek=key)
    except SealError as error:
        raise RefusedError(400, f"seal-{error.reason}", error="sealed data does not open") from error
    except EnvelopeError as error:
        raise RefusedError(400, "seal-content", error="what was sealed is not data") from error


# A key's text is decoded and checked once, not for every call. Public keys only, and bounded.
_public_key = functools.lru_cache(maxsize=_KNOWN_SENDERS)(UserPublicKey.parse)
