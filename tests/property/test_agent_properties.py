"""The author's interface under arbitrary input: total parsers, exact encoders, bounded faults."""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from examples.healthcare.agent import VitalsAgent
from examples.healthcare.news2 import Consciousness, Vitals, score
from examples.healthcare.observations import MEASURES, REQUIRED, Observation
from examples.hello.agent import HelloAgent
from runtime.agent import InputInvalidError, OutputInvalidError, capability_table
from runtime.agent.capability import is_capability_name
from runtime.agent.errors import one_line
from runtime.agent.faults import MAX_FAULTS
from runtime.agent.finite import find_non_finite
from runtime.agent.schemas import input_codec, output_codec

SAMPLE = json.loads((Path(__file__).parents[2] / "examples/healthcare/deteriorating.json").read_text())
SECRET = "patient-4711-secret"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | text
)
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=20
)
json_objects = st.dictionaries(text, json_values, max_size=5)


class Anything(BaseModel, extra="allow"):
    number: float = 0.0


DECODE_DICT = input_codec(dict[str, Any], "A.b")[0]
ENCODE_DICT = output_codec(dict[str, Any], "A.b")[0]
CODECS: list[Callable[[bytes], Any]] = [
    capability_table(VitalsAgent())["vitals.assess"].validate_input,
    capability_table(HelloAgent())["greeting"].validate_input,
    DECODE_DICT,
    input_codec(Anything, "A.b")[0],
]


def check_refusal(error: InputInvalidError) -> None:
    assert 1 <= len(error.fields) <= MAX_FAULTS
    for fault in error.fields:
        assert set(fault) == {"path", "message"}
        assert fault["message"]
        assert all(len(part) <= 300 and part.isprintable() for part in (fault["path"], fault["message"]))
    assert error.__cause__ is None
    assert SECRET not in repr((str(error), error.fields))


@pytest.mark.parametrize("validate", CODECS)
@given(raw=st.binary(max_size=200))
@example(raw=b'{"a":' * 500)
@example(raw=b'{"number":1e999}')
@example(raw=b'{"a":' + b"9" * 10_000 + b"}")
def test_any_bytes_are_taken_or_refused_with_a_fault(validate: Callable[[bytes], Any], raw: bytes) -> None:
    try:
        validate(raw)
    except InputInvalidError as error:
        check_refusal(error)


@pytest.mark.parametrize("validate", CODECS)
@given(body=json_values)
def test_any_json_is_taken_or_refused_with_a_fault(validate: Callable[[bytes], Any], body: Any) -> None:
    try:
        validate(json.dumps(body).encode())
    except InputInvalidError as error:
        check_refusal(error)


@given(body=json_objects)
def test_a_dict_comes_back_as_it_went_in(body: dict[str, Any]) -> None:
    assert json.loads(ENCODE_DICT(DECODE_DICT(json.dumps(body).encode()))) == body


def holds_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(holds_non_finite(child) for child in value.values())
    return isinstance(value, list) and any(holds_non_finite(child) for child in value)


@given(
    body=st.recursive(
        st.floats() | leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
    )
)
def test_search_for_non_finite_numbers_agrees_with_the_plain_definition(body: Any) -> None:
    assert (find_non_finite(body) is not None) == holds_non_finite(body)


@given(body=st.dictionaries(text, st.floats() | st.lists(st.floats(), max_size=3), max_size=3))
def test_no_number_that_is_not_finite_passes_in_or_out(body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    finite = not holds_non_finite(body)
    for passes, refusal in [
        (lambda: DECODE_DICT(raw), InputInvalidError),
        (lambda: ENCODE_DICT(body), OutputInvalidError),
    ]:
        if finite:
            passes()
        else:
            with pytest.raises(refusal):
                passes()


@given(value=st.text(), limit=st.integers(2, 50))
def test_one_line_is_one_bounded_printable_line(value: str, limit: int) -> None:
    line = one_line(value, limit=limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert one_line(line, limit=limit) == line


@given(name=st.text(max_size=20) | st.from_regex(r"[a-z0-9_\-.]{1,20}", fullmatch=True))
def test_capability_names_are_one_to_four_plain_tokens(name: str) -> None:
    tokens = name.split(".")
    plain = all(token and set(token) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for token in tokens)
    assert is_capability_name(name) == (plain and len(tokens) <= 4)


# --- observations


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, child in children for path in paths(child, (*here, key)))]


@given(path=st.sampled_from(paths(SAMPLE)[1:]), replacement=json_values | st.just(SECRET))
def test_an_observation_with_one_part_replaced_is_scored_or_refused_quietly(
    path: tuple[Any, ...], replacement: Any
) -> None:
    body = copy.deepcopy(SAMPLE)
    target = body
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = replacement
    try:
        observation = CODECS[0](json.dumps(body).encode())
    except InputInvalidError as error:
        check_refusal(error)
    else:
        assert 0 <= score(observation.vitals()).total <= 20


def numbers(loinc: str) -> st.SearchStrategy[float]:
    measure = MEASURES[loinc]
    scale = 10**measure.decimals
    return st.integers(measure.low * scale, measure.high * scale).map(lambda value: value / scale)


@given(
    values=st.fixed_dictionaries({loinc: numbers(loinc) for loinc in REQUIRED.values() if loinc in MEASURES}),
    level=st.sampled_from("ACVPU"),
    scale=st.sampled_from([1, 2]),
    order=st.randoms(use_true_random=False),
)
def test_every_plausible_set_of_observations_is_read_as_it_was_measured(
    values: dict[str, float], level: str, scale: Any, order: Any
) -> None:
    component: list[Any] = [
        {"code": {"coding": [{"code": loinc}]}, "valueQuantity": {"value": value, "code": MEASURES[loinc].unit}}
        for loinc, value in values.items()
    ]
    component.append({"code": {"coding": [{"code": "67775-7"}]}, "valueCodeableConcept": {"text": level}})
    order.shuffle(component)
    observation: Observation = CODECS[0](json.dumps({"component": component, "spo2Scale": scale}).encode())
    assert observation.vitals() == Vitals(
        respiration_rate=int(values["9279-1"]),
        spo2=int(values["59408-5"]),
        on_oxygen=values["3151-8"] > 0,
        systolic_pressure=int(values["8480-6"]),
        pulse=int(values["8867-4"]),
        consciousness=Consciousness(level),
        temperature_tenths=round(values["8310-5"] * 10),
        spo2_scale=scale,
    )


vitals = st.builds(
    Vitals,
    respiration_rate=st.integers(1, 80),
    spo2=st.integers(40, 100),
    on_oxygen=st.booleans(),
    systolic_pressure=st.integers(30, 300),
    pulse=st.integers(10, 300),
    consciousness=st.sampled_from(Consciousness),
    temperature_tenths=st.integers(240, 450),
    spo2_scale=st.sampled_from([1, 2]),
)


@given(observed=vitals)
def test_total_is_the_sum_and_decides_the_risk(observed: Vitals) -> None:
    result = score(observed)
    assert result.total == sum(result.points.values())
    single = max(result.points.values()) == 3
    expected = "high" if result.total >= 7 else "medium" if result.total >= 5 else "low-medium" if single else "low"
    assert result.risk == expected
