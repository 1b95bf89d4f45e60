"""Judging a history whose beginning is cut off: what the journal holds stays as the whole history made it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from alerts.rules import Rule
from devices.model import HOUR, MINUTE, Instant, Quality, Reading
from tests.unit.alerts.plant import PUMP, T0, House, expected, minutes, rule, series
from tests.unit.alerts.test_engine import DELAYS, METRICS, a_condition


def after_a_restart(
    rules: Sequence[Rule], whole: Sequence[Reading], begin: Instant, first: Instant, now: Sequence[Rule] | None = None
) -> House:
    """A plant that lost all before `begin`, restarted before the readings from `first` on were judged; under the rules
    of `now` if given."""
    house = House(rules)
    house.deliver([reading for reading in whole if reading.measured_at < first])
    house.rules = list(rules if now is None else now)
    house.restart()
    lost = {key for key, reading in house.stored.items() if reading.measured_at < begin}
    house.stored = {key: reading for key, reading in house.stored.items() if key not in lost}
    house.cut = bool(lost)
    house.deliver([reading for reading in whole if reading.measured_at >= first])
    return house


@pytest.mark.parametrize("begin", range(17))
def test_a_delay_that_spans_the_beginning_is_the_same_as_before(begin: int) -> None:
    rules = [rule(on_delay="3m", off_delay="3m")]
    whole = series("vibration", [1, 1, 1, 6, 6, 6, 6, 6, 6, 1, 1, 1, 1, 1, 1, 6, 1])
    house = after_a_restart(rules, whole, T0 + begin * MINUTE, T0 + 16 * MINUTE)
    assert [minutes(alarm) for alarm in house.alarms] == [(3, 6, 12)]


def test_a_run_that_has_not_led_to_anything_yet_counts_from_where_it_is_known() -> None:
    whole = series("vibration", [6] * 60)
    house = after_a_restart([rule(on_delay="30m")], whole, T0 + 10 * MINUTE, T0 + 25 * MINUTE)
    assert [minutes(alarm) for alarm in house.alarms] == [(10, 40, None)]


@pytest.mark.parametrize("seed", range(120))
def test_wherever_the_beginning_is_the_journal_is_that_of_the_whole_history(seed: int) -> None:
    chance = random.Random(seed)
    rules = [
        rule(a_condition(chance), rule=f"r{n}", on_delay=chance.choice(DELAYS), off_delay=chance.choice(DELAYS))
        for n in range(3)
    ]
    # Half of the values hold for long, so that alarms and runs of every length lie across the beginning.
    steady = {metric: chance.random() < 0.5 for metric in METRICS}
    held = dict.fromkeys(METRICS, 1.0)
    whole: list[Reading] = []
    for number in range(200):
        for metric in METRICS:
            if not steady[metric] or chance.random() < 0.03:
                held[metric] = float(chance.choice((0, 1, 2, 4, 5, 6, 9)))
            quality = chance.choice((*[Quality.GOOD] * 20, *Quality))
            whole.append(Reading(PUMP.identity, metric, T0 + number * 2 * MINUTE, held[metric], quality))
    begin, first = T0 + chance.randrange(10, 80) * 2 * MINUTE, T0 + chance.randrange(190, 200) * 2 * MINUTE
    assert after_a_restart(rules, whole, begin, first).alarms == expected(rules, whole)


def test_a_rule_that_is_new_calls_on_what_has_been_so_all_along() -> None:
    whole = series("vibration", [6] * 300)
    house = after_a_restart([], whole, T0 + HOUR, T0 + 299 * MINUTE, now=[rule(on_delay="3m")])
    (alarm,) = house.alarms
    assert alarm.cleared_at is None
    # Not before the values of before the beginning would have expired, and then by the part of the run that is known.
    assert T0 + HOUR <= alarm.since < alarm.raised_at <= T0 + HOUR + 15 * MINUTE


def test_a_set_point_that_was_raised_ends_what_is_not_true_any_more() -> None:
    whole = series("vibration", [6] * 300)
    house = after_a_restart([rule()], whole, T0 + HOUR, T0 + 299 * MINUTE, now=[rule("vibration > 7", off_delay="5m")])
    (alarm,) = house.alarms
    assert alarm.raised_at == T0
    assert alarm.cleared_at is not None
    assert T0 + HOUR <= alarm.cleared_at <= T0 + HOUR + 20 * MINUTE


def test_what_nobody_has_judged_is_judged_though_the_beginning_is_near() -> None:
    rules = [rule("avg(vibration, '1h') > 5", off_delay="1m")]
    whole = series("vibration", [9] * 70 + [1] * 70)
    house = after_a_restart(rules, whole, T0 + 60 * MINUTE, T0 + 75 * MINUTE)
    (alarm,) = house.alarms
    assert alarm.cleared_at is not None
