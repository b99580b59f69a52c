"""Bytes in, bytes out: what a handler's models let through, and what a fault says."""

import dataclasses
import json
import math
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, computed_field, field_serializer, field_validator

from runtime.agent import InputInvalidError, OutputInvalidError
from runtime.agent.faults import MAX_FAULTS
from runtime.agent.finite import find_non_finite
from runtime.agent.schemas import input_codec, output_codec


class Reading(BaseModel):
    code: str
    value: float

    @field_validator("code")
    @classmethod
    def known(cls, code: str) -> str:
        if code.startswith("?"):
            raise ValueError("must be a known code")
        return code


class Chart(BaseModel):
    readings: list[Reading] = Field(alias="allReadings")
    note: str = ""


class Finite(BaseModel):
    value: Annotated[float, Field(allow_inf_nan=False)]


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Tree(BaseModel):
    weight: float = 0.0
    children: list["Tree"] = []


def faults(annotation: Any, raw: bytes) -> list[Any]:
    validate, _ = input_codec(annotation, "A.b")
    with pytest.raises(InputInvalidError) as caught:
        validate(raw)
    assert caught.value.__cause__ is None
    return list(caught.value.fields)


def output_faults(annotation: Any, result: Any) -> list[Any]:
    encode, _ = output_codec(annotation, "A.b")
    with pytest.raises(OutputInvalidError) as caught:
        encode(result)
    return list(caught.value.fields)


def test_missing_field_is_named_by_its_path() -> None:
    assert faults(Chart, b'{"allReadings":[{"code":"a","value":1},{"code":"b"}]}') == [
        {"path": "allReadings[1].value", "message": "Field required"}
    ]


def test_every_fault_is_listed() -> None:
    paths = [fault["path"] for fault in faults(Chart, b'{"allReadings":[{"code":1,"value":"x"}],"note":null}')]
    assert paths == ["allReadings[0].code", "allReadings[0].value", "note"]


def test_author_validators_speak_in_their_own_words() -> None:
    assert faults(Reading, b'{"code":"?","value":1}') == [{"path": "code", "message": "must be a known code"}]


@pytest.mark.parametrize("raw", [b"", b"{", b"nul", b'{"a":"\xff"}', b"[" * 300, b'{"a":' * 300 + b"1" + b"}" * 300])
@pytest.mark.parametrize("annotation", [Chart, dict[str, Any]])
def test_text_that_is_not_json_is_refused(annotation: Any, raw: bytes) -> None:
    (fault,) = faults(annotation, raw)
    assert fault["message"].startswith("Invalid JSON")


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null", b"true"])
@pytest.mark.parametrize("annotation", [Chart, dict, dict[str, Any]])
def test_json_that_is_not_an_object_is_refused(annotation: Any, raw: bytes) -> None:
    (fault,) = faults(annotation, raw)
    assert fault["path"] == ""


NON_FINITE = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"]


@pytest.mark.parametrize("number", [*NON_FINITE, b'"inf"', b'"nan"', b'"-Infinity"', b"9" * 400])
def test_number_that_is_not_finite_is_refused_in_a_model(number: bytes) -> None:
    raw = b'{"allReadings":[{"code":"a","value":' + number + b"}]}"
    assert faults(Chart, raw) == [{"path": "allReadings[0].value", "message": "must be a finite number"}]


@pytest.mark.parametrize("number", NON_FINITE)
def test_number_that_is_not_finite_is_refused_in_a_dict(number: bytes) -> None:
    assert faults(dict[str, Any], b'{"a":{"b":[1,' + number + b"]}}") == [
        {"path": "a.b[1]", "message": "must be a finite number"}
    ]


@pytest.mark.parametrize("annotation", [Point, Tree])
def test_dataclasses_and_recursive_models_are_searched_for_non_finite_numbers(annotation: Any) -> None:
    raw = b'{"x":NaN,"weight":1,"children":[{"weight":Infinity}]}'
    (fault,) = faults(annotation, raw)
    assert fault["path"] in {"x", "children[0].weight"}


def test_model_that_forbids_non_finite_numbers_itself_is_left_to_do_so() -> None:
    assert faults(Finite, b'{"value":NaN}') == [{"path": "value", "message": "Input should be a finite number"}]


def test_thousands_of_faults_are_counted_not_listed() -> None:
    raw = json.dumps({"allReadings": [{} for _ in range(5_000)]}).encode()
    assert faults(Chart, raw) == [{"path": "", "message": "10000 faults, too many to list"}]


