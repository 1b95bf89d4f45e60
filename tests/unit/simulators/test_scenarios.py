"""Scenarios: what is wrong with a file is told with its place; the same seed gives the same bytes at the same times."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.codecs.senml import decode_cbor
from devices.document import DocumentError
from devices.model import HOUR, MINUTE, SECOND, instant
from simulators.contacts import Contact, Step
from simulators.device_faults import DEVICE_CATALOGUE
from simulators.firmware import Unit, Written
from simulators.scenario import json_schema, shipped_scenarios
from simulators.scenario_plant import Played, load_scenario, play

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))
ROOT = Path(__file__).parents[3]

HEAD = """
scenario: One
seed: 5
duration: 4h
waterworks: {pumps: 1, valves: 1}
fleets: [{protocol: coap, block: 1024, coverage: [1, 0, 0]}]
"""


def played(tmp_path: Path, text: str) -> Played:
    path = tmp_path / "one.yaml"
    path.write_text(text, "utf-8")
    return play(load_scenario(path), START)


def pump(run: Played) -> Unit:
    return next(unit for unit in run.scenario.units if unit.tag == "P-101")


def written(steps: list[Step]) -> list[Written]:
    return [step for step in steps if isinstance(step, Written)]


def contacts(steps: list[Step]) -> list[Contact]:
    return [step for step in steps if isinstance(step, Contact)]


MIXED = """
scenario: Mixed
duration: 30m
sites: [{site: control-skid}]
fleets:
  - {devices: [SK-PA], protocol: coap}
  - {devices: [SK-PB], protocol: iotda}
  - {devices: ["SK-F*"], protocol: thingsboard}
  - {devices: [SK-LV1], protocol: mqtt, profile: motorised-ball-valve, reporting: {sampling: 5m, interval: 10m}}
  - {devices: [SK-RV1], protocol: sparkplug, node: North/RTU-7}
random_faults: {a_day: 100, lasts: [5m, 10m]}
"""


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), minutes=st.integers(0, 1_000))
def test_the_same_seed_gives_the_same_bytes_at_the_same_times(tmp_path: Path, seed: int, minutes: int) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(MIXED, "utf-8")

    def steps(seed: int) -> list[Step]:
        run = play(load_scenario(path, seed), START + minutes * MINUTE)
        return [step for unit in run.scenario.units for step in run.steps(unit)]

    first = steps(seed)
    assert first
    assert steps(seed) == first
    assert steps(seed + 1) != first


DIGEST = """
import hashlib, sys
from pathlib import Path
from simulators.scenario_plant import load_scenario, play
run = play(load_scenario(Path(sys.argv[1]), 3), int(sys.argv[2]))
said = repr([(unit.device, run.steps(unit)) for unit in run.scenario.units]) + repr(run.truth)
print(hashlib.sha256(said.encode()).hexdigest())
"""


def test_another_process_comes_to_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(MIXED, "utf-8")
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGEST, str(path), str(START)],
            env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize("name", shipped_scenarios())
def test_a_shipped_scenario_is_valid(name: str) -> None:
    assert load_scenario(name).units


def test_the_schema_is_that_of_the_code() -> None:
    assert (ROOT / "simulators" / "scenario.schema.json").read_text("utf-8") == json_schema()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sede: 1", r"one.yaml:7:1: unknown key ‘sede’, did you mean ‘seed’\?"),
        ("faults: [{fault: burts, on: X, after: 1m, lasts: 1m}]", r"7:18: ‘burts’ is no fault .* mean ‘burst’\?"),
        ("faults: [{fault: reboot, on: P-11, after: 1m, lasts: 1m}]", r"7:30: nothing .* called ‘P-11’, did you mean"),
        ("faults: [{fault: reboot, on: P-101, after: 5h, lasts: 1m}]", r"7:44: the run is over by then"),
        ("sites: [{site: nowhere.yaml}]", r"7:16: there is no site ‘nowhere.yaml’"),
        ("start: 2026-03-02T20:00:00", r"‘start’ needs an offset"),
        ("random_faults: {a_day: 3, faults: [rebot]}", r"7:36: ‘rebot’ is no fault .*‘reboot’"),
        ("radio: {loss: [0.1, 2, 0]}", r"7:21: radio.loss.1: Input should be less than or equal to 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(DocumentError, match=told):
        played(tmp_path, HEAD + line)


@pytest.mark.parametrize(
    ("fleet", "told"),
    [
        ("{protocol: mqtt, credential: oscore}", "is for coap"),
        ("{protocol: coap, block: 100}", "one of 16, 32"),
        ("{protocol: sparkplug}", "belongs to sparkplug"),
        ("{protocol: iotda, format: json}", "payload of its own"),
        ("{protocol: coap, format: frame}", "declares no frame"),
        ("{protocol: coap, profile: centrifugal-pomp}", "did you mean ‘centrifugal-pump’"),
        ("{protocol: coap, devices: [P-9*]}", "no device is left for this fleet"),
        ("{protocol: coap, limits: {presure: [0, 1]}}", "did you mean ‘pressure’"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(tmp_path: Path, fleet: str, told: str) -> None:
    with pytest.raises(DocumentError, match=told):
        played(tmp_path, HEAD.replace("{protocol: coap, block: 1024, coverage: [1, 0, 0]}", fleet))


def test_a_name_that_is_no_scenario_is_told_with_those_that_are() -> None:
    with pytest.raises(DocumentError, match="did you mean ‘small’"):
        load_scenario("smal")


def test_a_frame_that_cannot_carry_its_samples_is_told_with_its_fleet(tmp_path: Path) -> None:
    text = """
