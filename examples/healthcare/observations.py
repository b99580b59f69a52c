"""Reads a set of bedside observations, given as a small part of a FHIR R4 Observation.

One `Observation` whose `component`s are the measurements: LOINC says what was measured, UCUM in which unit.

Rules it keeps: a set is complete or refused (a missing value must never score 0); values that no chart band covers are
refused, not rounded; values out of physiological range are slips of a keyboard or a sensor; what isn't understood is
refused, since in FHIR an element may change what a value means. Each fault names its field; all are reported.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from runtime.agent import Model, Sensitive, rejection

from .news2 import Consciousness, Vitals

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"

_STRICT: Final = ConfigDict(extra="forbid", frozen=True, strict=True)
_Location = tuple[int | str, ...]
_Text = Annotated[str, Field(max_length=200)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """What one LOINC code measures: its unit, plausible range (both ends included), and decimals."""

    parameter: str
    unit: str
    low: int
    high: int
    decimals: int = 0


RESPIRATION = Measure(parameter="respiration rate", unit="/min", low=1, high=80)
SATURATION = Measure(parameter="oxygen saturation", unit="%", low=40, high=100)
OXYGEN_FLOW = Measure(parameter="inhaled oxygen", unit="L/min", low=0, high=100, decimals=1)
OXYGEN_SHARE = Measure(parameter="inhaled oxygen", unit="%", low=21, high=100)
PRESSURE = Measure(parameter="systolic blood pressure", unit="mm[Hg]", low=30, high=300)
PULSE = Measure(parameter="pulse", unit="/min", low=10, high=300)
TEMPERATURE = Measure(parameter="body temperature", unit="Cel", low=24, high=45, decimals=1)
RESPONSIVENESS: Final = "67775-7"

MEASURES: Final[Mapping[str, Measure]] = {
    "9279-1": RESPIRATION,
    "59408-5": SATURATION,  # by pulse oximetry
    "2708-6": SATURATION,  # the general code, which FHIR asks for beside it
    "3151-8": OXYGEN_FLOW,  # 0 L/min: air
    "3150-6": OXYGEN_SHARE,  # 21 %: air
    "8480-6": PRESSURE,
    "8867-4": PULSE,
    "8310-5": TEMPERATURE,
}
PARAMETERS: Final[Mapping[str, str]] = {
    **{loinc: measure.parameter for loinc, measure in MEASURES.items()},
    RESPONSIVENESS: "consciousness",
}
# Each parameter, under the code to name when it is missing.
REQUIRED: Final[Mapping[str, str]] = {
    "respiration rate": "9279-1",
    "oxygen saturation": "59408-5",
    "inhaled oxygen": "3151-8",
    "systolic blood pressure": "8480-6",
    "pulse": "8867-4",
    "body temperature": "8310-5",
    "consciousness": RESPONSIVENESS,
}


class Quantity(Model):
    """A number and its UCUM unit in `code`; `unit` is for people and is not read."""

    model_config = _STRICT
    value: Sensitive[float]
    code: _Text
    unit: _Text = ""
    system: Literal["http://unitsofmeasure.org"] = UCUM


class Coding(BaseModel):
    """A code of a code system; of LOINC unless it says otherwise."""

    model_config = _STRICT
    code: _Text
    system: _Text = LOINC
    display: _Text = ""


class Concept(BaseModel):
    """What was measured, in one or more codings; those that aren't LOINC's are not read."""

    model_config = _STRICT
    coding: Annotated[list[Coding], Field(min_length=1, max_length=8)]
    text: _Text = ""


class Level(Model):
    """A level of consciousness, as the letter of ACVPU."""

    model_config = _STRICT
    text: Sensitive[Literal["A", "C", "V", "P", "U"]]


class Component(Model):
    """One measurement."""

    model_config = _STRICT
    code: Concept
    valueQuantity: Quantity | None = None  # noqa: N815 - FHIR's name
    valueCodeableConcept: Level | None = None  # noqa: N815 - FHIR's name

    @property
    def loinc(self) -> str:
        """The first LOINC code that is a parameter of the score; empty if none is."""
        for coding in self.code.coding:
            if coding.system == LOINC and coding.code in PARAMETERS:
                return coding.code
        return ""


_Coded = Sequence[tuple[Component, str]]


class Reference(Model):
    """Whom the observations are about, `Patient/4711`. The score doesn't depend on it."""

    model_config = _STRICT
    reference: Sensitive[Annotated[str, Field(pattern=r"^Patient/[A-Za-z0-9\-.]{1,64}$")]]


