"""A database of each earlier schema, with data: the platform of today upgrades it by itself and goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.provision import Installation
from devices.model import Device, moment
from headworks.embedded import EmbeddedPostgres
from storage.database import Connection, offers_timescaledb
from storage.migrate import migrations
from storage.registry import sync_metrics
from tests.acceptance.faults.conftest import Report
from tests.acceptance.faults.harness import rig
from tests.acceptance.faults.senders import DAYS, Pack

STORED = 40
"""Uplinks of each device that are there already; its senders begin with the same ones, as after a lost answer."""
EARLIER = [migration.name for migration in migrations(timescaledb=True)][1:-1]


def _as_of(schema: str, connection: Connection, devices: Sequence[Device]) -> None:
    """The schema up to a migration, with readings as its platform would have written them."""
    connection.execute(
        "CREATE TABLE schema_migration (name text PRIMARY KEY, checksum text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    for migration in migrations(timescaledb=offers_timescaledb(connection)):
        connection.execute(migration.sql.encode())
        connection.execute(
            "INSERT INTO schema_migration (name, checksum) VALUES (%s, %s)", (migration.name, migration.checksum)
        )
        if migration.name == schema:
            break
    metrics = sync_metrics(connection)
    for device in devices:
        row = connection.execute(
            "INSERT INTO device (identity, profile, kind, tag, site, report_interval)"
            " VALUES (%s, %s, 'pump', %s, %s, '5 min') RETURNING device_id",
            (device.identity, device.profile, device.tag, device.site),
        ).fetchone()
        assert row is not None
        rows = [
            (moment(reading.measured_at), row[0], metrics[reading.metric], reading.value, 192)
            for number in range(STORED)
            for reading in Pack(device.identity, 3 * DAYS + number).readings
        ]
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO reading VALUES (%s, %s, %s, %s, %s)", rows)


@pytest.mark.faults
@pytest.mark.parametrize("schema", EARLIER)
def test_from(schema: str, installation: Installation, server: EmbeddedPostgres, scratch: Path, report: Report) -> None:
    def prepare(connection: Connection, devices: Sequence[Device]) -> None:
        _as_of(schema, connection, devices)

    with rig(installation, server, scratch, prepare) as run:
        platform = run.platform()
        senders = run.send([platform.coap], [run.broker.url])
        senders.await_more(len(run.devices) * STORED * 2)
        platform.kill()
        platform.start()
        run.await_health(platform)
        before = len(run.devices) * STORED * 8
        report(f"upgrade from {schema}", run.judge(logged_before=before), readings_before=before)
