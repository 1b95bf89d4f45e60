"""What the database needs regularly: aggregates brought up to date, what is too old taken out, each run written down.

One process at a time does it, whichever comes first. When to run, and in which thread, is the wiring's business
(`headworks.upkeep`); time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from devices.errors import UnavailableError
from devices.model import DAY, HOUR, MINUTE, Instant, moment
from storage import aggregates, outbox
from storage.database import Connection, first_line, unavailable

_LOCK = 0x55504B45  # "UPKE"
_AT_ONCE = 50_000
"""Rows that one statement deletes where there are no chunks to drop."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How many days each kind of data is kept; 0 is for ever. Aggregates and the alarm journal are always kept."""

    readings: int = 730
    """Two years: last year's season to compare with, and a backtest over it."""
    uplinks: int = 90
    """What came when and how: for finding faults of the radio, which nobody looks for after a quarter."""
    quarantine: int = 90
    """Time to mend a profile and decode again."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to do, and how often; `run` returns how many rows (or buckets, or chunks) it changed."""

    name: str
    interval: Instant
    run: Callable[[Connection, Instant, Keep], int]


def _aggregate(connection: Connection, now: Instant, keep: Keep) -> int:
    # What is too old to be all there must not be computed again from what is left; drops go by whole days.
    floor = None if keep.readings == 0 else -(-(now - keep.readings * DAY) // DAY) * DAY
    return aggregates.refresh(connection, now, floor)


def _retain(connection: Connection, now: Instant, keep: Keep) -> int:
    """Take out what is older than it is kept; readings only once they are in the aggregates."""
    count = 0
    if keep.readings:
        cutoff = moment(now - keep.readings * DAY)
        row = connection.execute("SELECT closed_to > %s FROM aggregate_state WHERE width = 'day'", (cutoff,)).fetchone()
        if row is not None and row[0]:
            count += _drop(connection, "reading", "measured_at", cutoff)
    if keep.uplinks:
        count += _drop(connection, "uplink", "received_at", moment(now - keep.uplinks * DAY))
    if keep.quarantine:
        count += _delete(connection, "quarantine", "received_at", moment(now - keep.quarantine * DAY))
    return count


def _columnstore(connection: Connection, _: Instant, __: Keep) -> int:
    """Turn it on where the server has come to offer it; TimescaleDB's own policy fills it."""
    row = connection.execute("SELECT headworks_columnstore()").fetchone()
    return int(bool(row and row[0]))


def _sweep(connection: Connection, now: Instant, _: Keep) -> int:
    """Take out what only serves the moment: delivered announcements, old runs, finished transactions."""
    count = outbox.sweep(connection)
    count += _delete(connection, "maintenance_run", "began_at", moment(now - 30 * DAY))
    done = connection.execute(
        "DELETE FROM commit_log WHERE committed_at < %s AND xid < (SELECT min(p) FROM ("
        " SELECT xid AS p FROM aggregate_state UNION ALL SELECT xid FROM engine_position"
        " UNION ALL SELECT xid FROM engine_memory_state) x)",
        (moment(now - 30 * DAY),),
    )
    return count + done.rowcount


TASKS = (
    Task("aggregates", MINUTE, _aggregate),
    Task("retention", HOUR, _retain),
    Task("columnstore", HOUR, _columnstore),
    Task("sweep", HOUR, _sweep),
)


def run(connection: Connection, task: Task, now: Instant, keep: Keep, seconds: Callable[[], float]) -> int | None:
    """Run a task and write down how it went; None where another process is at it. `seconds` is a clock for durations.

    `UnavailableError` passes through; any other error is in the record, and raised.
    """
    with unavailable():
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
        if not (row and row[0]):
            return None
        begin = seconds()
        try:
            count = task.run(connection, now, keep)
        except UnavailableError:
            raise
        except Exception as error:
            _record(connection, task.name, now, seconds() - begin, 0, first_line(error))
            raise
        else:
            _record(connection, task.name, now, seconds() - begin, count, None)
        finally:
            if not connection.closed:
                connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return count


def _record(connection: Connection, task: str, now: Instant, took: float, rows: int, error: str | None) -> None:
    connection.execute(
        "INSERT INTO maintenance_run (task, began_at, seconds, rows, error) VALUES (%s, %s, %s, %s, %s)",
        (task, moment(now), took, rows, error),
    )


def _drop(connection: Connection, table: str, column: str, cutoff: datetime) -> int:
    """Whole chunks where there are any, else rows in pieces."""
    count = 0
    while True:
        row = connection.execute("SELECT headworks_drop(%s, %s, %s, %s)", (table, column, cutoff, _AT_ONCE)).fetchone()
        done = int(str(row[0])) if row else 0
        count += done
        if done < _AT_ONCE:
            return count


def _delete(connection: Connection, table: str, column: str, cutoff: datetime) -> int:
    """In pieces, so that no lock and no transaction is long."""
    count = 0
    while True:
        done = connection.execute(
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("  # noqa: S608 - constants of this module
            f"SELECT ctid FROM {table} WHERE {column} < %s LIMIT %s))",
            (cutoff, _AT_ONCE),
        ).rowcount
        count += done
        if done < _AT_ONCE:
            return count


@dataclass(frozen=True, slots=True)
class LastRun:
    """How a task went last."""

    began_at: datetime
    seconds: float
    rows: int
    error: str | None


def last_runs(connection: Connection) -> Mapping[str, LastRun]:
    """By task."""
    with unavailable():
        rows = connection.execute(
            "SELECT DISTINCT ON (task) task, began_at, seconds, rows, error FROM maintenance_run"
            " ORDER BY task, began_at DESC"
        ).fetchall()
    return {str(task): LastRun(*rest) for task, *rest in rows}  # type: ignore[arg-type]  # the columns' types
