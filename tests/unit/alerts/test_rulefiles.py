"""What rule files may say beside rules: the shipped ones included, other set-points for some devices, a rule off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.backtest import Backtest
from alerts.bands import band_of
from alerts.engine import judge
from alerts.rulefiles import assemble, json_schema, load_rules, read_rule_file, shipped_rules
from alerts.rules import Rule
from devices.document import DocumentError
from devices.model import DAY, HOUR, MINUTE, moment
from headworks.cli import app
from headworks.service import load_rule_files
from tests.unit.alerts.plant import PROFILES, PUMP, T0, House, minutes, rule, series
from tests.unit.alerts.test_backtest import in_columns

SHIPPED = {one.rule: one for one in shipped_rules()}
NAME = "bearing-temperature-high"
SINCE = moment(T0 + HOUR).isoformat()
HIGH = f"""\
override: {NAME}
tag: P-1*
setpoints: {{high: 95}}
valid_from: {SINCE}
reason: new bearings stand more
"""
OFF = f"override: {NAME}\nsite: east\nenabled: false\nvalid_from: {SINCE}\nreason: the probe is broken\n"


def listed(*documents: str) -> str:
    return "".join("- " + "  ".join(document.splitlines(keepends=True)) for document in documents)


def rules_of(*documents: str) -> dict[str, Rule]:
    return {one.rule: one for one in load_rules(listed("include: shipped\n", *documents), "r.yaml")}


def hot(one: Rule, values: list[float], begin: int = T0) -> list[tuple[float, float, float | None]]:
    temperatures = series("bearing_temperature", values, start=begin)
    return [minutes(alarm) for alarm in judge(one, PUMP, PROFILES[PUMP.profile], temperatures)]


def test_the_shipped_rules_are_in_use_beside_those_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("include: shipped\n", "utf-8")
    own = rule("temperature > 5").model_dump(mode="json") | {"rule": "own"}
    (tmp_path / "own.yaml").write_text(json.dumps(own), "utf-8")
    assert [one.rule for one in load_rule_files(tmp_path)] == [*SHIPPED, "own"]


def test_a_shipped_rule_has_other_set_points_for_some_devices_from_a_moment_on() -> None:
    one = rules_of(HIGH)[NAME]
    high = float(str(SHIPPED[NAME].setpoints["high"].value).split()[0])
    assert high < 90  # or the values below say nothing
    hours = [90.0] * 30 + [20.0] * 60 + [90.0] * 30 + [99.0] * 30
    before, after = hot(one, hours)
    assert before[0] == 0
    assert after[0] == 120
    assert hot(SHIPPED[NAME], hours)[1][0] == 90
    other = replace(PUMP, tag="P-2")
    found = judge(one, other, PROFILES[PUMP.profile], series("bearing_temperature", hours, device=other))
    assert minutes(found[1])[0] == 90


def test_everything_that_is_not_overridden_is_as_it_was() -> None:
    changed = rules_of(HIGH)
    assert {name: one for name, one in changed.items() if name != NAME} == {
        name: one for name, one in SHIPPED.items() if name != NAME
    }
    assert changed[NAME].condition == SHIPPED[NAME].condition


def test_a_rule_is_off_from_a_moment_on_and_the_past_keeps_its_alarms() -> None:
    hours = [99.0] * 30 + [20.0] * 60 + [99.0] * 60 + [20.0] * 30 + [99.0] * 30
    assert [alarm[0] for alarm in hot(rules_of(OFF)[NAME], hours)] == [0]
    on = OFF.replace("enabled: false", "enabled: true").replace(SINCE, moment(T0 + 160 * MINUTE).isoformat())
    assert [alarm[0] for alarm in hot(rules_of(OFF, on)[NAME], hours)] == [0, 180]


def test_an_alarm_that_is_on_ends_when_its_rule_is_switched_off() -> None:
    ((since, _, cleared),) = hot(rules_of(OFF)[NAME], [99.0] * 120)
    assert since == 0
    assert cleared is not None
    assert cleared >= 60


def test_late_readings_and_backtests_are_judged_by_what_was_valid_then() -> None:
    own = rules_of(OFF, HIGH.replace(SINCE, moment(T0 + DAY).isoformat()))[NAME]
    readings = series("bearing_temperature", [99.0] * 20 + [20.0] * 60 + [99.0] * 60)
    house = House([own])
    house.deliver(readings[70:])
    house.deliver(readings[:70])
    expected = judge(own, PUMP, PROFILES[PUMP.profile], readings)
    assert [alarm.since for alarm in expected] == [T0]
    assert house.alarms == expected
    backtest = Backtest([own], PROFILES)
    assert backtest.occurrences(backtest.rules_for(PUMP), PUMP, in_columns(readings)) == expected


def test_a_trend_shows_the_limit_that_holds_at_the_moment_and_none_while_the_rule_is_off() -> None:
    changed = rules_of(HIGH, OFF.replace(SINCE, moment(T0 + DAY).isoformat()))[NAME]
    found = [band_of(changed, PUMP, T0 + after) for after in (0, 2 * HOUR, 2 * DAY)]
    assert [band and band.limit for band in found] == [82, 95, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: shiped\n", "r.yaml:1:10: include: Input should be 'shipped'"),
        (HIGH, f"r.yaml:1:11: there is no rule ‘{NAME}’; it is a shipped one: write ‘include: shipped’"),
        (listed("include: shipped\n", HIGH.replace("high: 95", "hihg: 95")),
         "r.yaml:4:21: setpoints.hihg: the rule has no set-point ‘hihg’, did you mean ‘high’?"),
        (listed("include: shipped\n", HIGH.replace("high: 95", "high: 9 bar")), "‘high’ is in degC, not bar"),
        (listed("include: shipped\n", HIGH.replace("high: 95", "high: .inf")), "a set-point is a finite number"),
        (listed("include: shipped\n", HIGH.replace("-high", "-hihg")), f"did you mean ‘{NAME}’?"),
        (HIGH.replace("reason", "raeson"), "r.yaml:5:1: unknown key ‘raeson’, did you mean ‘reason’?"),
        (OFF.replace("enabled: false\n", ""), "it changes nothing: give setpoints, or enabled"),
        (OFF.replace("enabled: false", "enabled: maybe"), "r.yaml:3:10: enabled: Input should be a valid boolean"),
        (OFF.replace(SINCE, "2026-11-23"), "write an instant with its zone"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_rules(text, "r.yaml")
    assert any(message in problem for problem in caught.value.problems)


def test_a_condition_that_the_switch_makes_too_long_is_an_error_with_its_place() -> None:
    long = " or ".join(f"temperature > {1000 + number}" for number in range(45))
    own = rule(long).model_dump() | {"rule": NAME}
    document = replace(read_rule_file(OFF, "a.yaml"), rules=[("b.yaml:1:7", Rule.model_validate(own))])
    with pytest.raises(DocumentError, match=r"a\.yaml:1:1: .* characters; at most 1000 are taken"):
        assemble([document])


def test_no_rule_takes_the_place_of_a_shipped_one_in_silence() -> None:
    mine = rule("temperature > 5").model_dump() | {"rule": NAME}
    document = replace(
        read_rule_file("include: shipped\n", "a.yaml"), rules=[("b.yaml:1:7", Rule.model_validate(mine))]
    )
    with pytest.raises(DocumentError, match=r"b\.yaml:1:7: .* is a shipped rule"):
        assemble([document])


def test_all_problems_of_all_files_are_told_at_once() -> None:
    files = [read_rule_file(HIGH.replace("high", "low"), name) for name in ("a.yaml", "b.yaml")]
    with pytest.raises(DocumentError) as caught:
        assemble(files)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["a.yaml", "b.yaml"]


def test_an_editor_knows_all_forms_of_an_entry() -> None:
    schema = json.loads(json_schema())
    assert {entry["$ref"].rpartition("/")[2] for entry in schema["anyOf"][:-1]} == {"Rule", "RuleOverride", "Include"}
    assert set(schema["$defs"]["RuleOverride"]["required"]) == {"override", "valid_from", "reason"}


def test_the_command_line_says_what_holds_where_since_when_and_why(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(listed("include: shipped\n", HIGH, OFF), "utf-8")
    runner = CliRunner()
    checked = runner.invoke(app, ["rules", "check", str(tmp_path)])
    assert checked.output == f"{len(SHIPPED)} rules are valid, 1 of them with overrides\n"
    told = runner.invoke(app, ["rules", "explain", NAME, str(tmp_path)]).output
    when = SINCE.replace("+00:00", "Z")
    assert f"high = 95 for tag P-1* from {when}: new bearings stand more" in told
    assert f"off for site east from {when}: the probe is broken" in told
    table = runner.invoke(app, ["rules", "list", str(tmp_path)], env={"COLUMNS": "400"}).output
    assert f"off for site east since {when}" in table


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("title: !!python/object/apply:os.system [reboot]", "own.yaml:2:8: a YAML tag has no place here"),
        ("title: !!python/name:os.system", "own.yaml:2:8: a YAML tag has no place here"),
        ("condition: __import__('os').system('reboot') > 1", "own.yaml:2:12: condition:"),
        ("condition: flow.__class__ > 1", "own.yaml:2:12: condition:"),
        ("setpoints: {high: \"open('/etc/passwd')\"}", "own.yaml:2:19: setpoints.high"),
        ("applies_to: {design: \"eval('1') > 0\"}", "own.yaml:2:22: applies_to.design"),
        ("deadband: {\"eval('1')\": 1}", "own.yaml:2:11: deadband"),
        ("message: '{value.__class__}'", "unknown field {value.__class__}"),
        ("features: [\"eval('1')\"]", "own.yaml:2:11: features"),
        ("model: ../secret.json", "own.yaml:2:8: a model's file stands beside its rule"),
        ("model: /etc/passwd", "own.yaml:2:8: a model's file stands beside its rule"),
        ("model: link.json", "own.yaml:2:8: a model's file stands beside its rule"),
    ],
)
def test_nothing_of_the_machine_can_be_reached_from_a_rule_file(tmp_path: Path, field: str, said: str) -> None:
    (tmp_path / "secret.json").write_text('{"password": "hunter2"}', "utf-8")
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    lines = [
        "rule: own",
        "title: Own",
        "condition: flow > setpoint.high" if "setpoints" in field else "condition: flow > 1",
        "message: m",
        "priority: low",
        "guidance: {cause: c, consequence: q, corrective_action: a, time_to_respond: 1h}",
    ]
    kept = [line for line in lines if not line.startswith(f"{field.partition(':')[0]}:")]
    (folder / "own.yaml").write_text("\n".join([kept[0], field, *kept[1:]]) + "\n", "utf-8")
    with pytest.raises(DocumentError) as caught:
        load_rule_files(folder)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
