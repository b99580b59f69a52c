"""What the command ends with: one exit code, one error, one way out.

| code | means |
|---|---|
| 0 | done |
| 1 | refused by the state of things, not found, or failed |
| 2 | wrong usage or bad input; nothing was sent or changed |
| 3 | denied: not authenticated, not allowed, or refused by the server |
| 4 | unreachable, or no answer in time |
| 130 | interrupted with Ctrl-C |

A command raises `CommandError`, or lets an error of another part pass: `failures.py` says what each of those
means to the user. This module prints nothing.
"""

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An error as it is shown: what happened, a stable code for programs, and what to do about it.

    Attributes:
        exit: The exit code.
        code: A stable slug such as `denied`; programs compare this, never `message`.
        message: One lower-case line.
        hint: The way out, or "" where there is none to give.
        details: Further lines, such as each fault of a policy file.
        extra: Further fields for `--json`.
    """

    exit: Exit
    code: str
    message: str
    hint: str = ""
    details: tuple[str, ...] = ()
    extra: tuple[tuple[str, object], ...] = ()


class CommandError(Exception):
    """A command can't go on; `failure` is what the user is told."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def bad_input(message: str, *, hint: str = "", details: tuple[str, ...] = ()) -> CommandError:
    """What the user gave can't be used; nothing was sent."""
    return CommandError(Failure(exit=Exit.USAGE, code="bad_input", message=message, hint=hint, details=details))


def failed(code: str, message: str, *, hint: str = "", details: tuple[str, ...] = ()) -> CommandError:
    """What was asked can't be done as things are."""
    return CommandError(Failure(exit=Exit.FAILED, code=code, message=message, hint=hint, details=details))
