"""Recorded files through the real command line, gateways and database: each distinct (metric, time) stored once."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devices.inventory import write_inventory
from headworks.service import Doors
from simulators.mapping import load_mapping
from tests.integration.test_gateways import eventually, query, running

DATA = Path(__file__).parents[3] / "shared" / "data"


def data(*names: str) -> Path:
    path = DATA.joinpath(*names)
    if not path.is_file():
        pytest.skip(f"the recording {path.name} is not beside the checkout (../shared/data)")
    return path


@pytest.fixture
def platform(database_url: str, broker_url: str) -> Iterator[Doors]:
    with running(database_url, broker_url) as doors:
        yield doors


@contextmanager
def headworks(doors: Doors, database_url: str, state: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command line as a user has it, against a running platform."""
    host, port = doors.coap.removeprefix("coap://").split(":")
    environment = os.environ | {
        "HEADWORKS_DATABASE_URL": f"postgresql:///?{database_url.replace(' ', '&')}", "HEADWORKS_MQTT_URL": doors.mqtt,
        "HEADWORKS_COAP_HOST": host, "HEADWORKS_COAP_PORT": port, "HEADWORKS_STATE_DIR": str(state),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "headworks", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(doors: Doors, database_url: str, state: Path, *arguments: str) -> str:
    with headworks(doors, database_url, state, *arguments) as process:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out


def stored(url: str) -> int:
    return int(str(query(url, "SELECT count(*) FROM reading")[0][0]))


def nab_times(path: Path) -> dict[datetime, set[float]]:
    """What the file holds, read without any of the product's code."""
    found: dict[datetime, set[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            found.setdefault(at, set()).add(float(row["value"]))
    return found


@pytest.mark.parametrize("via", ["mqtt", "coap"])
def test_a_machine_whose_clock_jumps_back_is_stored_once_for_each_time(
    platform: Doors, database_url: str, tmp_path: Path, via: str
) -> None:
    path = data("nab", "machine_temperature_system_failure.csv")
    run(platform, database_url, tmp_path, "replay", str(path), "--map", "nab", "--via", via)
    expected = nab_times(path)
    eventually(lambda: stored(database_url) == len(expected), f"{len(expected)} readings are stored")
    assert query(database_url, "SELECT count(DISTINCT measured_at) FROM reading") == [(len(expected),)]
    conflicts = query(database_url, "SELECT count(*) FROM quarantine WHERE reason = 'conflicting_value'")
    assert sum(len(values) > 1 for values in expected.values()) == 12
    assert int(str(conflicts[0][0])) > 0, "a time that has two values keeps one, and the other is in quarantine"


def test_a_pump_loop_with_gaps_arrives_whole(platform: Doors, database_url: str, tmp_path: Path) -> None:
    path = data("skab", "valve1", "1.csv")
    run(platform, database_url, tmp_path, "replay", str(path), "--map", "skab", "--via", "coap")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    times = {row["datetime"] for row in rows}
    assert query(database_url, "SELECT count(DISTINCT measured_at) FROM reading") == [(len(times),)]
    assert stored(database_url) == len(times) * 8
    flow = query(
        database_url,
        "SELECT avg(value) FROM reading JOIN metric USING (metric_id) WHERE name = 'flow'",
    )
    mean = sum(float(row["Volume Flow RateRMS"]) for row in rows) / len(rows)
    assert float(str(flow[0][0])) == pytest.approx(mean * 60 / 1000, rel=1e-6), "L/min are stored as m3/h"


def test_an_interrupted_replay_goes_on_where_it_stopped(platform: Doors, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.csv"
    lines = [f"{datetime.fromtimestamp(1_767_225_600 + i, UTC):%F %T},{20 + i % 7}" for i in range(3000)]
    path.write_text("timestamp,value\n" + "\n".join(lines) + "\n")
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "time_column: timestamp\n"
        "devices: [{identity: 'urn:dev:ser:r1', profile: centrifugal-pump}]\n"
        "columns: {value: {metric: temperature, unit: Cel}}\n"
        "batch: 10\n"
    )
    command = ("replay", str(path), "--map", str(mapping), "--via", "coap")
    with headworks(platform, database_url, tmp_path, *command, "--speed", "100") as process:
        eventually(lambda: stored(database_url) > 100, "some are stored")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "go on from here" in out
    before = stored(database_url)
    assert 100 < before < 3000
    log = query(database_url, "SELECT count(*) FROM uplink")[0][0]
    said = run(platform, database_url, tmp_path, *command)
    assert "3000 of 3000 rows" in said
    assert stored(database_url) == 3000
    total = query(database_url, "SELECT count(*) FROM uplink")[0][0]
    assert int(str(total)) <= int(str(log)) + (3000 - before) // 10 + 1, "what was acknowledged is not sent again"


def test_a_file_that_does_not_fit_is_told_with_its_place(platform: Doors, database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("timestmp,value\n2026-01-01,1\n")
    with headworks(platform, database_url, tmp_path, "replay", str(path), "--map", "nab") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"{path}:1: there is no column ‘timestamp’, did you mean ‘timestmp’?" in err


def test_rows_that_cannot_be_read_are_told_and_the_rest_is_sent(
    platform: Doors, database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "partly.csv"
    rows = ["2026-01-01 00:00:00,70", "yesterday,71", "2026-01-01 00:05:00,warm", "2026-01-01 00:10:00,72"]
    path.write_text("\n".join(["timestamp,value", *rows, ""]))
    with headworks(platform, database_url, tmp_path, "replay", str(path), "--map", "nab", "--via", "coap") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"left out: {path}:3:" in err
    assert f"left out: {path}:4:" in err
    assert stored(database_url) == 2


def test_the_shipped_maps_are_valid_and_their_devices_can_be_listed() -> None:
    for name in ("skab", "nab"):
        mapping = load_mapping(Path(name))
        assert write_inventory(target.device() for target in mapping.devices).count("\n") == len(mapping.devices) + 1
