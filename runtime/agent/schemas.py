"""What a handler takes and gives, made from its annotations: bytes to values, values to bytes, JSON schemas.

Rules it keeps: everything that can be found out is found out when the table is built, once; a capability
takes and answers with JSON objects; no NaN and no infinity, in any spelling; errors name fields and never
repeat values.

It does not read the envelope: the bytes given are the request's data alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import PydanticSerializationError

from runtime.agent.errors import (
    AgentDefinitionError,
    FieldFault,
    InputInvalidError,
    OutputInvalidError,
    one_line,
)
from runtime.agent.faults import DiscreetFaults, faults_of, names_in
from runtime.agent.finite import find_non_finite, may_hold_float

# How pydantic writes NaN and infinity, by its settings. Its default, null, would be a lie about a measurement.
_NON_FINITE_TRACES: Final = (b"null", b"NaN", b"Infinity")
_OBJECT_FIX: Final = "annotate it with a pydantic model or `dict`"


def input_codec(
    annotation: Any, where: str, *, discreet: bool = False
) -> tuple[Callable[[bytes], Any], dict[str, Any]]:
    """The validator of a handler's request, and its JSON schema.

    Args:
        annotation: the type of the handler's `request` parameter.
        where: the handler, for error messages.
        discreet: whether what is wrong with a request is told without any word of what it says.

    Raises:
        AgentDefinitionError: the type isn't one that arrives as a JSON object.
    """
    adapter = _adapter(annotation, where, "request")
    schema = _object_schema(adapter, where, "request", validation=True)
    parse = adapter.validator.validate_json
    check_finite = may_hold_float(adapter.core_schema)
    faults = DiscreetFaults(names_in(schema)).of if discreet else faults_of
    shown = DiscreetFaults(names_in(schema)).path if discreet else str

    def validate_input(raw: bytes) -> Any:
        try:
            value = parse(raw)
        except ValidationError as error:
            # `from None`: the original's text holds the caller's values.
            raise InputInvalidError(faults(error)) from None
        if check_finite and (path := find_non_finite(value)) is not None:
            raise InputInvalidError([FieldFault(path=shown(path), message="must be a finite number")])
        return value

    return validate_input, schema


def output_codec(annotation: Any, where: str) -> tuple[Callable[[Any], bytes], dict[str, Any]]:
    """The encoder of a handler's result, and its JSON schema.

    Args:
        annotation: the handler's return type.
        where: the handler, for error messages.

    Raises:
        AgentDefinitionError: the type isn't one that leaves as a JSON object.
    """
    adapter = _adapter(annotation, where, "result")
    schema = _object_schema(adapter, where, "result", validation=False)
    check, serialize = adapter.validator.validate_python, adapter.serializer.to_json
    check_finite = may_hold_float(adapter.core_schema)

    def encode_output(result: Any) -> bytes:
        try:
            value = check(result)
        except ValidationError as error:
            raise OutputInvalidError(faults_of(error)) from None
        encoded = _serialize(serialize, value)
        if check_finite and any(trace in encoded for trace in _NON_FINITE_TRACES):
            _refuse_non_finite(adapter, value)
        return encoded

    return encode_output, schema


def _refuse_non_finite(adapter: TypeAdapter[Any], value: Any) -> None:
    """Look at what was returned and at what its serializers made of it; either may hold the number alone."""
    for form in (value, adapter.serializer.to_python(value, mode="json", by_alias=True)):
        if (path := find_non_finite(form)) is not None:
            raise OutputInvalidError([FieldFault(path=path, message="must be a finite number")])


def _serialize(serialize: Callable[..., bytes], value: Any) -> bytes:
    try:
        return serialize(value, warnings="error", by_alias=True)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        # Only the kind of error: pydantic's text quotes the value.
        message = f"can't be written as JSON ({type(error).__name__})"
        raise OutputInvalidError([FieldFault(path="", message=message)]) from None


def _adapter(annotation: Any, where: str, part: str) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)
    except (PydanticUserError, NameError, TypeError) as error:
        problem = f"the type of its {part} can't be checked ({one_line(str(error))})"
        raise AgentDefinitionError(where, problem, _OBJECT_FIX) from error
    return adapter


def _object_schema(adapter: TypeAdapter[Any], where: str, part: str, *, validation: bool) -> dict[str, Any]:
    try:
        schema = adapter.json_schema(mode="validation" if validation else "serialization")
    except PydanticInvalidForJsonSchema as error:
        problem = f"the type of its {part} has no JSON form ({one_line(str(error))})"
        raise AgentDefinitionError(where, problem, _OBJECT_FIX) from error
    if not _is_object(schema, schema.get("$defs", {})):
        raise AgentDefinitionError(where, f"its {part} is not a JSON object", _OBJECT_FIX)
    return schema


def _is_object(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    if "$ref" in schema:
        return _is_object(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return all(_is_object(choice, definitions) for choice in choices)
    return schema.get("type") == "object"
