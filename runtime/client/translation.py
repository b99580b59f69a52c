"""What a failure of the bus means to a caller. Pure."""

from runtime.bus.errors import (
    BusError,
    ConnectFailedError,
    ConnectionLostError,
    NoRespondersError,
    PayloadTooLargeError,
    RequestTimeoutError,
)
from runtime.client.errors import (
    ClientError,
    DeadlineError,
    ExpiredCredentialsError,
    RejectedCredentialsError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
)
from runtime.client.identity import Identity


class RepeatableError(Exception):
    """A failure after which a call may be repeated: always if it reached nobody, else if it is idempotent.

    Attributes:
        error: What the caller gets when it is not repeated.
        reached_nobody: Whether nobody can have carried it out.
    """

    def __init__(self, error: ClientError, *, reached_nobody: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.reached_nobody = reached_nobody


def connect_error(error: ConnectFailedError, identity: Identity) -> ClientError:
    """Why no connection came about."""
    if error.reason == "expired":
        message = f"the credentials of `{identity.name}` have expired"
        return ExpiredCredentialsError(message, name=identity.name, expired_at=identity.expires_at)
    if error.reason == "auth":
        message = f"the server does not accept the credentials of `{identity.name}`"
        return RejectedCredentialsError(message, url=identity.url)
    if isinstance(error.__cause__, ClientError):
        return error.__cause__  # reading the credentials failed, and says why
    return UnreachableError(str(error), url=identity.url, reason=error.reason)


def request_error(error: BusError, name: str, correlation_id: str, url: str) -> ClientError | RepeatableError:
    """Why a request has no answer, and whether it may be repeated."""
    match error:
        case NoRespondersError():
            text = f"nobody answers `{name}`: no replica serves it, or there is no such capability"
            nobody = UnavailableError(code=503, message=text, correlation_id=correlation_id)
            return RepeatableError(nobody, reached_nobody=True)
        case RequestTimeoutError():
            text = f"no answer from `{name}` in time"
            return DeadlineError(code=408, message=text, correlation_id=correlation_id)
        case PayloadTooLargeError():
            text = f"the request is {error.size} bytes; at most {error.limit} can be sent"
            return TooLargeError(code=413, message=text, correlation_id=correlation_id)
        case ConnectionLostError():
            lost = UnreachableError(str(error), url=url, reason="lost")
            return RepeatableError(lost, reached_nobody=not error.sent)
    return UnreachableError(str(error), url=url, reason="bus")
