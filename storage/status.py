"""What the database holds and how it fares, for people: `headworks storage status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from storage.database import Connection, Edition, Server, server, unavailable
from storage.maintenance import LastRun, last_runs

TABLES = (
    "reading", "uplink", "hourly_store", "daily_store", "latest_pack", "quarantine", "alarm", "alarm_event",
    "commit_log", "device", "engine_memory",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """Sizes in bytes with indexes; rows are the planner's estimate. Chunks only where the table has some."""

    name: str
    rows: int
    bytes: int
    chunks: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Columnstore:
    """The readings' chunks in it: their bytes as rows, and now."""

    chunks: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Status:
    """All of it at one moment."""

    server: Server
    bytes: int
    tables: list[Table]
    bytes_per_reading: float | None
    columnstore: Columnstore | None
    """None where the server has none."""
    closed_to: Mapping[str, datetime | None]
    """Up to where the aggregates are stored, by their width; None where nothing is yet."""
    due: int
    """Buckets of devices that wait to be computed."""
    spooled: Mapping[str, datetime]
    """Spools that were drained into this database, and when last."""
    runs: Mapping[str, LastRun]


def status(connection: Connection) -> Status:
    """Ask for all of it; cheap at any size."""
    with unavailable():
        found = server(connection)
        hypertables = _hypertables(connection) if found.edition is not Edition.PLAIN else set()
        tables = [_table(connection, name, hyper=name in hypertables) for name in TABLES]
        columnstore = _columnstore(connection) if found.edition is Edition.COMMUNITY else None
        (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
        (due,) = connection.execute("SELECT count(*) FROM aggregate_due").fetchone() or (0,)
        closed = connection.execute(
            "SELECT width, CASE WHEN isfinite(closed_to) THEN closed_to END FROM aggregate_state ORDER BY width DESC"
        ).fetchall()
        spooled = connection.execute("SELECT spool::text, drained_at FROM spool_position ORDER BY 2").fetchall()
    reading = tables[0]
    return Status(
        found,
        int(str(size)),
        tables,
        reading.bytes / reading.rows if reading.rows > 0 else None,
        columnstore,
        {str(width): at for width, at in closed},  # type: ignore[misc]  # the column's type
        int(str(due)),
        {str(spool): at for spool, at in spooled},  # type: ignore[misc]
        last_runs(connection),
    )


def _hypertables(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema()"
    ).fetchall()
    return {str(name) for (name,) in rows}


def _columnstore(connection: Connection) -> Columnstore:
    row = connection.execute(
        "SELECT coalesce(sum(number_compressed_chunks), 0), coalesce(sum(before_compression_total_bytes), 0),"
        " coalesce(sum(after_compression_total_bytes), 0) FROM hypertable_compression_stats('reading')"
    ).fetchone()
    assert row is not None
    chunks, before, after = row
    return Columnstore(int(str(chunks)), int(str(before)), int(str(after)))


def _table(connection: Connection, name: str, *, hyper: bool) -> Table:
    if hyper:
        row = connection.execute(
            "SELECT approximate_row_count(%(t)s::text::regclass), hypertable_size(%(t)s::text::regclass), count(*),"
            " min(range_start), max(range_end) FROM timescaledb_information.chunks"
            " WHERE hypertable_name = %(t)s::text AND hypertable_schema = current_schema()",
            {"t": name},
        ).fetchone()
        assert row is not None
        rows, size, chunks, oldest, newest = row
        return Table(name, int(str(rows)), int(str(size)), int(str(chunks)), oldest, newest)  # type: ignore[arg-type]
    row = connection.execute(
        "SELECT greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) FROM pg_class WHERE oid = %s::regclass",
        (name,),
    ).fetchone()
    assert row is not None
    return Table(name, int(str(row[0])), int(str(row[1])))
