"""Every subject of the project, each from one builder; a table in the tests pins each literal.

Rules it keeps: a part that could add a level or a wildcard is refused, so that a builder's result always has the
meaning of its name. The parsers are total: what they don't recognise is None.

It does not say who may use a subject: the policy does.
"""

import re
from typing import NamedTuple

from runtime.bus.errors import InvalidSubjectError

USER_INFO = "$SYS.REQ.USER.INFO"
CLAIMS_UPDATE = "$SYS.REQ.CLAIMS.UPDATE"
CLAIMS_DELETE = "$SYS.REQ.CLAIMS.DELETE"
CLAIMS_LIST = "$SYS.REQ.CLAIMS.LIST"

PRESENCE_JOINED = "ai.agents.presence.joined"
PRESENCE_LEFT = "ai.agents.presence.left"
PRESENCE_HEARTBEAT = "ai.agents.presence.heartbeat"

# INVARIANT: the prefix that nats-server gives to the reply of every request that crosses a service import.
SERVICE_REPLY_PREFIX = "_R_."

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_INBOX_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}|\*")
_DOTTED = re.compile(r"[A-Za-z0-9_-]{1,128}(\.[A-Za-z0-9_-]{1,128}){0,7}")
_CAPABILITY = re.compile(r"[a-z0-9_-]{1,64}(\.[a-z0-9_-]{1,64}){0,3}")
_ACCOUNT = re.compile(r"A[A-Z2-7]{55}")
_USER = re.compile(r"U[A-Z2-7]{55}")


class GateCapability(NamedTuple):
    """The parts of a capability request's subject, as delivered in GATE."""

    account: str
    capability: str


class ControlAdmin(NamedTuple):
    """The parts of an administrative request's subject, as delivered in CONTROL."""

    account: str
    command: str
    target: str


def _checked(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise InvalidSubjectError(text)
    return text


def capability(name: str) -> str:
    """Where a caller asks for a capability, in its own account."""
    return f"ai.capabilities.{_checked(_CAPABILITY, name)}"


def capabilities_all() -> str:
    """All capability requests, in a tenant's account (what the import covers)."""
    return "ai.capabilities.>"


def gate_capability(account: str, name: str) -> str:
    """Where GATE receives one tenant's requests for a capability."""
    return f"tenant.{_checked(_ACCOUNT, account)}.capabilities.{_checked(_CAPABILITY, name)}"


def gate_capabilities_all(account: str) -> str:
    """All of one tenant's capability requests, in GATE."""
    return f"tenant.{_checked(_ACCOUNT, account)}.capabilities.>"


def gate_capabilities_export() -> str:
    """What GATE exports; the account's place is its second token."""
    return "tenant.*.capabilities.>"


def parse_gate_capability(subject: str) -> GateCapability | None:
    """Take a delivered subject apart, or None if it is not a tenant's capability request."""
    parts = subject.split(".", 3)
    if len(parts) != 4 or parts[0] != "tenant" or parts[2] != "capabilities":  # noqa: PLR2004
        return None
    if not _ACCOUNT.fullmatch(parts[1]) or not _CAPABILITY.fullmatch(parts[3]):
        return None
    return GateCapability(parts[1], parts[3])


def admin(command: str, target: str) -> str:
    """Where an administrator sends a command (two tokens, ``policy.apply``) about a target, in its own account."""
    return f"ai.admin.{_admin_command(command)}.{_checked(_TOKEN, target)}"


def admin_all() -> str:
    """All administrative requests, in a tenant's account (what the import covers)."""
    return "ai.admin.>"


def control_admin_all() -> str:
    """All administrative requests of every account, in CONTROL."""
    return "tenant.*.admin.>"


def parse_control_admin(subject: str) -> ControlAdmin | None:
    """Take a delivered subject apart: account, command of two tokens, target; or None if it is not one."""
    parts = subject.split(".")
    if len(parts) != 6 or parts[0] != "tenant" or parts[2] != "admin":  # noqa: PLR2004
        return None
    if not _ACCOUNT.fullmatch(parts[1]) or not all(_TOKEN.fullmatch(part) for part in parts[3:]):
        return None
    return ControlAdmin(parts[1], f"{parts[3]}.{parts[4]}", parts[5])


def _admin_command(command: str) -> str:
    if command.count(".") != 1:
        raise InvalidSubjectError(command)
    return _checked(_DOTTED, command)


def event(category: str, kind: str) -> str:
    """Where an event is published."""
    return f"ai.events.{_checked(_TOKEN, category)}.{_checked(_DOTTED, kind)}"


def metric(agent_type: str, name: str) -> str:
    """Where an agent's metric is published."""
    return f"ai.metrics.{_checked(_TOKEN, agent_type)}.{_checked(_DOTTED, name)}"


def inbox_prefix(user: str) -> str:
    """The private inbox of a user: nobody else may subscribe below it (SEC-3)."""
    return f"_INBOX.{_checked(_USER, user)}"


def inbox(user: str, connection: str, token: str) -> str:
    """One request's reply subject, below the user's private inbox; ``*`` as token covers a connection's requests."""
    return f"{inbox_prefix(user)}.{_checked(_TOKEN, connection)}.{_checked(_INBOX_TOKEN, token)}"


def claims_lookup(account: str) -> str:
    """Where the servers' resolvers are asked for an account's claims (system account)."""
    return f"$SYS.REQ.ACCOUNT.{_checked(_ACCOUNT, account)}.CLAIMS.LOOKUP"


def kv_key(bucket: str, key: str) -> str:
    """Where JetStream stores a key of a bucket."""
    return f"$KV.{_checked(_TOKEN, bucket)}.{_checked(_DOTTED, key)}"
