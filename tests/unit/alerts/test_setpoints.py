"""Set-points: from design data, with units, and overridden for single devices with their history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from alerts.engine import judge
from alerts.rules import Rule
from devices.model import DAY, MINUTE, Device, moment
from tests.unit.alerts.plant import PROFILES, PUMP, T0, House, minutes, rule, series


def limited(**fields: Any) -> Rule:
    return rule("vibration > setpoint.high", **({"setpoints": {"high": "5 mm/s"}} | fields))


def override(value: float | str, minute: int, **who: Any) -> dict[str, Any]:
    return {
        "setpoints": {"high": value},
        "valid_from": moment(T0 + minute * MINUTE).isoformat(),
        "reason": "new bearings",
    } | who


def of(one: Rule, device: Device, values: list[float]) -> list[tuple[float, float, float | None]]:
    found = judge(one, device, PROFILES[device.profile], series("vibration", values, device=device))
    return [minutes(alarm) for alarm in found]


def test_a_set_point_has_a_default_and_says_so_in_the_message() -> None:
    one = limited(message="{value} of {limit} {unit}")
    (alarm,) = judge(one, PUMP, PROFILES[PUMP.profile], series("vibration", [1, 6]))
    assert alarm.message == "6 of 5 mm/s"


def test_a_set_point_comes_from_design_data() -> None:
    one = rule("power > setpoint.most", setpoints={"most": {"value": "0.9 * design.rated_power", "description": "d"}})
    found = judge(one, PUMP, PROFILES[PUMP.profile], series("power", [9, 9.1]))
    assert [minutes(alarm) for alarm in found] == [(1, 1, None)]
    assert judge(one, replace(PUMP, design={}), PROFILES[PUMP.profile], series("power", [9, 9.1])) == []


def test_an_override_holds_from_its_moment_on_and_the_past_keeps_what_was_valid_then() -> None:
    one = limited(overrides=[override("8 mm/s", 4), override(3, 7, devices=[PUMP.identity])])
    assert of(one, PUMP, [6, 1, 6, 1, 6, 6, 9, 4, 2]) == [(0, 0, 1), (2, 2, 3), (6, 6, 8)]


def test_an_override_is_for_the_devices_it_names() -> None:
    other = replace(PUMP, identity="urn:dev:imei:9", tag="P-999", site="west")
    for who in ({"devices": [PUMP.identity]}, {"tag": "P-1*"}, {"site": "east"}):
        one = limited(overrides=[override(9, 0, **who)])
        assert of(one, PUMP, [6]) == []
        assert of(one, other, [6]) == [(0, 0, None)]


def test_a_late_reading_is_judged_by_what_was_valid_when_it_was_measured() -> None:
    house = House([limited(overrides=[override(9, 60)])])
    house.deliver(series("vibration", [1, 1], start=T0))
    house.deliver(series("vibration", [6, 6], start=T0 + DAY))
    house.deliver(series("vibration", [6], start=T0 + 30 * MINUTE))
    assert [minutes(alarm) for alarm in house.alarms] == [(30, 30, 1440)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"setpoints": {"high": "5 bar"}}, "cannot compare quantities of different units (mm/s and bar)"),
        ({"setpoints": {"high": "0.9 * flow"}}, "‘flow’ is not allowed here"),
        ({"setpoints": {"high": "design.pn"}}, "cannot compare quantities of different units (mm/s and bar)"),
        ({"setpoints": {"high": float("inf")}}, "a set-point is a finite number"),
        ({"setpoints": {"high": 1, "low": 2}}, "the set-point ‘low’ is not in the condition"),
        ({"setpoints": {"hihg": 1}}, "the rule has no set-point ‘high’, did you mean ‘hihg’?"),
        ({"setpoints": {"High": 1, "high": 1}}, "is no name for a set-point"),
        ({"overrides": [override("1 bar", 0)]}, "the set-point ‘high’ is in mm/s, not bar"),
        ({"overrides": [override(1, 0) | {"setpoints": {"hi": 1}}]}, "the rule has no set-point ‘hi’"),
        ({"overrides": [override(1, 0) | {"valid_from": "2026-01-01T00:00:00"}]}, "write an instant with its zone"),
        ({"on_delay": "1h"}, "contradicts the time to respond of 1h"),
        ({"off_delay": "8d"}, "8d is too long: at most 7d"),
        ({"applies_to": {"design": "flow > 1"}}, "may name design.<name> only"),
        ({"applies_to": {"design": "1 > 2"}}, "names no design.<name>"),
    ],
)
def test_what_does_not_fit_is_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        limited(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("applies_to", "fits"),
    [
        ({"tag": "P-1*"}, True),
        ({"tag": "P-2*"}, False),
        ({"design": "design.rated_power > 5"}, True),
        ({"design": "design.rated_power > 50"}, False),
        ({"design": "design.rated_flow > 1"}, False),
    ],
)
def test_a_rule_is_for_tags_and_nameplates(applies_to: dict[str, str], fits: bool) -> None:
    house = House([limited(applies_to=applies_to)])
    house.deliver(series("vibration", [6]))
    assert bool(house.alarms) is fits
