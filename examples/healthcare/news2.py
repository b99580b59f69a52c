"""NEWS2, the National Early Warning Score, exactly by its published charts.

Source: Royal College of Physicians, *National Early Warning Score (NEWS) 2: Standardising the assessment of
acute-illness severity in the NHS*, London 2017: chart 1 (scoring), chart 2 (thresholds), chart 4 (clinical response).
For patients of 16 years and above, not in pregnancy, and no replacement for clinical judgement.

Pure: whole numbers in (the temperature in tenths of a degree, so that a band's edge is exact), points out. Checking
was measured is for `observations`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Points = Literal[0, 1, 2, 3]
# A chart's row, from low to high: the highest value of each band and the band's points. None: no upper end.
Bands = tuple[tuple[int | None, Points], ...]

RESPIRATION_RATE: Final[Bands] = ((8, 3), (11, 1), (20, 0), (24, 2), (None, 3))
SPO2_SCALE_1: Final[Bands] = ((91, 3), (93, 2), (95, 1), (None, 0))
SPO2_SCALE_2_ON_AIR: Final[Bands] = ((83, 3), (85, 2), (87, 1), (None, 0))
SPO2_SCALE_2_ON_OXYGEN: Final[Bands] = ((83, 3), (85, 2), (87, 1), (92, 0), (94, 1), (96, 2), (None, 3))
SYSTOLIC_PRESSURE: Final[Bands] = ((90, 3), (100, 2), (110, 1), (219, 0), (None, 3))
PULSE: Final[Bands] = ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (None, 3))
TEMPERATURE_TENTHS: Final[Bands] = ((350, 3), (360, 1), (380, 0), (390, 1), (None, 2))
OXYGEN_POINTS: Final = 2
NOT_ALERT_POINTS: Final = 3


class Consciousness(StrEnum):
    """ACVPU. C is confusion that is new."""

    ALERT = "A"
    CONFUSION = "C"
    VOICE = "V"
    PAIN = "P"
    UNRESPONSIVE = "U"


class Risk(StrEnum):
    """Clinical risk, chart 2."""

    LOW = "low"
    LOW_MEDIUM = "low-medium"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, kw_only=True, slots=True)
class Vitals:
    """One set of observations.

    Attributes:
        respiration_rate: breaths a minute.
        spo2: oxygen saturation, percent.
        on_oxygen: breathing supplemental oxygen rather than air.
        systolic_pressure: mmHg.
        pulse: beats a minute.
        consciousness: ACVPU.
        temperature_tenths: tenths of a degree Celsius.
        spo2_scale: 2 only if a clinician has prescribed a target of 88-92 % (hypercapnic respiratory failure).
    """

    respiration_rate: int
    spo2: int
    on_oxygen: bool
    systolic_pressure: int
    pulse: int
    consciousness: Consciousness
    temperature_tenths: int
    spo2_scale: Literal[1, 2] = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """What chart 4 asks for: how often to observe, how urgently to act, and what to do."""

    trigger: str
    monitoring: str
    urgency: str
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A set's points by parameter, their sum (0 to 20), the risk and the response."""

    points: Mapping[str, int]
    total: int
    risk: Risk
    response: Response


_ROUTINE: Final = Response(
    trigger="total 0",
    monitoring="at least every 12 hours",
    urgency="ward-based",
    actions=("continue routine NEWS monitoring",),
)
_LOW: Final = Response(
    trigger="total 1-4",
    monitoring="at least every 4 to 6 hours",
    urgency="ward-based",
    actions=(
        "inform the registered nurse, who assesses the patient",
        "the nurse decides on more frequent monitoring or escalation of care",
    ),
)
_SINGLE_PARAMETER: Final = Response(
    trigger="3 in a single parameter",
    monitoring="at least every hour",
    urgency="urgent ward-based",
    actions=("the nurse informs the medical team, which reviews and decides on escalation of care",),
)
_URGENT: Final = Response(
    trigger="total 5-6",
    monitoring="at least every hour",
    urgency="urgent",
    actions=(
        "the nurse immediately informs the medical team",
        "urgent assessment by a clinician or team with core competencies in acute illness",
        "care in an environment with monitoring facilities",
    ),
)
_EMERGENCY: Final = Response(
    trigger="total 7 or more",
    monitoring="continuous",
    urgency="emergency",
    actions=(
        "the nurse immediately informs the medical team, at specialist registrar level or above",
        "emergency assessment by a team with critical care and advanced airway competencies",
        "consider transfer to a high-dependency or intensive care unit",
        "care in an environment with monitoring facilities",
    ),
)


def score(vitals: Vitals) -> Score:
    """Score one set of observations."""
    points = {
        "respirationRate": _points(RESPIRATION_RATE, vitals.respiration_rate),
        "oxygenSaturation": _points(_spo2_bands(vitals), vitals.spo2),
        "supplementalOxygen": OXYGEN_POINTS if vitals.on_oxygen else 0,
        "systolicBloodPressure": _points(SYSTOLIC_PRESSURE, vitals.systolic_pressure),
        "pulse": _points(PULSE, vitals.pulse),
        "consciousness": 0 if vitals.consciousness is Consciousness.ALERT else NOT_ALERT_POINTS,
        "temperature": _points(TEMPERATURE_TENTHS, vitals.temperature_tenths),
    }
    total = sum(points.values())
    risk, response = triage(total, highest=max(points.values()))
    return Score(points=points, total=total, risk=risk, response=response)


def triage(total: int, *, highest: int) -> tuple[Risk, Response]:
    """Risk and response for a total and its highest single parameter; the total's own band goes first."""
    if total >= 7:  # noqa: PLR2004 - chart 2
        return Risk.HIGH, _EMERGENCY
    if total >= 5:  # noqa: PLR2004 - chart 2
        return Risk.MEDIUM, _URGENT
    if highest == 3:  # noqa: PLR2004 - chart 2
        return Risk.LOW_MEDIUM, _SINGLE_PARAMETER
    return Risk.LOW, _LOW if total else _ROUTINE


def _spo2_bands(vitals: Vitals) -> Bands:
    if vitals.spo2_scale == 1:
        return SPO2_SCALE_1
    return SPO2_SCALE_2_ON_OXYGEN if vitals.on_oxygen else SPO2_SCALE_2_ON_AIR


def _points(bands: Bands, value: int) -> Points:
    # INVARIANT: a row's last band has no upper end.
    return next(points for highest, points in bands if highest is None or value <= highest)
