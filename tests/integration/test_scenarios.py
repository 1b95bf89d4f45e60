"""Scenarios through the real gateways: every stack at once, and what was promised is what the platform holds."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devices.decode import decode
from devices.model import Instant, Transport, Uplink, instant
from devices.normalize import CLOCK_ERROR, normalize
from headworks import clock
from headworks.cli import app
from headworks.scenarios import prepare
from headworks.service import Doors
from headworks.settings import Settings
from simulators.firmware import Unit, Written
from simulators.records import acknowledged_keys, read_ledger
from simulators.scenario import Protocol
from simulators.scenario_plant import Played, load_scenario, play
from simulators.scenario_run import Progress, run_scenario
from simulators.speech import CONTENT_FORMATS
from tests.integration.test_gateways import eventually, printed, query, running
from tests.integration.test_quarantine import as_url
from tests.unit.simulators.test_scenario_walkthrough import FILES

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))
HOST = "waterworks"
Stored = dict[tuple[str, str, Instant], float]

SCENARIO = """
scenario: Every stack
duration: 40m
speed: 0
sites: [{site: pumping-station}, {site: control-skid}]
fleets:
  - {devices: [PS-P1], protocol: coap, credential: oscore}
  - {devices: [PS-P2], protocol: coap, format: json, block: 256, coverage: [0, 1, 0]}
  - {devices: [PS-P3], protocol: iotda}
  - {devices: [CV-TOWN], protocol: thingsboard}
  - {devices: [CV-TANK], protocol: mqtt, format: json}
  - {devices: ["LG-*"], protocol: mqtt, reporting: {sampling: 15m, interval: 30m}}
  - {devices: [SK-LV1], protocol: coap, profile: motorised-ball-valve, reporting: {sampling: 5m, interval: 10m}}
  - {devices: ["SK-*"], protocol: sparkplug, node: Refinery/RTU-7}
faults:
  - {fault: coverage-loss, on: PS-P2, after: 10m, lasts: 15m}
  - {fault: firmware-nonsense, on: CV-TANK, after: 16m, lasts: 10m}
  - {fault: new-address, on: PS-P1, after: 1m, lasts: 39m}
  - {fault: uplinks-repeated, on: PS-P?, after: 10m, lasts: 30m, severity: 1}
"""


def run(
    platform: Doors, database_url: str, broker_url: str, text: str, folder: Path, stop: asyncio.Event | None = None
) -> tuple[Played, Progress]:
    path = folder / "scenario.yaml"
    path.write_text(text, "utf-8")
    scenario = load_scenario(path)
    settings = Settings(
        database_url=as_url(database_url),  # type: ignore[arg-type]  # a text becomes a secret
        mqtt_url=broker_url,  # type: ignore[arg-type]
        mqtt_door_port=platform.mqtt_door or None,
        coap_port=int(platform.coap.rsplit(":", 1)[1]),
        key_file=folder / "secret.key",
    )
    target = prepare(settings, scenario, folder)
    played = play(scenario, START)

    async def main() -> Progress:
        ended = stop or asyncio.Event()
        clocks: tuple[Callable[[], float], Callable[[], Instant]] = (time.monotonic, clock.now)
        return await run_scenario(played, target, 0.0, folder, clocks, lambda _: None, ended)

    return played, asyncio.run(asyncio.wait_for(main(), 300))


def stored(url: str) -> Stored:
    rows = query(
        url,
        "SELECT d.identity, m.name, (extract(epoch FROM r.measured_at) * 1000000)::bigint, r.value"
        " FROM reading r JOIN device d USING (device_id) JOIN metric m USING (metric_id)",
    )
    return {(str(d), str(m), int(str(at))): float(str(value)) for d, m, at, value in rows}


def said(played: Played, unit: Unit, entry: Written) -> Stored:
    """What a decoder makes of an uplink's bytes."""
    form = CONTENT_FORMATS[unit.form] if unit.fleet.protocol in (Protocol.COAP, Protocol.MQTT) else None
    codec = {Protocol.IOTDA: "iotda", Protocol.THINGSBOARD: "thingsboard"}.get(unit.fleet.protocol)
    uplink = Uplink(Transport.COAP, entry.payload, played.end, None, form, codec=codec)  # type: ignore[arg-type]
    readings = [
        reading
        for report in decode(uplink, unit.profile)
        for reading in normalize(report, unit.device, unit.profile, played.end)[0]
    ]
    return {(unit.device.identity, one.metric, one.measured_at): one.value for one in readings}


