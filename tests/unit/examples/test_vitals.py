"""The vitals agent: what it accepts, what it answers, and which field it names when it refuses."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from examples.healthcare.agent import VitalsAgent
from examples.healthcare.observations import MEASURES
from runtime.agent import CallerInfo, InputInvalidError, Invocation, capability_table

SAMPLE = json.loads((Path(__file__).parents[3] / "examples/healthcare/deteriorating.json").read_text())
SPEC = capability_table(VitalsAgent())["vitals.assess"]
NURSE = CallerInfo(tenant="st-marys", user="U", name="ann", role="nurse")
RESPIRATION, SATURATION, OXYGEN, PRESSURE, PULSE, LEVEL, TEMPERATURE = range(7)
QUANTITIES = [RESPIRATION, SATURATION, OXYGEN, PRESSURE, PULSE, TEMPERATURE]


def sample() -> Any:
    return copy.deepcopy(SAMPLE)


def with_value(index: int, value: Any, **quantity: Any) -> Any:
    body = sample()
    body["component"][index]["valueQuantity"] |= {"value": value} | quantity
    return body


async def assess(body: Any) -> Any:
    invocation = Invocation(capability=SPEC.name, principal=NURSE, correlation_id="c", deadline=1e12)
    request = SPEC.validate_input(json.dumps(body).encode())
    return json.loads(SPEC.encode_output(await SPEC.invoke(request, invocation)))


def refusals(body: Any) -> list[tuple[str, str]]:
    with pytest.raises(InputInvalidError) as caught:
        SPEC.validate_input(json.dumps(body).encode())
    return [(fault["path"], fault["message"]) for fault in caught.value.fields]


async def test_deteriorating_patient_scores_ten_and_is_an_emergency() -> None:
    answer = await assess(SAMPLE)
    assert answer["points"] == {
        "respirationRate": 2,
        "oxygenSaturation": 2,
        "supplementalOxygen": 2,
        "systolicBloodPressure": 1,
        "pulse": 2,
        "consciousness": 0,
        "temperature": 1,
    }
    assert (answer["total"], answer["risk"], answer["monitoring"]) == (10, "high", "continuous")
    assert (answer["trigger"], answer["urgency"], answer["spo2Scale"]) == ("total 7 or more", "emergency", 1)


async def test_answer_names_no_patient() -> None:
    assert "4711" not in json.dumps(await assess(SAMPLE))


async def test_nothing_observed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        await assess(SAMPLE)
    assert [record.getMessage() for record in caplog.records if record.name == "garrison.agent.agent"] == [
        "[c] assessed a set of observations for a nurse"
    ]


async def test_scale_two_is_used_when_asked_for() -> None:
    body = sample() | {"spo2Scale": 2}
    assert (await assess(body))["points"]["oxygenSaturation"] == 1
    assert (await assess(body))["spo2Scale"] == 2


@pytest.mark.parametrize(
    ("code", "unit", "value", "points"),
    [("3151-8", "L/min", 0, 0), ("3151-8", "L/min", 0.5, 2), ("3150-6", "%", 21, 0), ("3150-6", "%", 24, 2)],
)
async def test_oxygen_is_given_as_flow_or_as_share(code: str, unit: str, value: float, points: int) -> None:
    body = with_value(OXYGEN, value, code=unit)
    body["component"][OXYGEN]["code"]["coding"] = [{"code": code}]
    assert (await assess(body))["points"]["supplementalOxygen"] == points


@pytest.mark.parametrize(
    ("celsius", "points"), [(35.0, 3), (35.1, 1), (36.0, 1), (36.1, 0), (38, 0), (38.1, 1), (39.1, 2)]
)
async def test_temperature_edges_survive_floating_point(celsius: float, points: int) -> None:
    assert (await assess(with_value(TEMPERATURE, celsius)))["points"]["temperature"] == points


async def test_codings_of_other_systems_are_passed_over() -> None:
    body = sample()
    body["component"][PULSE]["code"]["coding"].insert(0, {"system": "http://snomed.info/sct", "code": "364075005"})
    body["component"][SATURATION]["code"]["coding"].insert(0, {"code": "2708-6"})
    assert (await assess(body))["total"] == 10


async def test_full_form_with_systems_and_time_is_accepted() -> None:
    body = with_value(PULSE, 112, system="http://unitsofmeasure.org", unit="beats/min")
    body["effectiveDateTime"] = "2026-03-01T08:00:00Z"
    assert (await assess(body))["total"] == 10


# --- refused, with the field named


@pytest.mark.parametrize("index", range(7))
def test_missing_measurement_is_named(index: int) -> None:
    body = sample()
    loinc = body["component"].pop(index)["code"]["coding"][0]["code"]
    ((path, message),) = refusals(body)
    assert path == "component"
    assert message.endswith(f"(LOINC {loinc}) is missing")


@pytest.mark.parametrize("index", QUANTITIES)
def test_wrong_unit_is_named(index: int) -> None:
    value = SAMPLE["component"][index]["valueQuantity"]["value"]
    ((path, message),) = refusals(with_value(index, value, code="[degF]"))
    assert path == f"component[{index}].valueQuantity.code"
    assert "must be in `" in message


@pytest.mark.parametrize("index", QUANTITIES)
@pytest.mark.parametrize("side", ["low", "high"])
def test_value_out_of_physiological_range_is_named_and_the_limit_itself_is_not(index: int, side: str) -> None:
    measure = MEASURES[SAMPLE["component"][index]["code"]["coding"][0]["code"]]
    limit = getattr(measure, side)
    SPEC.validate_input(json.dumps(with_value(index, limit)).encode())
    ((path, message),) = refusals(with_value(index, limit + (1 if side == "high" else -1)))
    assert path == f"component[{index}].valueQuantity.value"
    assert message.endswith(f"must be from {measure.low} to {measure.high} {measure.unit}")


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (RESPIRATION, 8.5, "respiration rate must be a whole number"),
        (SATURATION, 95.5, "oxygen saturation must be a whole number"),
        (TEMPERATURE, 36.05, "body temperature must have at most one decimal"),
    ],
)
def test_value_between_two_bands_is_refused_not_rounded(index: int, value: float, message: str) -> None:
    assert refusals(with_value(index, value)) == [(f"component[{index}].valueQuantity.value", message)]


@pytest.mark.parametrize("value", ["18", None, True, [18], float("nan"), float("inf")])
def test_value_that_is_not_a_number_is_named(value: Any) -> None:
    ((path, _),) = refusals(with_value(RESPIRATION, value))
    assert path == "component[0].valueQuantity.value"


@pytest.mark.parametrize("level", ["a", "Alert", "", "X", 0, None])
def test_level_that_is_not_a_letter_of_acvpu_is_named(level: Any) -> None:
    body = sample()
    body["component"][LEVEL]["valueCodeableConcept"] = {"text": level}
    ((path, _),) = refusals(body)
    assert path == "component[5].valueCodeableConcept.text"


def test_measurement_given_twice_is_named() -> None:
    body = sample()
    body["component"].append(with_value(PULSE, 60)["component"][PULSE])
    assert refusals(body) == [("component[7]", "pulse is given twice")]


def test_unknown_loinc_code_is_named() -> None:
    body = sample()
    body["component"][PULSE]["code"]["coding"] = [{"code": "8462-4"}]
    assert refusals(body) == [
        ("component[4].code.coding", "not the LOINC code of a NEWS2 parameter"),
        ("component", "pulse (LOINC 8867-4) is missing"),
    ]


def test_value_of_the_wrong_kind_is_named() -> None:
    body = sample()
    body["component"][PULSE] = {"code": body["component"][PULSE]["code"], "valueCodeableConcept": {"text": "A"}}
    body["component"][LEVEL] = {
        "code": body["component"][LEVEL]["code"],
        "valueQuantity": {"value": 1, "code": "1"},
    }
    assert refusals(body) == [
        ("component[4].valueCodeableConcept", "pulse is a quantity"),
        ("component[4].valueQuantity", "pulse is missing"),
        ("component[5].valueQuantity", "consciousness is a letter of ACVPU"),
        ("component[5].valueCodeableConcept", "consciousness is missing"),
    ]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"status": "entered-in-error"}, "status"),
        ({"resourceType": "Patient"}, "resourceType"),
        ({"spo2Scale": 3}, "spo2Scale"),
        ({"spo2Scale": "2"}, "spo2Scale"),
        ({"spo2scale": 2}, "*"),
        ({"dataAbsentReason": {}}, "*"),
        ({"subject": {"reference": "Practitioner/1"}}, "subject.reference"),
        ({"effectiveDateTime": "2026-03-01T08:00:00"}, "effectiveDateTime"),
        ({"component": []}, "component"),
        ({"component": "none"}, "component"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, Any], path: str) -> None:
    assert [fault for fault, _ in refusals(sample() | change)] == [path]


def test_every_fault_is_reported_at_once() -> None:
    body = with_value(TEMPERATURE, 101.1)
    body["component"][RESPIRATION]["valueQuantity"]["code"] = "bpm"
    del body["component"][PULSE]
    assert [path for path, _ in refusals(body)] == [
        "component[0].valueQuantity.code",
        "component[5].valueQuantity.value",
        "component",
    ]
