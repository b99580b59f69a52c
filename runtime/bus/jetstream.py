"""What buckets, blobs and append-only streams share: making streams, reading many messages, one family of errors.

Rules it keeps: no stream is made on subjects that calls or answers travel on (SEC-4); no error of nats-py leaves; each
read has an end, also when the connection breaks in the middle of it; what a write returned for is on the server's disk.

Reading many uses the server's batched direct get: one request, no consumer to make and to clean up. In a cluster a
follower may answer it, a moment behind its leader.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import nats.errors
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from nats.js.api import StorageType, StreamConfig

from authz.subjects import overlaps
from runtime.bus.connection import Connection
from runtime.bus.errors import InvalidSubjectError, StorageError, StorageUnavailableError
from runtime.bus.message import Message

_END_OF_BATCH = 204
_NOT_FOUND = 404
_IN_USE = 10_058
_BATCH_BYTES = 4 << 20
_READ_S = 10.0
# SEC-4: a stream acknowledges what it stores, so on these it would answer calls, or feed on answers
_NEVER_STORED = (
    "ai.capabilities.>",
    "ai.streams.>",
    "ai.admin.>",
    "tenant.>",
    "_INBOX.>",
    "_R_.>",
    "$SYS.>",
    "$JS.>",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """One message of a stream."""

    subject: str
    sequence: int
    data: bytes
    deleted: bool


@contextlib.contextmanager
def our_errors(what: str) -> Iterator[None]:
    """Turn nats-py's errors into ours; `what` is named in the message."""
    try:
        yield
    except js_errors.NotFoundError as error:
        raise StorageError(f"{what}: not found") from error
    except js_errors.APIError as error:
        raise StorageUnavailableError(f"{what}: {error.description or 'refused by JetStream'}") from error
    except (nats.errors.TimeoutError, TimeoutError) as error:
        raise StorageUnavailableError(f"{what}: JetStream did not answer in time") from error
    except nats.errors.Error as error:
        raise StorageUnavailableError(f"{what}: JetStream is not there") from error


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Make the stream, or bring the one that is there to this configuration.

    Raises:
        StorageUnavailableError: JetStream refuses.
    """
    with our_errors(f"stream {config.name}"):
        try:
            await js.add_stream(config)
        except js_errors.BadRequestError as error:
            if error.err_code != _IN_USE:
                raise
            await js.update_stream(config)


async def read_batch(
    connection: Connection, stream: str, *, subject: str, from_sequence: int, limit: int
) -> tuple[list[Stored], bool]:
    """Read up to `limit` messages, in order.

    Args:
        connection: In the stream's account.
        stream: Its name; direct access must be allowed.
        subject: Which messages; may hold wildcards.
        from_sequence: Where to begin, from 1.
        limit: How many at the most; fewer come when they are large.

    Returns:
        The messages, and whether there are more after them.

    Raises:
        StorageUnavailableError: JetStream did not answer, or the answer is incomplete.
    """
    query = {"seq": max(from_sequence, 1), "next_by_subj": subject, "batch": limit, "max_bytes": _BATCH_BYTES}
    request_subject = f"$JS.API.DIRECT.GET.{stream}"
    with our_errors(f"stream {stream}"):
        answers = await connection.request_many(
            request_subject, msgspec.json.encode(query), count=limit + 1, timeout=_READ_S
        )
    if not answers or answers[-1].status is None:
        raise StorageUnavailableError(f"stream {stream}: JetStream did not answer in time")
    if answers[-1].status == _NOT_FOUND:
        return [], False
    if answers[-1].status != _END_OF_BATCH:
        raise StorageUnavailableError(f"stream {stream}: JetStream refused to read ({answers[-1].status})")
    pending = answers[-1].header("Nats-Num-Pending") or "0"
    return [_stored(answer) for answer in answers[:-1]], pending != "0"


def _stored(message: Message) -> Stored:
    return Stored(
        subject=message.header("Nats-Subject") or "",
        sequence=int(message.header("Nats-Sequence") or 0),
        data=message.data,
        deleted=message.header("KV-Operation") in ("DEL", "PURGE"),
    )


async def read_all(connection: Connection, stream: str, *, subject: str, page: int = 256) -> list[Stored]:
    """Read everything on a subject, page by page, in order."""
    found: list[Stored] = []
    more = True
    while more:
        following = found[-1].sequence + 1 if found else 1
        stored, more = await read_batch(connection, stream, subject=subject, from_sequence=following, limit=page)
        found += stored
        more = more and bool(stored)
    return found


def stream_config(name: str, *, subjects: list[str], **settings: Any) -> StreamConfig:
    """A stream on disk that allows direct reads; everything else from `settings`.

    Raises:
        InvalidSubjectError: The stream would store, and answer, what travels on a subject of `_NEVER_STORED`.
    """
    for subject in subjects:
        if any(overlaps(reserved, subject) for reserved in _NEVER_STORED):
            raise InvalidSubjectError(subject)
    return StreamConfig(name=name, subjects=subjects, storage=StorageType.FILE, allow_direct=True, **settings)