class Observation(Model):
    """A complete set of observations at one time.

    All but `spo2Scale` is FHIR's. `spo2Scale` is 2 only if a clinician has prescribed a target of 88-92 %.
    """

    model_config = _STRICT
    resourceType: Literal["Observation"] = "Observation"  # noqa: N815 - FHIR's name
    status: Literal["preliminary", "final", "amended", "corrected"] = "final"
    subject: Reference | None = None
    effectiveDateTime: Annotated[AwareDatetime | None, Field(strict=False)] = None  # noqa: N815 - FHIR's name
    spo2Scale: Literal[1, 2] = 1  # noqa: N815 - like its neighbours
    component: Annotated[list[Component], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _complete_and_plausible(self) -> Self:
        coded = [(part, part.loinc) for part in self.component]
        faults = [
            InitErrorDetails(type=rejection(message), loc=where, input=None)
            for where, message in (*_component_faults(coded), *_set_faults(coded))
        ]
        if faults:
            raise ValidationError.from_exception_data("Observation", faults)
        return self

    def vitals(self) -> Vitals:
        """The set as the score's input."""
        # INVARIANT: the set is complete and plausible, or this object would not exist.
        parts = {PARAMETERS[part.loinc]: part for part in self.component}
        numbers = {name: part.valueQuantity.value for name, part in parts.items() if part.valueQuantity}
        levels = [part.valueCodeableConcept.text for part in self.component if part.valueCodeableConcept]
        air = MEASURES[parts["inhaled oxygen"].loinc].low
        return Vitals(
            respiration_rate=int(numbers["respiration rate"]),
            spo2=int(numbers["oxygen saturation"]),
            on_oxygen=numbers["inhaled oxygen"] > air,
            systolic_pressure=int(numbers["systolic blood pressure"]),
            pulse=int(numbers["pulse"]),
            consciousness=Consciousness(levels[0]),
            temperature_tenths=round(numbers["body temperature"] * 10),
            spo2_scale=self.spo2Scale,
        )


def _component_faults(coded: _Coded) -> Iterator[tuple[_Location, str]]:
    for index, (part, loinc) in enumerate(coded):
        measure = MEASURES.get(loinc)
        faults = _quantity_faults(part, measure) if measure else _level_faults(part, loinc)
        yield from ((("component", index, *where), message) for where, message in faults)


def _quantity_faults(part: Component, measure: Measure) -> Iterator[tuple[_Location, str]]:
    if part.valueCodeableConcept is not None:
        yield ("valueCodeableConcept",), f"{measure.parameter} is a quantity"
    if part.valueQuantity is None:
        yield ("valueQuantity",), f"{measure.parameter} is missing"
    elif part.valueQuantity.code != measure.unit:
        yield ("valueQuantity", "code"), f"{measure.parameter} must be in `{measure.unit}`"
    elif not measure.low <= part.valueQuantity.value <= measure.high:
        message = f"{measure.parameter} must be from {measure.low} to {measure.high} {measure.unit}"
        yield ("valueQuantity", "value"), message
    elif round(part.valueQuantity.value, measure.decimals) != part.valueQuantity.value:
        form = "have at most one decimal" if measure.decimals else "be a whole number"
        yield ("valueQuantity", "value"), f"{measure.parameter} must {form}"


def _level_faults(part: Component, loinc: str) -> Iterator[tuple[_Location, str]]:
    if not loinc:
        yield ("code", "coding"), "not the LOINC code of a NEWS2 parameter"
        return
    if part.valueQuantity is not None:
        yield ("valueQuantity",), "consciousness is a letter of ACVPU"
    if part.valueCodeableConcept is None:
        yield ("valueCodeableConcept",), "consciousness is missing"


def _set_faults(coded: _Coded) -> Iterator[tuple[_Location, str]]:
    given = [PARAMETERS.get(loinc) for _, loinc in coded]
    for index, parameter in enumerate(given):
        if parameter and parameter in given[:index]:
            yield ("component", index), f"{parameter} is given twice"
    for parameter, loinc in REQUIRED.items():
        if parameter not in given:
            yield ("component",), f"{parameter} (LOINC {loinc}) is missing"
