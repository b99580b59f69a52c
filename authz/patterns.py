"""What a policy's patterns may look like, by action, and which subjects of a template they become.

The one place that knows both, so a pattern can't mean one thing to the dispatcher and another to nats-server:

    call       1 to 4 tokens    publishes    ai.capabilities.<pattern>
    publish    1 to 6 tokens    publishes    ai.events.<pattern>
    subscribe  1 to 6 tokens    subscribes   ai.events.<pattern>
    admin      <area>.<verb>    publishes    ai.admin.<area>.<verb>.<tenant>
    data       a label          none: labels are about keys

Patterns are relative to those prefixes, so no pattern can name an inbox, JetStream, `$SYS`, or something to
listen in on (SEC-3, SEC-4, SEC-5; `authz.guards` checks the result once more). A tenant administers its own
areas only, and itself only; the platform's patterns reach every area and every target.
"""

import re

from authz.errors import AuthzError
from authz.names import MAX_CAPABILITY_TOKENS, PLATFORM_TENANT, NameFormatError, label_name
from authz.policy import Action
from authz.quoting import quoted
from authz.subjects import ONE, REST, SubjectFormatError, covers, parse_pattern

UNWRAP = "keys.unwrap"
TENANT_ADMIN_AREAS = ("agents", "credentials", "keys", "policy")
"""What a tenant may administer of itself. Anything else is the platform's."""

MAX_EVENT_TOKENS = 6

CAPABILITIES = "ai.capabilities"
EVENTS = "ai.events"
ADMIN = "ai.admin"

_PUBLISHES: dict[Action, str] = {"call": CAPABILITIES, "publish": EVENTS, "admin": ADMIN}
_MAX_TOKENS: dict[Action, int] = {
    "call": MAX_CAPABILITY_TOKENS,
    "publish": MAX_EVENT_TOKENS,
    "subscribe": MAX_EVENT_TOKENS,
    "admin": 2,
}
_KIND: dict[Action, str] = {
    "call": "a capability",
    "publish": "an event",
    "subscribe": "an event",
    "admin": "a command",
}
_PLAIN_TOKEN = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_FAMILIES = ("capabilities", "streams", "admin", "events", "agents", "workflows", "metrics", ONE, REST)
_ADMIN_TOKENS = 2

_TOKEN = r"[a-z0-9_-]{1,64}"  # noqa: S105 - a grammar, not a secret
_RESOURCES: dict[Action, re.Pattern[str]] = {
    "call": re.compile(rf"{_TOKEN}(?:\.{_TOKEN}){{0,{MAX_CAPABILITY_TOKENS - 1}}}", re.ASCII),
    "publish": re.compile(rf"{_TOKEN}(?:\.{_TOKEN}){{0,{MAX_EVENT_TOKENS - 1}}}", re.ASCII),
    "subscribe": re.compile(rf"{_TOKEN}(?:\.{_TOKEN}){{0,{MAX_EVENT_TOKENS - 1}}}", re.ASCII),
    "admin": re.compile(rf"{_TOKEN}\.{_TOKEN}", re.ASCII),
    "data": re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII),
}


class PatternFormatError(AuthzError):
    """A pattern that a policy must not hold.

    Attributes:
        action: what it was to allow or deny.
        pattern: the pattern.
        problem: what is wrong with it and what to write instead.
    """

    def __init__(self, *, action: Action, pattern: object, problem: str) -> None:
        super().__init__(f"`{action}` pattern {quoted(pattern)} {problem}")
        self.action = action
        self.pattern = pattern
        self.problem = problem


def check_pattern(action: Action, pattern: str, *, tenant: str) -> None:
    """Refuse a pattern that is not of its action's grammar.

    Raises:
        PatternFormatError: with what to write instead.
    """
    problem = _label_problem(pattern) if action == "data" else _pattern_problem(action, pattern, tenant)
    if problem:
        raise PatternFormatError(action=action, pattern=pattern, problem=problem)


