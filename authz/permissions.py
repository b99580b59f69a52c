"""What nats-server enforces on one connection: the subjects it may publish and subscribe to.

Rules it keeps: plain immutable data in NATS's own terms. Beware of NATS's meaning of *empty*: an empty
allow list allows everything that is not denied, so a role that grants nothing must deny `>` (SEC-3; the
policy compiler sees to that). Not here: the grammar of subjects (`authz.subjects`) and which grants may
exist (`authz.compiler`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponsePermission:
    """Leave to answer on the reply subject of a message received.

    `max` messages per request (-1: any number), within `ttl_s` seconds of it (0: the server's default).
    """

    max: int
    ttl_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectPermissions:
    """Subjects and wildcards that a user may and may not publish and subscribe to; a deny wins."""

    publish_allow: tuple[str, ...] = ()
    publish_deny: tuple[str, ...] = ()
    subscribe_allow: tuple[str, ...] = ()
    subscribe_deny: tuple[str, ...] = ()
    responses: ResponsePermission | None = None
