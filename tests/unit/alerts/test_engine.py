"""The engine: any delivery of a set of readings ends in the journal that the set has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.contradictions import contradiction
from alerts.engine import Engine, judge
from alerts.grammar import parse_condition
from alerts.occurrences import applied
from alerts.rules import Rule
from alerts.track import SNAPSHOTS
from devices.alarm import Alarm, AlarmChange, ChangeKind
from devices.model import DAY, HOUR, MINUTE, SECOND, Device, Instant, Quality, Reading
from tests.unit.alerts.plant import (
    PROFILES,
    PUMP,
    T0,
    VALVE,
    House,
    bare,
    deliver_at_random,
    expected,
    minutes,
    naive,
    rule,
    series,
)

CONDITIONS = (
    "vibration > 5",
    "vibration >= 5 and running",
    "not (flow >= 5) and running == 1",
    "vibration > 5 or temperature > 5",
    "abs(temperature - bearing_temperature) > 2",
    "power / flow < 1",
    "2 < flow < 7",
    "power < 0.5 * design.rated_power",
    # Thresholds that no rounding meets: the naive judge adds up in another order.
    "avg(vibration, '5m') > 4.37 and running",
    "min(flow, '10m') > 1.37 or max(power, '3m') < 4.37",
    "stdev(temperature, '1h') > 2.11",
    "rate(flow, '20m') < -13.7 or slope(power, '30m') > 17.3",
    "rate(starts, '10m') > 31.7",
    "count(flow, '15m') < 6 and running",
    "span(flow, '20m') > '5m' and flow > 4",
    "changed(running) and previous(flow) > flow",
    "avg(flow, '3m') / early(flow, '30m') > 1.37",
    "age(flow) > '90s'",
    "age(running) > '2m' and vibration > 2",
    "quality(flow) == bad or quality(power) < good",
    "hydraulic_power(flow, '3 bar') > 0.37 * power",
)
METRICS = ("vibration", "running", "flow", "power", "temperature", "bearing_temperature", "starts")
DELAYS = ("0", "1m", "90s", "3m", "15m")


# --- one rule, perfect delivery


def of(tested: Rule, readings: Sequence[Reading]) -> list[tuple[float, float, float | None]]:
    return [minutes(alarm) for alarm in judge(tested, PUMP, PROFILES[PUMP.profile], readings)]


def test_an_alarm_is_raised_by_the_first_sample_at_which_the_on_delay_is_over() -> None:
    assert of(rule(on_delay="150s"), series("vibration", [1, 6, 6, 6, 6, 6])) == [(1, 4, None)]


def test_without_delays_it_is_raised_and_cleared_by_single_samples() -> None:
    assert of(rule(), series("vibration", [1, 6, 1, 6, 6, 1])) == [(1, 1, 2), (3, 3, 5)]


def test_a_run_that_is_interrupted_begins_again() -> None:
    assert of(rule(on_delay="2m"), series("vibration", [6, 6, 1, 6, 6, 6])) == [(3, 5, None)]


def test_it_is_cleared_once_the_condition_was_false_for_the_off_delay() -> None:
    assert of(rule(off_delay="2m"), series("vibration", [6, 1, 1, 6, 1, 1, 1, 1])) == [(0, 0, 6)]


def test_inside_the_deadband_the_alarm_stays_and_does_not_begin() -> None:
    tested = rule(deadband=1)
    assert of(tested, series("vibration", [4.5, 6, 4.5, 4.1, 4, 4.5])) == [(1, 1, 4)]


def test_no_sample_means_no_transition_however_long_ago_the_delay_ended() -> None:
    assert of(rule(on_delay="5m"), series("vibration", [6, 6])) == []


def test_a_value_is_valid_up_to_and_including_its_validity() -> None:
    tested = rule("vibration > 5 and running", validity="2m")
    readings = series("running", [1])
    assert of(tested, [*readings, *series("vibration", [6], start=T0 + 2 * MINUTE)]) == [(2, 2, None)]
    assert of(tested, [*readings, *series("vibration", [6], start=T0 + 2 * MINUTE + 1)]) == []


def test_beyond_its_validity_a_verdict_does_not_count_towards_a_delay() -> None:
    silent = [6.0, *[None] * 59, *[6.0] * 6]
    # 10 minutes of the hour are known (two reporting intervals), the rest comes from the samples after it.
    assert of(rule(on_delay="12m"), series("vibration", silent)) == [(0, 62, None)]
    assert of(rule(on_delay="12m", validity="1h"), series("vibration", silent)) == [(0, 60, None)]


def test_unknown_neither_raises_nor_clears_nor_starts_a_delay_again() -> None:
    tested = rule("vibration > 5 and running", on_delay="15m")
    running = series("running", [1] + [None] * 20 + [1] * 10)
    # From minute 11 to 20 the last `running` is too old: these minutes do not count, but they reset nothing.
    assert of(tested, [*running, *series("vibration", [6] * 31)]) == [(0, 25, None)]


def test_an_alarm_stays_while_nothing_is_known() -> None:
    tested = rule("vibration > 5 and running")
    assert of(tested, [*series("running", [1]), *series("vibration", [6, *[6] * 30])]) == [(0, 0, None)]


def test_bad_readings_do_not_feed_conditions_and_uncertain_ones_do() -> None:
    good = series("vibration", [1, 1, 1, 1])
    bad = Reading(PUMP.identity, "vibration", T0 + 90 * SECOND, 40.0, Quality.BAD_HIGH)
    uncertain = bad._replace(quality=Quality.UNCERTAIN)
    assert of(rule(), [*good, bad]) == []
    assert of(rule(), [*good, uncertain]) == [(1.5, 1.5, 2)]


def test_the_alarm_tells_value_limit_and_message_of_the_raising_sample() -> None:
    tested = rule(
        "power < 0.5 * design.rated_power", message="{value} {unit}, expected {limit}", on_delay="1m", priority="high"
    )
    (alarm,) = judge(tested, PUMP, PROFILES[PUMP.profile], series("power", [4, 3, 2]))
    assert (alarm.value, alarm.message, alarm.priority) == (3.0, "3 kW, expected 5", "high")


def test_a_rule_meets_only_the_devices_it_is_for() -> None:
    readings = series("pressure", [1], device=VALVE) + series("pressure", [1])
    both = rule("pressure < 2")
    cases: list[tuple[dict[str, object], list[Device]]] = [
        ({}, [PUMP, VALVE]),
        ({"kind": "valve"}, [VALVE]),
        ({"profiles": ["centrifugal-pump"]}, [PUMP]),
        ({"site": "west"}, [VALVE]),
        ({"kind": "valve", "site": "east"}, []),
    ]
    for applies_to, devices in cases:
        tested = Rule.model_validate(both.model_dump() | {"applies_to": applies_to})
        assert [a.device for a in expected([tested], readings)] == [device.identity for device in devices]


def test_without_its_nameplate_entry_a_condition_is_unknown() -> None:
    tested = rule("power < 0.5 * design.rated_power")
    bare_pump = replace(PUMP, design={})
    assert judge(tested, bare_pump, PROFILES[PUMP.profile], series("power", [1, 1])) == []


# --- any delivery


values = st.sampled_from([0.0, 1.0, 2.0, 4.0, 4.5, 5.0, 6.0, 9.0])


@st.composite
def rules_strategy(draw: st.DrawFn) -> Rule:
    condition = draw(st.sampled_from(CONDITIONS))
    fields: dict[str, Any] = {"on_delay": draw(st.sampled_from(DELAYS)), "off_delay": draw(st.sampled_from(DELAYS))}
    if "vibration" in condition and draw(st.booleans()):
        fields["deadband"] = {"vibration": 1}
    if draw(st.booleans()):
        fields["validity"] = "2m"
    return rule(condition, **fields)


@st.composite
def readings_strategy(draw: st.DrawFn, device: Device = PUMP) -> list[Reading]:
    at = T0
    found: list[Reading] = []
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.sampled_from([SECOND, 30 * SECOND, MINUTE, MINUTE, 5 * MINUTE, 20 * MINUTE, 2 * HOUR]))
        for metric in draw(st.sets(st.sampled_from(METRICS))):
            quality = draw(st.sampled_from([Quality.GOOD] * 9 + [q for q in Quality if q is not Quality.GOOD]))
            found.append(Reading(device.identity, metric, at, draw(values), quality))
    return found


@given(rules_strategy(), readings_strategy())
@settings(max_examples=100)
def test_judge_is_the_definition(tested: Rule, readings: list[Reading]) -> None:
    assert bare(judge(tested, PUMP, PROFILES[PUMP.profile], readings)) == naive(
        tested, PUMP, PROFILES[PUMP.profile], readings
    )


@given(rules_strategy(), readings_strategy(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_the_journal_is_a_function_of_the_set_of_readings(
    tested: Rule, readings: list[Reading], chance: random.Random
) -> None:
    deliver_at_random([tested], readings, chance)


def a_condition(chance: random.Random) -> str:
    """One condition, or several in and, or, not; none that contradicts itself, as that is no rule."""
    text = chance.choice(CONDITIONS)
    while chance.random() < 0.3:
        more = f"{chance.choice(('', 'not '))}({text}) {chance.choice(('and', 'or'))} ({chance.choice(CONDITIONS)})"
        if contradiction(parse_condition(more).root, {}) is None:
            text = more
    return text


def some_rules(chance: random.Random) -> list[Rule]:
    """One or two with random conditions and delays."""
    return [
        rule(a_condition(chance), rule=f"r{number}", on_delay=chance.choice(DELAYS), off_delay=chance.choice(DELAYS))
        for number in range(chance.choice((1, 2)))
    ]


def some_readings(chance: random.Random) -> list[Reading]:
    """Of both devices, with gaps and all qualities."""
    step = chance.choice((20 * SECOND, MINUTE, 4 * MINUTE))
    return [
        Reading(
            device.identity,
            metric,
            T0 + number * step,
            float(chance.choice((0, 1, 2, 4, 5, 6, 9))),
            chance.choice((*[Quality.GOOD] * 9, *Quality)),
        )
        for number in range(chance.choice((3, 10, 30)))
        for device in (PUMP, VALVE)
        for metric in METRICS
        if chance.random() < 0.6
    ]


@pytest.mark.parametrize(
    ("deliveries", "seed"), [(1_000, 20261123), pytest.param(10_000, 20261124, marks=pytest.mark.deliveries)]
)
def test_random_deliveries_over_random_rules_end_in_the_journal_of_perfect_delivery(
    monkeypatch: pytest.MonkeyPatch, deliveries: int, seed: int
) -> None:
    chance = random.Random(seed)
    changes: set[bool] = set()
    for _ in range(deliveries):
        # Snapshots close together, so that short series go back to each kind of them.
        monkeypatch.setattr("alerts.track.SPACING", chance.choice((0, MINUTE, 5 * MINUTE, 15 * MINUTE)))
        # Some windows kept in snapshots, some filled again from history.
        monkeypatch.setattr("alerts.evaluation.REFILL", chance.choice((0, 12 * MINUTE, 2 * HOUR)))
        rules, readings = some_rules(chance), some_readings(chance)
        changes.add(bool(deliver_at_random(rules, readings, chance).alarms))
    assert changes == {True, False}


def test_days_of_readings_with_late_uplinks_from_every_age() -> None:
    chance = random.Random(7)
    rules = [rule(on_delay="3m", off_delay="2m", deadband=0.5), rule("flow < 3 and running", rule="other")]
    whole = [
        Reading(PUMP.identity, metric, T0 + number * 5 * MINUTE, float(chance.randrange(10)))
        for number in range(3 * 24 * 12)
        for metric in ("vibration", "flow", "running")
    ]
    uplinks = [whole[i : i + 9] for i in range(0, len(whole), 9)]
    late = chance.sample(uplinks, 20)
    house = House(rules)
    for uplink in uplinks:
        if not any(uplink is other for other in late):
            house.deliver(uplink)
    for uplink in late:
        house.deliver(uplink)
    assert house.alarms == expected(rules, whole)


# --- what it costs


def test_in_order_readings_never_ask_for_history_or_journal() -> None:
    house = House([rule(on_delay="3m")])
    house.deliver(series("vibration", [1]))
    asked = house.lookups
    for number in range(1, 500):
        house.deliver(series("vibration", [number % 11], start=T0 + number * MINUTE))
    assert house.lookups == asked == 1


def test_the_rest_of_the_newest_sample_needs_no_history() -> None:
    house = House([rule("vibration > 5 and running")])
    house.deliver(series("vibration", [1, 1]))
    asked = house.lookups
    assert [c.kind for c in house.deliver(series("vibration", [6], start=T0 + 2 * MINUTE))] == []
    assert [c.kind for c in house.deliver(series("running", [1], start=T0 + 2 * MINUTE))] == [ChangeKind.RAISED]
    assert house.lookups == asked


def test_a_repeated_uplink_costs_nothing() -> None:
    house = House([rule()])
    uplink = series("vibration", [1, 6, 6, 1])
    house.deliver(uplink)
    house.deliver(series("vibration", [1, 6], start=T0 + 4 * MINUTE))
    asked = house.lookups
    assert house.deliver(uplink) == []
    assert house.lookups == asked


def test_a_late_uplink_reads_only_a_little_more_history_than_it_is_late() -> None:
    house = House([rule()])
    for number in range(0, 4 * 24 * 60, 5):
        house.deliver(series("vibration", [1] * 5, start=T0 + number * MINUTE))
    end = T0 + 4 * DAY
    since: list[Instant | None] = []

    def history(identity: str, start: Instant | None) -> list[Reading]:
        since.append(start)
        return house.history(identity, start)

    for age in (10 * MINUTE, HOUR, 6 * HOUR, DAY):
        late = series("vibration", [2], start=end - age + SECOND)
        house.commit(late)
        house.engine.apply(late, house.devices, history, house.journal)
        start = since.pop()
        assert start is not None
        assert age <= end - start <= 8 * age + HOUR


def test_only_what_is_later_than_every_snapshot_has_the_whole_history_read() -> None:
    house = House([rule("vibration > 5 or flow > 5")])
    for number in range(12 * 60):
        house.deliver(series("vibration", [number % 9], start=T0 + number * MINUTE))
    asked: list[Instant | None] = []

    def history(identity: str, since: Instant | None) -> list[Reading]:
        asked.append(since)
        return house.history(identity, since)

    for number in (718, 717, 700, 600, 300, 60):
        late = series("flow", [1], start=T0 + number * MINUTE)
        house.commit(late)
        house.engine.apply(late, house.devices, history, house.journal)
    assert len(asked) == 6
    assert all(since is not None and since > T0 for since in asked)


def test_what_was_committed_but_not_handed_in_yet_is_in_order_when_it_comes() -> None:
    house = House([rule()])
    house.deliver(series("vibration", [1, None, 1, 1]))
    late, newer = series("vibration", [6], start=T0 + MINUTE), series("vibration", [6, 6], start=T0 + 4 * MINUTE)
    house.commit([*late, *newer])
    house.apply(late)
    asked = house.lookups
    assert kinds(house.apply(newer)) == ["raised"]
    assert house.lookups == asked


def test_the_state_of_a_device_does_not_grow_with_its_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.track.RATIO", 2)  # more of them are wanted than there may be
    house = House([rule("vibration > 5 and running", on_delay="3m")])
    for number in range(1000):
        house.deliver(series("vibration", [number % 7], start=T0 + number * HOUR))
    track = house.engine._tracks[PUMP.identity]
    assert len(track._snapshots) <= SNAPSHOTS


# --- the changes


def kinds(changes: Sequence[AlarmChange]) -> list[str]:
    return [change.kind.value for change in changes]


def test_an_alarm_that_came_and_went_in_one_uplink_is_one_raised_change_that_is_over() -> None:
    house = House([rule()])
    (change,) = house.deliver(series("vibration", [1, 6, 6, 1]))
    assert (change.kind, minutes(change.alarm)) == (ChangeKind.RAISED, (1, 1, 3))


def test_late_readings_that_show_an_earlier_beginning_amend_the_alarm() -> None:
    house = House([rule(on_delay="2m")])
    house.deliver(series("vibration", [1]))
    assert kinds(house.deliver(series("vibration", [6, 6, 6], start=T0 + 5 * MINUTE))) == ["raised"]
    (change,) = house.deliver(series("vibration", [6, 6], start=T0 + 3 * MINUTE))
    assert change.kind is ChangeKind.AMENDED
    assert change.before is not None
    assert (minutes(change.before), minutes(change.alarm)) == ((5, 7, None), (3, 5, None))


def test_late_readings_that_show_it_never_was_retract_the_alarm() -> None:
    house = House([rule(on_delay="5m")])
    house.deliver([*series("vibration", [6, None, None, None, None, 6, 1])])
    assert [minutes(alarm) for alarm in house.alarms] == [(0, 5, 6)]
    assert kinds(house.deliver(series("vibration", [1], start=T0 + 3 * MINUTE))) == ["retracted"]
    assert house.alarms == []


def test_what_was_not_journalled_before_a_crash_is_found_after_it() -> None:
    house = House([rule()])
    house.deliver(series("vibration", [1, 1]))
    lost = series("vibration", [6, 6], start=T0 + 2 * MINUTE)
    house.commit(lost)
    assert kinds(house.apply(lost, crash=True)) == ["raised"]
    assert house.alarms == []
    assert kinds(house.apply(lost)) == ["raised"]
    assert [minutes(alarm) for alarm in house.alarms] == [(2, 2, None)]


def test_a_provider_that_fails_leaves_nothing_half_done() -> None:
    house = House([rule()])
    house.deliver(series("vibration", [1, 1]))
    both = [*series("vibration", [6], start=T0 + 2 * MINUTE), *series("pressure", [1], device=VALVE)]
    house.engine = Engine([rule(), rule("pressure < 2", rule="other")], PROFILES)
    house.commit(both)

    def away(identity: str) -> list[Alarm]:
        if identity == VALVE.identity:
            raise ConnectionError("the database is away")
        return house.journal(identity)

    with pytest.raises(ConnectionError):
        house.engine.apply(both, house.devices, house.history, away)
    assert kinds(house.apply(both)) == ["raised", "raised"]


def test_what_retention_has_dropped_stays_in_the_journal() -> None:
    house = House([rule(off_delay="1m")])
    house.deliver(series("vibration", [6, 1, 1, 1, 6, 6]))
    before = house.alarms
    assert [minutes(alarm) for alarm in before] == [(0, 0, 2), (4, 4, None)]
    house.stored = {key: reading for key, reading in house.stored.items() if key[2] > T0 + 4 * MINUTE}
    house.restart()
    changes = house.deliver(series("vibration", [1, 1], start=T0 + 6 * MINUTE))
    assert kinds(changes) == ["cleared"]
    assert [minutes(alarm) for alarm in house.alarms] == [(0, 0, 2), (4, 4, 7)]


def test_an_alarm_from_before_what_retention_left_can_still_be_reopened() -> None:
    house = House([rule(off_delay="1m")])
    house.deliver([*series("vibration", [6, 6]), *series("vibration", [1, 1], start=T0 + 4 * MINUTE)])
    assert [minutes(alarm) for alarm in house.alarms] == [(0, 0, 5)]
    house.stored = {key: reading for key, reading in house.stored.items() if key[2] > T0 + 2 * MINUTE}
    house.restart()
    late = series("vibration", [6], start=T0 + 4 * MINUTE + 30 * SECOND)
    assert kinds(house.deliver(late)) == ["amended"]
    assert [minutes(alarm) for alarm in house.alarms] == [(0, 0, None)]


def test_a_late_reading_takes_nothing_back_that_retention_has_dropped() -> None:
    house = House([rule()])
    for number in range(0, 240, 10):
        house.deliver(series("vibration", [1] * 8 + [6, 1], start=T0 + number * MINUTE))
    before = house.alarms
    assert len(before) == 24
    house.stored = {key: reading for key, reading in house.stored.items() if key[2] > T0 + 200 * MINUTE}
    assert house.apply(series("vibration", [1], start=T0 + 100 * MINUTE + SECOND)) == []
    assert house.alarms == before


def test_a_reading_that_retention_dropped_before_it_was_judged_is_no_error() -> None:
    house = House([rule()])
    house.deliver(series("vibration", [6, 6], start=T0 + DAY))
    assert house.apply(series("vibration", [1])) == []
    assert [minutes(alarm)[0] for alarm in house.alarms] == [24 * 60]


def test_where_the_history_is_cut_off_the_journal_is_taken_as_given_until_the_windows_are_full() -> None:
    """The engine is handed two weeks at the most; what a window held before them it cannot know."""
    rules = [
        rule("avg(flow, '7d') > 5", rule="week"),
        rule("avg(flow, '1d') > 5", rule="day", off_delay="1h"),
        rule("flow > 5", rule="now"),
    ]
    values = [9.0] * 60 + [1.0] * 60 + [9.0] * 60 + [1.0] * 100 + [9.0] * 100
    readings = series("flow", values, step=2 * HOUR)
    whole = expected(rules, readings)
    for restart in range(20, len(readings), 7):
        house = House(rules)
        for reading in readings[:restart]:
            house.deliver([reading])
        house.restart()
        newest = readings[restart].measured_at
        held = len(house.stored)
        house.stored = {key: r for key, r in house.stored.items() if key[2] >= newest - 14 * DAY}
        house.cut = len(house.stored) < held
        for reading in readings[restart:]:
            house.deliver([reading])
        assert house.alarms == whole, restart


# --- what is wrong


class Broken(Rule):
    """A rule with a defect that shows when it raises an alarm."""

    def words(self, value: float | None, limit: float | None, features: str = "") -> str:
        raise RuntimeError("a defect")


def test_a_failing_rule_is_named_and_counted_and_the_others_go_on() -> None:
    broken = Broken.model_validate(rule(rule="broken").model_dump())
    house = House([broken, rule(rule="sound")])
    house.deliver(series("vibration", [1, 6, 6]))
    assert [alarm.rule for alarm in house.alarms] == ["sound"]
    assert dict(house.engine.failing) == {"broken": "RuntimeError: a defect"}
    assert house.engine.failures["broken"] == 2


def test_a_failing_rule_takes_nothing_back() -> None:
    house = House([rule()])
    house.deliver(series("vibration", [1, 6, 1]))
    house.rules = [Broken.model_validate(rule().model_dump())]
    house.restart()
    house.deliver(series("vibration", [1], start=T0 + 3 * MINUTE))
    assert [minutes(alarm) for alarm in house.alarms] == [(1, 1, 2)]


def test_readings_of_strangers_are_named_with_the_reason() -> None:
    house = House([rule()], {"a": Device("a", "no-such-profile")})
    house.deliver([Reading("a", "vibration", T0, 9.0), Reading("b", "vibration", T0, 9.0)])
    assert dict(house.engine.skipped) == {
        "a": "its profile ‘no-such-profile’ is not installed",
        "b": "it is not registered",
    }


def test_a_corrected_nameplate_is_a_new_judgement_of_the_past() -> None:
    house = House([rule("power < 0.5 * design.rated_power")])
    house.deliver(series("power", [6, 4, 6]))
    house.devices[PUMP.identity] = replace(PUMP, design={"rated_power": 6.0})
    assert kinds(house.deliver(series("power", [6], start=T0 + 3 * MINUTE))) == ["retracted"]


def test_a_rule_that_can_never_call_is_named_with_the_reason() -> None:
    house = House(
        [
            rule("torque > 5", rule="a"),
            rule("torque > 5 or vibration > 5", rule="b"),
            rule("not (torque > 5 or vibration > 5)", rule="c"),
            rule("vibration > setpoint.most", rule="d", setpoints={"most": "2 * design.usual"}),
            rule("avg(torque, '1h') > 5 and power > design.rated_power", rule="e"),
        ]
    )
    house.deliver(series("vibration", [6]))
    assert [alarm.rule for alarm in house.alarms] == ["b"]
    assert {name: list(why) for name, why in house.engine.idle.items()} == {
        "a": ["centrifugal-pump: there is no torque"],
        "c": ["centrifugal-pump: there is no torque"],
        "d": ["centrifugal-pump: there is no design.usual"],
        "e": ["centrifugal-pump: there is no torque"],
    }


def test_what_cannot_be_calculated_is_unknown_and_the_rule_is_named_failing() -> None:
    house = House([rule("power / flow > 1"), rule("vibration > 5", rule="sound")])
    house.deliver([*series("power", [6, 6]), *series("flow", [0, 1]), *series("vibration", [6, 6])])
    assert sorted(alarm.rule for alarm in house.alarms) == ["sound", "tested"]
    assert dict(house.engine.failing) == {"tested": "division by zero in ‘power / flow’"}
    assert house.engine.failures["tested"] == 1


def test_a_nameplate_entry_that_is_no_number_is_unknown() -> None:
    rules = [rule("power > design.rated_power"), rule("not (power > design.rated_power)", rule="contrary")]
    house = House(rules, {PUMP.identity: replace(PUMP, design={"rated_power": float("nan")})})
    house.deliver(series("power", [1, 6]))
    assert house.alarms == []


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        Engine([rule(), rule("flow > 1")], PROFILES)


def test_a_change_is_applied_twice_without_effect() -> None:
    house = House([rule()])
    changes = house.deliver(series("vibration", [1, 6]))
    assert applied(house.alarms, changes) == house.alarms
