"""What can go wrong for a caller, grouped by whose fault it is.

| error | whose fault | what helps |
|---|---|---|
| `FolderError`, `ExpiredCredentialsError` | the credentials folder | issue credentials again |
| `UnreachableError` | the network or the server | wait, check the address |
| `InvalidRequestError`, `TooLargeError` | the request | change it |
| `NotAuthenticatedError`, `DeniedError`, `ServerRefusedError` | the caller's role | ask the tenant's administrator |
| `KeyRefusedError` | the caller's role, which lacks a data label | likewise |
| `DeadlineError`, `OverLimitError`, `UnavailableError` | the moment | try again later |
| `HandlerFailedError`, `BadAnswerError` | the agent | its author; give them the correlation id |
| `AnswerRefusedError` | whoever answered | the platform's operator; give them the correlation id |

Every message is one lower-case line and holds no secret.
"""

from collections.abc import Mapping, Sequence


class ClientError(Exception):
    """Base of everything that `runtime.client` raises."""


class FolderError(ClientError):
    """A credentials folder can't be used.

    Attributes:
        path: The folder, or the file in it.
        remedy: What the user can do about it.
    """

    def __init__(self, message: str, *, path: str, remedy: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.remedy = remedy


class ExpiredCredentialsError(ClientError):
    """The credentials' time is over; nothing was sent.

    Attributes:
        name: Whose credentials.
        expired_at: Unix seconds, or None where only the server knows.
    """

    def __init__(self, message: str, *, name: str, expired_at: int | None) -> None:
        super().__init__(message)
        self.name = name
        self.expired_at = expired_at


class UnreachableError(ClientError):
    """No connection to the server, or it was lost.

    Attributes:
        url: The server.
        reason: A stable slug: `unreachable`, `tls`, `lost` or `timeout`.
    """

    def __init__(self, message: str, *, url: str, reason: str) -> None:
        super().__init__(message)
        self.url = url
        self.reason = reason


class RejectedCredentialsError(ClientError):
    """The server does not accept the credentials: revoked, suspended, or of another platform."""

    def __init__(self, message: str, *, url: str) -> None:
        super().__init__(message)
        self.url = url


class ServerRefusedError(ClientError):
    """nats-server refused the publish: the role's template does not allow the subject.

    Attributes:
        subject: What was refused.
        missing: The grant that would allow it, as a line of policy, such as `call: [vitals.assess]`.
    """

    def __init__(self, *, subject: str, missing: str) -> None:
        super().__init__(f"the server refused `{subject}`: the role does not grant `{missing}`")
        self.subject = subject
        self.missing = missing


class CallFailedError(ClientError):
    """The call was answered with an error.

    Attributes:
        code: The code on the wire, such as 403.
        message: The short text on the wire.
        correlation_id: What the agent's log and the audit trail know the call by.
        required: What was missing, such as `call:vitals.assess`, `data:phi`, `signed` or `sealed:phi`; "" if unsaid.
    """

    def __init__(self, *, code: int, message: str, correlation_id: str, required: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.correlation_id = correlation_id
        self.required = required


class InvalidRequestError(CallFailedError):
    """400 or 422: the request is malformed, or its data is not what the capability takes.

    Attributes:
        fields: What is wrong where: each has `path` and `message`.
    """

    def __init__(
        self,
        *,
        code: int,
        message: str,
        correlation_id: str,
        required: str = "",
        fields: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(code=code, message=message, correlation_id=correlation_id, required=required)
        self.fields = tuple(fields)


class NotAuthenticatedError(CallFailedError):
    """401: the platform could not tell who is calling."""


class DeniedError(CallFailedError):
    """403: the policy does not allow it.

    Attributes:
        required: The grant that would allow it.
        role: The role that the caller has.
    """

    def __init__(self, *, code: int, message: str, correlation_id: str, required: str, role: str) -> None:
        super().__init__(code=code, message=message, correlation_id=correlation_id, required=required)
        self.role = role


class KeyRefusedError(DeniedError):
    """403 about a data label: the role does not hold it, so it gets no key and may not ask."""


class DeadlineError(CallFailedError):
    """408, or no answer within the caller's own timeout: whether the handler did its work is not known."""


class TooLargeError(CallFailedError):
    """413, or refused here before sending: the request exceeds the largest payload."""


class OverLimitError(CallFailedError):
    """429: over a limit.

    Attributes:
        retry_after: Seconds after which to try again, or None.
    """

    def __init__(
        self, *, code: int, message: str, correlation_id: str, retry_after: float | None, required: str = ""
    ) -> None:
        super().__init__(code=code, message=message, correlation_id=correlation_id, required=required)
        self.retry_after = retry_after


class HandlerFailedError(CallFailedError):
    """500: the agent failed; its log has the reason under the correlation id."""


class UnavailableError(CallFailedError):
    """503: no replica serves the capability, or there is no such capability."""


class BadAnswerError(CallFailedError):
    """An answer came that is not an answer to this call."""


class AnswerRefusedError(BadAnswerError):
    """A sealed answer was due, and what came is none that opens here: nothing of it is handed on (SEC-12).

    Whether the handler did its work is not known. For a key: the answer is not the control plane's to this request.
    """
