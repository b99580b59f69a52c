"""Errors of the author's interface, grouped by whose fault they are.

The author's: `AgentDefinitionError`, `OutputInvalidError`, `HandlerExitError`. The caller's:
`InputInvalidError`, and `RequestRejectedError`, which an author raises to refuse one request in words that
the caller may read. The platform's answer to a handler: `NotGrantedError`, `DeadlinePassedError`,
`CallRefusedError`.

Rules: a message never repeats a value out of a request or a result (it may be a patient's), is one line and
bounded. This module does not decide what goes on the wire; the dispatcher does.
"""

from typing import TypedDict

_MAX_TEXT = 300


def one_line(text: str, *, limit: int = _MAX_TEXT) -> str:
    """`text` without control characters, runs of white space made one space, at most `limit` characters."""
    joined = " ".join(text[: 4 * limit].split())
    printable = "".join(character if character.isprintable() else "?" for character in joined)
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"


class FieldFault(TypedDict):
    """One thing wrong in a request or a result: where (`observations[2].value`, or empty), and what."""

    path: str
    message: str


def _summary(fields: list[FieldFault]) -> str:
    first = fields[0]
    where = f"`{first['path']}`: " if first["path"] else ""
    more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
    return f"{where}{first['message']}{more}"


class AgentError(Exception):
    """Base of every error of `runtime.agent`."""


class AgentDefinitionError(AgentError):
    """An agent class can't be served as it is written.

    Attributes:
        where: the class or handler, `HelloAgent.greeting`.
        problem: what is wrong with it.
        fix: what to change.
    """

    def __init__(self, where: str, problem: str, fix: str) -> None:
        super().__init__(f"`{where}`: {problem}; {fix}")
        self.where = where
        self.problem = problem
        self.fix = fix


class InputInvalidError(AgentError):
    """The data of a request doesn't fit the handler's input model.

    Attributes:
        fields: at least one fault, at most `faults.MAX_FAULTS`.
    """

    def __init__(self, fields: list[FieldFault]) -> None:
        super().__init__(f"input invalid: {_summary(fields)}")
        self.fields = fields


class OutputInvalidError(AgentError):
    """A handler's result doesn't fit what the handler declares to answer with.

    Attributes:
        fields: at least one fault, at most `faults.MAX_FAULTS`. For the log, not for the caller.
    """

    def __init__(self, fields: list[FieldFault]) -> None:
        super().__init__(f"output invalid: {_summary(fields)}")
        self.fields = fields


class HandlerExitError(AgentError):
    """A handler tried to end the process (`sys.exit()`, `KeyboardInterrupt`); only its call ends."""


class CapabilityError(AgentError):
    """Base of the failures that an author raises on purpose."""


class RequestRejectedError(CapabilityError):
    """Refuses one well-formed request; the caller gets `message` with code 422.

    This is the only exception whose text leaves the host: keep other people's data out of it.

    Attributes:
        message: what the caller reads, one line, at most 300 characters.
        path: the field that it is about, empty for the whole request.
        fields: the same as a list of faults.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        self.message = one_line(message) or "request rejected"
        self.path = one_line(path)
        super().__init__(self.message)

    @property
    def fields(self) -> list[FieldFault]:
        """The rejection in the form of `InputInvalidError.fields`."""
        return [FieldFault(path=self.path, message=self.message)]


class NotGrantedError(AgentError):
    """The agent has no grant for what its handler asked for.

    Attributes:
        capability: the capability that was asked for.
    """

    def __init__(self, capability: str, reason: str = "this agent has no grant to call") -> None:
        super().__init__(f"{reason} `{one_line(capability)}`")
        self.capability = capability


class DeadlinePassedError(AgentError):
    """No time is left for what the handler asked for.

    Attributes:
        capability: the capability that was asked for.
    """

    def __init__(self, capability: str) -> None:
        super().__init__(f"no time is left to call `{one_line(capability)}`")
        self.capability = capability


class CallRefusedError(AgentError):
    """Another capability, called by a handler, answered with a failure.

    Attributes:
        capability: the capability that was called.
        code: its answer's code, 400 to 599.
        message: its answer's short text.
    """

    def __init__(self, capability: str, code: int, message: str) -> None:
        super().__init__(f"`{one_line(capability)}` answered {code}: {one_line(message)}")
        self.capability = capability
        self.code = code
        self.message = message
