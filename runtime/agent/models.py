"""Models that don't give away what they hold: base class and marker for sensitive fields.

    class Observation(Model):
        patient: Sensitive[str]
        taken_at: datetime

`repr` and `str` of a `Model`, and so every log line and traceback that shows one, have `***` in place of marked fields,
and of whatever was not declared; its validation errors don't show the input. The handler reads the fields as ever, and
`model_dump` gives them: masking is for people's eyes, sealing is for the wire.
"""

import functools
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict

MASK: Final = "***"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SensitiveMark:
    """Marks a field as one that must not be shown."""


Sensitive = Annotated[_T, SensitiveMark()]
"""`Sensitive[str]`: a field of a `Model` that is masked wherever the model is shown."""


class _Masked:
    def __repr__(self) -> str:
        return MASK


_MASKED: Final = _Masked()


class Model(BaseModel):
    """A pydantic model whose sensitive fields are masked wherever it is shown."""

    model_config = ConfigDict(hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What `repr` and `str` show: declared fields that are not marked; all else masked."""
        shown = shown_fields(type(self))
        return [(name, value if name in shown else _MASKED) for name, value in super().__repr_args__()]


@functools.cache
def shown_fields(model: type[BaseModel]) -> frozenset[str]:
    """The declared fields of `model` that may be shown."""
    fields = model.model_fields.items()
    return frozenset(
        name
        for name, field in fields
        if not any(isinstance(item, SensitiveMark) for item in field.metadata) and not _is_marked(field.annotation)
    )


def _is_marked(annotation: Any) -> bool:
    """Whether the mark is anywhere inside a type: `list[Sensitive[str]]`, `Sensitive[str] | None`."""
    if any(isinstance(item, SensitiveMark) for item in getattr(annotation, "__metadata__", ())):
        return True
    return any(_is_marked(part) for part in typing.get_args(annotation))
