"""The rule on clocks and simulated units: found where a clock is wrong, nowhere else. In the plant's own time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from alerts.backtest import occurrences
from alerts.rulefiles import shipped_rules
from devices.decode import decode
from devices.errors import DecodeError
from devices.model import HOUR, Instant, Reading, Transport, instant
from devices.model import Uplink as Received
from devices.normalize import CLOCK_ERROR, normalize
from devices.profile import shipped_profiles
from simulators.firmware import Unit, Written
from simulators.scenario import Format, Protocol
from simulators.scenario_plant import Played, load_scenario, play
from simulators.speech import CONTENT_FORMATS

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))
RULE = [rule for rule in shipped_rules() if rule.rule == "clock-wrong"]
HEAD = """
scenario: One
duration: {hours}h
waterworks: {{pumps: 2, valves: 2}}
fleets:
  - {{devices: ["P-*"], protocol: coap}}
  - {{protocol: mqtt, format: json, profile: pressure-reducing-valve}}
"""


def played(tmp_path: Path, text: str, seed: int) -> Played:
    path = tmp_path / "one.yaml"
    path.write_text(text, "utf-8")
    return play(load_scenario(path, seed), START)


def stored(run: Played, unit: Unit) -> list[Reading]:
    """What a unit's uplinks become where each arrives when it is due."""
    carried = unit.fleet.protocol in (Protocol.COAP, Protocol.MQTT)
    form = CONTENT_FORMATS[unit.form] if carried and unit.form is not Format.FRAME else None
    found: list[Reading] = []
    for step in run.steps(unit):
        if isinstance(step, Written):
            uplink = Received(Transport.COAP, step.payload, step.due, unit.device.identity, form)
            try:
                reports = decode(uplink, unit.profile)
            except DecodeError:
                continue
            for report in reports:
                found += normalize(report, unit.device, unit.profile, step.due).readings
    return found


def called(run: Played) -> dict[str, list[tuple[Instant, Instant | None]]]:
    """By tag, when its clock was called wrong."""
    found = {}
    for unit in run.scenario.units:
        alarms = occurrences(RULE, unit.device, shipped_profiles(), stored(run, unit))
        if alarms:
            found[unit.tag] = [(one.raised_at - START, one.cleared_at) for one in alarms]
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_clock_that_began_again_is_found_at_once_and_no_other(tmp_path: Path, seed: int) -> None:
    faults = "faults: [{fault: clock-reset, on: P-101, after: 1h, lasts: 2h}]"
    found = called(played(tmp_path, HEAD.format(hours=4) + faults, seed))
    assert list(found) == ["P-101"]
    [(raised, _)] = found["P-101"]
    assert HOUR <= raised <= HOUR + HOUR // 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_fast_clock_is_found_once_it_is_ten_minutes_ahead_and_no_reading_is_lost(tmp_path: Path, seed: int) -> None:
    faults = "faults: [{fault: clock-drift, on: P-102, after: 1h, lasts: 7h}]"
    run = played(tmp_path, HEAD.format(hours=8) + faults, seed)
    found = called(run)
    assert list(found) == ["P-102"]
    [(raised, _)] = found["P-102"]
    # 5 % of 200 minutes are ten.
    assert HOUR + 200 * HOUR // 60 <= raised <= 5 * HOUR
    unit = next(unit for unit in run.scenario.units if unit.tag == "P-102")
    readings = [one for one in stored(run, unit) if one.metric != CLOCK_ERROR]
    assert len(readings) == sum(step.count for step in run.steps(unit) if isinstance(step, Written))


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_healthy_fleet_has_no_wrong_clock(tmp_path: Path, seed: int) -> None:
    run = played(tmp_path, HEAD.format(hours=12), seed)
    assert called(run) == {}
    assert not [one for unit in run.scenario.units for one in stored(run, unit) if one.metric == CLOCK_ERROR]
