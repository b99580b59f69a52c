"""What a caller uses: `Client`, and what can go wrong for it."""

from runtime.client.answers import Answer
from runtime.client.client import Client
from runtime.client.errors import (
    AnswerRefusedError,
    BadAnswerError,
    CallFailedError,
    ClientError,
    DeadlineError,
    DeniedError,
    ExpiredCredentialsError,
    FolderError,
    HandlerFailedError,
    InvalidRequestError,
    KeyRefusedError,
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
    "AnswerRefusedError",
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
    "KeyRefusedError",
    "NotAuthenticatedError",
    "OverLimitError",
    "RejectedCredentialsError",
    "RetryPolicy",
    "ServerRefusedError",
    "TooLargeError",
    "UnavailableError",
    "UnreachableError",
]
