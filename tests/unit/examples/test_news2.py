"""NEWS2 against the Royal College of Physicians' charts of 2017, at both sides of every band's edge."""

from dataclasses import replace
from typing import Any, Literal, get_args

import pytest

from examples.healthcare.news2 import Consciousness, Risk, Vitals, score, triage

WELL = Vitals(
    respiration_rate=16,
    spo2=97,
    on_oxygen=False,
    systolic_pressure=120,
    pulse=70,
    consciousness=Consciousness.ALERT,
    temperature_tenths=370,
)

# Chart 1, a row a line: the band's lowest and highest value, and its points. The outermost ends are this project's
# plausible limits; the chart has none.
CHART: dict[str, tuple[str, list[tuple[int, int, int]]]] = {
    "respiration_rate": (
        "respirationRate",
        [(1, 8, 3), (9, 11, 1), (12, 20, 0), (21, 24, 2), (25, 80, 3)],
    ),
    "systolic_pressure": (
        "systolicBloodPressure",
        [(30, 90, 3), (91, 100, 2), (101, 110, 1), (111, 219, 0), (220, 300, 3)],
    ),
    "pulse": (
        "pulse",
        [(10, 40, 3), (41, 50, 1), (51, 90, 0), (91, 110, 1), (111, 130, 2), (131, 300, 3)],
    ),
    "temperature_tenths": (
        "temperature",
        [(240, 350, 3), (351, 360, 1), (361, 380, 0), (381, 390, 1), (391, 450, 2)],
    ),
}
SCALE_1 = [(40, 91, 3), (92, 93, 2), (94, 95, 1), (96, 100, 0)]
SCALE_2_ON_AIR = [(40, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 100, 0)]
SCALE_2_ON_OXYGEN = [(40, 83, 3), (84, 85, 2), (86, 87, 1), (88, 92, 0), (93, 94, 1), (95, 96, 2), (97, 100, 3)]

EDGES = [
    (field, key, value, points)
    for field, (key, bands) in CHART.items()
    for low, high, points in bands
    for value in (low, high)
]
SPO2_EDGES = [
    (scale, breathing, value, points)
    for scale, breathing, bands in [
        (1, "air", SCALE_1),
        (1, "oxygen", SCALE_1),
        (2, "air", SCALE_2_ON_AIR),
        (2, "oxygen", SCALE_2_ON_OXYGEN),
    ]
    for low, high, points in bands
    for value in (low, high)
]


def changed(**values: Any) -> Vitals:
    return replace(WELL, **values)


def test_well_patient_scores_nothing() -> None:
    result = score(WELL)
    assert (result.total, result.risk, set(result.points.values())) == (0, Risk.LOW, {0})


@pytest.mark.parametrize(("field", "key", "value", "points"), EDGES)
def test_points_at_each_edge_of_the_chart(field: str, key: str, value: int, points: int) -> None:
    result = score(changed(**{field: value}))
    assert result.points[key] == points
    assert result.total == points


@pytest.mark.parametrize(("scale", "breathing", "value", "points"), SPO2_EDGES)
def test_saturation_points_at_each_edge_of_both_scales(
    scale: Literal[1, 2], breathing: str, value: int, points: int
) -> None:
    result = score(changed(spo2_scale=scale, on_oxygen=breathing == "oxygen", spo2=value))
    assert result.points["oxygenSaturation"] == points
    assert result.total == points + (2 if breathing == "oxygen" else 0)


@pytest.mark.parametrize(("field", "key", "bands"), [(field, *row) for field, row in CHART.items()])
def test_bands_leave_no_gap(field: str, key: str, bands: list[tuple[int, int, int]]) -> None:
    expected = {value: points for low, high, points in bands for value in range(low, high + 1)}
    assert len(expected) == bands[-1][1] - bands[0][0] + 1
    assert {value: score(changed(**{field: value})).points[key] for value in expected} == expected


