"""From an agent to the table of what it serves.

Inspects the class and builds every codec and invoker, once; all faults of a class that can be known without
a request are found here, as `AgentDefinitionError`, before the agent serves anything.
"""

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from runtime.agent.agent import Agent, checked_name
from runtime.agent.capability import (
    DECLARATION,
    DEFAULT_CONCURRENCY,
    DEFAULT_TIMEOUT_S,
    Declaration,
    is_capability_name,
)
from runtime.agent.errors import AgentDefinitionError, one_line
from runtime.agent.handlers import Invoke, async_invoker, thread_invoker
from runtime.agent.invocation import Invocation
from runtime.agent.schemas import input_codec, output_codec

_SIGNATURE_FIX: Final = "write (self, request: Model) or (self, request: Model, invocation: Invocation)"
_POSITIONAL: Final = frozenset({inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD})


@dataclass(frozen=True, kw_only=True, slots=True)
class CapabilitySpec:
    """One capability, ready to serve.

    Attributes:
        name: the capability's name.
        timeout: seconds a call may take.
        concurrency: calls that may run at a time.
        idempotent: whether a call may safely be repeated.
        sensitive: the label of its data, None for plain data.
        validate_input: JSON bytes to the handler's request; raises `InputInvalidError`.
        invoke: runs the handler on (request, invocation).
        encode_output: the handler's result to JSON bytes; raises `OutputInvalidError`.
        input_schema: JSON schema of the request.
        output_schema: JSON schema of the result.
        doc: the handler's docstring, empty if it has none.
    """

    name: str
    timeout: float
    concurrency: int
    idempotent: bool
    sensitive: str | None
    validate_input: Callable[[bytes], Any]
    invoke: Invoke
    encode_output: Callable[[Any], bytes]
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    doc: str


def capability_table(agent: Agent) -> Mapping[str, CapabilitySpec]:
    """All that `agent` serves, by capability name.

    Raises:
        AgentDefinitionError: the class can't be served as it is written; the message says what to change.
    """
    checked_name(agent)
    table: dict[str, CapabilitySpec] = {}
    for spec in (*_decorated(agent), *_listed(agent)):
        if spec.name in table:
            fix = "give each capability one handler"
            raise AgentDefinitionError(type(agent).__name__, f"`{spec.name}` is offered twice", fix)
        table[spec.name] = spec
    if not table:
        fix = "decorate a method with @capability, or list `capabilities`"
        raise AgentDefinitionError(type(agent).__name__, "it offers no capability", fix)
    return MappingProxyType(table)


def _decorated(agent: Agent) -> Iterator[CapabilitySpec]:
    cls = type(agent)
    for attribute in dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base)):
        where = f"{cls.__name__}.{attribute}"
        static = inspect.getattr_static(cls, attribute)
        declaration = getattr(getattr(static, "__func__", static), DECLARATION, None)
        if isinstance(declaration, Declaration):
            if not inspect.isfunction(static):
                problem = f"is a {type(static).__name__}, not a plain method"
                raise AgentDefinitionError(where, problem, "make it a plain `async def` or `def` method")
            yield _spec(declaration, static, getattr(agent, attribute), where)
        elif static is not None and _declared_by_a_base(cls, attribute):
            fix = "decorate it with @capability too, or set it to None to take the capability back"
            raise AgentDefinitionError(where, "overrides a capability without being one", fix)


def _declared_by_a_base(cls: type, attribute: str) -> bool:
    return any(hasattr(vars(base).get(attribute), DECLARATION) for base in cls.__mro__[1:])


