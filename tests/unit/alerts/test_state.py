"""What the engine keeps of a device is plain data: another process can go on from it, and it is small."""

from __future__ import annotations

import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.evaluation import Plan
from alerts.rules import Rule
from alerts.track import Snapshot, Track
from devices.alarm import Alarm
from devices.model import MINUTE, Reading
from tests.unit.alerts.plant import PUMP, T0, VALIDITY, rule
from tests.unit.alerts.test_engine import readings_strategy, rules_strategy

METRICS = ("vibration", "flow", "power", "temperature", "bearing_temperature")


def fresh(tested: list[Rule]) -> Track:
    """As another process has it, from the rules as they are written down."""
    track = Track(Plan([Rule.model_validate(one.model_dump(mode="json")) for one in tested], VALIDITY), PUMP)
    track.wake()
    return track


def failed(_rule: str, _error: Exception | str) -> None:
    """What cannot be calculated is unknown."""


def advance(track: Track, readings: list[Reading]) -> list[Alarm]:
    return track.advance(track.plan.relevant(readings), failed)


@given(rules_strategy(), readings_strategy(), st.integers(0, 24))
@settings(max_examples=200)
def test_another_process_goes_on_from_a_snapshot_as_this_one_would(
    tested: Rule, readings: list[Reading], cut: int
) -> None:
    rules = [tested, rule("flow > 4", rule="other", on_delay="3m")]
    times = sorted({reading.measured_at for reading in readings})
    if not times:
        return
    at = times[min(cut, len(times) - 1)]
    whole = advance(fresh(rules), readings)
    here = fresh(rules)
    moved = advance(here, [one for one in readings if one.measured_at <= at])
    if here.newest != at:
        return  # nothing of that sample concerns the rules
    assert here.tail is not None
    saved = pickle.dumps(tuple(here.tail))
    there = fresh(rules)
    there.restore(Snapshot(*pickle.loads(saved)))
    before = moved[: len(moved) - len(here.tail_moved)]
    assert before + advance(there, [one for one in readings if one.measured_at >= at]) == whole


def test_ten_rules_without_windows_take_some_hundred_bytes() -> None:
    rules = [rule(f"{metric} > {n}", rule=f"r{n}-{metric.replace('_', '-')}") for n in (1, 5) for metric in METRICS]
    assert len(rules) == 10
    track = fresh(rules)
    advance(track, [Reading(PUMP.identity, metric, T0 + n * MINUTE, 3.0) for n in range(60) for metric in METRICS])
    assert track.tail is not None
    assert sum(len(pickle.dumps(part)) for part in (track.tail.packed, track.tail.windows)) < 300
