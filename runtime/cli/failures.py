"""What each error of another part means to the user of the command: its exit code, and the way out.

Knows every error type that may end a command; what it does not know is a fault of ours and is not caught here. Each
part's errors are looked at only if that part was loaded, so that an error costs no imports.
"""

import sys
from collections.abc import Callable
from typing import Any

from runtime.cli.exits import CommandError, Exit, Failure

_ASK_ADMIN = "ask the tenant's administrator to grant it: `garrison policy explain` shows what a role may do"
_ASK_LABEL = "ask the tenant's administrator for a role whose policy grants the label: `{}`"
# Those of `authz.patterns`, which an error is no reason to load.
_TENANTS_AREAS = frozenset({"agents", "credentials", "keys", "policy"})
_NEW_CREDS = "issue new credentials with `garrison creds issue`"


def failure_of(error: Exception) -> Failure | None:
    """What to tell the user, or None for an error that no user can mend."""
    if isinstance(error, CommandError):
        return error.failure
    for module, describe in _DESCRIBERS.items():
        if module in sys.modules:
            failure = describe(error, sys.modules[module])
            if failure is not None:
                return failure
    return _of_system(error) if isinstance(error, OSError) and error.strerror else None


def _of_system(error: OSError) -> Failure:
    reason = str(error.strerror).lower()
    misnamed = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    message = reason if error.filename is None else f"`{error.filename}`: {reason}"
    return Failure(exit=Exit.USAGE if misnamed else Exit.FAILED, code="file", message=message)


def _of_client(error: Exception, client: Any) -> Failure | None:
    if isinstance(error, client.CallFailedError):
        return _of_call(error, client)
    return _of_connection(error, client)


def _of_connection(error: Exception, client: Any) -> Failure | None:
    if isinstance(error, client.FolderError):
        return Failure(exit=Exit.USAGE, code="bad_folder", message=str(error), hint=error.remedy)
    if isinstance(error, client.ExpiredCredentialsError):
        return Failure(exit=Exit.DENIED, code="expired", message=str(error), hint=_NEW_CREDS)
    if isinstance(error, client.RejectedCredentialsError):
        hint = "they were revoked or are not valid yet, the tenant is suspended, or they belong to another platform"
        return Failure(exit=Exit.DENIED, code="rejected", message=str(error), hint=hint)
    if isinstance(error, client.ServerRefusedError):
        return _of_refusal(error)
    if isinstance(error, client.UnreachableError):
        hint = _UNREACHABLE_HINTS.get(error.reason, "is the platform running? start it with `garrison up`")
        return Failure(exit=Exit.UNREACHABLE, code=error.reason, message=str(error), hint=hint)
    return None


_UNREACHABLE_HINTS = {
    "tls": f"one of the two is not of this platform, or its certificate is not valid now: {_NEW_CREDS}",
    "protocol": "something else may listen there; the address is in the credentials folder's context.json",
    "limit": "end some of its connections, or try again in a moment",
}


def _of_refusal(error: Any) -> Failure:
    """The server says only which subject; for a command that is one of three things, told apart by the subject."""
    message, hint = str(error), _ASK_ADMIN
    words = error.subject.split(".")
    if words[:2] == ["ai", "admin"]:
        area, target = words[2], words[-1]
        if area in _TENANTS_AREAS:
            message += f" on `{target}`"
            hint = f"a tenant's roles administer that tenant alone; if it is yours, {_ASK_ADMIN}"
        else:
            hint = "it is for the platform's operators"
    extra = (("subject", error.subject), ("required", error.missing))
    return Failure(exit=Exit.DENIED, code="server_refused", message=message, hint=hint, extra=extra)


# The exit code, the slug and the way out of each code on the wire.
_CALL_CODES: dict[int, tuple[Exit, str, str]] = {
    400: (Exit.USAGE, "bad_input", ""),
    401: (Exit.DENIED, "not_authenticated", _NEW_CREDS),
    403: (Exit.DENIED, "denied", _ASK_ADMIN),
    404: (Exit.FAILED, "not_found", ""),
    408: (
        Exit.UNREACHABLE,
        "timeout",
        "it may still be carried out: look before you repeat it",
    ),
    409: (Exit.FAILED, "conflict", ""),
    413: (Exit.USAGE, "too_large", ""),
    422: (Exit.USAGE, "invalid", ""),
    429: (Exit.FAILED, "over_limit", "try again in a moment"),
    500: (Exit.FAILED, "failed", "the host's log has the reason under the correlation id"),
    503: (Exit.UNREACHABLE, "unavailable", "try again in a moment; `garrison agent list` shows what is deployed"),
}


