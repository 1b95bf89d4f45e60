"""The registry at work: devices that nobody knows yet, calibrations, wrong clocks, large imports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import aiocoap
import psycopg
import pytest
from typer.testing import CliRunner, Result

from devices.batch import Batch, UplinkRecord
from devices.codecs.senml import encode_json
from devices.model import HOUR, SECOND, Device, Measurement, Reading, Transport, Uplink
from devices.profile import shipped_profiles
from headworks.cli import app
from headworks.settings import UnknownDevices
from storage.database import connect
from storage.registry import all_devices, find, register
from storage.writer import Writer
from tests.conftest import PUMP
from tests.integration.test_gateways import T0, coap, query, running
from tests.integration.test_quarantine import as_url

STRANGER = "urn:dev:imei:867000000000999"


@pytest.fixture
def run(registered: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(registered))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def pack(identity: str, *values: float) -> bytes:
    return encode_json(identity, [Measurement("pressure", "bar", v, T0 + i * SECOND) for i, v in enumerate(values)])


def test_what_an_unknown_device_sends_is_held_until_it_is_approved(
    registered: str, broker_url: str, run: Callable[..., Result]
) -> None:
    with running(registered, broker_url, unknown_devices=UnknownDevices.HOLD) as doors:
        assert coap(doors, f"/telemetry/{STRANGER}", pack(STRANGER, 4.0, 4.5), 110).code == aiocoap.CHANGED
        assert query(registered, "SELECT count(*) FROM reading") == [(0,)]
        assert STRANGER in run("devices", "held").stdout
        done = run("devices", "approve", STRANGER, "--profile", "centrifugal-pump", "--tag", "P-109", "--site", "North")
        assert done.stdout == f"registered {STRANGER}: 2 readings stored, 0 records stay in quarantine\n"
        assert query(registered, "SELECT d.tag, r.value FROM reading r JOIN device d USING (device_id) ORDER BY 2") == [
            ("P-109", 4.0),
            ("P-109", 4.5),
        ]
        assert coap(doors, f"/telemetry/{STRANGER}", pack(STRANGER, 4.0, 4.5, 5.0), 110).code == aiocoap.CHANGED
        assert query(registered, "SELECT count(*) FROM reading") == [(3,)]
    assert "nobody waits" in run("devices", "held").stdout
    again = run("devices", "approve", STRANGER, "--profile", "centrifugal-pump")
    assert again.exit_code == 1
    assert "is registered" in again.stderr


def test_otherwise_it_is_refused_and_kept_all_the_same(registered: str, broker_url: str) -> None:
    with running(registered, broker_url) as doors:
        assert coap(doors, f"/telemetry/{STRANGER}", pack(STRANGER, 4.0), 110).code != aiocoap.CHANGED
    assert query(registered, "SELECT identity, reason FROM quarantine") == [(STRANGER, "unknown_device")]


def test_a_calibration_counts_from_its_time_on_and_is_never_rewritten(
    registered: str, broker_url: str, run: Callable[..., Result]
) -> None:
    at = "2026-05-28T20:26:41"  # the second of the three samples
    done = run("devices", "calibrate", PUMP.identity, "pressure", "--gain", 1.1, "--offset", -0.1, "--from", at)
    assert done.exit_code == 0, done.output
    assert run("devices", "calibrate", PUMP.identity, "pressure", "--from", at).exit_code == 1
    assert run("devices", "calibrate", PUMP.identity, "presure").exit_code == 2
    assert run("devices", "calibrate", "nobody", "pressure").exit_code == 1
    with running(registered, broker_url) as doors:
        assert coap(doors, f"/telemetry/{PUMP.identity}", pack(PUMP.identity, 4.0, 4.0, 4.0), 110).code.is_successful()
    values = [float(str(value)) for (value,) in query(registered, "SELECT value FROM reading ORDER BY measured_at")]
    assert values == pytest.approx([4.0, 4.3, 4.3])
    assert "pressure × 1.1 + -0.1 from 2026-05-28 20:26:41 UTC on" in run("devices", "show", PUMP.identity).stdout
    with connect(registered) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE calibration SET gain = 0")


def test_what_a_device_with_a_wrong_clock_sends_twice_is_stored_once(registered: str) -> None:
    writer = Writer(registered)

    def arrives(later: int) -> UplinkRecord:
        """The same three samples of 1970, as they are repaired at another time of receipt."""
        received_at = T0 + later
        offset = received_at - 500 * SECOND
        readings = [Reading(PUMP.identity, "pressure", at * SECOND + offset, 4.0) for at in (100, 200, 300)]
        uplink = Uplink(Transport.COAP, b"x", received_at, PUMP.identity)
        return UplinkRecord(uplink, PUMP.identity, readings, None, 500 * SECOND, offset)

    try:
        first = writer.commit(Batch([arrives(0), arrives(SECOND)]))
        assert (first.stored, first.duplicates) == (3, 3)
        second = writer.commit(Batch([arrives(HOUR)]))
        assert (second.stored, second.duplicates) == (0, 3)
    finally:
        writer.close()
    assert query(registered, "SELECT count(*), min(measured_at) FROM reading")[0][0] == 3
    said = "SELECT extract(epoch FROM first_measured_at)::bigint - clock_offset / 1000000 FROM uplink"
    assert query(registered, said) == [(100,)], "what the device said itself is known"


def test_a_hundred_thousand_devices_are_imported_and_changed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(database_url))
    count = 100_000
    table = tmp_path / "fleet.csv"
    for model in ("A", "B"):
        rows = (f"urn:dev:imei:{860_000_000_000_000 + n},water-meter,M-{n},North,{model},25" for n in range(count))
        table.write_text("\n".join(["identity,profile,tag,site,model,design.dn", *rows]))
        done = CliRunner().invoke(app, ["devices", "import", str(table)])
        assert done.stdout == f"registered {count} devices\n"
    assert query(database_url, "SELECT count(*), min(model), max(model) FROM device") == [(count, "B", "B")]
    table.write_text(
        "identity,profile,tag\nurn:dev:imei:1,water-meter,a\nurn:dev:imei:2,watermeter,b\nurn:dev:imei:1,water-meter,c"
    )
    refused = CliRunner().invoke(app, ["devices", "import", str(table)])
    assert refused.exit_code != 0
    problems = str(refused.exception or refused.output)
    assert "fleet.csv:3: unknown profile ‘watermeter’, did you mean ‘water-meter’?" in problems
    assert "fleet.csv:4: the identity ‘urn:dev:imei:1’ stands twice in this table" in problems
    assert query(database_url, "SELECT count(*) FROM device") == [(count,)]


def test_two_entries_of_one_device_end_as_the_last(database_url: str) -> None:
    with connect(database_url) as connection, connection.transaction():
        twice = [Device("urn:x", "water-meter", tag=tag) for tag in ("first", "last")]
        register(connection, twice, shipped_profiles())
        register(connection, [Device("urn:y", "water-meter")], shipped_profiles())
        assert [entry.device.tag for entry in all_devices(connection)] == ["", "last"]
        assert find(connection, ["urn:x"])["urn:x"].device.calibrations == {}
