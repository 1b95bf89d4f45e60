"""From each earlier schema with data in it: after the upgrade everything is there, and today's code works on it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from devices.batch import Batch, UplinkRecord
from devices.model import DAY, HOUR, SECOND, Quality, Reading, Transport, Uplink, moment
from storage import aggregates, history, journal, tokens
from storage.database import Connection, connect
from storage.migrate import migrate, migrations
from storage.registry import find, latest, sync_metrics
from storage.writer import Writer
from tests.conftest import PUMP

T0 = 1_790_000_000 * SECOND // DAY * DAY
NAMES = [migration.name for migration in migrations(timescaledb=True)][1:]


@pytest.fixture(params=["timescaledb", "plain"])
def empty(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[tuple[str, bool]]:
    """An empty database, and whether it is to be of the plain edition."""
    name = f"headworks_upgrade_{random.randrange(10**9)}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    yield make_conninfo(postgres_url, dbname=name), request.param == "plain"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def exists(connection: Connection, table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return bool(row and row[0])


def fill(connection: Connection) -> None:
    """Three hours of one pump, by plain SQL: the code of today need not know the schema of yesterday."""
    sync_metrics(connection)
    parameters = {"t": moment(T0), "identity": PUMP.identity}
    connection.execute(
        "INSERT INTO device (identity, profile, kind, tag, report_interval)"
        " VALUES (%(identity)s, 'centrifugal-pump', 'pump', 'P-101', '15 minutes')",
        parameters,
    )
    connection.execute(
        "INSERT INTO reading SELECT %(t)s + n * interval '30 minutes', device_id, metric_id, n, 192"
        " FROM device, metric, generate_series(0, 5) n WHERE name IN ('pressure', 'flow')",
        parameters,
    )
    connection.execute(
        "INSERT INTO uplink (received_at, device_id, transport, first_measured_at, last_measured_at, readings)"
        " SELECT %(t)s, device_id, 'coap', %(t)s, %(t)s + interval '150 minutes', 12 FROM device",
        parameters,
    )
    newest = (
        "SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, measured_at, value, quality FROM reading"
        " ORDER BY device_id, metric_id, measured_at DESC"
    )
    if exists(connection, "latest_pack"):
        connection.execute(
            "INSERT INTO latest_pack SELECT device_id, max(measured_at), array_agg(metric_id), array_agg(measured_at),"
            f" array_agg(value), array_agg(quality) FROM ({newest}) n GROUP BY 1"
        )
        connection.execute(
            "INSERT INTO commit_log (xid, first_received_at, last_received_at, first_measured_at, last_measured_at,"
            " uplinks, readings, duplicates) SELECT xid, received_at, received_at, first_measured_at, last_measured_at,"
            " 1, readings, 0 FROM uplink"
        )
    else:
        connection.execute(f"INSERT INTO latest (device_id, metric_id, measured_at, value, quality) {newest}")
    connection.execute(
        "INSERT INTO quarantine (received_at, reason, transport, payload) VALUES (%(t)s, 'malformed', 'coap', 'x')",
        parameters,
    )
    if exists(connection, "alarm"):
        connection.execute(
            "INSERT INTO alarm (rule, device_id, priority, message, since, raised_at)"
            " SELECT 'r', device_id, 'high', 'm', %(t)s, %(t)s FROM device",
            parameters,
        )
    if exists(connection, "console_session"):
        connection.execute("INSERT INTO api_token (name, role, hash, made_by) VALUES ('kim', 'viewer', '', 'test')")
        connection.execute(
            "INSERT INTO console_session (hash, token_id, ends_at)"
            " SELECT %s, token_id, now() + interval '1 hour' FROM api_token",
            (tokens.digest("cookie"),),
        )


@pytest.mark.parametrize("version", NAMES[:-1])
def test_from_each_earlier_schema_everything_is_kept(empty: tuple[str, bool], version: str) -> None:
    url, plain = empty
    with connect(url) as connection:
        migrate(connection, plain=plain, to=version)
        fill(connection)
        had_alarms = exists(connection, "alarm")
        had_session = exists(connection, "console_session")
        assert migrate(connection, plain=plain) == NAMES[NAMES.index(version) + 1 :]
        expected = [
            Reading(PUMP.identity, metric, T0 + n * HOUR // 2, float(n), Quality.GOOD)
            for n in range(6)
            for metric in ("flow", "pressure")
        ]
        assert history.readings(connection, [PUMP.identity], T0) == expected
        number = find(connection, [PUMP.identity])[PUMP.identity].device_id
        assert {entry.metric: entry.value for entry in latest(connection, number)} == {"flow": 5.0, "pressure": 5.0}
        assert [u.device for u in history.changed(connection, 0).uplinks] == [PUMP.identity], "followers see it"
        aggregates.refresh(connection, T0 + 2 * DAY)
        assert connection.execute("SELECT sum(readings)::int FROM reading_hourly").fetchall() == [(12,)]
        assert connection.execute("SELECT sum(readings)::int FROM reading_daily").fetchall() == [(12,)]
        assert connection.execute("SELECT reason, payload FROM quarantine").fetchall() == [("malformed", b"x")]
        assert len(journal.all_occurrences(connection)) == had_alarms
        assert (tokens.session(connection, "cookie") is not None) == had_session
    writer = Writer(url)
    more = [Reading(PUMP.identity, "pressure", T0 + 5 * HOUR, 9.0), expected[0]]
    done = writer.commit(Batch([UplinkRecord(Uplink(Transport.MQTT, b"", T0), PUMP.identity, more)]))
    writer.close()
    assert (done.stored, done.duplicates) == (1, 1)
