"""The JSON payload of a token to claims.

Rules it keeps: reading is total (only `TokenMalformedError` comes out) and loses nothing: fields unknown to
`authz.wireclaims` are refused. What comes out is typed and still unverified. Not here: signatures, an
issuer's rights and times (`authz.tokens`).
"""

from typing import Final, TypeVar

import msgspec

from authz import wireclaims as wire
from authz.claims import (
    AccountClaims,
    AccountLimits,
    JetStreamLimits,
    OperatorClaims,
    ScopedSigningKey,
    ServiceExport,
    ServiceImport,
    UserClaims,
)
from authz.errors import KeyFormatError, TokenMalformedError
from authz.keys import AccountPublicKey, OperatorPublicKey, UserPublicKey
from authz.permissions import ResponsePermission, SubjectPermissions
from authz.wireclaims import NANOSECONDS

_NO_LIMIT: Final = -1

PayloadT = TypeVar("PayloadT")


def parse_user(payload: bytes) -> UserClaims:
    """Read a user's payload, unverified.

    Raises:
        TokenMalformedError: it is not one.
    """
    unverified = _decode(payload, wire.Payload[wire.User])
    try:
        return UserClaims(
            name=unverified.name,
            subject=UserPublicKey.parse(unverified.sub),
            issuer=AccountPublicKey.parse(unverified.iss),
            issuer_account=_account(unverified.nats.issuer_account),
            issued_at=unverified.iat,
            expires_at=unverified.exp or None,
            not_before=unverified.nbf or None,
            permissions=_permissions(unverified.nats),
            tags=unverified.nats.tags,
            jti=unverified.jti,
        )
    except KeyFormatError as error:
        raise TokenMalformedError(f"user token: {error}") from error


def parse_account(payload: bytes) -> AccountClaims:
    """Read an account's payload, unverified.

    Raises:
        TokenMalformedError: it is not one.
    """
    unverified = _decode(payload, wire.Payload[wire.Account])
    _refuse_times(unverified.exp, unverified.nbf)
    body = unverified.nats
    try:
        return AccountClaims(
            name=unverified.name,
            subject=AccountPublicKey.parse(unverified.sub),
            issuer=OperatorPublicKey.parse(unverified.iss),
            issued_at=unverified.iat,
            limits=_limits(body.limits),
            signing_keys=tuple(_signing_key(key) for key in body.signing_keys),
            exports=tuple(_export(entry) for entry in body.exports),
            imports=tuple(_import(entry) for entry in body.imports),
            revocations=body.revocations,
            tags=body.tags,
            jti=unverified.jti,
        )
    except KeyFormatError as error:
        raise TokenMalformedError(f"account token: {error}") from error


def parse_operator(payload: bytes) -> OperatorClaims:
    """Read an operator's payload, unverified.

    Raises:
        TokenMalformedError: it is not one.
    """
    unverified = _decode(payload, wire.Payload[wire.Operator])
    _refuse_times(unverified.exp, unverified.nbf)
    body = unverified.nats
    try:
        return OperatorClaims(
            name=unverified.name,
            subject=OperatorPublicKey.parse(unverified.sub),
            issuer=OperatorPublicKey.parse(unverified.iss),
            issued_at=unverified.iat,
            signing_keys=tuple(OperatorPublicKey.parse(key) for key in body.signing_keys),
            system_account=_account(body.system_account),
            strict_signing_keys=body.strict_signing_key_usage,
            jti=unverified.jti,
        )
    except KeyFormatError as error:
        raise TokenMalformedError(f"operator token: {error}") from error


def _decode(payload: bytes, kind: type[PayloadT]) -> PayloadT:
    try:
        return msgspec.json.decode(payload.decode(), type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TokenMalformedError("token's claims are not those of its kind") from error


def _refuse_times(exp: int, nbf: int) -> None:
    if exp or nbf:
        raise TokenMalformedError("only user tokens have `exp` and `nbf`")


def _account(text: str) -> AccountPublicKey | None:
    return AccountPublicKey.parse(text) if text else None


def _permissions(unverified: wire.Permissions) -> SubjectPermissions | None:
    limits = {unverified.subs, unverified.data, unverified.payload}
    if limits == {_NO_LIMIT}:
        return _stated_permissions(unverified)
    stated = (unverified.pub, unverified.sub, unverified.resp)
    if limits == {0} and stated == (None, None, None):
        return None
    raise TokenMalformedError("limits on a single user are not supported")


def _stated_permissions(unverified: wire.Permissions) -> SubjectPermissions:
    publish = unverified.pub or wire.SubjectLists()
    subscribe = unverified.sub or wire.SubjectLists()
    answer = unverified.resp
    return SubjectPermissions(
        publish_allow=publish.allow,
        publish_deny=publish.deny,
        subscribe_allow=subscribe.allow,
        subscribe_deny=subscribe.deny,
        responses=ResponsePermission(max=answer.max, ttl_s=answer.ttl / NANOSECONDS) if answer else None,
    )


def _signing_key(unverified: str | wire.Scope) -> AccountPublicKey | ScopedSigningKey:
    if isinstance(unverified, str):
        return AccountPublicKey.parse(unverified)
    template = _permissions(unverified.template)
    if template is None:
        raise TokenMalformedError("a scoped signing key has an empty template")
    return ScopedSigningKey(
        key=AccountPublicKey.parse(unverified.key),
        role=unverified.role,
        template=template,
        description=unverified.description,
    )


def _export(unverified: wire.Export) -> ServiceExport:
    return ServiceExport(
        subject=unverified.subject,
        account_token_position=unverified.account_token_position,
        response_threshold_s=unverified.response_threshold / NANOSECONDS,
        response_type=unverified.response_type,
        name=unverified.name,
    )


def _import(unverified: wire.Import) -> ServiceImport:
    return ServiceImport(
        subject=unverified.subject,
        account=AccountPublicKey.parse(unverified.account),
        local_subject=unverified.local_subject,
        share=unverified.share,
        name=unverified.name,
    )


def _limits(unverified: wire.Limits) -> AccountLimits:
    return AccountLimits(
        connections=unverified.conn,
        subscriptions=unverified.subs,
        payload_bytes=unverified.payload,
        data=unverified.data,
        imports=unverified.imports,
        exports=unverified.exports,
        wildcard_exports=unverified.wildcards,
        leaf_nodes=unverified.leaf,
        disallow_bearer=unverified.disallow_bearer,
        jetstream=JetStreamLimits(
            memory_bytes=unverified.mem_storage,
            disk_bytes=unverified.disk_storage,
            streams=unverified.streams,
            consumers=unverified.consumer,
            max_ack_pending=unverified.max_ack_pending,
            memory_max_stream_bytes=unverified.mem_max_stream_bytes,
            disk_max_stream_bytes=unverified.disk_max_stream_bytes,
            max_bytes_required=unverified.max_bytes_required,
        ),
    )
