"""Append-only streams: records are numbered in the order in which they were stored, and nobody takes one out.

Rules it keeps: when an append returns, the record is on the server's disk; the stream refuses to delete or purge.

It does not interpret records.
"""

from typing import Self

from runtime.bus import wire
from runtime.bus.connection import Connection
from runtime.bus.jetstream import ensure_stream, our_errors, read_batch, stream_config

_HIGHEST_BATCH = 1000


class AppendStream:
    """One stream; made by ``open``."""

    def __init__(self, connection: Connection, name: str, subject: str) -> None:
        self._connection = connection
        self._js = connection.jetstream()
        self.name = name
        self._subject = subject

    @classmethod
    async def open(
        cls, connection: Connection, name: str, subject: str, *, max_bytes: int = -1, replicas: int = 1
    ) -> Self:
        """Open the stream, making it first if it is not there.

        Args:
            connection: In the account that the stream belongs to.
            name: Of the stream.
            subject: Where records are published to; no wildcards.
            max_bytes: When full, appending fails: nothing old is thrown away.
            replicas: On how many servers.

        Raises:
            StorageUnavailableError: JetStream refuses, or is not there.
        """
        settings = stream_config(
            name,
            subjects=[wire.checked_subject(subject)],
            max_bytes=max_bytes,
            num_replicas=replicas,
            deny_delete=True,
            deny_purge=True,
            discard="new",
        )
        await ensure_stream(connection.jetstream(), settings)
        return cls(connection, name, subject)

    async def append(self, data: bytes, *, once: str = "") -> int:
        """Store a record after all others; returns its number.

        Args:
            data: The record.
            once: When given, a repetition within two minutes under the same text is not stored again.

        Raises:
            StorageUnavailableError: It is not known to be stored.
        """
        with our_errors(f"stream {self.name}"):
            headers = {"Nats-Msg-Id": once} if once else None
            acknowledgement = await self._js.publish(self._subject, data, stream=self.name, headers=headers)
        return acknowledgement.seq

    async def read(self, from_seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Read up to `limit` records from number `from_seq` on, in order; fewer only at the end."""
        records: list[tuple[int, bytes]] = []
        more = True
        while more and len(records) < limit:
            stored, more = await read_batch(
                self._connection,
                self.name,
                subject=self._subject,
                from_sequence=records[-1][0] + 1 if records else from_seq,
                limit=min(limit - len(records), _HIGHEST_BATCH),
            )
            records += [(record.sequence, record.data) for record in stored]
            more = more and bool(stored)
        return records
