"""The commands about data keys: unwrap, list, rotate.

Rules it keeps: a key is handed out only to who holds its label, for one request, sealed to that request's one-time key
and signed; a host gets only keys of labels that an agent deployed for the tenant holds. Keys are random, one a tenant,
label, data subject and version, made when first asked for. All versions of one scope are one record, so a rotation
happens whole or not at all; the KEK is stored before any record that needs it.

Not here: wrapping (`kek`), how a key travels (`runtime.envelope.keywrap`), that the request is signed (`service`).
"""

import asyncio
import base64
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from authz.errors import AuthzError
from authz.names import label_name
from authz.principals import Principal
from runtime.control.calls import Call
from runtime.control.changes import Changes
from runtime.control.errors import ConflictError, InvalidInputError, NotFoundError, NotPermittedError
from runtime.control.kek import KeyWrapper
from runtime.control.records import KeyVersionRecord, ScopeRecord
from runtime.control.views import TenantView
from runtime.control.wire import Empty, NameScope
from runtime.envelope.datakey import DataKey
from runtime.envelope.errors import KeyIdError, KeyWrapError
from runtime.envelope.keyid import KeyId, KeyScope
from runtime.envelope.keywrap import UnwrapCall, build_unwrap_answer
from runtime.envelope.unwrap import UnwrapRequest

HOST: Final = "host"  # the role of the tenant `platform` that runs agents
CACHE_S: Final = 300  # how long a key may be kept by whom it was handed to
SCOPES_MAX: Final = 10_000  # of a tenant
VERSIONS_MAX: Final = 1_000  # of a scope

Sign = Callable[[bytes], bytes]


