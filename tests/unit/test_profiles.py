"""Profiles and the YAML documents they stand in: errors with line, column and a suggestion."""

from pathlib import Path

import pytest

from devices.document import DocumentError
from devices.duration import format_duration, parse_duration
from devices.metrics import CATALOGUE
from devices.model import HOUR, MINUTE, SECOND
from devices.profile import json_schema, load_profile, shipped_profiles
from devices.units import conversion

FOLDER = Path(__file__).parents[2] / "devices" / "profiles"

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
    files = {file.stem for file in FOLDER.glob("*.yaml")}
    assert shipped_profiles().keys() == files
    assert files >= {
        "electric-multi-turn-valve", "control-valve", "pressure-reducing-valve", "motorised-ball-valve",
        "centrifugal-pump", "submersible-pump", "flow-pressure-logger", "water-meter",
    }  # fmt: skip


def test_the_published_schema_is_the_models() -> None:
    published = (FOLDER.parent / "profile.schema.json").read_text("utf-8")
    assert published == json_schema(), "run `headworks profiles schema > devices/profile.schema.json`"
    for file in FOLDER.glob("*.yaml"):
        head = file.read_text("utf-8").splitlines()[0]
        assert head == "# yaml-language-server: $schema=../profile.schema.json"


FRAME = """\
profile: test-logger
title: A logger
kind: meter
codec: frame
reporting: {sampling: 15m, interval: 1d}
sleep: {t3412: 24h, t3324: 10s, edrx: 81.92s, paging_window: 10.24s}
metrics:
  pressure: {sensor: [0, 25], names: [p]}
  flow: {}
frame:
  layout:
    - {read: kind, type: u8}
    - {value: p, type: u16, scale: 0.01, unit: bar}
    - repeat: rest
      step: 15m
      layout:
        - {value: flow, type: i16}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("scale: 0.01", "sclae: 0.01", "test.yaml:13:29: unknown key ‘sclae’, did you mean ‘scale’?"),
        ("value: p,", "value: pp,", "test.yaml:13:15: ‘pp’ is no metric of this profile, did you mean ‘p’?"),
        ("unit: bar", "unit: Cel", "test.yaml:13:7: ‘p’ in 'Cel' cannot be converted to 'bar'"),
        ("type: i16", "type: i17", "test.yaml:17:31: frame.layout.2.layout.0.type: ‘i17’ is no number type: u8"),
        ("repeat: rest", "repeat: number", "test.yaml:14:15: no read ‘number’ stands before it"),
        ("read: kind", "reed: kind", "test.yaml:12:7: frame.layout.0: an element begins with one of: value, read"),
        ("      step: 15m\n", "", "test.yaml:14:7: each record needs its own time: either a ‘step’, or a ‘time’"),
        ("codec: frame", "codec: senml", "a ‘frame’ is declared where the codec is ‘frame’, and only there"),
        ("t3412: 24h", "t3412: 25h10s", "test.yaml:6:16: sleep.t3412: T3412 cannot be 1d1h10s; the nearest is 1d1h"),
        ("t3324: 10s, ", "", "test.yaml:6:8: sleep: power saving mode needs both t3412 and t3324"),
        ("edrx: 81.92s", "edrx: 80s", "the eDRX cycle cannot be 1m20s; the nearest is 1m21s920ms"),
        ("edrx: 81.92s, ", "", "a paging window belongs to a longer edrx cycle"),
    ],
)
def test_an_error_in_a_frame_names_its_place(old: str, new: str, expected: str) -> None:
    load_profile(FRAME, "test.yaml")
    found = problems(FRAME.replace(old, new))
    assert any(expected in problem for problem in found), found


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