def test_every_stack_is_understood_and_what_was_promised_is_stored(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    key = tmp_path / "secret.key"
    with running(database_url, broker_url, mqtt_door_port=0, sparkplug_host=HOST, key_file=key) as platform:
        played, done = run(platform, database_url, broker_url, SCENARIO, tmp_path)
        assert done.complete
        promised = set(acknowledged_keys(tmp_path / "ledger.jsonl"))
        eventually(lambda: promised <= stored(database_url).keys(), "all that the broker took is stored")
        sparkplug = [unit for unit in played.scenario.units if unit.fleet.protocol is Protocol.SPARKPLUG]
        sent = {
            (unit.device.identity, metric, at)
            for unit in sparkplug
            for step in played.steps(unit)
            if isinstance(step, Written)
            for metric, times in step.readings.items()
            for at in times
        }
        eventually(lambda: sent <= stored(database_url).keys(), "what came by alias has found its names")
    found = stored(database_url)
    for unit in played.scenario.units:
        mine = [step for step in played.steps(unit) if isinstance(step, Written)]
        assert mine, unit.tag
        if unit.fleet.protocol is Protocol.SPARKPLUG or unit.tag == "CV-TANK":
            continue
        for entry in mine:
            for name, value in said(played, unit, entry).items():
                assert found[name] == pytest.approx(value), (unit.tag, name)
    by_device: dict[str, set[str]] = defaultdict(set)
    for line in read_ledger(tmp_path / "ledger.jsonl"):
        by_device[line["device"]].add(line["code"])
    codes = {unit.tag: by_device[unit.device.identity] for unit in played.scenario.units}
    assert codes["PS-P1"] == codes["PS-P2"] == codes["SK-LV1"] == {"2.04"}
    assert codes["PS-P3"] == codes["CV-TOWN"] == codes["LG-T1"] == {"PUBACK"}
    assert codes["SK-FV1"] == {"QoS 0"}, "nobody promises anything there"
    # Pressures of the skid travel in Pa by Sparkplug, with the unit that their birth has named.
    tag = next(unit for unit in sparkplug if unit.tag == "SK-PA")
    observation, series = played.shown["SK-PA"]
    at = int(observation.times[3])
    assert found[tag.device.identity, "pressure", at] == pytest.approx(float(series["pressure"][3]) / 1e5)
    # A refused uplink is in quarantine, and nothing else is.
    rows = query(database_url, "SELECT DISTINCT d.tag FROM quarantine q JOIN device d USING (identity)")
    assert rows in ([], [("CV-TANK",)])
    ports = query(database_url, "SELECT sum(duplicates) FROM uplink")
    assert int(str(ports[0][0])) > 0, "what was sent again was recognised"
    assert done.by[Protocol.COAP].repeated > 0


def test_what_a_cell_outage_held_back_arrives_as_it_was_measured(
    database_url: str, broker_url: str, tmp_path: Path
) -> None:
    with running(database_url, broker_url) as platform:
        text = """
scenario: Outage
duration: 3h
speed: 0
waterworks: {pumps: 2, valves: 1}
fleets: [{protocol: coap, memory: 4096, coverage: [1, 0, 0]}]
faults:
  - {fault: coverage-loss, on: P-101, after: 30m, lasts: 2h}
  - {fault: clock-reset, on: P-102, after: 1h, lasts: 1h}
"""
        _, done = run(platform, database_url, broker_url, text, tmp_path)
    assert done.complete
    ledger = list(read_ledger(tmp_path / "ledger.jsonl"))
    dropped = [line for line in ledger if line["code"] == "dropped"]
    assert done.by[Protocol.COAP].dropped == len(dropped) > 0, "4 KiB do not hold two hours"
    promised = set(acknowledged_keys(tmp_path / "ledger.jsonl"))
    found = stored(database_url).keys()
    assert promised <= found
    lost = {
        (line["device"], metric, at) for line in dropped for metric, times in line["readings"].items() for at in times
    }
    assert lost
    assert not lost & found, "what the device itself has dropped, nobody has"
    undated = sum(line.get("undated", 0) for line in ledger)
    assert undated > 0
    errors = {key for key in found if key[1] == CLOCK_ERROR}
    assert len(found - errors) == len(promised) + undated, "and what came without a date is there, too"
    # The first minutes after a reset cannot be told from times that count from now, as SenML may have them.
    assert 0 < len(errors) <= sum("undated" in line and line["code"] == "2.04" for line in ledger)
    assert {device for device, _, _ in errors} == {line["device"] for line in ledger if "undated" in line}


def test_a_stopped_run_promises_no_more_than_was_answered(database_url: str, broker_url: str, tmp_path: Path) -> None:
    with running(database_url, broker_url) as platform:
        stop = asyncio.Event()
        stop.set()
        _, done = run(platform, database_url, broker_url, SCENARIO_SMALL, tmp_path, stop)
    assert not done.complete
    assert set(acknowledged_keys(tmp_path / "ledger.jsonl")) <= stored(database_url).keys()


SCENARIO_SMALL = """
scenario: Small
duration: 1h
waterworks: {pumps: 1, valves: 1}
fleets: [{protocol: coap}]
"""


def test_the_readmes_walk_ends_with_the_score_that_it_promises(
    database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    with running(database_url, broker_url) as platform:
        monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(database_url))
        monkeypatch.setenv("HEADWORKS_MQTT_URL", broker_url)
        monkeypatch.setenv("HEADWORKS_COAP_PORT", platform.coap.rsplit(":", 1)[1])
        ran = CliRunner().invoke(app, ["simulate", "night.yaml"])
        assert ran.exit_code == 0, ran.output

        def found() -> dict[str, bool]:
            score = CliRunner().invoke(app, ["score", "build/truth.jsonl", "--json"])
            return {event["fault"]: event["found_by"] is not None for event in printed(score.stdout)["events"]}

        promised = {"dry-run": True, "position-sensor-fault": True, "coverage-loss": False}
        eventually(lambda: found() == promised, "the score is what the text says")
