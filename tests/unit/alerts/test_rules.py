"""Rules from YAML, the shipped ones, and every contradiction that is found when they are loaded."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from alerts.contact import definitions
from alerts.engine import judge
from alerts.rulefiles import load_rules, shipped_rules
from alerts.rules import Rule
from alerts.ruletests import load_tests, run
from devices.alarm import Priority
from devices.document import DocumentError
from devices.model import MINUTE, Device, Reading
from devices.profile import shipped_profiles
from headworks.cli import app
from tests.unit.alerts.plant import PROFILES, PUMP, T0, VALVE, rule, series

GOOD = """\
rule: hot
title: Hot
condition: temperature > 60
message: "{value} {unit} over {limit}"
on_delay: 2m
priority: high
guidance: {cause: c, consequence: q, corrective_action: a, time_to_respond: 1h}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_rules(text, "r.yaml")
    return caught.value.problems


def test_a_document_holds_one_rule_or_a_list() -> None:
    (one,) = load_rules(GOOD, "r.yaml")
    listed = "".join(f"- {GOOD.replace('hot', name).replace(chr(10), chr(10) + '  ')}\n" for name in ("a", "b"))
    assert (one.rule, one.on_delay, one.priority, one.severity) == ("hot", 2 * MINUTE, Priority.HIGH, 834)
    assert [r.rule for r in load_rules(listed, "r.yaml")] == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("temperature > 60", "temprature > 60", "r.yaml:3:12: condition: column 1: unknown metric ‘temprature’"),
        ("temperature > 60", "temperature > flow", "r.yaml:3:12: condition: column 1: cannot compare quantities"),
        ("on_delay: 2m", "on_delay: -2m", "r.yaml:5:11: on_delay: '-2m' is not a duration"),
        ("on_delay: 2m", "on_delay: 120", "r.yaml:5:11: on_delay: write a duration with its unit"),
        ("on_delay: 2m", "on_dealy: 2m", "r.yaml:5:1: unknown key ‘on_dealy’, did you mean ‘on_delay’?"),
        ("on_delay: 2m", "validity: 0", "r.yaml:5:11: validity: Input should be greater than 0"),
        ("on_delay: 2m", "deadband: -1", "r.yaml:5:11: deadband: a deadband is a finite number, 0 or more"),
        ("on_delay: 2m", "deadband: .nan", "r.yaml:5:11: deadband: a deadband is a finite number, 0 or more"),
        ("on_delay: 2m", "deadband: yes", "r.yaml:5:11: deadband: write a number"),
        ("on_delay: 2m", "deadband: {flow: 1}", "r.yaml:5:11: deadband: ‘flow’ is not in the condition"),
        ("on_delay: 2m", "metric: flow", "r.yaml:5:9: metric: ‘flow’ is not in the condition"),
        ("priority: high", "priority: urgent", "r.yaml:6:11: priority: Input should be 'low', 'medium' or 'high'"),
        ("on_delay: 2m", "severity: 100", "r.yaml:5:11: severity: 100 contradicts the priority ‘high’"),
        ("priority: high", "priority: high\nseverity: 1001", "r.yaml:7:11: severity: 1001"),
        ("priority: high", "priority: low\nseverity: 0", "r.yaml:7:11: severity: 0"),
        ("consequence: q, ", "", "‘consequence’ is missing"),
        ("corrective_action: a, ", "", "‘corrective_action’ is missing"),
        (", time_to_respond: 1h", "", "‘time_to_respond’ is missing"),
        ("on_delay: 2m", "latching: sometimes", "r.yaml:5:11: latching: "),
        ("on_delay: 2m", "alarm_class: unknown", "r.yaml:5:14: alarm_class: Input should be 'safety'"),
        ("rule: hot", "rule: Hot Pump", "r.yaml:1:7: rule: String should match pattern"),
        ("title: Hot\n", "", "r.yaml:1:1: ‘title’ is missing"),
        ("{limit}", "{limt}", "unknown field {limt}, did you mean ‘limit’?"),
        ("{limit}", "{value.__class__}", "unknown field {value.__class__}"),
        ("{limit}", "{value!r}", "unknown field {value!r}"),
        ("{limit}", "{", "a brace without its partner"),
        ("cause: c, ", "", "‘cause’ is missing"),
        ("on_delay: 2m", "applies_to: {kind: tractor}", "applies_to.kind: Input should be 'pump', 'valve' or 'meter'"),
    ],
)
def test_a_bad_rule_is_an_error_with_its_place(old: str, new: str, message: str) -> None:
    assert old in GOOD
    (problem,) = problems(GOOD.replace(old, new))
    assert message in problem


