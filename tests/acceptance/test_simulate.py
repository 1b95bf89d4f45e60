"""`headworks simulate` and `headworks storm` as a user starts and ends them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from devices.model import HOUR, MINUTE, instant
from headworks import scenarios
from headworks.cli import app
from headworks.settings import SettingsError
from simulators.records import acknowledged_keys, read_ledger
from simulators.scenario import Protocol
from simulators.scenario_plant import load_scenario, play
from simulators.scenario_run import Counts, Progress
from simulators.truth import read_truth
from tests.integration.test_gateways import eventually, query, running
from tests.integration.test_record import environment
from tests.integration.test_scenarios import stored

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))
SCENARIO = """
scenario: Long
duration: 12h
speed: 600
waterworks: {pumps: 2, valves: 2}
fleets: [{devices: ["P-*"], protocol: coap}, {protocol: mqtt, format: json}]
faults: [{fault: bearing-wear, on: P-101, after: 1h, lasts: 10h}]
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_shows_where_it_is_and_ends_in_order_when_it_is_told_to(
    database_url: str, broker_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    scenario, folder = tmp_path / "long.yaml", tmp_path / "out"
    scenario.write_text(SCENARIO, "utf-8")
    with running(database_url, broker_url) as doors:
        process = subprocess.Popen(
            [sys.executable, "-m", "headworks", "simulate", str(scenario), "--folder", str(folder)],
            env=environment(doors, database_url, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            ledger = folder / "ledger.jsonl"
            eventually(lambda: ledger.exists() and len(list(read_ledger(ledger))) > 10, "it is under way")
        finally:
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "readings acknowledged" in err, "its progress, line by line where there is no terminal"
        assert "stopped; what was answered until then is in the ledger" in out
        assert "ground truth is in" in out
        promised = set(acknowledged_keys(ledger))
        assert promised
        eventually(lambda: promised <= stored(database_url).keys(), "what was promised is stored")
    assert {line.fault for line in read_truth(folder / "truth.jsonl").faults} == {"bearing-wear"}


def test_on_a_terminal_a_table_shows_protocols_and_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(SCENARIO, "utf-8")
    played = play(load_scenario(path), START)
    screen = io.StringIO()
    monkeypatch.setattr(scenarios, "out", Console(file=screen, force_terminal=True, width=120))
    with scenarios.View(played) as view:
        view.show(
            Progress(START + 2 * HOUR, {Protocol.COAP: Counts(12, 340, 333), Protocol.SPARKPLUG: Counts(unpromised=7)})
        )
    shown = screen.getvalue()
    assert "Long, 2026-03-02 22:00:00 UTC" in shown
    assert "wrong now  bearing-wear: P-101" in shown
    for word in ("coap", "340", "333", "7 (QoS 0)"):
        assert word in shown


def test_a_run_in_real_time_begins_now_and_a_faster_one_ends_now(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(SCENARIO, "utf-8")
    scenario = load_scenario(path)
    now = START + 30_000_000
    assert scenarios.beginning(scenario, 1.0, now) == START
    assert scenarios.beginning(scenario, 600.0, now) == START - 12 * HOUR
    path.write_text(SCENARIO.replace("speed", "start: 2026-03-02T19:00:00Z\nspeed"), "utf-8")
    given = load_scenario(path)
    assert scenarios.beginning(given, 1.0, now) == START - HOUR
    with pytest.raises(SettingsError, match=r"long\.yaml:\d+:\d+: at this speed the run would reach into the future"):
        scenarios.beginning(given, 600.0, now)
    assert scenarios.beginning(given, 600.0, START + 11 * HOUR + MINUTE) == START - HOUR


def test_a_storm_tells_what_it_cost_and_how_long_it_took(database_url: str, broker_url: str, tmp_path: Path) -> None:
    told = tmp_path / "storm.json"
    with running(database_url, broker_url) as doors:
        env = os.environ | environment(doors, database_url, tmp_path)
        command = ["storm", "--devices", "400", "--within", "0", "--transport", "both", "--loss", "0.05"]
        done = CliRunner().invoke(app, [*command, "--ack-timeout", "0.3", "--json", str(told)], env=env)
        assert done.exit_code == 0, done.output
        eventually(lambda: query(database_url, "SELECT count(*) FROM reading") == [(400 * 8,)], "each is stored once")
    found = json.loads(told.read_text("utf-8"))
    assert found["complete"]
    assert found["acknowledged_per_second"] > 0
    coap, mqtt = found["transports"]["coap"], found["transports"]["mqtt"]
    assert coap["acknowledged"] == mqtt["acknowledged"] == 200
    # Not one for each: an acknowledgement without the answer may be lost and its answer come all the same.
    assert coap["datagrams_lost_on_purpose"] > 0
    assert coap["retransmissions"] > 0
    latency = coap["latency_seconds"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert found["battery"]["watt_hours"] > found["battery"]["watt_hours_of_repeats"] > 0
    assert "days of battery life a device" in done.output
