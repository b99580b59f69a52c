"""Sensitive capabilities and models: declared once, masked wherever shown, told of without a word of content."""

import json
import logging
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, field_validator

from runtime.agent import (
    Agent,
    AgentDefinitionError,
    CallerInfo,
    InputInvalidError,
    Invocation,
    Model,
    Sensitive,
    capability,
    capability_table,
    rejection,
)
from runtime.agent.faults import MAX_FAULTS
from runtime.agent.models import shown_fields

SECRET = "s3cr3t-4711"
NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"


class Address(Model):
    street: Sensitive[str]
    country: str


class Patient(Model):
    model_config = ConfigDict(extra="allow")
    name: Sensitive[str]
    notes: list[Sensitive[str]] = Field(default_factory=list)
    nickname: Sensitive[str] | None = None
    ward: str
    address: Address | None = None

    @computed_field
    def initials(self) -> str:
        return self.name[:2]


def patient() -> Patient:
    home = Address(street=SECRET, country="NL")
    return Patient.model_validate(
        {"name": SECRET, "notes": [SECRET], "nickname": SECRET, "ward": "w3", "address": home, "other": SECRET}
    )


# --- models


@pytest.mark.parametrize("show", [repr, str, "{!r}".format, lambda model: f"{[model]}"])
def test_marked_fields_and_what_was_not_declared_are_masked(show: Any) -> None:
    text = show(patient())
    assert SECRET not in text
    assert SECRET[:2] not in text.replace("nickname=***", "").replace("notes=***", "")
    assert "ward='w3'" in text
    assert "country='NL'" in text


def test_log_line_with_a_model_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").debug("got %s, %r", patient(), [patient()])
    assert SECRET not in caplog.text


def test_handler_and_wire_have_the_value() -> None:
    assert patient().name == SECRET
    assert json.loads(patient().model_dump_json())["name"] == SECRET


def test_validation_error_does_not_show_the_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Patient.model_validate({"name": {SECRET: 1}, "ward": "w3"})
    assert SECRET not in str(caught.value)


def test_nothing_is_masked_without_a_mark() -> None:
    class Plain(Model):
        ward: str

    assert repr(Plain(ward="w3")) == "Plain(ward='w3')"
    assert shown_fields(Plain) == {"ward"}


# --- the declaration


@pytest.mark.parametrize("label", ["", "PHI", "a.b", "-x", "a" * 64, 7, "phi\n"])
def test_label_that_can_not_be_one_is_refused(label: Any) -> None:
    with pytest.raises(AgentDefinitionError, match="not a data label"):
        capability("lab.read", sensitive=label)


def test_label_is_in_the_table() -> None:
    class Lab(Agent):
        @capability("lab.read", sensitive="phi")
        async def read(self, request: dict[str, Any]) -> dict[str, Any]:
            return request

        @capability("lab.ping")
        async def ping(self, request: dict[str, Any]) -> dict[str, Any]:
            return request

    class Listed(Agent):
        capabilities = ("lab.list",)

        async def process_capability(self, capability: str, request: dict[str, Any]) -> dict[str, Any]:
            return request | {"capability": capability}

    table = capability_table(Lab())
    assert (table["lab.read"].sensitive, table["lab.ping"].sensitive) == ("phi", None)
    assert capability_table(Listed())["lab.list"].sensitive is None


# --- what is wrong with a request


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Sample(Model):
    model_config = ConfigDict(extra="forbid")
    code: str = Field(default="a", pattern="^[a-z]$")
    count: int = Field(default=1, ge=1, le=9)
    taken: date | None = None
    exact: Decimal | None = Field(default=None, max_digits=3)
    by_name: dict[str, int] = Field(default_factory=dict)
    pet: Cat | Dog | None = Field(default=None, discriminator="kind")
    numbers: list[int] = Field(default_factory=list, max_length=2)
    ratio: Any = None
    parsed: int | None = None
    told: str | None = None

    @field_validator("parsed", mode="before")
    @classmethod
    def parse(cls, value: Any) -> int:
        return int(value)

    @field_validator("told")
    @classmethod
    def tell(cls, value: str) -> str:
        if value:
            raise rejection("must be empty")
        return value


class Lab(Agent):
    @capability("lab.read", sensitive="phi")
    async def read(self, request: Sample) -> dict[str, Any]:
        return request.model_dump()


def faults(raw: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InputInvalidError) as caught:
        capability_table(Lab())["lab.read"].validate_input(raw)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__} {vars(caught.value)}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return [(fault["path"], fault["message"]) for fault in caught.value.fields]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"code": SECRET}, [("code", "String should match pattern '^[a-z]$'")]),
        ({"count": 10}, [("count", "Input should be less than or equal to 9")]),
        ({"count": SECRET}, [("count", NO_INTEGER)]),
        ({"taken": SECRET}, [("taken", "is not valid")]),
        ({"exact": "12345"}, [("exact", "Decimal input should have no more than 3 digits in total")]),
        ({"by_name": {SECRET: "x"}}, [("by_name.*", NO_INTEGER)]),
        ({"pet": {"kind": SECRET}}, [("pet", "is not valid")]),
        ({"numbers": [1, 2, 3]}, [("numbers", "is not valid")]),
        ({"numbers": [1, SECRET]}, [("numbers[1]", NO_INTEGER)]),
        ({"parsed": SECRET}, [("parsed", "is not valid")]),
        ({"told": SECRET}, [("told", "must be empty")]),
        ({SECRET: 1}, [("*", "Extra inputs are not permitted")]),
    ],
)  # fmt: skip
def test_faults_of_sensitive_data_are_told_in_the_models_words_alone(
    data: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert faults(json.dumps(data).encode()) == expected


def test_number_that_is_not_finite_is_told_by_the_models_names_alone() -> None:
    raw = b'{"ratio": {"' + SECRET.encode() + b'": [1, {"count": NaN}]}}'
    assert faults(raw) == [("ratio.*[1].count", "must be a finite number")]


def test_text_that_is_no_json_is_not_quoted() -> None:
    assert faults(SECRET.encode()) == [("", "is not valid")]


def test_many_faults_are_bounded() -> None:
    many = {f"{SECRET}{number}": 1 for number in range(MAX_FAULTS + 5)}
    assert len(faults(json.dumps(many).encode())) == MAX_FAULTS
    thousands = {f"{SECRET}{number}": 1 for number in range(600)}
    assert faults(json.dumps(thousands).encode()) == [("", "600 faults, too many to list")]


def test_plain_capability_keeps_the_validators_words() -> None:
    class Open(Agent):
        @capability("lab.open")
        async def open(self, request: Sample) -> dict[str, Any]:
            return request.model_dump()

    with pytest.raises(InputInvalidError) as caught:
        capability_table(Open())["lab.open"].validate_input(b'{"parsed":"x"}')
    assert caught.value.fields[0]["message"] == "invalid literal for int() with base 10: 'x'"


# --- calling on


NURSE = CallerInfo(tenant="st-marys", user="U", name="ann", role="nurse")


@pytest.mark.parametrize(("seal", "subject"), [("PHI", None), ("", None), (None, "patient/4711")])
async def test_call_that_can_not_be_sealed_as_asked_is_not_made(seal: str | None, subject: str | None) -> None:
    call = Invocation(capability="lab.read", principal=NURSE, correlation_id="c", deadline=1e12)
    with pytest.raises(ValueError, match="seal"):
        await call.call("lab.read", {}, seal=seal, subject=subject)