def test_a_limit_needs_a_comparison() -> None:
    (problem,) = problems(GOOD.replace("temperature > 60", "enclosure_open"))
    assert "{limit} has no meaning" in problem


def test_a_list_with_one_bad_rule_gives_none_and_names_every_problem() -> None:
    text = (
        "- {rule: a}\n- " + GOOD.replace("\n", "\n  ") + "\n- " + GOOD.replace("\n", "\n  ").replace("60", "60 +") + ""
    )
    found = problems(text)
    assert any("r.yaml:1:3: ‘title’ is missing" in p for p in found)
    assert any("not a condition" in p for p in found)
    assert any("the rule ‘hot’ exists twice in this document" in p for p in found)


@pytest.mark.parametrize("text", ["", "[]", "5", "- 5", "a: [", "rule: a\nrule: b"])
def test_what_is_no_rule_document_is_a_clear_error(text: str) -> None:
    assert all(problem.startswith("r.yaml:") for problem in problems(text))


def test_a_rule_survives_being_written_and_read_again() -> None:
    for shipped in shipped_rules():
        assert Rule.model_validate(shipped.model_dump(mode="json")) == shipped


def test_messages_are_filled_with_readable_numbers() -> None:
    tested = rule(message="{value} of {limit} {unit}")
    assert tested.words(6.4321987, 5.0) == "6.432 of 5 mm/s"
    assert tested.words(123456.7, None) == "123500 of ? mm/s"


# --- the shipped rules


SHIPPED = {one.rule: one for one in shipped_rules()}


def test_the_shipped_rules_have_the_names_others_rely_on() -> None:
    assert set(SHIPPED) >= {
        "pump-dry-run",
        "pump-vibration-high",
        "bearing-temperature-high",
        "valve-travel-deviation",
        "pressure-low",
        "valve-seat-passing",
        "battery-low",
        "enclosure-open",
    }


def test_every_shipped_rule_fits_a_shipped_profile_that_has_its_metrics() -> None:
    profiles = shipped_profiles()
    for one in SHIPPED.values():
        if one.group is not None:
            continue  # its unit tests compose a group of shipped profiles
        design = dict.fromkeys(one.applies_to.design_names, 50.0)
        fitting = [p for p in profiles.values() if one.fits(Device("d", p.profile, design=design), p)]
        assert any(set(one.parsed.metrics) <= set(profile.metrics) for profile in fitting), one.rule


def test_every_shipped_limit_has_a_deadband_so_that_noise_does_not_make_it_chatter() -> None:
    for one in SHIPPED.values():
        leading = one.parsed.leading
        # Windows of hours do not chatter.
        assert one.deadbands or leading is None or one.parsed.features, one.rule


