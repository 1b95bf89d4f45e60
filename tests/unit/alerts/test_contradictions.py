"""Conditions that no value can make true, or false, are told when a rule is loaded; what may hold somewhere is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from alerts.closures import strict
from alerts.contradictions import contradiction
from alerts.grammar import parse_condition
from alerts.rulefiles import load_rules
from devices.document import DocumentError
from devices.model import MINUTE, Instant
from headworks.cli import app


def told(text: str, sampling: Instant | None = None, **setpoints: float) -> str | None:
    return contradiction(parse_condition(text, dict.fromkeys(setpoints)).root, setpoints, sampling)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pressure > 3 and pressure < 2", "can never be true: ‘pressure > 3’ and ‘pressure < 2’ exclude each other"),
        ("3 < pressure and pressure <= '300 kPa'", "‘pressure > 3’ and ‘pressure <= 3’ exclude each other"),
        ("5 < flow < 2", "‘flow > 5’ and ‘flow < 2’ exclude each other"),
        ("running and not running", "‘running != 0’ and ‘running == 0’ exclude each other"),
        ("flow == 2 and flow == 3 and running", "‘flow == 2’ and ‘flow == 3’ exclude each other"),
        ("flow == 2 and flow > 2 + 1 / 2", "‘flow == 2’ and ‘flow > 2.5’ exclude each other"),
        ("not (pressure < 3 or pressure > 2)", "it can never be true"),
        ("(running or flow > 3) and flow < 1 and not running", "it can never be true"),
        ("pressure > 2 or pressure < 3", "it is always true"),
        ("abs(flow - 3) < 0 and running", "is never below 0"),
        ("span(flow, '20m') > '30m'", "‘span(flow, '20m') > 1800’, and span(flow, '20m') is never above 1320"),
        ("count(flow, '1h') >= 0", "it is always true"),
        ("flow < 0 or flow > 0 or flow == 0", "it is always true: flow could be 0 alone"),
        ("abs(flow) <= 0 and abs(flow) != 0", "it can never be true: abs(flow) could be 0 alone"),
    ],
)
def test_what_cannot_be_is_told(text: str, why: str) -> None:
    assert why in (told(text) or "")


@pytest.mark.parametrize(
    "text",
    [
        "pressure >= 2 and pressure <= 2",
        "pressure > 3 and pressure < 2 or flow > 1",
        "pressure > 3 and suction_pressure < 2",
        "pressure > design.pn and pressure < 2",
        "flow < 2 and flow != 2",
        "flow > 2 or flow != 3 and running",
        "span(flow, '20m') > '20m'",
    ],
)
def test_what_can_be_is_not_told(text: str) -> None:
    assert told(text) is None


def test_set_points_are_taken_for_what_they_are() -> None:
    text = "flow > setpoint.low and flow < setpoint.high"
    assert told(text, low=1, high=2) is None
    assert "‘flow > 3’ and ‘flow < 2’" in (told(text, low=3, high=2) or "")


def test_a_window_holds_no_more_samples_than_fit() -> None:
    text = "count(flow, '15m') >= 8 and running"
    assert told(text) is None
    assert told(text, MINUTE) is None
    assert "count(flow, '15m') is never above" in (told(text, 15 * MINUTE) or "")


_OPERATORS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
_BOUND = st.builds("{} {} {}".format, st.sampled_from(("flow", "power")), _OPERATORS, st.integers(0, 3))
_CONDITION = st.recursive(
    _BOUND, lambda part: st.builds("({} {} {})".format, part, st.sampled_from(("and", "or")), part)
    | st.builds("not {}".format, part), max_leaves=5
)  # fmt: skip


@given(_CONDITION, st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_only_the_impossible_is_told_and_all_of_it(text: str, chance: random.Random) -> None:
    """With units that compare and whole limits, half steps meet every case."""
    condition = parse_condition(text)
    decide = strict(condition, {"flow": 0, "power": 1})
    steps = [half / 2 for half in range(-1, 8)]
    chance.shuffle(steps)
    found = {decide([flow, power]) for flow in steps for power in steps}
    why = contradiction(condition.root, {})
    if len(found) == 2:
        assert why is None
    else:
        assert (why or "").startswith("it can never be true" if False in found else "it is always true")


RULE = """\
rule: odd
title: Odd
setpoints: {low: 1, high: 2}
condition: flow > setpoint.low and flow < setpoint.high
message: m
priority: low
guidance: {cause: c, consequence: q, corrective_action: a, time_to_respond: 1h}
"""


def test_a_contradiction_is_an_error_with_its_place_also_where_an_override_makes_it() -> None:
    with pytest.raises(DocumentError, match=r"r\.yaml:4:12: condition: it can never be true"):
        load_rules(RULE.replace("low: 1", "low: 2"), "r.yaml")
    override = "override: odd\nsetpoints: {low: 5}\nvalid_from: 2026-01-01T00:00:00Z\nreason: r\n"
    both = "".join("- " + "  ".join(one.splitlines(keepends=True)) for one in (RULE, override))
    with pytest.raises(DocumentError, match=r"r\.yaml:9:14: with these set-points it can never be true: ‘flow > 5’"):
        load_rules(both, "r.yaml")


def test_what_contradicts_the_devices_or_the_retention_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWORKS_KEEP_READINGS_DAYS", "2")
    file = tmp_path / "odd.yaml"
    many = "count(flow, '15m') >= 8 and avg(flow, '3d') > setpoint.low and flow < setpoint.high"
    more = "on_delay: 30m\nvalidity: 10m\napplies_to: {profiles: [flow-pressure-logger]}\n"
    file.write_text(RULE.replace("flow > setpoint.low and flow < setpoint.high", many) + more, "utf-8")
    ran = CliRunner().invoke(app, ["rules", "check", str(file)], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "its window of 3d is longer than readings are kept (2d)" in ran.output
    assert "where a sample is taken every 15m, it can never be true: ‘count(flow, '15m') >= 8’" in ran.output
    assert "the on-delay of 30m takes 4 samples (45m)" in ran.output
