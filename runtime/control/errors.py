"""The errors of the control plane: refusals that the caller is told, and faults that stop the process.

Rules it keeps: a `CommandError` is an answer (a code of DESIGN section 5, or 404 and 409 for what does not exist or
is in the way) with a text fit for the caller; any other `ControlError` is a fault of ours or of the stored state and
reaches the caller as a bare 500. Not here: how an answer is written (`runtime.envelope`).
"""

from collections.abc import Sequence

from runtime.envelope.messages import FieldFault


class ControlError(Exception):
    """Base of every error that the control plane raises on purpose."""


class StateVersionError(ControlError):
    """The stored state was written by a newer version, or is not ours."""

    def __init__(self, *, key: str, found: object) -> None:
        super().__init__(
            f"stored record `{key}` has version {found!r}, which this version can't read: upgrade garrison"
        )
        self.key = key
        self.found = found


class StateDamagedError(ControlError):
    """A stored record can't be read, or refers to what is not there."""

    def __init__(self, *, key: str, fault: str) -> None:
        super().__init__(f"stored record `{key}` is damaged: {fault}")
        self.key = key
        self.fault = fault


class ClaimsRollbackError(ControlError):
    """SEC-9: claims not newer than those already pushed; a rollback would bring revoked users back."""

    def __init__(self, *, account: str, issued_at: int, pushed: int) -> None:
        super().__init__(f"claims of account {account} issued at {issued_at} are not newer than those of {pushed}")
        self.account = account
        self.issued_at = issued_at
        self.pushed = pushed


class CommandError(ControlError):
    """A command that is answered with a failure; nothing was changed unless the text says so."""

    code = 500

    def __init__(
        self,
        message: str,
        *,
        fields: Sequence[FieldFault] = (),
        required: str | None = None,
        role: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = tuple(fields)
        self.required = required
        self.role = role
        self.retry_after = retry_after


class MalformedCommandError(CommandError):
    """The request is not one of ours: no such command, or not JSON."""

    code = 400


class NotAuthenticatedError(CommandError):
    """SEC-1: who is asking could not be established."""

    code = 401


class NotPermittedError(CommandError):
    """The caller may not do this, or not to this target."""

    code = 403


class NotFoundError(CommandError):
    """What the command is about does not exist."""

    code = 404


class ConflictError(CommandError):
    """The state of things stands in the way."""

    code = 409


class TooLargeError(CommandError):
    """More than may be stored or sent."""

    code = 413


class InvalidInputError(CommandError):
    """The body failed its schema, or names something that can't be."""

    code = 422


class BusyError(CommandError):
    """Too much at once."""

    code = 429


class UnavailableError(CommandError):
    """It can't be done, or can't be confirmed, now."""

    code = 503