def _of_call(error: Any, client: Any) -> Failure:
    exit_code, slug, hint = _CALL_CODES.get(error.code, (Exit.FAILED, "failed", ""))
    if isinstance(error, client.BadAnswerError):
        slug = "bad_answer"
    if isinstance(error, client.AnswerRefusedError):
        slug, hint = (
            "answer_refused",
            "nothing of the answer was taken; tell the platform's operator the correlation id",
        )
    if isinstance(error, client.KeyRefusedError):
        slug, hint = "key_refused", _ASK_LABEL.format(_grant(error.required))
    details: tuple[str, ...] = ()
    extra: list[tuple[str, object]] = [("status", error.code), ("correlation_id", error.correlation_id)]
    if isinstance(error, client.InvalidRequestError) and error.fields:
        details = tuple(f"{fault['path'] or '(data)'}: {fault['message']}" for fault in error.fields)
        extra.append(("fields", [dict(fault) for fault in error.fields]))
    if isinstance(error, client.DeniedError):
        extra += [("required", error.required), ("role", error.role)]
        hint = hint if error.required else ""  # nothing that could be granted is missing
        if error.required:
            details = (f"missing: {error.required}" + (f" (role: {error.role})" if error.role else ""),)
    elif error.required:
        extra.append(("required", error.required))
        details += (f"required: {error.required}",)
    if isinstance(error, client.OverLimitError) and error.retry_after is not None:
        hint = f"try again in {error.retry_after:g} s"
        extra.append(("retry_after", error.retry_after))
    if isinstance(error, client.HandlerFailedError | client.AnswerRefusedError):
        details = (f"correlation id: {error.correlation_id}",)
    return Failure(exit=exit_code, code=slug, message=str(error), hint=hint, details=details, extra=tuple(extra))


def _grant(required: str) -> str:
    """`data:phi` as a line of policy."""
    action, _, resource = required.partition(":")
    return f"{action}: [{resource}]"


def _of_policy(error: Exception, policyfile: Any) -> Failure | None:
    if not isinstance(error, policyfile.PolicyFileError):
        return None
    details = tuple(f"line {fault.line}: {fault.message}" for fault in error.faults)
    faults = [{"line": fault.line, "message": fault.message} for fault in error.faults]
    count = "a fault" if len(details) == 1 else f"{len(details)} faults"
    message = f"the policy has {count}; nothing was changed"
    return Failure(exit=Exit.USAGE, code="bad_policy", message=message, details=details, extra=(("faults", faults),))


def _of_bus(error: Exception, bus: Any) -> Failure | None:
    if isinstance(error, bus.PortInUseError):
        hint = "stop what listens there, or choose another port with --port"
        return Failure(exit=Exit.FAILED, code="port_in_use", message=str(error), hint=hint)
    if isinstance(error, bus.ServerError):
        hint = "its log is in the platform's folder: logs/server.log"
        return Failure(exit=Exit.FAILED, code="server", message=str(error), hint=hint)
    if isinstance(error, bus.BusError):
        return Failure(exit=Exit.UNREACHABLE, code="bus", message=str(error))
    return None


def _of_base(name: str, exit_code: Exit, code: str) -> Callable[[Exception, Any], Failure | None]:
    """Describe a part whose messages already say everything: `name` is its base class."""

    def describe(error: Exception, module: Any) -> Failure | None:
        if isinstance(error, getattr(module, name)):
            return Failure(exit=exit_code, code=code, message=str(error))
        return None

    return describe


def _of_folder_lock(error: Exception, folderlock: Any) -> Failure | None:
    if not isinstance(error, folderlock.FolderInUseError):
        return None
    return Failure(exit=Exit.FAILED, code="in_use", message=str(error), hint=error.hint)


def _of_state(error: Exception, control: Any) -> Failure | None:
    if isinstance(error, control.StateVersionError):
        hint = "run the version of garrison that wrote it, or a newer one"
        return Failure(exit=Exit.FAILED, code="state_version", message=str(error), hint=hint)
    if isinstance(error, control.StateDamagedError):
        return Failure(exit=Exit.FAILED, code="state_damaged", message=str(error), hint="restore it from a backup")
    return None


def _of_platform(error: Exception, platform_folder: Any) -> Failure | None:
    if not isinstance(error, platform_folder.PlatformError):
        return None
    return Failure(exit=Exit.FAILED, code="platform", message=str(error), hint=error.hint)


_DESCRIBERS: dict[str, Callable[[Exception, Any], Failure | None]] = {
    "runtime.client.errors": _of_client,
    "runtime.wiring.platform_folder": _of_platform,
    "runtime.wiring.folderlock": _of_folder_lock,
    "authz.policyfile": _of_policy,
    "authz.errors": _of_base("AuthzError", Exit.USAGE, "bad_input"),
    "runtime.host.snapshot": _of_base("SnapshotError", Exit.USAGE, "bad_agent"),
    "certs.errors": _of_base("CertsError", Exit.FAILED, "certificates"),
    "runtime.control.errors": _of_state,
    "runtime.bus.errors": _of_bus,
}