ASKED_FOR = {
    "travel deviation": ["valve-travel-deviation"],
    "stroke time": ["valve-stroke-time-long"],
    "stiction": ["valve-stiction"],
    "breakaway torque": ["valve-breakaway-torque-high"],
    "seat passing": ["valve-seat-passing"],
    "cycle count": ["valve-cycles-excessive"],
    "cavitation index": ["valve-cavitation"],
    "dry run": ["pump-dry-run"],
    "dead-head": ["pump-dead-head"],
    "minimum flow": ["pump-flow-below-minimum"],
    "preferred operating region": ["pump-outside-preferred-region"],
    "efficiency loss": ["pump-efficiency-low"],
    "NPSH margin": ["npsh-margin-low"],
    "vibration zones": ["pump-vibration-high", "pump-vibration-danger"],
    "bearing temperature": ["bearing-temperature-high", "bearing-temperature-danger"],
    "motor overload": ["motor-overload"],
    "check-valve failure": ["check-valve-failure"],
    "pressure high, low, transient": ["pressure-high", "pressure-low", "pressure-transient"],
    "leak by night flow and by balance": ["night-flow-high", "zone-balance-loss"],
    "tamper": ["enclosure-open", "magnetic-tamper"],
    "frozen sensor": ["pressure-sensor-frozen", "flow-sensor-frozen"],
    "noisy sensor": ["pressure-sensor-noisy", "flow-sensor-noisy"],
    "drifting sensor": ["flow-sensor-drift"],
    "clock fault": ["clock-wrong"],
    "battery forecast": ["battery-forecast"],
    "coverage loss": ["coverage-lost"],
    "silence of an instrument": ["sensor-silent"],
}
"""What pumps, valves and their telemetry suffer from, and what calls then."""


def test_there_is_a_rule_for_everything_that_pumps_and_valves_suffer_from() -> None:
    for trouble, names in ASKED_FOR.items():
        assert set(names) <= SHIPPED.keys(), trouble
    # Silence of a device is told by when it is heard of, not by a rule.
    assert {one.rule for one in definitions()} >= {
        "device-silent", "device-out-of-coverage", "device-flat-battery",
    }  # fmt: skip


def test_every_threshold_of_a_shipped_rule_is_a_parameter() -> None:
    """But for the states that a device tells, and for qualities."""
    for one in SHIPPED.values():
        if not one.setpoints:
            assert re.fullmatch(r"[a-z_]+( == 1)?|quality\([a-z_]+\) == bad", one.condition), one.rule


HEALTHY_PUMP = {
    "running": 1.0,
    "flow": 95.0,
    "power": 10.5,
    "suction_pressure": 1.1,
    "vibration": 2.8,
    "bearing_temperature": 58.0,
    "battery": 76.0,
    "enclosure_open": 0.0,
}
HEALTHY_VALVE = {
    "position": 41.0,
    "position_command": 40.0,
    "pressure": 4.2,
    "flow": 55.0,
    "battery": 76.0,
    "enclosure_open": 0.0,
}
FULL_PUMP = Device(PUMP.identity, PUMP.profile, design={"rated_flow": 100.0, "rated_power": 11.0})


def alarms(device: Device, healthy: dict[str, float], wrong: dict[str, float]) -> list[str]:
    """Ten healthy samples, then an hour of wrong ones, one a minute: which rules call?"""
    readings: list[Reading] = []
    for metric, usual in healthy.items():
        readings += series(metric, [usual] * 10 + [wrong.get(metric, usual)] * 60, device=device)
    found = [a for one in SHIPPED.values() for a in judge(one, device, PROFILES[device.profile], readings)]
    assert all(alarm.since == T0 + 10 * MINUTE for alarm in found)
    return sorted(alarm.rule for alarm in found)


@pytest.mark.parametrize(
    ("wrong", "rules"),
    [
        ({}, []),
        ({"flow": 0.4, "power": 4.0}, ["pump-dry-run"]),
        ({"flow": 0.0, "suction_pressure": -0.4}, ["pump-dry-run", "suction-pressure-low"]),
        ({"flow": 0.0, "power": 0.0, "running": 0.0, "vibration": 0.1}, []),
        ({"flow": 0.0}, []),
        ({"vibration": 6.5}, ["pump-vibration-high"]),
        ({"bearing_temperature": 82.5}, ["bearing-temperature-high"]),
        ({"battery": 14.0}, ["battery-low"]),
        ({"enclosure_open": 1.0}, ["enclosure-open"]),
    ],
)
def test_a_pumps_troubles_are_called_by_their_rule_and_no_other(wrong: dict[str, float], rules: list[str]) -> None:
    assert alarms(FULL_PUMP, HEALTHY_PUMP, wrong) == rules


