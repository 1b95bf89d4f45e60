"""Counting what is stored, independently of the code that stored it: for the demo, the fault tests and the doctor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from devices.model import Instant
from storage.database import Connection, unavailable
from storage.packing import POSTGRES_EPOCH

Key = tuple[str, str, Instant]
"""(device identity, metric, sample time): what makes a reading that one and no other."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was promised to devices, against what is stored."""

    promised: int
    """Distinct keys that were acknowledged."""
    missing: int
    """Of these, the ones that are not stored: must be 0."""
    twice: int
    """Keys stored more than once: must be 0."""


def compare(connection: Connection, acknowledged: Iterable[Key]) -> Comparison:
    """Compare acknowledged keys with the hypertable, inside the database."""
    with unavailable(), connection.transaction(force_rollback=True):
        connection.execute("CREATE TEMP TABLE promise (identity text, metric text, measured_at timestamptz)")
        with connection.cursor().copy("COPY promise FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["text", "text", "int8"])  # what a time is in binary
            for identity, metric, at in acknowledged:
                copy.write_row((identity, metric, at - POSTGRES_EPOCH))
        # What is stored is read once, in whole chunks: looked up key by key it takes three times as long.
        connection.execute(
            "CREATE TEMP TABLE stored AS SELECT device_id, metric_id, measured_at, count(*) AS times FROM reading"
            " WHERE measured_at BETWEEN (SELECT min(measured_at) FROM promise)"
            "  AND (SELECT max(measured_at) FROM promise) GROUP BY 1, 2, 3"
        )
        connection.execute("ANALYZE promise, stored")
        row = connection.execute(
            "WITH p AS (SELECT DISTINCT * FROM promise)"
            " SELECT count(*), count(*) FILTER (WHERE s.times IS NULL), count(*) FILTER (WHERE s.times > 1)"
            " FROM p LEFT JOIN device d USING (identity) LEFT JOIN metric m ON m.name = p.metric"
            " LEFT JOIN stored s ON s.device_id = d.device_id AND s.metric_id = m.metric_id"
            "  AND s.measured_at = p.measured_at"
        ).fetchone()
    assert row is not None
    promised, missing, twice = (int(str(number)) for number in row)
    return Comparison(promised, missing, twice)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is stored."""

    readings: int
    distinct_readings: int
    uplinks: int
    quarantined: dict[str, int]


def counts(connection: Connection) -> Counts:
    """Count everything; reads all readings, so it is for small databases."""
    with unavailable():
        row = connection.execute(
            "SELECT (SELECT count(*) FROM reading),"
            " (SELECT count(*) FROM (SELECT DISTINCT device_id, metric_id, measured_at FROM reading) d),"
            " (SELECT count(*) FROM uplink)"
        ).fetchone()
    assert row is not None
    readings, distinct, uplinks = (int(str(number)) for number in row)
    return Counts(readings, distinct, uplinks, quarantined(connection))


def quarantined(connection: Connection) -> dict[str, int]:
    """Quarantine records by reason; cheap at any size of the hypertable."""
    with unavailable():
        rows = connection.execute("SELECT reason, count(*) FROM quarantine GROUP BY 1 ORDER BY 1").fetchall()
    return {str(reason): int(str(number)) for reason, number in rows}


def judged_up_to_date(connection: Connection) -> bool:
    """Whether the live engine has judged every uplink that is committed."""
    with unavailable():
        row = connection.execute(
            "SELECT coalesce("
            " (SELECT max(xid) FROM commit_log) < (SELECT xid FROM engine_position WHERE consumer = 'live'),"
            " NOT EXISTS (SELECT FROM commit_log))"
        ).fetchone()
    return bool(row and row[0])


def readings_logged(connection: Connection) -> int:
    """Readings stored so far, by the commit log: cheap enough to show twice a second."""
    with unavailable():
        row = connection.execute("SELECT coalesce(sum(readings), 0) FROM commit_log").fetchone()
    return int(str(row[0])) if row else 0
