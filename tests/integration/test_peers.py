"""Devices' dialects through a real broker, by client libraries that we did not write (Sparkplug: `test_sparkplug`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from devices.model import SECOND
from devices.profile import shipped_profiles
from ingest.mqtt import Broker
from storage.database import connect
from storage.registry import register
from tests.conftest import PUMP
from tests.integration.test_gateways import T0, eventually, query, running
from tests.peers.start import peer


def run_peer(packages: str | Path, program: str, *arguments: str) -> str:
    """What it prints."""
    with peer(packages, program, *arguments) as process:
        return process.communicate(timeout=120)[0]


def pressures(url: str) -> list[tuple[object, ...]]:
    return query(
        url,
        "SELECT d.tag, r.value FROM reading r JOIN device d USING (device_id) JOIN metric m USING (metric_id)"
        " WHERE m.name = 'pressure' ORDER BY r.measured_at",
    )


EXPECTED = [("P-101", 4.0), ("P-101", 4.1), ("P-101", 4.2)]


def test_senml(registered: str, broker_url: str) -> None:
    with running(registered, broker_url):
        port = str(Broker.parse(broker_url).port)
        assert run_peer("senml", "senml_device.py", port, PUMP.identity, str(T0 // SECOND)) == "published\n"
        eventually(lambda: pressures(registered) == EXPECTED, "its pack is stored")


def test_a_thingsboard_gateway(registered: str, broker_url: str) -> None:
    with running(registered, broker_url):
        port = str(Broker.parse(broker_url).port)
        told = run_peer("thingsboard", "thingsboard_device.py", port, "user", str(T0 // 1000), PUMP.identity)
        assert told == "published True\n"
        eventually(lambda: pressures(registered) == EXPECTED, "its telemetry is stored")


def test_a_thingsboard_gateway_at_a_broker_does_not_speak_for_devices_that_have_one(
    registered: str, broker_url: str
) -> None:
    with connect(registered) as connection:
        register(connection, [replace(PUMP, gateway="another")], shipped_profiles())
    with running(registered, broker_url):
        port = str(Broker.parse(broker_url).port)
        run_peer("thingsboard", "thingsboard_device.py", port, "user", str(T0 // 1000), PUMP.identity)
        reasons = "SELECT DISTINCT reason FROM quarantine"
        eventually(lambda: query(registered, reasons) == [("identity_mismatch",)], "it is refused")
    assert pressures(registered) == []
