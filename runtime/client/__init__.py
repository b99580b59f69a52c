"""What a caller uses: `Client`, and what can go wrong for it."""

from runtime.client.answers import Answer
from runtime.client.client import Client
from runtime.client.errors import (
    BadAnswerError,
    CallFailedError,
    ClientError,
    DeadlineError,
    DeniedError,
    ExpiredCredentialsError,
    FolderError,
    HandlerFailedError,
    InvalidRequestError,
    NotAuthenticatedError,
    OverLimitError,
    RejectedCredentialsError,
    ServerRefusedError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
)
from runtime.client.retry import RetryPolicy

__all__ = [
    "Answer",
    "BadAnswerError",
    "CallFailedError",
    "Client",
    "ClientError",
    "DeadlineError",
    "DeniedError",
    "ExpiredCredentialsError",
    "FolderError",
    "HandlerFailedError",
    "InvalidRequestError",
    "NotAuthenticatedError",
    "OverLimitError",
    "RejectedCredentialsError",
    "RetryPolicy",
    "ServerRefusedError",
    "TooLargeError",
    "UnavailableError",
    "UnreachableError",
]
