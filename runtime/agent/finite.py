"""Finds NaN and infinity inside parsed values.

pydantic's `allow_inf_nan=False` reaches neither models that their author configured nor `dict[str, Any]`,
and JSON text can spell a number that isn't finite in many ways (`NaN`, `1e999`, `"inf"` into a float
field). So the value is searched.

`may_hold_float` tells at definition time whether a type needs the search at all; most don't.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Final, cast

from pydantic import BaseModel

from runtime.agent.errors import one_line

# Schema nodes under which a float may appear although none is declared: any value, and the author's own code.
_OPEN_NODES: Final = frozenset(
    {"any", "call", "callable", "complex", "custom-error", "float", "is-instance"}
    | {"function-after", "function-before", "function-plain", "function-wrap"}
)
# `isinstance(value, BaseModel)` goes through the metaclass's own hook, ten times slower than asking for the metaclass.
_ModelType: Final = type(BaseModel)
_LEAVES: Final = frozenset({str, int, bool, bytes, type(None)})


def may_hold_float(core_schema: object) -> bool:
    """Whether a value of this pydantic core schema may hold a float that isn't known to be finite."""
    if isinstance(core_schema, Mapping):
        kind = core_schema.get("type")
        if kind == "float" and core_schema.get("allow_inf_nan") is False:
            return False
        if isinstance(kind, str) and kind in _OPEN_NODES:
            return True
        return any(may_hold_float(child) for key, child in core_schema.items() if key != "metadata")
    if isinstance(core_schema, (list, tuple)):
        return any(may_hold_float(child) for child in core_schema)
    return False


def find_non_finite(value: object) -> str | None:
    """The path (`readings[0].value`) of a NaN or infinity inside a value, or None.

    Looks into models, dataclasses, mappings and collections, whatever their depth.
    """
    return _path_of_non_finite(value) if _holds_non_finite(value) else None


def _holds_non_finite(value: object) -> bool:
    """The normal case, on every call: no paths are built, and leaves, which are most nodes, cost one look-up."""
    stack: list[object] = [(value,)]
    seen: set[int] = set()  # a result may contain itself
    while stack:
        for item in _values(stack.pop()):
            kind = type(item)
            if kind in _LEAVES:
                continue
            if isinstance(item, float):
                if not math.isfinite(item):
                    return True
            elif id(item) not in seen:
                seen.add(id(item))
                stack.append(item)
    return False


def _values(item: object) -> Iterable[object]:
    kind = type(item)
    if kind is list or kind is tuple:
        return cast("Iterable[object]", item)
    if isinstance(kind, _ModelType):
        model = cast("BaseModel", item)
        extra = model.__pydantic_extra__
        return (*model.__dict__.values(), *extra.values()) if extra else model.__dict__.values()
    if isinstance(item, Mapping):
        return item.values()
    return (child for _, child in _children(item))


def _path_of_non_finite(value: object) -> str | None:
    stack, seen = [(value, "")], set[int]()
    while stack:
        item, path = stack.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return one_line(path.lstrip("."))
        if id(item) in seen:
            continue
        seen.add(id(item))
        stack.extend((child, path + step) for step, child in _children(item))
    return None


def _children(item: object) -> Iterable[tuple[str, object]]:
    if isinstance(item, BaseModel):
        fields = type(item).model_fields
        named = ((fields[name].alias or name, item.__dict__[name]) for name in fields if name in item.__dict__)
        extra = (item.__pydantic_extra__ or {}).items()
        return ((f".{name}", child) for name, child in (*named, *extra))
    if isinstance(item, Mapping):
        return ((f".{key}", child) for key, child in item.items())
    if isinstance(item, (list, tuple, set, frozenset)):
        return ((f"[{index}]", child) for index, child in enumerate(item))
    if dataclasses.is_dataclass(item):
        return ((f".{field.name}", getattr(item, field.name, None)) for field in dataclasses.fields(item))
    return ()
