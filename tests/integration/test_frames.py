"""Devices that speak a binary frame, through the real gateways into the database: shipped and own profiles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import aiocoap
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from devices.codecs.checksum import checksum
from devices.codecs.frame_encode import Message
from devices.model import MINUTE, SECOND, Device, Measurement
from headworks.profiles import load_profile_files
from headworks.service import Doors
from storage.database import connect
from storage.registry import register
from tests.integration.test_gateways import coap, eventually, query, running

T0 = 1_780_000_000 * SECOND
BALL_VALVE = Device("urn:dev:imei:867000000000033", "motorised-ball-valve")
LOGGER = Device("urn:dev:imei:867000000000041", "our-logger")
OWN = """\
profile: our-logger
title: Ours
kind: meter
codec: frame
reporting: {sampling: 15m, interval: 6h}
metrics:
  pressure: {sensor: [0, 25]}
frame:
  layout:
    - {time: epoch, type: u32}
    - {repeat: rest, step: 15m, layout: [{value: pressure, type: u16, unit: kPa}]}
    - {check: crc16-modbus}
"""


@pytest.fixture
def doors(
    database_url: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Doors, str, str]]:
    (tmp_path / "our-logger.yaml").write_text(OWN)
    monkeypatch.setenv("HEADWORKS_PROFILES", str(tmp_path))
    with connect(database_url) as connection:
        register(connection, [BALL_VALVE, LOGGER], load_profile_files(tmp_path))
    with running(database_url, broker_url) as found:
        yield found, database_url, broker_url


def test_frames_reach_the_database_by_coap_and_by_mqtt(doors: tuple[Doors, str, str]) -> None:
    platform, database, broker = doors
    profiles = load_profile_files(Path(os.environ["HEADWORKS_PROFILES"]))
    valve = profiles["motorised-ball-valve"].frame_encoder.encode(
        Message([Measurement(name, None, 1.0, T0) for name in ("volume", "settlement_volume", "battery_low")]
                + [Measurement("position", None, 100.0, T0)], T0)
    )  # fmt: skip
    answer = coap(platform, f"/telemetry/{BALL_VALVE.identity}", valve, 42)
    assert answer.code == aiocoap.CHANGED
    pressures = [Measurement("pressure", "bar", 4 + index, T0 - 15 * MINUTE * index) for index in range(3)]
    frame = profiles["our-logger"].frame_encoder.encode(Message(pressures, T0))
    address = broker.removeprefix("mqtt://").rpartition("@")[2]
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(address.split(":")[0], int(address.split(":")[1]))
    client.loop_start()
    client.publish(f"headworks/{LOGGER.identity}/telemetry", frame, qos=1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()

    def stored() -> list[tuple[object, ...]]:
        return query(
            database,
            "SELECT m.name, r.value FROM reading r JOIN metric m USING (metric_id) ORDER BY m.name, r.measured_at",
        )

    eventually(lambda: len(stored()) == 8, "all readings are stored")
    assert stored() == [
        ("battery_low", 1), ("position", 100), ("pressure", 6), ("pressure", 5), ("pressure", 4),
        ("settlement_volume", 1), ("valve_fault", 0), ("volume", 1),
    ]  # fmt: skip


def test_a_frame_without_a_value_is_acknowledged(doors: tuple[Doors, str, str]) -> None:
    platform, database, _ = doors
    frame = bytes.fromhex("6a18a800")
    answer = coap(platform, f"/telemetry/{LOGGER.identity}", frame + checksum("crc16-modbus")[1](frame).to_bytes(2), 42)
    assert answer.code == aiocoap.CHANGED
    assert query(database, "SELECT count(*) FROM quarantine") == [(0,)]


def test_a_damaged_frame_is_quarantined_with_its_byte(doors: tuple[Doors, str, str]) -> None:
    platform, database, _ = doors
    answer = coap(platform, f"/telemetry/{LOGGER.identity}", bytes.fromhex("6a18a80001900000"), 42)
    assert answer.code == aiocoap.BAD_REQUEST
    assert answer.payload.startswith(b"malformed: byte 6: the checksum is 0000")
    [(reason, detail)] = query(database, "SELECT reason, detail FROM quarantine")
    assert (reason, str(detail)[:7]) == ("malformed", "byte 6:")