def _spec(
    declaration: Declaration, function: Callable[..., Any], method: Callable[..., Any], where: str
) -> CapabilitySpec:
    # A decorator above @capability may have wrapped an `async def` into a `def` that returns its coroutine.
    source = inspect.unwrap(function)
    if inspect.isasyncgenfunction(source) or inspect.isgeneratorfunction(source):
        raise AgentDefinitionError(where, "it yields", "return one result")
    wants_context, request, result = _signature(source, where)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(source)
    validate_input, input_schema = input_codec(request, where, discreet=declaration.sensitive is not None)
    encode_output, output_schema = output_codec(result, where)
    return CapabilitySpec(
        name=declaration.name,
        timeout=declaration.timeout,
        concurrency=declaration.concurrency,
        idempotent=declaration.idempotent,
        sensitive=declaration.sensitive,
        validate_input=validate_input,
        invoke=(async_invoker if is_async else thread_invoker)(method, wants_context=wants_context),
        encode_output=encode_output,
        input_schema=MappingProxyType(input_schema),
        output_schema=MappingProxyType(output_schema),
        doc=inspect.getdoc(function) or "",
    )


def _signature(function: Callable[..., Any], where: str) -> tuple[bool, object, object]:
    """Whether the handler wants an invocation, and the types of its request and result."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if len(parameters) not in {1, 2} or any(parameter.kind not in _POSITIONAL for parameter in parameters):
        raise AgentDefinitionError(where, "its parameters don't fit a handler", _SIGNATURE_FIX)
    hints = _hints(function, where)
    if parameters[0].name not in hints:
        fix = f"annotate `{parameters[0].name}` with a pydantic model or `dict`"
        raise AgentDefinitionError(where, "the type of its request is not given", fix)
    if "return" not in hints:
        raise AgentDefinitionError(
            where,
            "the type of its result is not given",
            "annotate the return with a pydantic model or `dict`",
        )
    if len(parameters) == 2 and hints.get(parameters[1].name) is not Invocation:  # noqa: PLR2004 - the optional one
        raise AgentDefinitionError(where, "its second parameter is not an Invocation", _SIGNATURE_FIX)
    return len(parameters) == 2, hints[parameters[0].name], hints["return"]  # noqa: PLR2004 - the optional one


def _hints(function: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        problem = f"an annotation can't be resolved ({one_line(str(error))})"
        raise AgentDefinitionError(where, problem, "define the models at the module's top level") from error


def _listed(agent: Agent) -> Iterator[CapabilitySpec]:
    where = f"{type(agent).__name__}.capabilities"
    overridden = type(agent).process_capability is not Agent.process_capability
    if overridden != bool(agent.capabilities):
        fix = "list the names in `capabilities` and override process_capability, or do neither"
        raise AgentDefinitionError(where, "names and process_capability go together", fix)
    if isinstance(agent.capabilities, str):
        raise AgentDefinitionError(where, "it is one string", f'write ["{one_line(agent.capabilities)}"]')
    for name in agent.capabilities:
        if not is_capability_name(name):
            fix = "use 1 to 4 tokens of [a-z0-9_-] joined by dots"
            raise AgentDefinitionError(where, f"`{one_line(str(name), limit=60)}` is not a capability name", fix)
        yield _listed_spec(agent, name)


def _listed_spec(agent: Agent, name: str) -> CapabilitySpec:
    where = f"{type(agent).__name__}.process_capability"
    method: Callable[..., Awaitable[Any]] = functools.partial(agent.process_capability, name)
    is_async = inspect.iscoroutinefunction(type(agent).process_capability)
    validate_input, input_schema = input_codec(dict[str, Any], where)
    encode_output, output_schema = output_codec(dict[str, Any], where)
    return CapabilitySpec(
        name=name,
        timeout=DEFAULT_TIMEOUT_S,
        concurrency=DEFAULT_CONCURRENCY,
        idempotent=False,
        sensitive=None,
        validate_input=validate_input,
        invoke=(async_invoker if is_async else thread_invoker)(method, wants_context=False),
        encode_output=encode_output,
        input_schema=MappingProxyType(input_schema),
        output_schema=MappingProxyType(output_schema),
        doc=inspect.getdoc(agent.process_capability) or "",
    )
