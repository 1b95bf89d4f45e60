"""Readings in the columnstore of TimescaleDB's community edition: what is late, repeated or contradicting meets them as
it would meet rows. Skipped where the server of the tests has none; HEADWORKS_TEST_DATABASE_URL names one that has.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devices.batch import Batch, UplinkRecord
from devices.model import DAY, HOUR, MINUTE, SECOND, Instant, Reading, Transport, Uplink, moment
from storage import aggregates, audit, history
from storage.database import Connection, Edition, connect, server
from storage.status import status
from storage.writer import Writer
from tests.conftest import PUMP

T0 = 1_770_000_000 * SECOND // DAY * DAY
SAMPLES = 6 * 24


@pytest.fixture
def packed(registered: str) -> Iterator[tuple[Connection, Writer]]:
    """Three days of a pump, all of them in the columnstore."""
    with connect(registered) as connection:
        if server(connection).edition is not Edition.COMMUNITY:
            pytest.skip("the server has no columnstore (TimescaleDB under the Timescale licence)")
        writer = Writer(registered)
        for day in range(3):
            writer.commit(Batch([pack(T0 + day * DAY + n * HOUR, float(n)) for n in range(24)]))
        connection.execute("SELECT compress_chunk(c) FROM show_chunks('reading') c")
        yield connection, writer
        writer.close()


def pack(at: Instant, value: float, metric: str = "pressure", received_at: Instant = T0 + 40 * DAY) -> UplinkRecord:
    """An hour, every ten minutes."""
    readings = [Reading(PUMP.identity, metric, at + n * 10 * MINUTE, value) for n in range(6)]
    return UplinkRecord(Uplink(Transport.COAP, b"x", received_at), PUMP.identity, readings)


def keys(at: Instant, metric: str = "pressure") -> list[tuple[str, str, Instant]]:
    return [(PUMP.identity, metric, at + n * 10 * MINUTE) for n in range(6)]


def test_it_is_on_with_a_policy(packed: tuple[Connection, Writer]) -> None:
    connection, _ = packed
    jobs = connection.execute(
        "SELECT proc_name, config ->> 'compress_after' FROM timescaledb_information.jobs"
        " WHERE hypertable_name = 'reading'"
    ).fetchall()
    assert [(str(name), after) for name, after in jobs] == [("policy_compression", "7 days")]
    assert connection.execute("SELECT headworks_columnstore()").fetchone() == (False,), "it is on already"


def test_what_is_in_it_is_read_as_ever(packed: tuple[Connection, Writer]) -> None:
    connection, _ = packed
    assert audit.counts(connection).readings == 3 * SAMPLES
    found = audit.compare(connection, [key for day in range(3) for key in keys(T0 + day * DAY + 5 * HOUR)])
    assert (found.promised, found.missing, found.twice) == (18, 0, 0)
    state = status(connection)
    assert state.columnstore is not None
    assert state.columnstore.chunks == 3
    assert state.columnstore.after < state.columnstore.before


def test_late_readings_go_in(packed: tuple[Connection, Writer]) -> None:
    connection, writer = packed
    done = writer.commit(Batch([pack(T0 + DAY + 5 * HOUR, 4.0, "flow")]))
    assert (done.stored, done.duplicates) == (6, 0)
    assert audit.compare(connection, keys(T0 + DAY + 5 * HOUR, "flow")).missing == 0


def test_a_repeat_is_known(packed: tuple[Connection, Writer]) -> None:
    connection, writer = packed
    done = writer.commit(Batch([pack(T0 + DAY + 5 * HOUR, 5.0), pack(T0 + DAY + 6 * HOUR, 6.0, "flow")]))
    assert (done.stored, done.duplicates) == (6, 6)
    assert audit.counts(connection).readings == audit.counts(connection).distinct_readings == 3 * SAMPLES + 6


def test_another_value_goes_to_quarantine(packed: tuple[Connection, Writer]) -> None:
    connection, writer = packed
    writer.commit(Batch([pack(T0 + DAY + 5 * HOUR, 77.0)]))
    counts = audit.counts(connection)
    assert counts.readings == 3 * SAMPLES
    assert sum(counts.quarantined.values()) == 1
    row = connection.execute("SELECT max(value) FROM reading").fetchone()
    assert row == (23.0,)


def test_the_aggregates_and_the_engines_reading_see_it(packed: tuple[Connection, Writer]) -> None:
    connection, writer = packed
    writer.commit(Batch([pack(T0 + DAY + 5 * HOUR, 4.0, "flow")]))
    aggregates.refresh(connection, T0 + 41 * DAY, None)
    row = connection.execute("SELECT count(*), sum(readings) FROM reading_daily").fetchone()
    assert row is not None
    assert (row[0], int(str(row[1]))) == (4, 3 * SAMPLES + 6)
    found = history.readings_since(connection, {PUMP.identity: T0 + DAY})
    assert len(found) == 2 * SAMPLES + 6


def test_too_old_chunks_go_whole(packed: tuple[Connection, Writer]) -> None:
    connection, _ = packed
    row = connection.execute("SELECT headworks_drop('reading', 'measured_at', %s, 100)", (moment(T0 + DAY),)).fetchone()
    assert row == (1,)
    assert audit.counts(connection).readings == 2 * SAMPLES
