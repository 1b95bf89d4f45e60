"""`headworks score` on a real journal, and on files of alarms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devices.alarm import Alarm, AlarmChange, ChangeKind, Priority
from devices.model import DAY, HOUR
from headworks.cli import app
from simulators.truth import GroundTruth, Truth, Watched, write_truth
from storage import journal
from storage.database import connect
from tests.conftest import PUMP, VALVE
from tests.integration.test_quarantine import as_url

BEGIN = 1_772_409_600_000_000
TRUTH = GroundTruth(
    (
        Truth("dry-run", PUMP.identity, BEGIN + HOUR, BEGIN + 2 * HOUR, 1.0, ("pump-dry-run",)),
        Truth("seat-passing", VALVE.identity, BEGIN + 5 * HOUR, BEGIN + 8 * HOUR, 0.9, ("valve-seat-passing",)),
    ),
    Watched(BEGIN, BEGIN + DAY, (PUMP.identity, VALVE.identity)),
)


def raised(rule: str, device: str, hours: float) -> Alarm:
    at = BEGIN + round(hours * HOUR)
    return Alarm(rule, device, Priority.HIGH, "text", at, at, at + HOUR)


ALARMS = [raised("pump-dry-run", PUMP.identity, 1.1), raised("battery-low", VALVE.identity, 6)]


def test_the_journal_of_the_database_is_judged(
    registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(registered))
    write_truth(tmp_path / "truth.jsonl", TRUTH)
    with connect(registered) as connection:
        journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm) for alarm in ALARMS], 1)
    page = tmp_path / "score.html"
    result = CliRunner().invoke(app, ["score", str(tmp_path / "truth.jsonl"), "--json", "--html", str(page)])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["recall"]["hits"], told["recall"]["of"]) == (1, 2)
    assert (told["precision"]["hits"], told["precision"]["of"]) == (1, 2)
    assert told["faults"]["dry-run"]["delay_median"] == 360.0
    assert [alarm["rule"] for alarm in told["false_alarms"]] == ["battery-low"]
    assert told["faults"]["dry-run"]["delay_p95"] == 360.0
    assert told["rules"]["battery-low"]["false"] == 1
    assert told["false_per_device_month"] > 0
    assert set(told["baselines"]) == {"always on", "always off", "every hour", "random"}
    assert told["baselines"]["always off"]["recall"] == 0.0
    assert "North P-101" in page.read_text("utf-8")
    assert "<svg" in page.read_text("utf-8")
    table = CliRunner().invoke(app, ["score", str(tmp_path / "truth.jsonl")]).stdout
    for word in ("dry-run", "pump-dry-run", "battery-low", "always on", "always off", "random"):
        assert word in table


@pytest.mark.parametrize("lines", [True, False], ids=["one a line", "a list"])
def test_a_file_of_alarms_is_judged_and_can_fail_a_build(tmp_path: Path, *, lines: bool) -> None:
    write_truth(tmp_path / "truth.jsonl", TRUTH)
    entries = [
        {"rule": one.rule, "device": one.device, "raised_at": f"2026-03-02T0{hour}:06:00Z", "state": "normal"}
        for one, hour in zip(ALARMS, (1, 6), strict=True)
    ]
    file = tmp_path / "alarms.json"
    file.write_text("\n".join(map(json.dumps, entries)) if lines else json.dumps(entries), "utf-8")
    command = ["score", str(tmp_path / "truth.jsonl"), "--journal", str(file)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "50.0 % (1 of 2)" in result.output
    result = CliRunner().invoke(app, [*command, "--least-recall", "0.95"])
    assert result.exit_code == 1
    assert "recall is 50.0 %, at least 95.0 % was asked for" in result.output


def test_what_is_no_alarm_is_named(tmp_path: Path) -> None:
    write_truth(tmp_path / "truth.jsonl", TRUTH)
    (tmp_path / "alarms.jsonl").write_text('{"rule":"r","device":"d","raised_at":"yesterday"}\n', "utf-8")
    result = CliRunner().invoke(
        app, ["score", str(tmp_path / "truth.jsonl"), "--journal", str(tmp_path / "alarms.jsonl")]
    )
    assert result.exit_code == 2
    assert "alarms.jsonl:1: " in result.output