@pytest.mark.parametrize(
    ("wrong", "rules"),
    [
        ({}, []),
        ({"position_command": 60.0}, ["valve-travel-deviation"]),
        ({"pressure": 1.7}, ["pressure-low"]),
        ({"position": 0.0, "position_command": 0.0, "flow": 0.2}, []),
        ({"position": 0.1, "position_command": 0.0, "flow": 3.0}, ["valve-seat-passing"]),
        ({"position": 30.0, "position_command": 30.0, "flow": 40.0}, []),
    ],
)
def test_a_valves_troubles_are_called_by_their_rule_and_no_other(wrong: dict[str, float], rules: list[str]) -> None:
    assert alarms(VALVE, HEALTHY_VALVE, wrong) == rules


def test_a_valve_that_strokes_within_two_minutes_is_no_deviation() -> None:
    readings = [
        *series("position_command", [20, 80, 80, 80, 80, 80], device=VALVE),
        *series("position", [20, 20, 50, 80, 80, 80], device=VALVE),
    ]
    assert judge(SHIPPED["valve-travel-deviation"], VALVE, PROFILES[VALVE.profile], readings) == []


def test_a_battery_that_is_told_once_a_day_is_called() -> None:
    readings = series("battery", [20, 14, 14], step=24 * 60 * MINUTE)
    (alarm,) = judge(SHIPPED["battery-low"], PUMP, PROFILES[PUMP.profile], readings)
    assert alarm.raised_at == T0 + 48 * 60 * MINUTE


def test_the_rule_in_the_readme_is_one_and_passes_its_tests() -> None:
    text = (Path(__file__).parents[3] / "alerts" / "README.md").read_text("utf-8")
    documents = [part.split("```")[0] for part in text.split("```yaml\n")[1:]]
    (one,) = load_rules(documents[0], "README.md")
    assert one.parsed.design == ("rated_pressure",)
    (tests,) = load_tests(next(one for one in documents if one.startswith("- rule: ")), "README.md")
    assert [outcome.problems for outcome in run(tests, {one.rule: one}, PROFILES)] == [(), (), ()]
    (over,) = load_rules(
        GOOD.replace("temperature > 60", "pressure > setpoint.high") + dedent(documents[1]), "README.md"
    )
    added = next(one for one in documents if one.startswith("  group:"))
    (group,) = load_rules(GOOD.replace("condition: temperature > 60\n", "") + dedent(added), "README.md")
    beside = load_rules(next(one for one in documents if one.startswith("- include:")), "README.md")
    assert {one.rule: [over.what for over in one.overrides] for one in beside if one.overrides} == {
        "pump-vibration-high": ["high = 8 mm/s"],
        "pump-dry-run": ["off"],
    }
    assert group.parsed.metrics == ("inlet.flow", "outlet.flow")
    assert over.setpoints["high"].value == "0.9 * design.pn"


def test_a_rule_for_a_profile_that_is_not_installed_is_told(tmp_path: Path) -> None:
    """It would never call, and nobody would know."""
    (tmp_path / "mine.yaml").write_text(GOOD + "applies_to: {profiles: [centrifugal-pmp]}\n", "utf-8")
    result = CliRunner().invoke(app, ["rules", "check", str(tmp_path)])
    assert isinstance(result.exception, DocumentError)
    assert "no profile ‘centrifugal-pmp’, did you mean ‘centrifugal-pump’?" in str(result.exception)
    (tmp_path / "mine.yaml").write_text(GOOD, "utf-8")
    assert CliRunner().invoke(app, ["rules", "check", str(tmp_path)]).output == "1 rule is valid\n"
