"""`@capability`: declares that a method answers a capability, and under which limits.

Only declares: the decorated method stays the plain method that it was, callable in the author's tests.
`table` reads the declarations; the dispatcher enforces timeout and concurrency.

Names follow the wire's rule: 1 to 4 tokens of `[a-z0-9_-]`, joined by dots.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from runtime.agent.errors import AgentDefinitionError, one_line

DEFAULT_TIMEOUT_S: Final = 10.0
# The platform's longest unary deadline; the server forgets a request's way back soon after it.
MAX_TIMEOUT_S: Final = 30.0
DEFAULT_CONCURRENCY: Final = 64
MAX_CONCURRENCY: Final = 10_000
MAX_NAME_LENGTH: Final = 128
DECLARATION: Final = "__garrison_capability__"

_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+){0,3}")
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """What `@capability` says about one method: timeout in seconds, concurrency in calls at a time, its label."""

    name: str
    timeout: float
    concurrency: int
    idempotent: bool
    sensitive: str | None = None


def is_capability_name(name: object) -> bool:
    """Whether `name` can name a capability on the wire, and isn't longer than `MAX_NAME_LENGTH`."""
    return isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name) is not None


def is_label(text: object) -> bool:
    """Whether `text` can name a class of sensitive data."""
    return isinstance(text, str) and _LABEL.fullmatch(text) is not None


def capability(
    name: str,
    *,
    timeout: float = DEFAULT_TIMEOUT_S,
    concurrency: int = DEFAULT_CONCURRENCY,
    idempotent: bool = False,
    sensitive: str | None = None,
) -> Callable[[_Handler], _Handler]:
    """Make a method the handler of capability `name`.

    The method is `async def` (or a plain `def`, run in a thread of its own) and takes the request, and if
    it wants an `Invocation`; both it and its result are annotated with a pydantic model or `dict`.

    Args:
        name: 1 to 4 tokens of `[a-z0-9_-]` joined by dots, such as `vitals.assess`.
        timeout: seconds that one call may take, above 0 and up to 30.
        concurrency: calls that may run at a time, 1 to 10,000.
        idempotent: whether a caller may safely repeat a call whose answer it did not get.
        sensitive: the label of what it takes and gives, such as `phi`: requests must then be sealed under that
            label and signed by their callers, answers are sealed, and each call is on record before it is answered.

    Raises:
        AgentDefinitionError: an argument is out of its range, or the decorated thing is not a function.
    """
    where = f"@capability({one_line(repr(name), limit=60)})"
    if not is_capability_name(name):
        fix = 'write @capability("name") with 1 to 4 tokens of [a-z0-9_-] joined by dots'
        raise AgentDefinitionError(where, "not a capability name", fix)
    _check_limits(where, timeout, concurrency, idempotent)
    if sensitive is not None and not is_label(sensitive):
        fix = 'give a label of [a-z0-9_-], such as "phi", or None'
        raise AgentDefinitionError(where, "`sensitive` is not a data label", fix)
    declaration = Declaration(
        name=name, timeout=float(timeout), concurrency=concurrency, idempotent=idempotent, sensitive=sensitive
    )

    def declare(handler: _Handler) -> _Handler:
        if not inspect.isfunction(handler):
            problem = f"decorates a {type(handler).__name__}, not a method"
            raise AgentDefinitionError(where, problem, "decorate a plain `async def` or `def` method")
        if hasattr(handler, DECLARATION):
            raise AgentDefinitionError(where, "the method is a capability already", "give each its own method")
        setattr(handler, DECLARATION, declaration)
        return handler

    return declare


def _check_limits(where: str, timeout: object, concurrency: object, idempotent: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= MAX_TIMEOUT_S:
        fix = f"give seconds above 0 and up to {MAX_TIMEOUT_S:g}; longer work is a workflow"
        raise AgentDefinitionError(where, "`timeout` is out of range", fix)
    if type(concurrency) is not int or not 1 <= concurrency <= MAX_CONCURRENCY:
        fix = f"give a whole number from 1 to {MAX_CONCURRENCY}"
        raise AgentDefinitionError(where, "`concurrency` is out of range", fix)
    if not isinstance(idempotent, bool):
        raise AgentDefinitionError(where, "`idempotent` is not a bool", "give True or False")
