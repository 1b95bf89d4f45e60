"""A backtest says what live would have done, and the difference of two is told alarm by alarm."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.backtest import PERIOD, Backtest, Comparison, compare, kpis, occurrences, within
from alerts.columns import Column, fits
from alerts.engine import judge
from alerts.rules import Rule
from devices.alarm import Alarm, Priority
from devices.model import HOUR, MINUTE, Instant, Reading, moment
from headworks.picture import timeline
from tests.unit.alerts.plant import PROFILES, PUMP, T0, deliver_at_random, rule, series
from tests.unit.alerts.test_engine import DELAYS, readings_strategy, rules_strategy

CONDITIONS = (
    "vibration > 5",
    "flow < 5 and not running",
    "not (flow < 5) or power / flow < 1",
    "2 < flow < 7 and power < 0.5 * design.rated_power",
    "flow < setpoint.high or vibration > 8",
    "abs(temperature - bearing_temperature) > 2 or -power < -8",
    "min(power / flow, 3) > 2",
    "flow < design.rated_flow or max(power, 4) * 1e308 > 3 and flow != 4",
    "avg(vibration, '5m') > 4.37 and running",
    "stdev(temperature, '1h') > 2.11 or count(flow, '15m') > 6",
    "max(flow, '20m') - min(flow, '20m') > 4 and span(flow, '20m') > '5m'",
    "rate(flow, '20m') < -13.7 or slope(power, '30m') > 17.3",
)
"""With what becomes unknown: divisions by zero, what is not on the nameplate, and what is too large."""
SITES = {PUMP.identity: PUMP.site}


@given(rules_strategy(), readings_strategy(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_a_backtest_finds_what_live_wrote_however_it_was_delivered(
    tested: Rule, readings: list[Reading], chance: random.Random
) -> None:
    live = deliver_at_random([tested], list(readings), chance)
    own = [reading for reading in live.stored.values() if reading.device == PUMP.identity]
    chance.shuffle(readings)
    assert occurrences([tested], PUMP, PROFILES, readings) == live.alarms
    backtest = Backtest([tested], PROFILES)
    assert backtest.occurrences(backtest.rules_for(PUMP), PUMP, in_columns(own)) == live.alarms


def in_columns(readings: list[Reading]) -> dict[str, Column]:
    """As `storage.history` gives them."""
    found: dict[str, Column] = {}
    for metric in {reading.metric for reading in readings}:
        _, _, at, value, quality = zip(*sorted(r for r in readings if r.metric == metric), strict=True)
        found[metric] = (np.array(at, np.int64), np.array(value), np.array([int(one) for one in quality], np.int16))
    return found


@given(
    st.sampled_from(CONDITIONS),
    st.sampled_from(DELAYS),
    st.sampled_from(DELAYS),
    st.sampled_from((0.0, 1.0)),
    st.sampled_from((None, "90s", "4m")),
    readings_strategy(),
)
@settings(max_examples=300)
def test_in_columns_rules_turn_where_the_engine_turns(
    condition: str, on: str, off: str, deadband: float, validity: str | None, readings: list[Reading]
) -> None:
    high = {"value": 5, "description": "d"}
    later = {"tag": "P-1*", "setpoints": {"high": 3}, "valid_from": moment(T0 + 9 * MINUTE), "reason": "r"}
    fields = {"setpoints": {"high": high}, "overrides": [later]} if "setpoint" in condition else {}
    bands = {"deadband": {"flow": deadband}} if deadband and "flow <" in condition else {}
    tested = rule(condition, on_delay=on, off_delay=off, validity=validity, **fields, **bands)
    own = list({(r.metric, r.measured_at): r for r in readings if r.device == PUMP.identity}.values())
    assert fits(tested.parsed.root)
    found = Backtest([tested], PROFILES).occurrences([tested], PUMP, in_columns(own))
    assert found == judge(tested, PUMP, PROFILES[PUMP.profile], own)


def test_several_rules_are_judged_at_once() -> None:
    readings = [*series("vibration", [1, 6, 6, 1]), *series("flow", [1, 1, 9, 9])]
    found = occurrences([rule(), replace_name(rule("flow > 5"), "other")], PUMP, PROFILES, readings)
    assert [(alarm.rule, (alarm.raised_at - T0) // MINUTE) for alarm in found] == [("tested", 1), ("other", 2)]
    assert occurrences([rule("speed > 5")], PUMP, PROFILES, readings) == []
    assert occurrences([rule()], PUMP, PROFILES, []) == []


def replace_name(tested: Rule, name: str) -> Rule:
    return tested.model_copy(update={"rule": name})


def alarm(raised: Instant, cleared: Instant | None, name: str = "r", priority: Priority = Priority.LOW) -> Alarm:
    at = T0 + raised * MINUTE
    return Alarm(name, PUMP.identity, priority, "m", at, at, None if cleared is None else T0 + cleared * MINUTE)


def told(result: Comparison) -> tuple[list[Alarm], list[Alarm], list[tuple[Alarm, Alarm]], int]:
    pairs = [(pair.current, pair.candidate) for pair in result.shifted]
    return result.gained, result.lost, pairs, result.unchanged


def test_alarms_are_gained_lost_shifted_or_the_same() -> None:
    same, other = alarm(0, 5), alarm(0, 5, "other")
    early, late = alarm(10, 20), alarm(12, 22)
    gone, come = alarm(30, 31), alarm(40, None)
    result = compare([same, other, early, gone], [same, late, come], T0, T0 + HOUR, SITES)
    assert told(result) == ([come], [other, gone], [(early, late)], 1)


def test_only_what_was_active_in_the_stretch_counts() -> None:
    before, across, inside, after = alarm(-10, -5), alarm(-3, 2), alarm(3, None), alarm(61, None)
    assert within([before, across, inside, after], T0, T0 + HOUR) == [across, inside]
    assert told(compare([before], [after], T0, T0 + HOUR, SITES)) == ([], [], [], 0)


alarms = st.lists(st.integers(0, 40), unique=True, max_size=8).map(
    lambda starts: [alarm(3 * start, 3 * start + 2) for start in sorted(starts)]
)


@given(alarms, alarms)
def test_the_difference_accounts_for_every_alarm_of_both_sides(old: list[Alarm], new: list[Alarm]) -> None:
    gained, lost, shifted, unchanged = told(compare(old, new, T0, T0 + 4 * HOUR, SITES))
    assert len(lost) + len(shifted) + unchanged == len(old)
    assert len(gained) + len(shifted) + unchanged == len(new)
    assert told(compare(old, old, T0, T0 + 4 * HOUR, SITES)) == ([], [], [], len(old))


def test_kpis_are_those_of_the_standard() -> None:
    flood = [alarm(0, 1, f"rule-{number}", Priority.HIGH) for number in range(11)]
    found = kpis([*flood, alarm(25, None)], T0, T0 + HOUR, SITES)
    assert found.alarms == 12
    assert found.per_period == 12 / (HOUR / PERIOD)
    assert (found.most, found.flood_share) == (11, 1 / 6)
    assert found.top10_share == 10 / 12
    assert found.hours_active == (11 * 1 + 35) / 60
    assert found.by_priority == {"low": 1, "medium": 0, "high": 11}


def test_the_picture_names_what_it_shows_and_breaks_on_no_name() -> None:
    strange = replace(alarm(1, 2, "r"), message='<&">')
    drawn = timeline(
        compare([alarm(30, 40)], [strange, alarm(32, 41)], T0, T0 + HOUR, SITES), T0, T0 + HOUR, {PUMP.identity: "<P>"}
    )
    assert "&lt;P&gt;: r" in drawn
    assert drawn.count("<title>") == 3
    assert "<&" not in drawn
    assert "No difference." in timeline(compare([], [], T0, T0 + HOUR, SITES), T0, T0 + HOUR, {})
