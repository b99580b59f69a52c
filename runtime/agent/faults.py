"""What is wrong with a request or a result, field by field: pydantic's findings as `FieldFault`s.

Rules it keeps: bounded; the value is never repeated by us. Where data is sensitive that is not enough, since failures
travel in the clear and both pydantic's texts and its paths may quote the input (a tag, a character, an unknown field's
name, whatever a validator's `ValueError` says): then only texts that depend on the model alone are told, and only names
that the model has.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from runtime.agent.errors import FieldFault, one_line

MAX_FAULTS: Final = 20
REJECTION: Final = "rejection"
_MANY_FAULTS: Final = 500
_NOT_VALID: Final = "is not valid"
_UNNAMED: Final = "*"
# pydantic's kinds whose texts say what the model wants, and nothing of what came.
_TELL_NOTHING: Final = frozenset(
    {"missing", "extra_forbidden", "none_required", "literal_error", "enum", "is_instance_of", REJECTION}
    | {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number"}
    | {"too_short", "string_too_short", "string_too_long", "string_pattern_mismatch", "bytes_too_short"}
    | {"bool_type", "bool_parsing", "int_type", "int_parsing", "int_from_float", "float_type", "float_parsing"}
    | {"string_type", "bytes_type", "model_type", "model_attributes_type", "dataclass_type", "dict_type", "list_type"}
    | {"tuple_type", "set_type", "frozen_set_type", "date_type", "time_type", "datetime_type", "time_delta_type"}
    | {"decimal_type", "decimal_parsing", "decimal_max_digits", "decimal_max_places", "uuid_type", "url_type"}
    | {"timezone_naive", "timezone_aware", "date_past", "date_future", "datetime_past", "datetime_future"}
)
_STEP: Final = re.compile(r"[^.\[\]]+|\[[0-9]+\]")


def rejection(message: str) -> PydanticCustomError:
    """An error for a validator to raise, in words that the caller reads, about sensitive data too.

    Args:
        message: one line; keep what the request says out of it.
    """
    return PydanticCustomError(REJECTION, "{message}", {"message": one_line(message)})


def faults_of(error: ValidationError) -> list[FieldFault]:
    """What pydantic found."""
    found = _details(error)
    return _too_many(error) if found is None else [_fault(detail) for detail in found]


class DiscreetFaults:
    """What pydantic found, without a word of what was sent.

    Args:
        names: the names that the model has.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def of(self, error: ValidationError) -> list[FieldFault]:
        """What may be told of `error`."""
        found = _details(error)
        return _too_many(error) if found is None else [self._fault(detail) for detail in found]

    def path(self, path: str) -> str:
        """What may be told of a path in text form."""
        return ".".join(self._step(step) for step in _STEP.findall(path)).replace(".[", "[")

    def _fault(self, detail: ErrorDetails) -> FieldFault:
        steps = (step if isinstance(step, int) else self._step(step) for step in detail["loc"])
        message = one_line(detail["msg"]) if detail["type"] in _TELL_NOTHING else _NOT_VALID
        return FieldFault(path=_path(steps), message=message)

    def _step(self, step: str) -> str:
        return step if step in self._names or step.startswith("[") else _UNNAMED


def names_in(schema: Any) -> frozenset[str]:
    """The names of the fields that a JSON schema speaks of, at whatever depth."""
    return frozenset(_names(schema))


def _names(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            yield from properties
        for child in schema.values():
            yield from _names(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from _names(child)


def _details(error: ValidationError) -> list[ErrorDetails] | None:
    # Listing is the costly part: 30,000 faults of one hostile request take as long as its parsing did.
    if error.error_count() > _MANY_FAULTS:
        return None
    return error.errors(include_url=False, include_input=False)[:MAX_FAULTS]


def _too_many(error: ValidationError) -> list[FieldFault]:
    return [FieldFault(path="", message=f"{error.error_count()} faults, too many to list")]


def _fault(detail: ErrorDetails) -> FieldFault:
    if detail["type"] in {"value_error", "assertion_error"}:
        message = str(detail.get("ctx", {}).get("error", detail["msg"]))
    else:
        message = detail["msg"]
    return FieldFault(path=_path(detail["loc"]), message=one_line(message) or _NOT_VALID)


def _path(location: Iterable[int | str]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return one_line("".join(steps).lstrip("."))
