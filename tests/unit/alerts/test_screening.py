"""Screening: where it says that a rule cannot call, the engine finds nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from alerts.backtest import occurrences, ranges_of
from alerts.rules import Rule
from alerts.screening import Range, can_call
from devices.model import Reading
from tests.unit.alerts.plant import PROFILES, PUMP, rule
from tests.unit.alerts.test_engine import readings_strategy, rules_strategy

RANGES: dict[str, Range] = {
    "pressure": (2.0, 6.0),
    "suction_pressure": (0.0, 1.0),
    "flow": (0.0, 100.0),
    "power": (1.0, 11.0),
    "running": (0.0, 1.0),
}


@pytest.mark.parametrize(
    ("condition", "possible"),
    [
        ("pressure > 6", False),
        ("pressure >= 6", True),
        ("pressure < 2", False),
        ("not pressure > 6", True),
        ("not pressure >= 2", False),
        ("pressure == 7", False),
        ("pressure != 4", True),
        ("flow > 99 and pressure > 7", False),
        ("flow > 99 or pressure > 7", True),
        ("vibration > 0", False),  # never told
        ("vibration > 0 or running", True),
        ("pressure + 1 > 7", False),
        ("pressure - 1 < 1", False),
        ("2 * pressure > 12", False),
        ("-pressure < -6", False),
        ("power / flow > 1000", True),  # by zero, perhaps
        ("flow / power > 101", False),
        ("abs(pressure - 4) > 2", False),
        ("min(pressure, suction_pressure) > 1", False),
        ("max(pressure, suction_pressure) > 6", False),
        ("avg(pressure, '1h') > 7", False),
        ("stdev(pressure, '1h') > 5", False),
        ("rate(pressure, '1h') > 1000", True),
        ("count(pressure, '1h') > 5", True),
        ("age(vibration) > '1d'", True),
        ("quality(vibration) == bad", True),
        ("previous(pressure) > 6", False),
        ("head(pressure) > 1000", True),  # physics is not looked into
        ("pressure > design.pn", False),
        ("pressure > design.nothing", False),
    ],
)
def test_what_can_be_is_told_by_the_ranges(condition: str, possible: bool) -> None:
    assert can_call(rule(condition), PUMP, RANGES) is possible


@given(rules_strategy(), readings_strategy())
@settings(max_examples=400)
def test_where_it_says_no_the_engine_finds_nothing(tested: Rule, readings: list[Reading]) -> None:
    own = [reading for reading in readings if reading.device == PUMP.identity]
    if not can_call(tested, PUMP, ranges_of(own)):
        assert occurrences([tested], PUMP, PROFILES, own) == []
