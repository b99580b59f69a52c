"""The one way to connect, and what a connection can do.

Rules it keeps:

- SEC-8: TLS comes before anything else, on the first connection and on each later one; without a context there is no
  connection.
- SEC-3: answers come to the user's private inbox, under unguessable tokens.
- SEC-6: an answer carries only the headers that are passed in.
- SEC-7: see ``client``. A lost connection is restored with growing, jittered delays; credentials are read anew each
  time, and a refusal that will not go away ends the connection and is reported once, through `on_closed`.
- SEC-10: what is over the payload limit is refused here, since the server cuts the connection for it.

It does not renew credentials before they expire: make a second connection, then drain the first.
"""

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nats.js import JetStreamContext

from runtime.bus import subjects, wire
from runtime.bus.client import BusClient
from runtime.bus.credentials import Credentials, expiry_of
from runtime.bus.errors import (
    BusError,
    ConnectFailedError,
    ConnectionLostError,
    NoRespondersError,
    PayloadTooLargeError,
)
from runtime.bus.failures import explain
from runtime.bus.inbound import Direct, Handler
from runtime.bus.message import Message
from runtime.bus.subscription import Subscription

_log = logging.getLogger(__name__)

_RETRY_DELAY_S = 0.1
_AUTH_ATTEMPTS = 5
_FLUSH_S = 10.0
_NO_RESPONDERS = 503


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where to connect, and how.

    Attributes:
        url: ``nats://host:port``; TLS is used whatever the scheme says.
        tls: From ``certs.contexts``: TLS 1.3, mutual.
        max_payload: Most bytes of one message, headers included. The account's limit.
    """

    url: str
    tls: ssl.SSLContext
    max_payload: int = 262_144


def _ignore() -> None:
    pass


async def connect(
    endpoint: Endpoint,
    credentials: Callable[[], Credentials],
    *,
    name: str,
    on_closed: Callable[[], None] | None = None,
    on_lost: Callable[[], None] | None = None,
    on_restored: Callable[[], None] | None = None,
    hears_answers: bool = True,
    timeout: float = 5.0,  # noqa: ASYNC109  # a budget over several attempts, not one wait
) -> "Connection":
    """Connect, or say why not.

    Only an unreachable server is tried again, until the timeout; what is refused once stays refused.

    Args:
        endpoint: Where and how.
        credentials: Read before each attempt, now and at each reconnection.
        name: Shown by the server's monitoring.
        on_closed: Called once if the connection ends for good by itself: expired, revoked, refused. Rebuild then.
        on_lost: Called when the connection breaks; it is being restored.
        on_restored: Called when it is back, with its subscriptions.
        hears_answers: Whether it listens on its private inbox. A user that may only answer has none and can't ask.
        timeout: Seconds for everything together.

    Raises:
        ConnectFailedError: With the reason.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        connection = Connection(
            endpoint,
            credentials,
            on_closed=on_closed or _ignore,
            on_lost=on_lost or _ignore,
            on_restored=on_restored or _ignore,
            hears_answers=hears_answers,
        )
        try:
            await connection._open(name, max(left, _RETRY_DELAY_S))  # noqa: SLF001  # same module
        except ConnectFailedError as error:
            if error.reason != "unreachable" or deadline - time.monotonic() <= _RETRY_DELAY_S:
                raise
        else:
            return connection
        await asyncio.sleep(_RETRY_DELAY_S)