@pytest.mark.parametrize(("level", "points"), [("A", 0), ("C", 3), ("V", 3), ("P", 3), ("U", 3)])
def test_anything_but_alert_scores_three(level: str, points: int) -> None:
    assert score(changed(consciousness=Consciousness(level))).points["consciousness"] == points


@pytest.mark.parametrize(("breathing", "points"), [("air", 0), ("oxygen", 2)])
def test_supplemental_oxygen_scores_two(breathing: str, points: int) -> None:
    assert score(changed(on_oxygen=breathing == "oxygen")).points["supplementalOxygen"] == points


def test_highest_possible_total_is_twenty() -> None:
    worst = Vitals(
        respiration_rate=30,
        spo2=80,
        on_oxygen=True,
        systolic_pressure=80,
        pulse=140,
        consciousness=Consciousness.UNRESPONSIVE,
        temperature_tenths=340,
    )
    assert score(worst).total == 20


# Charts 2 and 4: total, highest single parameter, risk, trigger, frequency of monitoring, urgency.
THRESHOLDS = [
    (0, 0, (Risk.LOW, "total 0", "at least every 12 hours", "ward-based")),
    (1, 1, (Risk.LOW, "total 1-4", "at least every 4 to 6 hours", "ward-based")),
    (4, 2, (Risk.LOW, "total 1-4", "at least every 4 to 6 hours", "ward-based")),
    (3, 3, (Risk.LOW_MEDIUM, "3 in a single parameter", "at least every hour", "urgent ward-based")),
    (4, 3, (Risk.LOW_MEDIUM, "3 in a single parameter", "at least every hour", "urgent ward-based")),
    (5, 2, (Risk.MEDIUM, "total 5-6", "at least every hour", "urgent")),
    (5, 3, (Risk.MEDIUM, "total 5-6", "at least every hour", "urgent")),
    (6, 3, (Risk.MEDIUM, "total 5-6", "at least every hour", "urgent")),
    (7, 2, (Risk.HIGH, "total 7 or more", "continuous", "emergency")),
    (7, 3, (Risk.HIGH, "total 7 or more", "continuous", "emergency")),
    (20, 3, (Risk.HIGH, "total 7 or more", "continuous", "emergency")),
]


@pytest.mark.parametrize(("total", "highest", "expected"), THRESHOLDS)
def test_risk_and_response_at_each_threshold(total: int, highest: int, expected: tuple[Risk, str, str, str]) -> None:
    risk, response = triage(total, highest=highest)
    assert (risk, response.trigger, response.monitoring, response.urgency) == expected
    assert response.actions


@pytest.mark.parametrize(
    ("values", "total", "risk"),
    [
        ({"respiration_rate": 25}, 3, Risk.LOW_MEDIUM),
        ({"respiration_rate": 24, "pulse": 91}, 3, Risk.LOW),
        ({"on_oxygen": True, "respiration_rate": 21}, 4, Risk.LOW),
        ({"on_oxygen": True, "respiration_rate": 21, "temperature_tenths": 381}, 5, Risk.MEDIUM),
        ({"consciousness": Consciousness.CONFUSION, "pulse": 131}, 6, Risk.MEDIUM),
        ({"consciousness": Consciousness.CONFUSION, "pulse": 131, "spo2": 95}, 7, Risk.HIGH),
        ({"spo2_scale": 2, "spo2": 88, "respiration_rate": 20}, 0, Risk.LOW),
        ({"spo2_scale": 1, "spo2": 88, "respiration_rate": 20}, 3, Risk.LOW_MEDIUM),
        ({"spo2_scale": 2, "spo2": 97, "on_oxygen": True}, 5, Risk.MEDIUM),
    ],
)
def test_whole_sets_of_observations(values: dict[str, Any], total: int, risk: Risk) -> None:
    result = score(changed(**values))
    assert (result.total, result.risk) == (total, risk)


def test_a_point_is_zero_to_three() -> None:
    from examples.healthcare.news2 import Points

    assert get_args(Points) == (0, 1, 2, 3)
