"""The commands about credentials: issue, list, revoke.

Rules it keeps: those of `issuing` and `revoking`; what is listed is told from the records, revoked before expired.
"""

from typing import Final

from runtime.control.calls import Call
from runtime.control.changes import Changes
from runtime.control.errors import InvalidInputError, NotFoundError
from runtime.control.issuing import Issuing
from runtime.control.lastseen import LastSeen
from runtime.control.records import CredentialRecord
from runtime.control.revoking import Revoking
from runtime.control.views import TenantView
from runtime.control.wire import Empty, IssueCredential, RevokeCredential

PLATFORM: Final = "platform"


class Credentials:
    """Answers `credentials.*`."""

    def __init__(self, changes: Changes, issuing: Issuing, revoking: Revoking, seen: LastSeen) -> None:
        self._changes, self._state = changes, changes.state
        self._issuing, self._revoking, self._seen = issuing, revoking, seen

    async def issue(self, call: Call[IssueCredential]) -> dict[str, object]:
        """A credential for a user key, and a certificate for the key of a request."""
        body = call.body
        limits = self._changes.limits
        if not limits.issued_ttl_min_s <= body.ttl_s <= limits.issued_ttl_max_s:
            days = limits.issued_ttl_max_s // (24 * 3600)
            raise InvalidInputError(f"credentials last from {limits.issued_ttl_min_s} seconds to {days} days")
        issued = await self._issuing.certified(
            call.target,
            role=body.role,
            name=body.name,
            user=body.user,
            csr=body.csr.encode(),
            ttl_s=body.ttl_s,
            principal=call.principal,
        )
        return {
            "jwt": issued.jwt,
            "certificate": issued.certificate.decode(),
            "ca": issued.authority.decode(),
            "control": self._changes.platform.control.public.text,
            "expires_at": issued.expires_at,
        }

    async def list_all(self, call: Call[Empty]) -> dict[str, object]:
        """Every credential on record, newest first."""
        view = await self._changes.existing(call.target)
        records = [r for r in self._state.credentials(call.target) if r.kind != "gate"]
        records.sort(key=lambda record: (-record.issued_at, record.name, record.user))
        return {"credentials": [self._shown(view, record) for record in records]}

    async def revoke(self, call: Call[RevokeCredential]) -> dict[str, object]:
        """Cut a user, or all of a name, off; answers when the server and every living host have."""
        name, body = call.target, call.body
        if (body.name is None) == (body.user is None):
            raise InvalidInputError("give either `name` or `user`")
        async with self._changes.turn(name):
            self._changes.require_trusted(call.principal)
            view = await self._changes.existing(name)
            matching = self._matching(name, body)
            await self._revoking.ban(view, matching)
        for record in matching:
            self._changes.hosts.forget_user(record.user)
        await self._changes.enforce(name, hosts_first=False)
        if name == PLATFORM:
            await self._revoking.revoke_orphans(PLATFORM)
        await self._revoking.mark_revoked(name)
        return {"revoked": [record.user for record in matching]}

    def _matching(self, tenant: str, body: RevokeCredential) -> list[CredentialRecord]:
        issued = [r for r in self._revoking.alive(self._state.credentials(tenant)) if r.kind == "issued"]
        matching = [r for r in issued if body.name in (None, r.name) and body.user in (None, r.user)]
        if not matching:
            what = f"name `{body.name}`" if body.name is not None else f"user key `{body.user}`"
            raise NotFoundError(f"tenant `{tenant}` has no valid credential of {what[:90]}")
        return matching

    def _shown(self, view: TenantView, record: CredentialRecord) -> dict[str, object]:
        revoked_at = view.record.revocations.get(record.user, record.revoked_at)
        if revoked_at is not None:
            status = "revoked"
        elif record.expires_at <= self._changes.clock():
            status = "expired"
        else:
            status = "active" if record.role in view.record.roles else "role removed"
        return {
            "name": record.name,
            "role": record.role,
            "user": record.user,
            "kind": record.kind,
            "status": status,
            "issued_at": record.issued_at,
            "issued_by": record.issued_by,
            "expires_at": record.expires_at,
            "revoked_at": revoked_at,
            "last_seen": self._seen.of(record.tenant, record.user),
        }
