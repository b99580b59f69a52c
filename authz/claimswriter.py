"""Claims to the JSON payload of their token.

Rules it keeps: what is written here, `authz.claimsreader` reads back as the same record; `jti` is a hash of
all the rest, so that equal claims give equal tokens. Not here: signatures (`authz.tokens`).
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from authz import wireclaims as wire
from authz.claims import (
    AccountClaims,
    AccountLimits,
    OperatorClaims,
    ScopedSigningKey,
    ServiceExport,
    ServiceImport,
    UserClaims,
)
from authz.keys import AccountPublicKey, OperatorPublicKey
from authz.permissions import SubjectPermissions
from authz.wireclaims import NANOSECONDS

_VERSION: Final = 2
_NO_LIMIT: Final = -1


def render_user(claims: UserClaims) -> bytes:
    """The JSON payload of a user's token, with its `jti`."""
    # A scoped user must state nothing at all: nats-server refuses one that does.
    stated = wire.Permissions() if claims.permissions is None else _wire_permissions(claims.permissions)
    body = wire.User(
        pub=stated.pub,
        sub=stated.sub,
        resp=stated.resp,
        subs=stated.subs,
        data=stated.data,
        payload=stated.payload,
        issuer_account=_text(claims.issuer_account),
        tags=claims.tags,
        type="user",
        version=_VERSION,
    )
    return _render(claims, body, exp=claims.expires_at or 0, nbf=claims.not_before or 0)


def render_account(claims: AccountClaims) -> bytes:
    """The JSON payload of an account's token, with its `jti`."""
    body = wire.Account(
        imports=tuple(_wire_import(entry) for entry in claims.imports),
        exports=tuple(_wire_export(entry) for entry in claims.exports),
        limits=_wire_limits(claims.limits),
        signing_keys=tuple(_wire_signing_key(key) for key in claims.signing_keys),
        revocations=dict(claims.revocations),
        tags=claims.tags,
        type="account",
        version=_VERSION,
    )
    return _render(claims, body)


def render_operator(claims: OperatorClaims) -> bytes:
    """The JSON payload of an operator's token, with its `jti`."""
    body = wire.Operator(
        signing_keys=tuple(key.text for key in claims.signing_keys),
        system_account=_text(claims.system_account),
        strict_signing_key_usage=claims.strict_signing_keys,
        type="operator",
        version=_VERSION,
    )
    return _render(claims, body)


def render_account_deletion(
    accounts: Sequence[AccountPublicKey], operator: OperatorPublicKey, *, issued_at: int
) -> bytes:
    """The JSON payload of a request to remove accounts, with its `jti`."""
    body = wire.AccountDeletion(accounts=tuple(key.text for key in accounts), type="generic", version=_VERSION)
    return _identified(wire.Payload(iat=issued_at, iss=operator.text, sub=operator.text, nats=body))


def _render(
    claims: UserClaims | AccountClaims | OperatorClaims, body: wire.Body, *, exp: int = 0, nbf: int = 0
) -> bytes:
    payload = wire.Payload(
        iat=claims.issued_at,
        iss=claims.issuer.text,
        name=claims.name,
        sub=claims.subject.text,
        exp=exp,
        nbf=nbf,
        nats=body,
    )
    return _identified(payload)


def _identified(payload: wire.Payload[Any]) -> bytes:
    # As the NATS tools do: the token's id is a hash of all that it says.
    digest = hashlib.sha256(msgspec.json.encode(payload)).digest()
    jti = base64.b32encode(digest).rstrip(b"=").decode()
    return msgspec.json.encode(msgspec.structs.replace(payload, jti=jti))


def _text(key: AccountPublicKey | None) -> str:
    return "" if key is None else key.text


def _wire_permissions(permissions: SubjectPermissions) -> wire.Permissions:
    answer = permissions.responses
    return wire.Permissions(
        pub=_wire_lists(permissions.publish_allow, permissions.publish_deny),
        sub=_wire_lists(permissions.subscribe_allow, permissions.subscribe_deny),
        resp=wire.Responses(max=answer.max, ttl=_nanoseconds(answer.ttl_s)) if answer else None,
        subs=_NO_LIMIT,
        data=_NO_LIMIT,
        payload=_NO_LIMIT,
    )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NANOSECONDS)


def _wire_lists(allow: tuple[str, ...], deny: tuple[str, ...]) -> wire.SubjectLists | None:
    return wire.SubjectLists(allow=allow, deny=deny) if allow or deny else None


def _wire_signing_key(key: AccountPublicKey | ScopedSigningKey) -> str | wire.Scope:
    if isinstance(key, AccountPublicKey):
        return key.text
    template = _wire_permissions(key.template)
    return wire.Scope(key=key.key.text, role=key.role, template=template, description=key.description)


def _wire_export(entry: ServiceExport) -> wire.Export:
    return wire.Export(
        name=entry.name,
        subject=entry.subject,
        type="service",
        response_type=entry.response_type,
        response_threshold=_nanoseconds(entry.response_threshold_s),
        account_token_position=entry.account_token_position,
    )


def _wire_import(entry: ServiceImport) -> wire.Import:
    return wire.Import(
        name=entry.name,
        subject=entry.subject,
        account=entry.account.text,
        local_subject=entry.local_subject,
        type="service",
        share=entry.share,
    )


def _wire_limits(limits: AccountLimits) -> wire.Limits:
    stored = limits.jetstream
    return wire.Limits(
        conn=limits.connections,
        subs=limits.subscriptions,
        payload=limits.payload_bytes,
        data=limits.data,
        imports=limits.imports,
        exports=limits.exports,
        wildcards=limits.wildcard_exports,
        leaf=limits.leaf_nodes,
        disallow_bearer=limits.disallow_bearer,
        mem_storage=stored.memory_bytes,
        disk_storage=stored.disk_bytes,
        streams=stored.streams,
        consumer=stored.consumers,
        max_ack_pending=stored.max_ack_pending,
        mem_max_stream_bytes=stored.memory_max_stream_bytes,
        disk_max_stream_bytes=stored.disk_max_stream_bytes,
        max_bytes_required=stored.max_bytes_required,
    )