class DataKeys:
    """Answers `keys.*` and `hosts.unwrap`."""

    def __init__(self, changes: Changes, wrapper: KeyWrapper, sign: Sign) -> None:
        self._changes, self._state = changes, changes.state
        self._wrapper, self._sign = wrapper, sign

    async def unwrap(self, call: Call[UnwrapRequest]) -> dict[str, object]:
        """A key for a principal of the tenant whose role holds the label."""
        return await self._hand_out(call, await self.permit(call))

    async def unwrap_for_agent(self, call: Call[UnwrapRequest]) -> dict[str, object]:
        """A key for a host that runs an agent whose role holds the label."""
        return await self._hand_out(call, await self.permit_agent(call))

    async def permit(self, call: Call[UnwrapRequest]) -> TenantView:
        """Decide whether a principal gets the key: asked before the decision is recorded, and again before it is used.

        Raises:
            CommandError: It does not.
        """
        view = await self._changes.active(call.target)
        scope = _scope_of(call.body)
        if call.body.agent is not None:
            raise InvalidInputError("`agent` is for hosts")
        if view.policy is None or not view.policy.decide(call.principal, "data", scope.label).allowed:
            raise NotPermittedError("not permitted", required=f"data:{scope.label}", role=call.principal.role)
        return view

    async def permit_agent(self, call: Call[UnwrapRequest]) -> TenantView:
        """Likewise, whether a host gets it for an agent.

        Raises:
            CommandError: It does not.
        """
        view = await self._changes.active(call.target)
        scope, agent = _scope_of(call.body), call.body.agent
        if call.principal.role != HOST:  # operators may send any command, but no agent runs with them
            raise NotPermittedError("keys for an agent are for hosts only", role=call.principal.role)
        if agent is None:
            raise InvalidInputError("`agent` is missing: a host asks on behalf of one")
        deployed = any(deployment.agent == agent for deployment in view.record.deployments)
        role = view.policy.roles.get(f"agent:{agent}") if view.policy is not None and deployed else None
        if role is None or scope.label not in role.labels:
            raise NotPermittedError("not permitted", required=f"data:{scope.label}", role=f"agent:{agent}")
        return view

    async def list_all(self, call: Call[Empty]) -> dict[str, object]:
        """Every key by label, data subject and version; never the keys themselves."""
        await self._changes.existing(call.target)
        records = sorted(self._state.scopes(call.target), key=lambda record: (record.label, record.subject or ""))
        return {"keys": [_shown(record) for record in records]}

    async def rotate(self, call: Call[NameScope]) -> dict[str, object]:
        """Make a new active version; what the older ones sealed still opens."""
        scope = _named_scope(call.body)
        async with self._changes.turn(f"keys:{call.target}"):
            await self._changes.active(call.target)
            record = await self._add_version(call.target, scope)
        return _shown(record)

    async def shred_tenant(self, tenant: str) -> None:
        """Destroy all keys of a tenant that is being deleted. May be repeated."""
        await asyncio.to_thread(self._wrapper.shred, tenant)
        for record in self._state.scopes(tenant):
            await self._state.drop_scope(record)

    async def _hand_out(self, call: Call[UnwrapRequest], view: TenantView) -> dict[str, object]:
        dek, state = await self._find(view.record.tenant, call.body.wanted)
        try:
            answer = build_unwrap_answer(
                UnwrapCall(
                    tenant=view.record.tenant,
                    account=call.principal.account,
                    user=call.principal.user,
                    correlation_id=call.correlation_id,
                ),
                dek=dek,
                state="active" if state == "active" else "opening",
                one_time_key=call.body.one_time_key,
                expires_at=self._expiry(call.principal),
                sign=self._sign,
            )
        except KeyWrapError as error:
            raise InvalidInputError("`one_time_key` is not a usable X25519 public key") from error
        return {
            "key_id": answer.key_id,
            "state": answer.state,
            "enc": answer.enc,
            "expires_at": answer.expires_at,
            "sig": answer.sig,
        }

    async def _find(self, tenant: str, wanted: KeyId | KeyScope) -> tuple[DataKey, str]:
        """The version asked for; the active one of a scope is made when there is none."""
        scope = wanted.scope if isinstance(wanted, KeyId) else wanted
        record = self._state.scope(tenant, str(scope))
        if isinstance(wanted, KeyScope) and (record is None or _active(record) is None):
            async with self._changes.turn(f"keys:{tenant}"):
                record = self._state.scope(tenant, str(scope))
                if record is None or _active(record) is None:
                    record = await self._add_version(tenant, scope)
        number = wanted.version if isinstance(wanted, KeyId) else None
        version = _version(record, number) if record is not None else None
        if version is None or version.state == "destroyed":
            raise NotFoundError(f"there is no key `{str(wanted)[:80]}`, or it was destroyed")
        key_id = scope.at(version.version)
        wrapped = base64.b64decode(version.wrapped)
        return await asyncio.to_thread(self._wrapper.unwrap, tenant, key_id, wrapped), version.state

    async def _add_version(self, tenant: str, scope: KeyScope) -> ScopeRecord:
        record = self._state.scope(tenant, str(scope))
        versions = record.versions if record is not None else ()
        if record is None and len(self._state.scopes(tenant)) >= SCOPES_MAX:
            raise ConflictError(f"a tenant has at most {SCOPES_MAX} keys")
        if len(versions) >= VERSIONS_MAX:
            raise ConflictError(f"a key has at most {VERSIONS_MAX} versions")
        number = 1 + max((version.version for version in versions), default=0)
        dek = DataKey.generate(scope.at(number))
        wrapped = await asyncio.to_thread(self._wrapper.wrap, tenant, dek)
        fresh = KeyVersionRecord(
            version=number,
            state="active",
            wrapped=base64.b64encode(wrapped).decode(),
            created_at=int(self._changes.clock()),
        )
        older = tuple(replace(v, state="opening") if v.state == "active" else v for v in versions)
        changed = ScopeRecord(tenant=tenant, label=scope.label, subject=scope.subject, versions=(*older, fresh))
        await self._state.put_scope(changed)  # the commit point
        return changed

    def _expiry(self, principal: Principal) -> int:
        ends = int(self._changes.clock()) + CACHE_S
        return ends if principal.expires_at is None else min(ends, principal.expires_at)


def _scope_of(body: UnwrapRequest) -> KeyScope:
    return body.wanted.scope if isinstance(body.wanted, KeyId) else body.wanted


def _named_scope(body: NameScope) -> KeyScope:
    try:
        return KeyScope.of(label_name(body.label), body.subject)
    except (AuthzError, KeyIdError) as error:
        raise InvalidInputError(str(error)) from error


def _active(record: ScopeRecord) -> KeyVersionRecord | None:
    return next((version for version in reversed(record.versions) if version.state == "active"), None)


def _version(record: ScopeRecord, number: int | None) -> KeyVersionRecord | None:
    if number is None:
        return _active(record)
    return next((version for version in record.versions if version.version == number), None)


def _shown(record: ScopeRecord) -> dict[str, object]:
    return {
        "label": record.label,
        "subject": record.subject,
        "versions": [
            {"version": version.version, "state": version.state, "created_at": version.created_at}
            for version in record.versions
        ],
    }
