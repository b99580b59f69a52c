"""A command on its way: who asks for what, about whom, with which input."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from authz.principals import Principal

BodyT = TypeVar("BodyT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[BodyT]):
    """An authenticated, authorized and well-formed command."""

    principal: Principal
    command: str
    target: str
    correlation_id: str
    body: BodyT