def is_resource(action: Action, text: str) -> bool:
    """Tell whether ``text`` is something that can be asked about: a name of the action's kind, without wildcards."""
    return _RESOURCES[action].fullmatch(text) is not None


def rule_patterns(action: Action, pattern: str, *, tenant: str) -> tuple[str, ...]:
    """Return the patterns of resources that a policy's pattern stands for.

    Itself, except that a tenant's `admin` wildcards stand for the areas that a tenant has.
    """
    if action != "admin" or tenant == PLATFORM_TENANT:
        return (pattern,)
    area, _, verb = pattern.partition(".")
    areas = TENANT_ADMIN_AREAS if area in (ONE, REST) else (area,)
    return tuple(f"{each}.{ONE if verb in ('', REST) else verb}" for each in areas)


def publish_subjects(action: Action, pattern: str, *, tenant: str) -> tuple[str, ...]:
    """Return the subjects that a pattern lets a role publish to, or keeps it from."""
    if action == "data":
        return (f"{ADMIN}.{UNWRAP}.{tenant}",)  # who holds a label may ask for its keys
    prefix = _PUBLISHES.get(action)
    if prefix is None:
        return ()
    patterns = rule_patterns(action, pattern, tenant=tenant)
    if action == "admin":
        return tuple(_admin_subject(each, tenant) for each in patterns)
    return tuple(f"{prefix}.{each}" for each in patterns)


def subscribe_subjects(action: Action, pattern: str) -> tuple[str, ...]:
    """Return the subjects that a pattern lets a role subscribe to, or keeps it from."""
    return (f"{EVENTS}.{pattern}",) if action == "subscribe" else ()


def _admin_subject(pattern: str, tenant: str) -> str:
    if pattern == REST:
        return f"{ADMIN}.{REST}"
    area, verb = pattern.split(".")
    target = ONE if tenant == PLATFORM_TENANT else tenant
    return f"{ADMIN}.{area}.{ONE if verb == REST else verb}.{target}"


def _label_problem(pattern: str) -> str | None:
    try:
        label_name(pattern)
    except NameFormatError as error:
        return f"must be a data label: {error.rule}; wildcards have no meaning here"
    return None


def _pattern_problem(action: Action, pattern: str, tenant: str) -> str | None:
    try:
        tokens = parse_pattern(pattern)
    except SubjectFormatError as error:
        return error.problem
    if tokens[0].startswith(("$", "_INBOX", "_R_")) or (tokens[0] == "ai" and tokens[1:2] and tokens[1] in _FAMILIES):
        return _subject_problem(action, pattern)
    for token in tokens:
        if token not in (ONE, REST) and not _PLAIN_TOKEN.fullmatch(token):
            return f"has {quoted(token)}: tokens are 1 to 64 of `a-z`, `0-9`, `_` and `-`"
    if len(tokens) > _MAX_TOKENS[action]:
        return f"has {len(tokens)} tokens: {_KIND[action]} has at most {_MAX_TOKENS[action]}"
    return _command_problem(tokens, tenant) if action == "admin" else None


def _subject_problem(action: Action, pattern: str) -> str:
    prefix = _PUBLISHES.get(action, EVENTS)
    if action == "subscribe" and not covers(f"{EVENTS}.{REST}", pattern):
        # SEC-5: a subscriber to calls or administration would read them, and could answer first.
        return "is a whole subject: a role can only subscribe to events, so that nobody listens in on calls"
    return f"is a whole subject: name {_KIND[action]} alone, `{prefix}.` is put before it"


def _command_problem(tokens: tuple[str, ...], tenant: str) -> str | None:
    if tokens == (REST,):
        return None
    if len(tokens) != _ADMIN_TOKENS or tokens[0] == REST:
        return "must be `<area>.<verb>`, such as `policy.apply`, with `*` for either, or `>` for all"
    area = tokens[0]
    if tenant == PLATFORM_TENANT or area == ONE or area in TENANT_ADMIN_AREAS:
        return None
    return f"has the area {quoted(area)}, which is the platform's: a tenant has {', '.join(TENANT_ADMIN_AREAS)}"
