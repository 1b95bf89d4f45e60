"""Profiles and the YAML documents they stand in: errors with line, column and a suggestion."""

import pytest

from devices.document import DocumentError
from devices.duration import format_duration, parse_duration
from devices.metrics import CATALOGUE
from devices.model import HOUR, MINUTE, SECOND
from devices.profile import load_profile, shipped_profiles
from devices.units import conversion

VALID = """\
profile: test-valve
title: A valve
kind: valve
codec: senml
reporting: {sampling: 1m, interval: 15m}
metrics:
  position: {sensor: [0, 100], names: [travel]}
  pressure: {unit: kPa, sensor: [0, 25]}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_profile(text, "test.yaml")
    return caught.value.problems


def test_a_valid_profile_compiles_names_units_and_limits() -> None:
    profile = load_profile(VALID, "test.yaml")
    assert profile.reporting.interval == 15 * MINUTE
    assert profile.compiled["travel"] is profile.compiled["position"]
    assert profile.compiled["pressure"].units[None] == conversion("kPa", "bar")


def test_the_shipped_profiles_are_valid_and_name_their_file() -> None:
    assert {"centrifugal-pump", "control-valve"} <= shipped_profiles().keys()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("pressure:", "presure:", "test.yaml:8:3: unknown metric ‘presure’, did you mean ‘pressure’?"),
        ("sampling:", "samplng:", "test.yaml:5:13: unknown key ‘samplng’, did you mean ‘sampling’?"),
        ("title: A valve\n", "", "test.yaml:1:1: ‘title’ is missing"),
        ("15m", "15 minutes", "test.yaml:5:37: reporting.interval: '15 minutes' is not a duration"),
        ("15m", "30s", "test.yaml:5:12: reporting: the reporting interval must be at least the sampling interval"),
        ("[0, 100]", "[100, 0]", "test.yaml:7:22: metrics.position.sensor: the lower limit 100.0 is not below"),
        ("kPa", "Cel", "metric ‘pressure’: 'Cel' cannot be converted to 'bar'"),
        ("names: [travel]", "names: [pressure]", "the name ‘pressure’ stands for both"),
        ("kind: valve", "kind: tap", "test.yaml:3:7: kind: Input should be"),
        ("metrics:", "metrics: [", "test.yaml:"),
        ("title: A valve", "title: A valve\ntitle: B", "test.yaml:3:1: found duplicate key"),
    ],
)
def test_an_error_names_its_place_and_what_was_meant(old: str, new: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(VALID.replace(old, new))), problems(VALID.replace(old, new))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", 0),
        ("30s", 30 * SECOND),
        ("1h30m", 90 * MINUTE),
        ("1.5h", 90 * MINUTE),
        ("250ms", SECOND // 4),
        ("2d", 48 * HOUR),
    ],
)
def test_durations_read_and_write(text: str, duration: int) -> None:
    assert parse_duration(text) == duration
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "5", "m5", "5 parsecs", "-5m", "1h-5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_every_metric_has_a_convertible_canonical_unit() -> None:
    for metric in CATALOGUE.values():
        if metric.unit not in ("dBm", "dB"):
            assert conversion(metric.unit, metric.unit) == (1.0, 1.0, 0.0)