scenario: One
duration: 1h
sites: [{site: pumping-station}]
fleets:
  - {devices: ["PS-*", "CV-*"], protocol: coap}
  - {devices: ["LG-*"], protocol: coap, format: frame, reporting: {sampling: 5m, interval: 10m}}
"""
    run = played(tmp_path, text)
    logger = next(unit for unit in run.scenario.units if unit.tag == "LG-T1")
    with pytest.raises(DocumentError, match=r"one\.yaml:7:\d+: LG-T1 cannot say it: the samples of a repeated part"):
        run.steps(logger)


def test_a_unit_reports_faster_while_it_sees_something_abnormal_itself(tmp_path: Path) -> None:
    calm = written((run := played(tmp_path, HEAD)).steps(pump(run)))
    text = HEAD + "faults: [{fault: bearing-wear, on: P-101, after: 1h, lasts: 1h}]"
    limited = text.replace("coverage: [1, 0, 0]", "coverage: [1, 0, 0], limits: {vibration: [-1, 7]}")
    hasty = written((run := played(tmp_path, limited)).steps(pump(run)))
    gaps = {b.due - a.due for a, b in pairwise(calm)}
    assert gaps == {5 * MINUTE}
    during = [one.due for one in hasty if START + HOUR + 10 * MINUTE <= one.due < START + 2 * HOUR]
    assert {b - a for a, b in pairwise(during)} == {2 * MINUTE}
    after = [one.due for one in hasty if one.due > START + 2 * HOUR + 20 * MINUTE]
    assert {b - a for a, b in pairwise(after)} == {5 * MINUTE}


def test_without_a_cell_nothing_goes_out_until_there_is_one_again(tmp_path: Path) -> None:
    run = played(tmp_path, HEAD + "faults: [{fault: coverage-loss, on: P-101, after: 1h, lasts: 2h}]")
    steps = run.steps(pump(run))
    since, until = START + HOUR, START + 3 * HOUR
    assert not [one for one in contacts(steps) if since <= one.at < until]
    back = next(one for one in contacts(steps) if one.at >= until)
    assert back.at < until + 10 * SECOND
    assert back.new_port, "the NAT has forgotten it"
    assert len([one for one in written(steps) if since <= one.due < until]) == 24, "it goes on measuring"


def test_a_reboot_begins_the_numbers_again_and_loses_what_it_did_not_measure(tmp_path: Path) -> None:
    run = played(tmp_path, HEAD + "faults: [{fault: reboot, on: P-101, after: 1h, lasts: 10m}]")
    found = written(run.steps(pump(run)))
    sequences = [one.sequence for one in found]
    again = sequences.index(1, 1)
    assert found[again].boot == 1
    times = sorted(at for one in found for at in one.readings["flow"])
    assert not [at for at in times if START + HOUR <= at < START + HOUR + 10 * MINUTE]


def test_a_clock_that_began_again_says_1970_and_the_ledger_says_how_many(tmp_path: Path) -> None:
    run = played(tmp_path, HEAD + "faults: [{fault: clock-reset, on: P-101, after: 1h, lasts: 1h}]")
    found = written(run.steps(pump(run)))
    odd = [one for one in found if one.undated]
    assert len(odd) == 12
    assert all(not one.readings for one in odd)
    assert all(one.count == one.undated for one in odd)


def test_a_fast_clock_is_ahead_by_three_minutes_after_an_hour(tmp_path: Path) -> None:
    run = played(tmp_path, HEAD + "faults: [{fault: clock-drift, on: P-101, after: 0, lasts: 2h}]")
    last = max(
        at for one in written(run.steps(pump(run))) for at in one.readings.get("flow", []) if one.due < START + HOUR
    )
    assert last - (START + HOUR) == pytest.approx(2 * MINUTE, abs=MINUTE)


def test_held_back_repeated_and_readdressed_uplinks_are_in_the_plan(tmp_path: Path) -> None:
    text = HEAD + "faults: [{fault: %s, on: P-101, after: 1h, lasts: 2h}]"
    plans = {}
    for kind in ("uplinks-repeated", "uplinks-reordered", "new-address"):
        run = played(tmp_path, text % kind)
        found = contacts(run.steps(pump(run)))
        plans[kind] = [one for one in found if START + HOUR <= one.at < START + 3 * HOUR]
    assert all(one.repeat for one in plans["uplinks-repeated"])
    assert {one.newest for one in plans["uplinks-reordered"]} == {True}
    assert len(plans["uplinks-reordered"]) == 12, "every second one is held back"
    assert all(one.new_port for one in plans["new-address"])


def test_each_fault_of_a_device_stands_in_the_truth(tmp_path: Path) -> None:
    lines = "\n".join(f"  - {{fault: {kind}, on: P-101, after: 1h, lasts: 1h}}" for kind in DEVICE_CATALOGUE)
    run = played(tmp_path, HEAD + "faults:\n" + lines)
    assert {line.fault for line in run.truth.faults} == set(DEVICE_CATALOGUE)
    assert all(line.device == pump(run).device.identity for line in run.truth.faults)
    assert written(run.steps(pump(run)))


def test_a_flat_battery_says_so_and_falls_silent(tmp_path: Path) -> None:
    run = played(tmp_path, HEAD + "faults: [{fault: battery-flat, on: P-101, after: 0, lasts: 4h}]")
    found = written(run.steps(pump(run)))
    assert max(one.due for one in found) < START + 2 * HOUR + MINUTE
    told = [
        entry.value
        for one in found
        for report in decode_cbor(one.payload, run.end)
        for entry in report.measurements
        if entry.name == "battery"
    ]
    assert float(told[-1] or 0) <= 5.0 < float(told[0] or 0)


WORKS = "waterworks: {pumps: 1, valves: 1}"


def charges(tmp_path: Path, fleet: str, plant: str = WORKS, tag: str = "P-101") -> list[float]:
    """What a unit tells of its battery over a day, report by report."""
    text = f"scenario: One\nseed: 5\nduration: 1d\n{plant}\nfleets: [{{protocol: coap, format: cbor, {fleet}}}]\n"
    run = played(tmp_path, text)
    unit = next(one for one in run.scenario.units if one.tag == tag)
    return [
        float(entry.value or 0)
        for one in written(run.steps(unit))
        for report in decode_cbor(one.payload, run.end)
        for entry in report.measurements
        if entry.name == "battery"
    ]


def test_what_is_sent_is_paid_by_the_battery_and_more_so_where_coverage_is_deep(tmp_path: Path) -> None:
    spent = {}
    for level, interval in ((0, "5m"), (2, "5m"), (2, "1h")):
        shares = [0, 0, 0]
        shares[level] = 1
        told = charges(
            tmp_path, f"battery: 20, coverage: {shares}, reporting: {{sampling: 5m, interval: {interval}}}, block: 1024"
        )
        assert told == sorted(told, reverse=True)
        spent[level, interval] = told[0] - told[-1]
    assert spent[2, "5m"] > spent[0, "5m"] > 0
    assert spent[2, "5m"] > spent[2, "1h"], "fewer messages are cheaper"


def test_a_unit_that_listens_by_edrx_pays_for_it(tmp_path: Path) -> None:
    skid = "sites: [{site: control-skid}]"
    common = "battery: 0.2, coverage: [1, 0, 0], reporting: {sampling: 1h, interval: 6h}"
    sleeps = charges(tmp_path, f"{common}, devices: [SK-FV1], profile: electric-multi-turn-valve", skid, "SK-FV1")
    listens = charges(tmp_path, f"{common}, devices: [SK-PA], profile: submersible-pump", skid, "SK-PA")
    assert listens[0] - listens[-1] > sleeps[0] - sleeps[-1]


def test_random_faults_come_at_their_rate_and_from_the_seed(tmp_path: Path) -> None:
    text = HEAD.replace("4h", "2d").replace("duration", "random_faults: {a_day: 30}\nduration")
    path = tmp_path / "one.yaml"
    path.write_text(text.replace("{pumps: 1, valves: 1}", "{pumps: 2, valves: 2}"), "utf-8")
    found = [len({line.event for line in play(load_scenario(path, seed), START).truth.faults}) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert all(35 <= count <= 85 for count in found), "60 are expected; three deviations are 23"
