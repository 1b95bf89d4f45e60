"""The shipped sites: healthy they are quiet and in balance, and each fault of the catalogue shows where it should."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("epanet", reason="owa-epanet has no wheel for this Python")

from devices.document import DocumentError
from devices.model import DAY, HOUR, MINUTE, Instant, instant
from simulators.catalogue import CATALOGUE
from simulators.injection import Injection
from simulators.noise import Floats
from simulators.observation import Observation
from simulators.sensors import canonical
from simulators.site import LOGGER, PUMP, VALVE, load_site, shipped_sites
from simulators.site_run import play
from simulators.site_view import observe_site, truth_of_site
from simulators.truth import read_truth, write_truth
from simulators.water_hammer import DUCTILE_IRON, surge, wave_speed

START = instant(datetime(2026, 3, 3, 16, tzinfo=UTC))  # midnight at the sites
SINCE, UNTIL = START + 3 * HOUR, START + 7 * HOUR
STATION, SKID = load_site("pumping-station"), load_site("control-skid")
_SEEN: dict[tuple[str, int], Observation] = {}


def healthy(name: str, seed: int = 5) -> Observation:
    if (name, seed) not in _SEEN:
        _SEEN[name, seed] = observe_site(load_site(name), seed, [], START, START + 8 * HOUR)
    return _SEEN[name, seed]


def shown(name: str, fault: Injection, seed: int = 5) -> Observation:
    return observe_site(load_site(name), seed, [fault], START, START + 8 * HOUR)


def of(seen: Observation, tag: str, metric: str, since: Instant = SINCE, until: Instant = UNTIL) -> Floats:
    during = (seen.times >= since) & (seen.times < until)
    return canonical(metric, seen.values[tag][metric][during])


def test_three_sites_of_different_size_are_shipped() -> None:
    assert shipped_sites() == ("control-skid", "district-network", "pumping-station")
    sizes = {name: len(load_site(name).mounted) for name in shipped_sites()}
    assert sizes == {"control-skid": 6, "district-network": 500, "pumping-station": 11}


@pytest.mark.parametrize("name", ["control-skid", "pumping-station"])
def test_controllers_hold_what_they_are_told(name: str) -> None:
    site, seen = load_site(name), healthy(name)
    state = play(site, 5, [], START, START + 8 * HOUR)
    for control in site.document.controls:
        if control.pressure is not None:
            held = state.pressure[state.nodes[control.pressure_at]]
            assert abs(float(np.median(held)) - control.pressure) < 0.25
        elif control.flow is not None:
            assert float(np.median(of(seen, control.on[0], "flow"))) == pytest.approx(control.flow, rel=0.03)


def test_the_same_seed_gives_the_same_day_and_another_one_another() -> None:
    one, again = healthy("control-skid"), observe_site(SKID, 5, [], START, START + 8 * HOUR)
    other = healthy("control-skid", 6)
    for tag, metrics in one.values.items():
        for metric, values in metrics.items():
            np.testing.assert_array_equal(values, again.values[tag][metric])
    assert not np.array_equal(one.values["SK-FV1"]["pressure"], other.values["SK-FV1"]["pressure"])


def test_every_device_shows_what_its_profile_has() -> None:
    for name in ("control-skid", "pumping-station"):
        site, seen = load_site(name), healthy(name)
        for device in site.devices(5):
            metrics = set(seen.values[device.tag])
            least = {PUMP: {"power", "vibration"}, VALVE: {"position", "torque"}, LOGGER: {"pressure"}}[device.profile]
            assert least <= metrics


# fault, site, target, tag, metric, and what becomes of the metric's value: (healthy, faulty) -> whether it shows
def _higher(by: float) -> object:
    return lambda old, new: float(np.max(new - old)) > by


def _lower(by: float) -> object:
    return lambda old, new: float(np.max(old - new)) > by


def _scatters(old: Floats, new: Floats) -> bool:
    return float(np.std(new)) > 3.0 * float(np.std(old)) + 1e-9


def _follows_no_more(old: Floats, new: Floats) -> bool:
    return float(np.ptp(new)) < 1.0 and float(np.ptp(old)) > 20.0


def _stands(old: Floats, new: Floats) -> bool:
    return float(np.ptp(new)) == 0.0 < float(np.ptp(old))


S, K = "pumping-station", "control-skid"
SIGNATURES: dict[str, tuple[str, str, str, str, object]] = {
    "valve-clogging": (K, "SK-FV1", "SK-FV1", "flow", _lower(10.0)),
    "seat-sedimentation": (K, "SK-RV1", "SK-RV1", "position", _higher(38.0)),
    "seat-erosion": (K, "SK-RV1", "SK-RV1", "flow", _higher(2.0)),
    "valve-friction": (S, "CV-TOWN", "CV-TOWN", "position", _follows_no_more),
    "valve-external-leak": (K, "SK-FV1", "SK-PA", "flow", _higher(3.0)),
    "valve-internal-leak": (K, "SK-RV1", "SK-RV1", "flow", _higher(1.0)),
    "critical-flow": (K, "SK-FV1", "SK-FV1", "temperature", _higher(50.0)),
    "bent-rod": (K, "SK-FV1", "SK-FV1", "position", _lower(20.0)),
    "servomotor-leak": (S, "CV-TANK", "CV-TANK", "position", _higher(20.0)),
    "diaphragm-perforation": (K, "SK-FV2", "SK-FV2", "position", _lower(30.0)),
    "spring-fault": (K, "SK-LV1", "SK-LV1", "position_command", _lower(20.0)),
    "transducer-fault": (K, "SK-FV1", "SK-FV1", "position_command", _higher(20.0)),
    "position-sensor-fault": (K, "SK-FV1", "SK-FV1", "position", _higher(18.0)),
    "pressure-sensor-fault": (K, "SK-FV1", "SK-FV1", "pressure", _lower(6.0)),
    "positioner-feedback-fault": (K, "SK-FV1", "SK-FV1", "position_command", _lower(25.0)),
    "supply-pressure-drop": (K, "SK-FV1", "SK-FV1", "position", _lower(15.0)),
    "pressure-change": (K, "SK-FV1", "SK-FV1", "pressure", _lower(4.0)),
    "bypass-open": (K, "SK-RV1", "SK-RV1", "flow", _higher(3.0)),
    "flow-sensor-fault": (K, "SK-FV1", "SK-FV1", "flow", _higher(1000.0)),
    "dry-run": (S, "PS-P1", "PS-P1", "flow", _lower(50.0)),
    "dead-head": (K, "SK-PA", "SK-PA", "pressure", _higher(1.0)),
    "pump-cavitation": (K, "SK-PA", "SK-PA", "vibration", _higher(3.0)),
    "bearing-wear": (S, "PS-P1", "PS-P1", "bearing_temperature", _higher(30.0)),
    "impeller-wear": (S, "PS-P1", "PS-P1", "speed", _higher(100.0)),
    "misalignment": (S, "PS-P1", "PS-P1", "vibration", _higher(4.0)),
    "motor-overload": (S, "PS-P1", "PS-P1", "current", _higher(40.0)),
    "check-valve-passing": (K, "SK-PB", "SK-PB", "flow", _lower(5.0)),
    "strainer-clogging": (K, "SK-PA", "SK-PA", "suction_pressure", _lower(0.5)),
    "burst": (S, "T4", "CV-TOWN", "flow", _higher(100.0)),
    "background-leak": (S, "T4", "CV-TOWN", "flow", _higher(2.0)),
    "valve-left-closed": (S, "LU", "LG-T3", "pressure", _lower(2.0)),
    "water-hammer": (S, "T3", "LG-T3", "pressure", _higher(5.0)),
    "illegal-draw": (S, "T2", "CV-TOWN", "flow", _higher(30.0)),
    "sensor-range": (K, "SK-FV1/pressure", "SK-FV1", "pressure", _lower(9.0)),
    "sensor-offset": (K, "SK-FV1/pressure", "SK-FV1", "pressure", _lower(1.5)),
    "sensor-drift": (K, "SK-FV1/pressure", "SK-FV1", "pressure", _higher(0.1)),
    "sensor-freeze": (S, "CV-TOWN/pressure", "CV-TOWN", "pressure", _stands),
    "sensor-noise": (K, "SK-FV1/pressure", "SK-FV1", "pressure", _scatters),
    "sensor-spikes": (K, "SK-FV1/pressure", "SK-FV1", "pressure", _higher(5.0)),
}


@pytest.mark.parametrize("fault", CATALOGUE)
def test_every_fault_has_its_signature_and_none_before_it(fault: str) -> None:
    name, target, tag, metric, shows = SIGNATURES[fault]
    since, until = (START + HOUR, START + 5 * HOUR) if fault == "illegal-draw" else (SINCE, UNTIL)
    old = healthy(name)
    new = shown(name, Injection(fault, target, since, until))
    assert callable(shows)
    assert shows(of(old, tag, metric, since, until), of(new, tag, metric, since, until))
    for device, metrics in old.values.items():
        before = old.times < since
        for each, values in metrics.items():
            np.testing.assert_array_equal(values[before], new.values[device][each][before])


@pytest.mark.parametrize("fault", CATALOGUE)
def test_every_fault_writes_what_where_from_until_and_how_much(fault: str) -> None:
    name, target, *_ = SIGNATURES[fault]
    since = START + HOUR
    truth = truth_of_site(load_site(name), 5, [Injection(fault, target, since, since + HOUR, 0.7)], START, since + HOUR)
    assert truth.faults
    assert {(line.fault, line.begins, line.ends, line.severity) for line in truth.faults} == {
        (fault, since, since + HOUR, 0.7)
    }
    assert len({line.event for line in truth.faults}) == 1
    assert truth.watched is not None
    assert {line.device for line in truth.faults} <= set(truth.watched.devices)
    own = target.split("/")[0]
    if own in {one.tag for one in load_site(name).mounted}:
        assert load_site(name).identity(own, 5) in {line.device for line in truth.faults}


def test_the_catalogue_has_every_fault_of_damadics() -> None:
    numbers = {entry.source.split(",")[0].removeprefix("DAMADICS ") for entry in CATALOGUE.values()}
    assert {f"f{number}" for number in range(1, 20)} <= numbers


def test_wear_grows_over_months() -> None:
    """A bearing that is worn out in four months, an hour of each month."""
    worn = Injection("bearing-wear", "PS-P1", START, START + 130 * DAY, growth=120 * DAY)
    means = []
    for month in range(5):
        since = START + month * 30 * DAY + 8 * HOUR
        seen = observe_site(STATION, 5, [worn], since, since + HOUR)
        means.append(float(np.mean(canonical("vibration", seen.values["PS-P1"]["vibration"]))))
    assert means == sorted(means)
    assert means[-1] > means[0] + 3.0, "mm/s"


def test_a_loggers_extremes_tell_the_whole_surge_that_its_samples_miss() -> None:
    # Water is stopped at minutes 2 and 22 of the hour: never when a logger samples, each quarter of an hour.
    new = shown(S, Injection("water-hammer", "T3", SINCE + 2 * MINUTE, UNTIL))
    pressure, highest, lowest = (
        of(new, "LG-T3", metric)[::15] for metric in ("pressure", "pressure_max", "pressure_min")
    )
    rise = float(surge(1.0, wave_speed(200.0, 6.0, DUCTILE_IRON)))
    usual = float(np.median(pressure))
    assert np.ptp(pressure[:2]) < 1.0
    assert highest[1] == pytest.approx(usual + rise, abs=0.5)
    assert lowest[1] == pytest.approx(-0.97, abs=0.1), "no less than a vacuum"
    assert highest[0] == pytest.approx(usual, abs=0.5), "what lies before the sample before is not told again"


def test_without_a_surge_the_extremes_are_those_of_the_samples() -> None:
    seen = healthy(S)
    pressure, highest, lowest = (of(seen, "LG-T3", metric) for metric in ("pressure", "pressure_max", "pressure_min"))
    assert highest[14] == pressure[:15].max()
    assert lowest[14] == pressure[:15].min()


@pytest.mark.parametrize("fault", ["bearing-wear", "valve-clogging", "misalignment", "sensor-offset"])
def test_half_of_the_severity_shows_less_and_it_grows(fault: str) -> None:
    name, target, tag, metric, _ = SIGNATURES[fault]
    base = of(healthy(name), tag, metric)
    full = np.abs(of(shown(name, Injection(fault, target, SINCE, UNTIL)), tag, metric) - base)
    half = np.abs(of(shown(name, Injection(fault, target, SINCE, UNTIL, 0.5)), tag, metric) - base)
    slow = np.abs(of(shown(name, Injection(fault, target, SINCE, UNTIL, growth=4 * HOUR)), tag, metric) - base)
    assert half[60:].mean() < full[60:].mean()
    assert slow[:60].mean() < slow[-60:].mean()


def test_what_is_repaired_is_well_again() -> None:
    fault = Injection("bearing-wear", "PS-P1", SINCE, SINCE + HOUR)
    late = SINCE + HOUR, UNTIL
    assert of(shown(S, fault), "PS-P1", "vibration", *late) == pytest.approx(
        of(healthy(S), "PS-P1", "vibration", *late)
    )


def test_the_truth_names_who_sees_a_fault_of_the_network(tmp_path: Path) -> None:
    burst = Injection("burst", "T4", SINCE, UNTIL)
    wear = Injection("bearing-wear", "PS-P1", SINCE, UNTIL, 0.5)
    truth = truth_of_site(STATION, 5, [burst, wear], START, START + 8 * HOUR)
    seeing = {line.device for line in truth.faults if line.fault == "burst"}
    assert {STATION.identity("LG-T4", 5), STATION.identity("CV-TOWN", 5)} <= seeing
    worn = [line for line in truth.faults if line.fault == "bearing-wear"]
    assert worn[0].device == STATION.identity("PS-P1", 5)
    assert "pump-vibration-high" in worn[0].explains
    (alone,) = truth_of_site(STATION, 5, [wear], START, START + 8 * HOUR).faults
    assert alone.device == STATION.identity("PS-P1", 5)
    assert "pressure-low" not in alone.explains
    assert len({line.event for line in truth.faults}) == 2
    write_truth(tmp_path / "truth.jsonl", truth)
    assert read_truth(tmp_path / "truth.jsonl") == truth


def test_a_fault_needs_a_target_that_can_have_it() -> None:
    with pytest.raises(ValueError, match="can have ‘dry-run’"):
        observe_site(SKID, 1, [Injection("dry-run", "SK-FV1", SINCE, UNTIL)], START, START + DAY)
    with pytest.raises(ValueError, match="no fault of the catalogue"):
        Injection("rust", "SK-PA", SINCE, UNTIL)
    with pytest.raises(ValueError, match="ends before it begins"):
        Injection("dry-run", "SK-PA", UNTIL, SINCE)
    with pytest.raises(ValueError, match="severity"):
        Injection("dry-run", "SK-PA", SINCE, UNTIL, 0.0)


def test_a_site_of_ones_own_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "net.inp").write_bytes(SKID.network.read_bytes())
    document = tmp_path / "mine.yaml"
    document.write_text(
        "site: Mine\nnetwork: net.inp\ndevices:\n"
        "  - {tag: P-1, profile: centrifugal-pump, link: PX, design: {rated_flow: 1, rated_head: 1, rated_power: 1}}\n"
        "  - {tag: V-1, profile: control-valve, link: HA, design: {kv: 10}}\n"
        "controls:\n  - {on: [V-2], opening: 50}\n",
        "utf-8",
    )
    with pytest.raises(DocumentError) as error:
        load_site(document)
    problems = str(error.value)
    assert f"{document}:4:" in problems and "no ‘PX’" in problems
    assert "‘HA’ is no valve" in problems
    assert "no device ‘V-2’" in problems
    document.write_text("site: Mine\nnetwork: other.inp\ndevices:\n  - {tag: A, profile: control-valve, link: FV1}\n")
    with pytest.raises(DocumentError, match="needs ‘kv’"):
        load_site(document)


def test_a_part_of_a_minute_has_no_sample() -> None:
    with pytest.raises(ValueError, match="a minute at least"):
        observe_site(SKID, 1, [], START + 1, START + 2)
    assert len(observe_site(SKID, 1, [], START, START + MINUTE).times) == 1


def test_the_readme_lists_the_catalogue_and_rules_that_are_shipped() -> None:
    root = Path(__file__).parents[3]
    text = (root / "simulators" / "README.md").read_text("utf-8")
    library = "".join(path.read_text("utf-8") for path in (root / "alerts" / "library").glob("*.yaml"))
    for name, entry in CATALOGUE.items():
        rules = ", ".join(f"`{rule}`" for rule in entry.rules) or "–"
        assert f"| `{name}` | {entry.on} | {entry.effect} | {entry.source} | {rules} |" in text
        for rule in (*entry.rules, *entry.explains):
            assert f"- rule: {rule}\n" in library, f"‘{name}’ names the rule ‘{rule}’, which is not shipped"
