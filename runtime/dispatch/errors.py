"""Why a request does not reach its handler, or its handler's answer not the caller.

`RefusedError` is the only way out of a step other than its result. It has two faces: `code`, `error` and the fields
below it go to the caller; `reason` goes to the audit record and the log, never to the caller.

`InputRefusedError` and `RequestRefusedError` are what a served capability raises; they become a `RefusedError`.
"""

from typing import Literal

from runtime.envelope.messages import FieldFault

Effect = Literal["allow", "deny", "error"]

# SEC-6: fixed texts; what went wrong inside is for the log.
TEXTS = {
    400: "malformed request",
    401: "not authenticated",
    403: "insufficient permissions",
    408: "deadline passed",
    409: "replayed request",
    413: "request too large",
    422: "invalid input",
    429: "over a limit",
    500: "handler failed",
    503: "not available",
}
_DENIALS = frozenset({401, 403, 409})


class DispatchError(Exception):
    """Base of what dispatch raises."""


class RefusedError(DispatchError):
    """The request gets a failure as its answer.

    Attributes:
        code: The code on the wire.
        reason: A short slug for audit and log: `expired`, `no-slot`.
        error: Text for the caller.
        required: What was missing: for 400 `sealed:phi`, for 401 `signed`, for 403 `call:vitals.assess`.
        role: The caller's role, for 403.
        retry_after: Seconds, for 429.
        fields: What is wrong with the input, for 422.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        *,
        error: str = "",
        required: str | None = None,
        role: str | None = None,
        retry_after: float | None = None,
        fields: tuple[FieldFault, ...] = (),
    ) -> None:
        self.code = code
        self.reason = reason
        self.error = error or TEXTS[code]
        self.required = required
        self.role = role
        self.retry_after = retry_after
        self.fields = fields
        super().__init__(f"{code} {reason}")

    @property
    def effect(self) -> Effect:
        """`deny` where identity, policy or replay said no; `error` where the request failed otherwise."""
        return "deny" if self.code in _DENIALS else "error"


class UnavailableError(DispatchError):
    """The tenant's view can't be relied on now, for example because the control plane was not heard for too long."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the tenant can't be served now: {reason}")


class InputRefusedError(DispatchError):
    """The input failed the handler's model; each fault names its field."""

    def __init__(self, fields: tuple[FieldFault, ...]) -> None:
        self.fields = fields
        super().__init__(f"input refused in {len(fields)} place(s)")


class RequestRefusedError(DispatchError):
    """The handler declined the request with a text that its author meant for the caller."""

    def __init__(self, message: str, *, fields: tuple[FieldFault, ...] = ()) -> None:
        self.message = message
        self.fields = fields
        super().__init__(message)