class Connection:
    """A connection that heals itself; made by ``connect``."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials],
        *,
        on_closed: Callable[[], None],
        on_lost: Callable[[], None],
        on_restored: Callable[[], None],
        hears_answers: bool,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._on_closed = on_closed
        self._user = ""
        self.end_reason = ""
        self._client = BusClient(
            credentials=self._current_credentials,
            inbox_of=self._private_inbox,
            on_lost=on_lost,
            on_restored=on_restored,
            on_ended=self._ended,
            give_up=self._give_up,
            hears_answers=hears_answers,
        )

    # --- opening and ending ---------------------------------------------------------------------------------------

    async def _open(self, name: str, seconds: float) -> None:
        try:
            self._client.load_credentials()
            async with asyncio.timeout(seconds):
                await self._client.open(name=name, url=self._endpoint.url, tls=self._endpoint.tls, seconds=seconds)
        except ConnectFailedError:
            self._client.abandon()
            raise
        except Exception as error:
            self._client.abandon()
            raise explain(error, self._endpoint.url) from error
        except asyncio.CancelledError:
            self._client.abandon()
            raise

    def _current_credentials(self) -> Credentials:
        try:
            credentials = self._credentials()
        except Exception as error:
            raise ConnectFailedError("credentials", str(error)) from error
        expiry = expiry_of(credentials.jwt)
        # The server gives one text for expired and for wrong, so time is looked at first.
        if expiry is not None and expiry <= time.time():
            raise ConnectFailedError("expired", "the credentials have expired")
        return credentials

    def _private_inbox(self, credentials: Credentials) -> str:
        self._user = credentials.seed.public.text
        return subjects.inbox_prefix(self._user)

    def _give_up(self, error: Exception, attempt: int) -> bool:
        reason = explain(error, self._endpoint.url).reason
        return reason == "expired" or (reason in {"auth", "credentials"} and attempt >= _AUTH_ATTEMPTS)

    def _ended(self, error: Exception | None) -> None:
        self.end_reason = str(error or "")
        _log.warning("connection ended: %s", self.end_reason)
        self._on_closed()

    # --- state ----------------------------------------------------------------------------------------------------

    @property
    def user(self) -> str:
        """The public key of the user that is connected."""
        return self._user

    @property
    def inbox_prefix(self) -> str:
        """Below this, and nowhere else, the user may receive answers."""
        return subjects.inbox_prefix(self._user)

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._client.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether it has ended for good."""
        return self._client.is_closed

    @property
    def dropped_answers(self) -> int:
        """How many answers were dropped since the connection was down, or the server did not read."""
        return self._client.dropped_answers

    # --- sending --------------------------------------------------------------------------------------------------

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,  # noqa: ASYNC109  # one timer of the loop; asyncio.timeout costs more
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """Ask, and return the answer.

        Raises:
            NoRespondersError: Nobody serves the subject.
            RequestTimeoutError: No answer within `timeout` seconds.
            RefusedError: The server doesn't let this user publish there.
            PayloadTooLargeError: Over the limit; nothing was sent.
            ConnectionLostError: No connection; its `sent` tells whether the request may have arrived.
        """
        self._check_size(payload, headers)
        return await self._client.ask(subject, payload, timeout, headers)

    async def request_many(
        self,
        subject: str,
        payload: bytes,
        *,
        count: int,
        timeout: float,  # noqa: ASYNC109  # a shorter list, not an error
    ) -> list[Message]:
        """Ask many at once; returns up to `count` answers, fewer when the time is over.

        Raises:
            NoRespondersError: Nobody serves the subject.
            PayloadTooLargeError, ConnectionLostError: As for ``request``.
        """
        answers: list[Message] = []
        enough = asyncio.Event()

        def collect(message: Message) -> None:
            answers.append(message)
            if len(answers) >= count or message.status is not None:
                enough.set()

        inbox = subjects.inbox(self._user, "many", secrets.token_hex(16))
        subscription = await self.subscribe(inbox, collect)
        try:
            await self.publish(subject, payload, reply=inbox)
            async with asyncio.timeout(timeout):
                await enough.wait()
        except TimeoutError:
            _log.debug("%d of %d answers on `%s`", len(answers), count, subject)
        finally:
            await subscription.unsubscribe()
        if any(answer.status == _NO_RESPONDERS for answer in answers):
            raise NoRespondersError(subject)
        return answers

    async def publish(
        self, subject: str, payload: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Publish without waiting for anybody; the server's refusal is only logged.

        Raises:
            PayloadTooLargeError: Over the limit; nothing was sent.
            ConnectionLostError: No connection; nothing was sent.
        """
        self._check_size(payload, headers)
        if not self._client.is_connected:
            raise ConnectionLostError(sent=False)
        self._client.enqueue(wire.publish(subject, reply, payload, headers))
        await self._client.yield_to_writer()

    def respond(self, reply: str, payload: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer at once, without waiting; SEC-6: only the headers passed in go out.

        An answer to a connection that is gone has no way back, so it is dropped and counted.

        Raises:
            PayloadTooLargeError: Over the limit; nothing was sent.
        """
        self._check_size(payload, headers)
        if not self._client.is_connected or self._client.overfull:
            self._client.dropped_answers += 1
            return
        self._client.enqueue(wire.publish(reply, "", payload, headers))

    def _check_size(self, payload: bytes, headers: Mapping[str, str] | None) -> None:
        size = len(payload) + (len(wire.header_block(headers)) if headers else 0)
        if size > self._endpoint.max_payload:
            raise PayloadTooLargeError(size, self._endpoint.max_payload)

    # --- receiving ------------------------------------------------------------------------------------------------

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Subscribe; when this returns, the server has taken the subscription.

        Args:
            subject: May hold wildcards.
            handler: A plain function, called from the read loop for each message. It must not block; what it raises
                is logged.
            queue: Members of the same queue group share the messages.

        Raises:
            RefusedError: The server doesn't let this user listen there.
            ConnectionLostError: No connection.
        """
        sid = self._client.open_direct(Direct(subject=subject, queue=queue, handler=handler))
        try:
            await self._client.round_trip(_FLUSH_S)
        except BaseException:
            self._client.stop_direct(sid)
            self._client.forget_direct(sid)
            raise
        if refused := self._client.refused_subscription(subject):
            self._client.forget_direct(sid)
            raise refused
        return Subscription(self._client, sid, subject)

    async def flush(self, timeout: float = _FLUSH_S) -> None:  # noqa: ASYNC109  # one timer of the loop
        """Wait until the server has processed everything sent so far."""
        await self._client.round_trip(timeout)

    # --- ending ---------------------------------------------------------------------------------------------------

    async def drain(self, timeout: float = _FLUSH_S) -> None:  # noqa: ASYNC109  # drains what it can within it
        """Take nothing new, let requests in flight end, write everything, close; `on_closed` is not called."""
        try:
            async with asyncio.timeout(timeout):
                for sid in self._client.direct_sids():
                    self._client.stop_direct(sid)
                await self._client.round_trip(timeout)
                await self._client.inflight.emptied()
                await self._client.round_trip(timeout)
        except (TimeoutError, BusError) as error:
            _log.warning("drained incompletely: %s", type(error).__name__)
        await self.close()

    async def close(self) -> None:
        """Write what is buffered and close; what is in flight fails. Never fails; `on_closed` is not called."""
        await self._client.shut()

    def jetstream(self) -> JetStreamContext:
        """nats-py's JetStream client on this connection; for buckets and streams of this package only."""
        return self._client.jetstream()
