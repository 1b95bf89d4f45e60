"""Unit tests of rules as data: what a series means, what a test tells, and the tests of the shipped rules."""

from __future__ import annotations

from importlib.resources import files

import pytest

from alerts.rulefiles import TESTS, json_schema, shipped_rules
from alerts.ruletests import RuleTests, expand, load_tests, run
from devices.document import DocumentError
from devices.model import Quality
from tests.unit.alerts.plant import PROFILES, rule

GOOD, BAD, UNCERTAIN = Quality.GOOD, Quality.BAD, Quality.UNCERTAIN
TEXT = """\
rule: tested
device: {profile: centrifugal-pump}
tests:
  - test: high vibration
    series: {vibration: 1*3 6*4 1*20}
    alarms: [{since: 3m, raised: 4m, cleared: 7m, value: 6, message: at 6 mm/s}]
"""


@pytest.mark.parametrize(
    ("text", "samples"),
    [
        ("5", [(5.0, GOOD)]),
        ("-1.5*2 _ 7!", [(-1.5, GOOD), (-1.5, GOOD), None, (7.0, BAD)]),
        ("1..3*3 _*2 3..1?*2", [(1.0, GOOD), (2.0, GOOD), (3.0, GOOD), None, None, (3.0, UNCERTAIN), (1.0, UNCERTAIN)]),
        ("", []),
    ],
)
def test_a_series_is_written_compactly(text: str, samples: list[object]) -> None:
    assert expand(text) == samples


def test_noise_stays_within_its_bounds_and_is_the_same_in_every_run() -> None:
    values = [sample[0] for sample in expand("5~0.2*100") if sample is not None]
    assert values == [sample[0] for sample in expand("5~0.2*100") if sample is not None]
    assert 4.8 <= min(values) < 4.83
    assert 5.17 < max(values) <= 5.2


@pytest.mark.parametrize("text", ["5y", "5*", "*5", "5x5", "5..", "1,2", "__import__('os')", "1*200001"])
def test_what_is_no_series_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"series"):
        expand(text)


def problems(text: str) -> list[str]:
    (tests,) = load_tests(text, "t.test.yaml")
    one = rule(on_delay="1m", rule="tested")
    return [problem for outcome in run(tests, {one.rule: one}, PROFILES) for problem in outcome.problems]


def test_a_test_that_holds_has_no_problems() -> None:
    assert problems(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("raised: 4m", "raised: 5m", "found [{since: 3m, raised: 4m, cleared: 7m, value: 6}]"),
        ("since: 3m", "since: 4m", "expected [{raised: 4m"),
        ("cleared: 7m, ", "", "expected [{raised: 4m, since: 3m"),
        ("value: 6", "value: 7", "alarms: expected"),
        ("at 6 mm/s", "at 7 mm/s", "alarms: expected"),
        ("[{since: 3m, raised: 4m, cleared: 7m, value: 6, message: at 6 mm/s}]", "[]", "alarms: expected [], found [{"),
        ("rule: tested", "rule: testde", "there is no rule ‘testde’, did you mean ‘tested’?"),
        ("centrifugal-pump", "centrifugal-pmup", "there is no profile ‘centrifugal-pmup’, did you mean"),
        ("{vibration: ", "{torque: 1, vibration: ", "the profile ‘centrifugal-pump’ has no torque"),
        ("    alarms", "    journal: [raised]\n    alarms", "the journal: expected [raised], found [raised, cleared]"),
    ],
)
def test_a_test_that_does_not_hold_says_what_came_out(old: str, new: str, message: str) -> None:
    assert old in TEXT
    (problem,) = problems(TEXT.replace(old, new))
    assert message in problem


def test_a_late_uplink_shows_in_the_journal() -> None:
    text = TEXT + "    late: [{since: 0, until: 10m, by: 30m}]\n    journal: [raised, amended]\n"
    assert problems(text) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1*3", "1y3", "t.yaml:5:25: tests.0.series.vibration.values: ‘1y3’ is no part of a series"),
        (
            "vibration",
            "vibratoin",
            "t.yaml:5:13: tests.0.series: unknown metric ‘vibratoin’, did you mean ‘vibration’?",
        ),
        ("alarms", "alarsm", "unknown key ‘alarsm’, did you mean ‘alarms’?"),
        ("3m", "3", "write a duration with its unit"),
    ],
)
def test_a_bad_document_is_an_error_with_its_place(old: str, new: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_tests(TEXT.replace(f"{old}: ", f"{new}: ") if old == "vibration" else TEXT.replace(old, new, 1), "t.yaml")
    assert any(message in problem for problem in caught.value.problems), caught.value.problems


# --- the shipped rules


def shipped_tests() -> dict[str, RuleTests]:
    library = files("alerts").joinpath("library")
    found = [t for f in library.iterdir() if f.name.endswith(TESTS) for t in load_tests(f.read_text("utf-8"), f.name)]
    assert len({tests.rule for tests in found}) == len(found)
    return {tests.rule: tests for tests in found}


SHIPPED = shipped_tests()


@pytest.mark.parametrize("name", [one.rule for one in shipped_rules()])
def test_every_shipped_rule_is_tested_to_raise_to_clear_and_to_keep_quiet(name: str) -> None:
    tests = SHIPPED[name].tests
    assert any(alarm.cleared is not None for case in tests for alarm in case.alarms), "raises and clears"
    assert any(not case.alarms for case in tests), "keeps quiet"
    outcomes = list(run(SHIPPED[name], {one.rule: one for one in shipped_rules()}, PROFILES))
    assert [outcome for outcome in outcomes if outcome.problems] == []


def test_the_schema_for_editors_is_up_to_date() -> None:
    assert files("alerts").joinpath("rule.schema.json").read_text("utf-8") == json_schema()
