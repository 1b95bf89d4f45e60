"""What one platform received is recorded, sent to a second one, and comes to the same there."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from deploy.provision import Installation
from devices.codecs.senml import encode_json
from devices.model import HOUR, SECOND, Device, Measurement, Transport, Uplink
from devices.profile import shipped_profiles
from headworks.cli import app
from headworks.embedded import EmbeddedBroker
from headworks.service import Doors
from headworks.tap import Tap, listen
from simulators.plant import build
from simulators.run import Config, simulate
from simulators.storm import Storm
from simulators.storm_payload import IDENTITY, PROFILE, identity
from simulators.storm_run import Clocks, Targets, run_storm
from simulators.uplink_recording import Contents, read_recording, survey
from storage import audit, removal
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP
from tests.integration.test_gateways import T0, coap, eventually, query, running

PUMPS = VALVES = 4
START = T0 // HOUR * HOUR


def environment(doors: Doors, database_url: str, state: Path) -> dict[str, str]:
    host, port = doors.coap.removeprefix("coap://").split(":")
    return os.environ | {
        "HEADWORKS_DATABASE_URL": f"postgresql:///?{database_url.replace(' ', '&')}", "HEADWORKS_MQTT_URL": doors.mqtt,
        "HEADWORKS_COAP_HOST": host, "HEADWORKS_COAP_PORT": port, "HEADWORKS_STATE_DIR": str(state),
    }  # fmt: skip


def headworks(doors: Doors, database_url: str, state: Path, *arguments: str) -> str:
    """The command line in this process: a start of its own takes longer than what is tested."""
    done = CliRunner().invoke(app, list(arguments), env=environment(doors, database_url, state))
    assert done.exit_code == 0, done.output
    return done.output


@contextmanager
def recording(doors: Doors, database_url: str, state: Path, file: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`headworks record`, listening from when this begins and ended in order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headworks", "record", str(file), *more],
        env=environment(doors, database_url, state), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        assert "Recording" in process.stderr.readline()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture
def second_url(postgres_url: str, template: str) -> Iterator[str]:
    """Another fresh database."""
    name = f"headworks_second_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    yield make_conninfo(postgres_url, dbname=name)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def play(doors: Doors, folder: Path) -> int:
    """An hour of the plant with faults, as fast as it is answered; returns how many uplinks there were."""
    host, port = doors.coap.removeprefix("coap://").split(":")
    config = Config(
        start=START, end=START + HOUR, coap_host=host, coap_port=int(port), mqtt_url=doors.mqtt,
        ledger=folder / "ledger.jsonl", truth=folder / "truth.jsonl", pumps=PUMPS, valves=VALVES, play_seconds=0.0,
    )  # fmt: skip
    return asyncio.run(simulate(config, time.monotonic, lambda _: None, asyncio.Event())).uplinks


def judged(url: str) -> bool:
    with connect(url) as connection:
        return audit.judged_up_to_date(connection)


READINGS = (
    "SELECT d.identity, m.name, r.measured_at, r.value, r.quality FROM reading r JOIN device d USING (device_id)"
    " JOIN metric m USING (metric_id) ORDER BY 1, 2, 3"
)
JOURNAL = (
    "SELECT a.rule, d.identity, a.priority, a.since, a.raised_at, a.cleared_at, a.value FROM alarm a"
    " JOIN device d USING (device_id) WHERE NOT a.retracted ORDER BY 1, 2, 5"
)


RULE = """\
- rule: flow-above-its-mean
  title: Flow above its mean
  applies_to: {kind: pump}
  condition: flow > avg(flow, '10m')
  message: "Flow {value} {unit} is above its mean"
  on_delay: 1m
  priority: low
  guidance: {cause: It varies., consequence: None., corrective_action: None., time_to_respond: 1h}