def test_listed_faults_are_bounded() -> None:
    raw = json.dumps({"allReadings": [{} for _ in range(MAX_FAULTS)]}).encode()
    assert len(faults(Chart, raw)) == MAX_FAULTS


def test_fault_never_repeats_the_value_and_stays_one_bounded_line() -> None:
    class Strict(BaseModel, extra="forbid"):
        n: int = 0

    secret = "patient-4711"
    assert secret not in repr(faults(Strict, json.dumps({"n": secret}).encode()))
    (fault,) = faults(Strict, json.dumps({"a\n\x1b[31m" + "b" * 5_000: secret}).encode())
    assert len(fault["path"]) <= 300
    assert fault["path"].isprintable()
    assert secret not in repr(fault)


# --- results


def test_model_is_encoded_under_its_wire_names() -> None:
    encode, schema = output_codec(Chart, "A.b")
    assert encode(Chart(allReadings=[])) == b'{"allReadings":[],"note":""}'
    assert set(schema["properties"]) == {"allReadings", "note"}


def test_dict_in_place_of_the_declared_model_is_checked_and_encoded() -> None:
    encode, _ = output_codec(Reading, "A.b")
    assert encode({"code": "a", "value": 2}) == b'{"code":"a","value":2.0}'


@pytest.mark.parametrize(
    ("annotation", "result"),
    [
        (Reading, {"code": "a"}),
        (Reading, None),
        (Reading, "text"),
        (Reading, Chart(allReadings=[])),
        (dict[str, Any], Reading(code="a", value=1)),
        (dict[str, Any], [1]),
        (dict, object()),
    ],
)
def test_result_of_another_type_than_declared_is_refused(annotation: Any, result: Any) -> None:
    assert output_faults(annotation, result)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_result_that_is_not_finite_is_refused_not_nulled(value: float) -> None:
    expected = [{"path": "value", "message": "must be a finite number"}]
    assert output_faults(dict[str, Any], {"value": value}) == expected
    assert output_faults(Reading, Reading(code="a", value=value)) == expected


class Derived(BaseModel):
    total: float = 1.0
    optional: int | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean(self) -> float:
        return math.nan


class Rewritten(BaseModel, ser_json_inf_nan="constants"):
    total: float = 1.0

    @field_serializer("total")
    def write(self, value: float) -> float:
        return value * math.inf


@pytest.mark.parametrize(("result", "path"), [(Derived(), "mean"), (Rewritten(), "total")])
def test_number_made_while_serializing_is_refused_if_it_is_not_finite(result: BaseModel, path: str) -> None:
    assert output_faults(type(result), result) == [{"path": path, "message": "must be a finite number"}]


def test_null_in_a_result_is_not_taken_for_a_number() -> None:
    encode, _ = output_codec(dict[str, Any], "A.b")
    assert encode({"a": None, "b": "NaN or Infinity"}) == b'{"a":null,"b":"NaN or Infinity"}'


def test_model_changed_into_a_wrong_state_is_refused_without_quoting_it() -> None:
    reading = Reading(code="a", value=1)
    reading.value = "patient-4711"  # type: ignore[assignment]
    assert "4711" not in repr(output_faults(Reading, reading))


def looped() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["again"] = [loop]
    return loop


@pytest.mark.parametrize("result", [{"a": object()}, {"a": b"\xff"}, {"a": "\ud800"}, looped()])
def test_value_without_a_json_form_is_refused(result: dict[str, Any]) -> None:
    (fault,) = output_faults(dict[str, Any], result)
    assert fault["message"].startswith("can't be written as JSON")


class Cached(BaseModel):
    """Keeps a number beside its data."""

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002
        self.__dict__["cache"] = math.inf


def test_search_for_non_finite_numbers_looks_everywhere() -> None:
    class Open(BaseModel, extra="allow"):
        pass

    nan = math.nan
    assert find_non_finite({"a": [1, (2.0, {"b": nan})]}) == "a[1][1].b"
    assert find_non_finite(Open(x=nan)) == "x"
    assert find_non_finite(Point(x=0, y=nan)) == "y"
    assert find_non_finite({"a": {nan}}) == "a[0]"
    assert find_non_finite(looped()) is None
    assert find_non_finite({"x": nan} | looped()) == "x"
    assert find_non_finite(Cached()) is None
    assert find_non_finite({"a": [1, 2.0, "nan", None, True, Point(1)]}) is None
