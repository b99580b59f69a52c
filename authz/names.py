"""The names that people choose, and the grammar of each.

Names end up as subject tokens, in permission templates and in file names, so each grammar admits ASCII only and
none of the characters that mean something to NATS, to a shell or to a path. # SEC-3: a user named `*` would
read every inbox.

A function returns the name it was given, or raises `NameFormatError`. It never repairs one.
"""

import re

from authz.errors import AuthzError
from authz.quoting import quoted

PLATFORM_TENANT = "platform"
"""The tenant of operators and hosts; its policy alone may administer other tenants."""

MAX_CAPABILITY_TOKENS = 4

_LOWER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_MIXED = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CAPABILITY = re.compile(r"[a-z0-9_-]{1,64}(?:\.[a-z0-9_-]{1,64}){0,3}", re.ASCII)

_LOWER_RULE = "1 to 63 of `a-z`, `0-9`, `_` and `-`, beginning with a letter or digit"
_MIXED_RULE = "1 to 64 of `A-Z`, `a-z`, `0-9`, `_` and `-`"
_CAPABILITY_RULE = "1 to 4 words of `a-z`, `0-9`, `_` and `-`, with dots between them, such as `vitals.assess`"


class NameFormatError(AuthzError):
    """A name is not of its grammar.

    Attributes:
        kind: what was being named, such as `tenant name`.
        text: what was given.
        rule: what the name must be, in words.
    """

    def __init__(self, *, kind: str, text: object, rule: str) -> None:
        super().__init__(f"{kind} {quoted(text)} must be {rule}")
        self.kind = kind
        self.text = text
        self.rule = rule


def tenant_name(text: str) -> str:
    """Return ``text`` if it can name a tenant, `platform` included."""
    return _checked("tenant name", text, _LOWER, _LOWER_RULE)


def agent_name(text: str) -> str:
    """Return ``text`` if it can name an agent."""
    return _checked("agent name", text, _LOWER, _LOWER_RULE)


def label_name(text: str) -> str:
    """Return ``text`` if it can name a data label, such as `phi`."""
    return _checked("data label", text, _LOWER, _LOWER_RULE)


def role_name(text: str) -> str:
    """Return ``text`` if it can name a role."""
    return _checked("role name", text, _MIXED, _MIXED_RULE)


def user_name(text: str) -> str:
    """Return ``text`` if it can name a user."""
    return _checked("user name", text, _MIXED, _MIXED_RULE)


def capability_name(text: str) -> str:
    """Return ``text`` if it can name a capability: 1 to 4 tokens, without wildcards."""
    return _checked("capability name", text, _CAPABILITY, _CAPABILITY_RULE)


def _checked(kind: str, text: str, grammar: re.Pattern[str], rule: str) -> str:
    if not isinstance(text, str) or grammar.fullmatch(text) is None:
        raise NameFormatError(kind=kind, text=text, rule=rule)
    return text