"""
"""Alarms come and go all the time with this one."""


def test_a_recorded_hour_comes_to_the_same_readings_and_alarms_on_a_second_platform(
    database_url: str, second_url: str, installation: Installation, scratch: Path, broker_url: str, tmp_path: Path
) -> None:
    devices = [asset.device for asset in build(1, PUMPS, VALVES).assets]
    with connect(database_url) as connection:
        register(connection, devices, shipped_profiles())
    state, file = scratch / "first", tmp_path / "hour.hwrec"
    state.mkdir()
    rules = tmp_path / "rule.yaml"
    rules.write_text(RULE)
    with running(database_url, broker_url, state_dir=state, rules=rules) as doors:
        with recording(doors, database_url, state, file):
            sent = play(doors, tmp_path)
            eventually(lambda: file.exists() and survey(file).uplinks >= sent, "all of it is recorded")
        eventually(lambda: judged(database_url), "everything is judged")
    contents = survey(file)
    assert set(contents.devices) == {device.identity for device in devices}
    assert contents.lost == 0
    other = scratch / "second"
    other.mkdir()
    with (
        EmbeddedBroker(installation, scratch / "broker-second") as broker,
        running(second_url, broker.url, state_dir=other, rules=rules) as doors,
    ):
        said = headworks(doors, second_url, other, "replay", str(file), "--register")
        assert f"{sent} of {sent} uplinks; {sent} sent, 0 rejected" in said
        eventually(lambda: query(second_url, READINGS) == query(database_url, READINGS), "the readings are equal")
        eventually(lambda: judged(second_url), "everything is judged")
        assert len(query(database_url, READINGS)) > 1000
        assert query(database_url, JOURNAL), "the hour has alarms"
        assert query(second_url, JOURNAL) == query(database_url, JOURNAL)


def test_pseudonyms_in_the_file_other_names_and_times_at_the_target(
    registered: str, broker_url: str, scratch: Path, tmp_path: Path
) -> None:
    state, file = scratch / "pseudonyms", tmp_path / "a.hwrec"
    state.mkdir()
    with running(registered, broker_url, state_dir=state) as doors:
        with recording(doors, registered, state, file, "--pseudonymise", "--key", str(tmp_path / "key")):
            payload = encode_json(PUMP.identity, [Measurement("pressure", "Pa", 4e5, T0)])
            assert coap(doors, f"/telemetry/{PUMP.identity}", payload, 110).code.dotted == "2.04"
            eventually(lambda: survey(file).uplinks == 1, "it is recorded")
        assert PUMP.identity.encode() not in file.read_bytes()
        (frame,) = read_recording(file, Contents())
        name = frame[0].identity
        assert name is not None
        assert name.startswith("urn:dev:ser:p-")
        assert PUMP.identity.encode() not in frame[0].payload
        assert "127.0.0.1" not in frame[0].source
        device = survey(file).devices[name]
        assert (device.profile, device.tag, device.site, device.design) == (PUMP.profile, "", "", PUMP.design)
        arguments = (
            "replay",
            str(file),
            "--register",
            "--rename",
            "urn:dev:ser:p-* = urn:dev:ser:q-*",
            "--shift",
            "1h",
        )
        said = headworks(doors, registered, state, *arguments)
        assert "1 of 1 uplinks; 1 sent, 0 rejected" in said
        rows = query(
            registered,
            "SELECT d.identity, extract(epoch FROM r.measured_at)::bigint FROM reading r JOIN device d USING"
            " (device_id) ORDER BY 1",
        )
        at = T0 // SECOND
        assert rows == [(PUMP.identity, at), (name.replace("p-", "q-", 1), at + 3600)]


def test_the_quarantine_can_be_made_a_recording(
    registered: str, broker_url: str, scratch: Path, tmp_path: Path
) -> None:
    state, file = scratch / "quarantine", tmp_path / "q.hwrec"
    state.mkdir()
    with running(registered, broker_url, state_dir=state) as doors:
        payload = encode_json("", [Measurement("pressure", "Pa", 4e5, T0)])
        assert coap(doors, "/telemetry/urn:dev:ser:nobody", payload, 110).code.dotted == "4.03"
        assert "1 uplinks in" in headworks(doors, registered, state, "record", str(file), "--from-quarantine")
        (frame,) = read_recording(file, Contents())
        assert (frame[0].identity, frame[0].payload) == ("urn:dev:ser:nobody", payload)
        with connect(registered) as connection:
            register(connection, [Device("urn:dev:ser:nobody", "centrifugal-pump")], shipped_profiles())
        assert "1 sent, 0 rejected" in headworks(doors, registered, state, "replay", str(file))
        assert len(query(registered, READINGS)) == 1


def test_a_listener_that_does_not_listen_holds_nobody_up_and_is_told_what_it_missed(scratch: Path) -> None:
    path = scratch / "tap.sock"
    tap = Tap(path, limit=100_000)
    tap.open()
    uplink = Uplink(Transport.COAP, bytes(1000), T0, PUMP.identity, 112, "here")
    try:
        heard = listen(path, tick=0.05)
        assert next(heard) == ([], 0)  # it is connected, and does not read from here on
        for _ in range(20_000):
            tap.take(uplink)  # 20 MB cannot go anywhere
        count = missed = 0
        while count + missed < 20_000:
            uplinks, lost = next(heard)
            count, missed = count + len(uplinks), missed + lost
        assert missed > 0
        assert count > 0
    finally:
        tap.close()
    assert not path.exists()


def test_a_storm_by_both_ways_is_stored_once_and_can_be_removed(database_url: str, broker_url: str) -> None:
    with connect(database_url) as connection:
        devices = [Device(identity("t", number), PROFILE, site="storm") for number in range(600)]
        register(connection, [*devices, PUMP], shipped_profiles())
    with running(database_url, broker_url) as doors:
        host, port = doors.coap.removeprefix("coap://").split(":")
        clocks = Clocks(time.monotonic, time.process_time, time.time() - time.monotonic())
        storm = Storm("t", 600, 1.0, loss=0.02, ack_timeout=0.3)
        done = run_storm(storm, Targets((host, int(port)), doors.mqtt), clocks)
        assert done.complete
        assert {name: tally.acknowledged for name, tally in done.tallies.items()} == {"coap": 300, "mqtt": 300}
        eventually(lambda: len(query(database_url, READINGS)) == 600 * 8, "each reading is stored once")
        payload = encode_json(PUMP.identity, [Measurement("pressure", "Pa", 4e5, T0)])
        assert coap(doors, f"/telemetry/{PUMP.identity}", payload, 110).code.dotted == "2.04"
        eventually(lambda: judged(database_url), "everything is judged")
    with connect(database_url) as connection:
        assert removal.series(connection, IDENTITY) == {"t": 600}
        assert sum(removal.remove(connection, IDENTITY)) == 600
        assert removal.series(connection, IDENTITY) == {}
    assert query(database_url, "SELECT identity FROM device") == [(PUMP.identity,)]
    assert len(query(database_url, READINGS)) == len(query(database_url, "SELECT 1 FROM reading")) == 1
