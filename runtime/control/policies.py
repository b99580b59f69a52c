"""The commands about a tenant's policy: apply, show.

Rules it keeps: a policy is loaded, compiled and bounded before anything changes, and every fault is answered with its
line; a role that goes takes its signing key, and so all its credentials, with it. A new policy reaches the
dispatchers first, then the server: what it takes away stops at once, what it adds works when both have it.
"""

import asyncio
import hashlib
from typing import Final

from msgspec.structs import replace

from authz.compiler import compile_policy
from authz.decisions import CompiledPolicy
from authz.diff import diff_policies
from authz.errors import AuthzError
from authz.policy import Policy
from authz.policyfile import PolicyFileError, load_policy
from runtime.control.calls import Call
from runtime.control.changes import Changes
from runtime.control.errors import ConflictError, InvalidInputError, TooLargeError
from runtime.control.limits import ControlLimits
from runtime.control.records import TenantRecord
from runtime.control.tenantkeys import TenantKeyring
from runtime.control.views import TenantView
from runtime.control.wire import ApplyPolicy, Empty
from runtime.envelope.messages import FieldFault

_PLATFORM: Final = "platform"
_FAULTS_MAX: Final = 50


class Policies:
    """Answers `policy.*`."""

    def __init__(self, changes: Changes, keyring: TenantKeyring) -> None:
        self._changes, self._keyring = changes, keyring

    async def apply(self, call: Call[ApplyPolicy]) -> dict[str, object]:
        """Put a policy in force; answers when the server and every living host enforce it."""
        name, text = call.target, call.body.policy
        if name == _PLATFORM:
            raise ConflictError("the platform's own policy comes with its release and can't be replaced")
        policy = checked_policy(text, name, self._changes.limits)
        async with self._changes.turn(name):
            self._changes.require_trusted(call.principal)
            before = await self._changes.existing(name)
            if before.record.policy != text:
                await self.commit(before, text, policy)
        hosts = await self._changes.enforce(name, hosts_first=True)
        epoch = (await self._changes.existing(name)).record.epoch
        return {
            "epoch": epoch,
            "digest": text_digest(text),
            "changes": _changes(load_policy(before.record.policy), policy.source),
            "hosts": list(hosts),
        }

    async def commit(self, before: TenantView, text: str, policy: "CheckedPolicy") -> TenantView:
        """Steps (1) and (2) of a new policy; the keys of roles that went are dropped afterwards."""
        record = before.record
        keys = await asyncio.to_thread(self._keyring.load, record.tenant, record.roles)
        after = keys.with_roles(policy.roles, record.roles)
        await asyncio.to_thread(self._keyring.save, record.tenant, keys, after)  # (1)
        changed: TenantRecord = replace(
            record,
            policy=text,
            epoch=record.epoch + 1,
            roles=after.public(),
            changed_at=int(self._changes.clock()),
        )
        view = await self._changes.commit(changed, policy_changed=True)  # (2)
        await asyncio.to_thread(self._keyring.prune, record.tenant, view.record.roles)
        return view

    async def show(self, call: Call[Empty]) -> dict[str, object]:
        """The policy in force."""
        record = (await self._changes.existing(call.target)).record
        return {
            "tenant": record.tenant,
            "policy": record.policy,
            "epoch": record.epoch,
            "digest": text_digest(record.policy),
        }


class CheckedPolicy:
    """A policy that loads, compiles, is this tenant's and is not too large."""

    __slots__ = ("compiled", "source")

    def __init__(self, source: Policy, compiled: CompiledPolicy) -> None:
        self.source, self.compiled = source, compiled

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of its roles, agents' included."""
        return tuple(self.compiled.roles)


def checked_policy(text: str, tenant: str, limits: ControlLimits) -> CheckedPolicy:
    """Load and compile a tenant's policy.

    Raises:
        InvalidInputError: with each fault and its line; or it is another tenant's.
        TooLargeError: it has too many bytes.
    """
    if len(text.encode(errors="surrogatepass")) > limits.policy_bytes_max:
        raise TooLargeError(f"the policy is longer than {limits.policy_bytes_max} bytes")
    try:
        policy = load_policy(text)
        compiled = compile_policy(policy)
    except PolicyFileError as error:
        raise InvalidInputError("the policy is not valid", fields=_line_faults(error)) from error
    except AuthzError as error:
        raise InvalidInputError(f"the policy is not valid: {error}") from error
    if policy.tenant != tenant:
        raise InvalidInputError(f"the policy is for tenant `{policy.tenant}`, not for `{tenant}`")
    return CheckedPolicy(policy, compiled)


def text_digest(text: str) -> str:
    """What tells two policies apart."""
    return hashlib.sha256(text.encode()).hexdigest()


def _line_faults(error: PolicyFileError) -> tuple[FieldFault, ...]:
    return tuple(FieldFault(path=f"line {fault.line}", message=fault.message) for fault in error.faults[:_FAULTS_MAX])


def _changes(before: Policy, after: Policy) -> list[dict[str, str]]:
    return [
        {"role": change.role, "kind": change.kind, "action": change.action, "pattern": change.pattern}
        for change in diff_policies(before, after)
    ]
