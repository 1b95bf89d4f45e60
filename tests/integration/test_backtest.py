"""`headworks backtest` on stored history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.backtest import ranges_in, ranges_of
from devices.batch import Batch, UplinkRecord
from devices.model import MINUTE, SECOND, Quality, Reading, Transport, Uplink, moment
from headworks.cli import app
from storage import history
from storage.database import connect
from storage.writer import Writer
from tests.conftest import PUMP, VALVE

T0 = 1_790_000_000 * SECOND - 1_790_000_000 * SECOND % MINUTE

RULES = """
rule: too-hot
title: Too hot
applies_to: {kind: pump}
condition: bearing_temperature > LIMIT
on_delay: 2m
message: "{value} {unit}"
priority: high
guidance: {cause: c, consequence: q, corrective_action: a, time_to_respond: 1h}
"""


@pytest.fixture
def url(registered: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{registered.replace(' ', '&')}")
    values = [40.0] * 10 + [85.0] * 10 + [95.0] * 10 + [40.0] * 10
    readings = [
        Reading(PUMP.identity, "bearing_temperature", T0 + number * MINUTE, value)
        for number, value in enumerate(values)
    ]
    bad = Reading(VALVE.identity, "position", T0, 50.0, Quality.BAD)
    writer = Writer(registered)
    uplink = Uplink(Transport.COAP, b"", T0)
    writer.commit(Batch([UplinkRecord(uplink, PUMP.identity, readings), UplinkRecord(uplink, VALVE.identity, [bad])]))
    writer.close()
    return registered


def test_a_stretch_of_history_is_what_was_stored(url: str) -> None:
    some = ([PUMP.identity, VALVE.identity, "urn:none"], ["bearing_temperature", "position"], T0, T0 + 5 * MINUTE)
    with connect(url) as connection:
        found = history.stretch(connection, *some)
        extents = history.extents(connection, *some)
        whole = history.readings(connection, [PUMP.identity], T0)
        assert len(history.stretch(connection, some[0], ["position"], *some[2:])[PUMP.identity]) == 0
    assert found[PUMP.identity].readings() == whole[:5]
    assert found[PUMP.identity].readings({"no such"}) == []
    assert ranges_in(found[PUMP.identity].columns) == ranges_of(whole[:5])
    assert found[VALVE.identity].readings() == [Reading(VALVE.identity, "position", T0, 50.0, Quality.BAD)]
    assert ranges_in(found[VALVE.identity].columns) == {}, "a bad value is not told"
    assert extents[PUMP.identity] == {"bearing_temperature": (5, ranges_of(whole[:5])["bearing_temperature"])}
    assert extents[VALVE.identity] == {"position": (1, None)}


def test_the_difference_of_two_sets_of_rules_is_printed(url: str, tmp_path: Path) -> None:
    for name, limit in (("current", "90"), ("candidate", "80")):
        (tmp_path / f"{name}.yaml").write_text(RULES.replace("LIMIT", limit))
    (tmp_path / "other.yaml").write_text(RULES.replace("LIMIT", "10").replace("too-hot", "warm"))
    period = ["--since", "2026-09-21T00:00", "--until", "2026-09-22T00:00"]

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["backtest", *words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    found = json.loads(
        run(str(tmp_path / "candidate.yaml"), *period, "--against", str(tmp_path / "current.yaml"), "--json")
    )
    assert (found["devices"], found["readings"], found["gained"], found["lost"], found["unchanged"]) == (
        1,
        40,
        [],
        [],
        0,
    )
    [shift] = found["shifted"]
    assert (shift["before"]["raised_at"], shift["after"]["raised_at"]) == (
        "2026-09-21T14:35:00+00:00",
        "2026-09-21T14:25:00+00:00",
    )
    assert found["kpis"]["after"]["hours_active"] > found["kpis"]["before"]["hours_active"]
    picture = tmp_path / "difference.svg"
    text = run(
        str(tmp_path / "other.yaml"), *period, "--against", str(tmp_path / "current.yaml"), "--picture", str(picture)
    )
    assert "1 gained, 1 lost, 0 shifted, 0 unchanged" in text
    assert "P-101: warm" in picture.read_text()
    journal = json.loads(run(str(tmp_path / "current.yaml"), *period, "--against", "journal", "--json"))
    assert len(journal["gained"]) == 1


def test_what_is_in_use_is_compared_with_and_the_operators_load_is_shown(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in use calls at 99 °C, so never; the candidate calls once."""
    (tmp_path / "used.yaml").write_text(RULES.replace("LIMIT", "99").replace("high", "low"))
    (tmp_path / "candidate.yaml").write_text(RULES.replace("LIMIT", "80"))
    monkeypatch.setenv("HEADWORKS_RULES", str(tmp_path / "used.yaml"))
    period = ["--since", "2026-09-21T14:00", "--until", "2026-09-21T15:00"]
    ran = CliRunner().invoke(
        app, ["backtest", str(tmp_path / "candidate.yaml"), *period], env={"FORCE_COLOR": "1"}, catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    assert "1 gained, 0 lost, 0 shifted, 0 unchanged" in ran.stdout
    shown = {line.rsplit(maxsplit=2)[0]: line.split()[-2:] for line in ran.stdout.splitlines() if line.strip()}
    # From 14:25, two minutes after 85 degC began, until 14:43.
    assert shown["alarms"] == ["0", "1"]
    assert shown["per 10 minutes"] == ["0.000", "0.167"], "one in six times ten minutes, at one site"
    assert shown["most in 10 minutes"] == ["0", "1"]
    assert shown["share of floods"] == ["0.00%", "0.00%"]
    assert shown["share of the top 10"] == ["0%", "100%"]
    assert shown["hours active"] == ["0.0", "0.3"]
    assert shown["high"] == ["0", "1"]
    # How far it is stands on the terminal while it runs, and is no part of the result.
    assert "Judging" in ran.stderr
    assert "2/2" in ran.stderr
    assert "Judging" not in ran.stdout


def test_a_backtest_judges_the_past_by_the_set_points_that_were_valid_then(url: str, tmp_path: Path) -> None:
    """85 degC from T0+10 on is above the shipped 82, and within what holds for this pump from T0+14 on."""
    ours, shipped = tmp_path / "ours.yaml", tmp_path / "shipped.yaml"
    shipped.write_text("include: shipped\n", "utf-8")
    ours.write_text(
        f"""
- include: shipped
- override: bearing-temperature-high
  tag: P-1*
  setpoints: {{high: 90 Cel}}
  valid_from: {moment(T0 + 14 * MINUTE).isoformat()}
  reason: new bearings
""",
        "utf-8",
    )
    period = ["--since", "2026-09-21T00:00", "--until", "2026-09-22T00:00", "--against", str(shipped)]
    ran = CliRunner().invoke(app, ["backtest", str(ours), *period, "--json"], catch_exceptions=False)
    found = json.loads(ran.stdout)
    assert [alarm["rule"] for alarm in found["gained"]] == ["bearing-temperature-high"]
    [shift] = [one for one in found["shifted"] if one["after"]["rule"] == "bearing-temperature-high"]
    assert shift["before"]["raised_at"] == shift["after"]["raised_at"] == moment(T0 + 13 * MINUTE).isoformat()
    explained = CliRunner().invoke(
        app, ["rules", "explain", "bearing-temperature-high", str(ours), "--device", "P-101"]
    )
    assert "holds now    high = 90 on P-101" in explained.output
    assert "high = 90 Cel for tag P-1* from 2026-09-21T14:27:00Z: new bearings" in explained.output


def test_a_stretch_that_ends_before_it_begins_is_refused(url: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES.replace("LIMIT", "90"))
    result = CliRunner().invoke(app, ["backtest", str(tmp_path / "rules.yaml"), "--since", "1d", "--until", "2d"])
    assert result.exit_code == 2
    assert "since must lie before until" in result.output


def test_several_devices_are_read_from_a_moment_of_their_own_on(url: str) -> None:
    since = {PUMP.identity: T0 + 35 * MINUTE, VALVE.identity: T0 - MINUTE, "urn:none": T0}
    with connect(url) as connection:
        found = history.readings_since(connection, since)
        assert found == [
            *history.readings(connection, [PUMP.identity], T0 + 35 * MINUTE),
            *history.readings(connection, [VALVE.identity], T0 - MINUTE),
        ]
        assert len(found) == 6
        assert history.readings_since(connection, {}) == []


MODEL_RULE = """
rule: odd
title: Odd
applies_to: {kind: pump}
features: [bearing_temperature, "avg(bearing_temperature, '5m') - bearing_temperature"]
condition: count(bearing_temperature, '5m') >= 3 and unusual() > 1
message: "{features}"
priority: low
guidance: {cause: c, consequence: q, corrective_action: a, time_to_respond: 1h}
"""


def learn(tmp_path: Path, samples: int, device: str = PUMP.identity) -> tuple[int, str]:
    """What `headworks rules learn` exits with and says, for a period of so many minutes."""
    rules = tmp_path / "odd.yaml"
    rules.write_text(MODEL_RULE, "utf-8")
    period = ["--since", moment(T0).isoformat(), "--until", moment(T0 + samples * MINUTE).isoformat()]
    ran = CliRunner().invoke(app, ["rules", "learn", "odd", str(rules), "--device", device, *period])
    return ran.exit_code, ran.output


def test_a_rule_is_taught_by_stored_readings_and_used_from_its_file(url: str, tmp_path: Path) -> None:
    values = [40.0 + (number * 7 % 11) / 10 for number in range(200)]
    readings = [Reading(PUMP.identity, "bearing_temperature", T0 + n * MINUTE, v) for n, v in enumerate(values, 60)]
    writer = Writer(url)
    writer.commit(Batch([UplinkRecord(Uplink(Transport.COAP, b"", T0), PUMP.identity, readings)]))
    writer.close()
    assert learn(tmp_path, 300)[0] == 0
    model = json.loads((tmp_path / "odd.model.json").read_text("utf-8"))
    assert model["taught"][0]["samples"] >= 200
    (tmp_path / "odd.yaml").write_text(MODEL_RULE + "model: odd.model.json\n", "utf-8")
    assert CliRunner().invoke(app, ["rules", "check", str(tmp_path)]).output == "1 rule is valid\n"


def test_too_little_to_learn_from_is_told(url: str, tmp_path: Path) -> None:
    code, said = learn(tmp_path, 10)
    assert code == 1
    assert "at least 100 are needed" in said
    code, said = learn(tmp_path, 10, "urn:dev:none")
    assert code == 1
    assert "no device" in said
    assert not (tmp_path / "odd.model.json").exists()
