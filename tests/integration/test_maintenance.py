"""Maintenance on a real database: what is too old goes, what was computed from it stays, and each run is on record."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from devices.batch import Batch, QuarantineRecord, UplinkRecord
from devices.model import DAY, HOUR, MINUTE, SECOND, Instant, Reading, Reason, Transport, Uplink, moment
from devices.profile import shipped_profiles
from headworks.cli import app
from headworks.session import Session
from headworks.upkeep import Upkeep
from storage import aggregates, maintenance
from storage.database import Connection, Edition, connect
from storage.maintenance import TASKS, Keep
from storage.migrate import migrate
from storage.registry import register, sync_metrics
from storage.status import status
from storage.writer import Writer
from tests.conftest import PUMP
from tests.integration.test_gateways import eventually

T0 = 1_770_000_000 * SECOND // DAY * DAY
NOW = T0 + 100 * DAY + 3 * HOUR
KEEP = Keep(readings=30, uplinks=20, quarantine=10)


@pytest.fixture(params=["timescaledb", "plain"])
def url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """A database of each edition that the server of the tests can have."""
    name = f"headworks_upkeep_{random.randrange(10**9)}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"'.encode())
    found = make_conninfo(postgres_url, dbname=name)
    with connect(found) as connection:
        migrate(connection, plain=request.param == "plain")
        sync_metrics(connection)
        register(connection, [PUMP], shipped_profiles())
    yield found
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def fill(url: str) -> None:
    """A reading, an uplink and a quarantine record a day, for 100 days."""
    writer = Writer(url)
    for day in range(100):
        at = T0 + day * DAY + HOUR
        uplink = Uplink(Transport.COAP, b"x", at)
        refused = QuarantineRecord(uplink, Reason.MALFORMED, "", PUMP.identity)
        record = UplinkRecord(uplink, PUMP.identity, [Reading(PUMP.identity, "pressure", at, float(day))])
        writer.commit(Batch([record], [refused]))
    writer.close()


def run_all(connection: Connection, now: Instant) -> dict[str, int | None]:
    return {task.name: maintenance.run(connection, task, now, KEEP, time.monotonic) for task in TASKS}


def count(connection: Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(str(row[0]))


def test_what_is_too_old_goes_and_its_aggregates_stay(url: str) -> None:
    fill(url)
    with connect(url) as connection:
        done = run_all(connection, NOW)
        assert done["aggregates"] == 200
        assert 29 <= count(connection, "reading") <= 31
        assert 19 <= count(connection, "uplink") <= 21
        assert 9 <= count(connection, "quarantine") <= 11
        rows = connection.execute("SELECT readings, avg_value FROM reading_daily ORDER BY bucket").fetchall()
        assert rows == [(1, float(day)) for day in range(100)]
        assert run_all(connection, NOW + MINUTE)["retention"] == 0
        runs = maintenance.last_runs(connection)
        assert set(runs) == {task.name for task in TASKS}
        assert [run.error for run in runs.values()] == [None] * len(TASKS)


def test_readings_that_are_not_aggregated_yet_are_not_dropped(url: str) -> None:
    fill(url)
    with connect(url) as connection:
        maintenance.run(connection, TASKS[1], NOW, KEEP, time.monotonic)
        assert count(connection, "reading") == 100


def test_zero_keeps_everything(url: str) -> None:
    fill(url)
    with connect(url) as connection:
        for task in TASKS:
            maintenance.run(connection, task, NOW, Keep(0, 0, 0), time.monotonic)
        assert (count(connection, "reading"), count(connection, "quarantine")) == (100, 100)


def test_a_failure_is_on_record_and_passes_through(url: str) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError("a defect")

    with connect(url) as connection:
        with pytest.raises(ZeroDivisionError):
            maintenance.run(connection, replace(TASKS[0], run=fail), NOW, KEEP, time.monotonic)
        assert maintenance.last_runs(connection)["aggregates"].error == "a defect"
        assert maintenance.run(connection, TASKS[0], NOW, KEEP, time.monotonic) is not None, "the lock is free again"


def test_one_process_at_a_time(url: str) -> None:
    with connect(url) as one, connect(url) as other:
        found: list[int | None] = []

        def meanwhile(*_: object) -> int:
            found.append(maintenance.run(other, TASKS[0], NOW, KEEP, time.monotonic))
            return 0

        maintenance.run(one, replace(TASKS[0], run=meanwhile), NOW, KEEP, time.monotonic)
    assert found == [None]


def test_the_status_is_one_screen(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fill(url)
    with connect(url) as connection:
        run_all(connection, NOW)
        connection.execute("ANALYZE")
        found = status(connection)
    reading = found.tables[0]
    assert reading.name == "reading"
    assert 25 <= reading.rows <= 35
    assert (reading.chunks > 0) == (found.server.edition is not Edition.PLAIN)
    assert found.bytes_per_reading is not None
    assert found.due == 0
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{url.replace(' ', '&')}")
    monkeypatch.setenv("HEADWORKS_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    shown = CliRunner().invoke(app, ["storage", "status"], catch_exceptions=False)
    assert all(word in shown.output for word in ("bytes a reading", "hourly_store", "aggregates", "retention", "ok"))
    assert len(shown.output.splitlines()) < 30
    assert CliRunner().invoke(app, ["storage", "status", "--json"]).output.startswith("{")


def test_the_platform_runs_it_by_itself(url: str) -> None:
    session = Session(url, "headworks upkeep")
    upkeep = Upkeep(session, KEEP)
    upkeep.start()
    try:
        with connect(url) as connection:
            eventually(lambda: len(maintenance.last_runs(connection)) == len(TASKS), "every task ran once")
    finally:
        upkeep.close(5)
        session.close()


def test_a_task_that_takes_for_ever_does_not_hold_up_the_end(url: str) -> None:
    def sleep(connection: Connection, _: Instant, __: Keep) -> int:
        connection.execute("SELECT pg_sleep(600)")
        return 0

    session = Session(url, "headworks upkeep")
    upkeep = Upkeep(session, KEEP, [replace(TASKS[0], run=sleep)])
    upkeep.start()
    with connect(url) as connection:
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        eventually(lambda: connection.execute(asleep).fetchone() == (1,), "it is at work")
        begin = time.monotonic()
        upkeep.close(0.1)
        session.close()
        assert time.monotonic() - begin < 60
        eventually(lambda: connection.execute(asleep).fetchone() == (0,), "it has ended")


def test_a_day_of_many_devices_is_one_pass(url: str) -> None:
    """The planner knows nothing of new tables, and must not come to read every device's day for each device."""
    with connect(url) as connection:
        others = [replace(PUMP, identity=f"urn:dev:x:{n}") for n in range(300)]
        register(connection, others, shipped_profiles())
        writer = Writer(url)
        for hour in range(24):
            at = T0 + hour * HOUR
            writer.commit(
                Batch(
                    [
                        UplinkRecord(
                            Uplink(Transport.COAP, b"x", at),
                            device.identity,
                            [
                                Reading(device.identity, name, at, 1.0)
                                for name in ("pressure", "flow", "speed", "current")
                            ],
                        )
                        for device in others
                    ]
                )
            )
        writer.close()
        aggregates.refresh(connection, T0 + 3 * DAY)
        plan = "\n".join(
            str(line)
            for (line,) in connection.execute(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + aggregates.WIDTHS[1].statement,
                {
                    "device": list(range(2, 302)),
                    "bucket": [moment(T0)] * 300,
                    "width": timedelta(days=1),
                    "first": moment(T0),
                    "last": moment(T0 + DAY),
                },
            ).fetchall()
        )
        loops = [int(found) for found in re.findall(r"on .*reading.* \(actual rows=\S+ loops=(\d+)\)", plan)]
        assert loops
        assert max(loops) <= 4 * 301
        assert count(connection, "daily_store") == 1200
