"""The commit path: one transaction for a batch's readings, uplink log, latest values and quarantine.

The normal way is a binary COPY. What was seen lately is looked up first; a key that is stored all the same makes the
server refuse the COPY, and then everything is looked up. What the server refuses for any other reason is found by
halving and put into quarantine alone. Nothing here decides what a reading is (`devices.normalize`) or when to commit
(`ingest.pipeline`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import errors

from devices.batch import Batch, Committed, QuarantineRecord, UplinkRecord
from devices.errors import UnavailableError
from devices.model import Reason, moment
from storage import latest, quarantine, uplink_log
from storage.database import Connection, connect, first_line, unavailable
from storage.packing import EMPTY, Columns, array_parameters, columns, copy_buffer, distinct
from storage.registry import sync_metrics

_COPY = "COPY reading (measured_at, device_id, metric_id, value, quality) FROM STDIN (FORMAT binary)"
# The columns of a batch as a set (`array_parameters`).
_ROWS = """
unnest(%(measured_at)s, %(device_id)s, %(metric_id)s, %(value)s, %(quality)s)
WITH ORDINALITY AS i(measured_at, device_id, metric_id, value, quality, ord)
"""
# The bounds let the planner leave out the chunks that cannot hold any of them.
_STORED = f"""
SELECT i.ord, r.value = i.value FROM {_ROWS}
JOIN reading r ON r.device_id = i.device_id AND r.metric_id = i.metric_id AND r.measured_at = i.measured_at
WHERE r.measured_at BETWEEN %(since)s AND %(until)s
"""  # noqa: S608 - constants of this module, as below
_INSERT = f"""
INSERT INTO reading (measured_at, device_id, metric_id, value, quality)
SELECT measured_at, device_id, metric_id, value, quality FROM {_ROWS} ON CONFLICT DO NOTHING
RETURNING device_id, metric_id, (extract(epoch FROM measured_at) * 1000000)::bigint
"""  # noqa: S608
_DRAINED = """
INSERT INTO spool_position (spool, position) VALUES (%s::uuid, %s)
ON CONFLICT (spool) DO UPDATE SET position = excluded.position, drained_at = now()
"""

_DEVICES = 500_000
"""Device numbers held; a fleet beyond that looks them up as they speak (3 µs each)."""

_DEADLOCKS = 20
"""Deadlocks after which a batch has to wait for its next turn."""

_Mark = tuple[str, int | None, int, int, int]


def _mark(record: UplinkRecord) -> _Mark:
    """By what an uplink that comes again is suspected: device, sequence number, span and size. Only a hint: the
    database says what is really there, so a sequence that begins anew after a reboot is not taken for a repeat."""
    readings = record.readings
    return record.device, record.sequence, readings[0].measured_at, readings[-1].measured_at, len(readings)


class _Seen:
    """A bounded memory of marks: at least the last `size` of them, at most twice as many."""

    def __init__(self, size: int = 50_000) -> None:
        self._size = size
        self._young: set[_Mark] = set()
        self._old: set[_Mark] = set()

    def __contains__(self, mark: _Mark) -> bool:
        return mark in self._young or mark in self._old

    def add(self, marks: Sequence[_Mark]) -> None:
        self._young.update(marks)
        if len(self._young) > self._size:
            self._old, self._young = self._young, set()


class _Way(Enum):
    """How a batch is stored; each way is tried when the one before met a key that is there already."""

    FAST = "fast"
    """Look up what was seen lately, COPY the rest."""
    ASK = "ask"
    """Look up everything, COPY the rest."""
    INSERT = "insert"
    """Insert with ON CONFLICT: another gateway writes the same keys just now."""


class Writer:
    """Commits batches over one connection of its own, which it opens when needed and again when it was lost.

    Not for several threads at once: each takes its own.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._metric_ids: dict[str, int] = {}
        self._device_ids: dict[str, int] = {}
        self._seen = _Seen()

    def commit(self, batch: Batch) -> Committed:
        """Store a batch durably: when this returns, it is committed.

        Raises `UnavailableError` where nothing was written and the same batch may succeed later. Everything else that
        goes wrong belongs to single uplinks, which end in quarantine (`Committed.refused`).
        """
        try:
            with unavailable():
                return self._commit(self._open(), batch)
        except UnavailableError:
            self.close()
            raise
        except psycopg.Error as error:
            # Neither "not now" nor about the data: a missing table or privilege. Refusing is right, discarding is not.
            self.close()
            raise UnavailableError(
                f"the database refuses to write: {first_line(error)}; try `headworks doctor`"
            ) from error

    def drained(self, spool: str) -> int:
        """Up to which position this database has a spool; 0 if it never heard of it. `UnavailableError` if away."""
        with unavailable():
            row = (
                self._open().execute("SELECT position FROM spool_position WHERE spool = %s::uuid", (spool,)).fetchone()
            )
        return int(str(row[0])) if row else 0

    def close(self) -> None:
        """Give the connection back; the next commit opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        # Numbers are looked up again after a reconnect: it may be another, restored database.
        self._metric_ids, self._device_ids = {}, {}

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url, application="headworks writer")
            self._metric_ids = sync_metrics(self._connection)
        return self._connection

    def _commit(self, connection: Connection, batch: Batch) -> Committed:
        """The ways from fast to sure; what the server refuses even then is found by halving."""
        ways = iter(_Way)
        way = next(ways)
        deadlocks = 0
        while True:
            try:
                return self._transact(connection, batch, way)
            except errors.UniqueViolation as error:
                following = next(ways, None)
                if following is None:
                    return self._divide(connection, batch, error)
                way = following
            except errors.DeadlockDetected:  # two gateways and the same devices in another order: one of them went on
                deadlocks += 1
                if deadlocks > _DEADLOCKS:
                    raise
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                return self._divide(connection, batch, error)

    def _divide(self, connection: Connection, batch: Batch, error: psycopg.Error) -> Committed:
        """Commit the halves of a batch that the server refused; a single uplink it refuses goes to quarantine."""
        if len(batch.uplinks) > 1:
            middle = len(batch.uplinks) // 2
            first = self._commit(connection, Batch(batch.uplinks[:middle], batch.quarantine))
            # The spool's mark goes with the last part: a crash in between repeats rather than skips.
            second = self._commit(connection, Batch(batch.uplinks[middle:], drained=batch.drained))
            return Committed(
                first.stored + second.stored,
                first.duplicates + second.duplicates,
                second.transaction,
                first.refused + second.refused,
                first.dropped + second.dropped,
            )
        if not batch.uplinks:
            raise error
        record = batch.uplinks[0]
        refused = QuarantineRecord(record.uplink, Reason.STORAGE_REFUSED, first_line(error), record.device)
        done = self._transact(connection, Batch([], [*batch.quarantine, refused], batch.drained), _Way.FAST)
        return Committed(transaction=done.transaction, refused=(refused,), dropped=done.dropped)

    def _transact(self, connection: Connection, batch: Batch, way: _Way) -> Committed:
        self._resolve(connection, batch.uplinks)
        unregistered = tuple(
            QuarantineRecord(record.uplink, Reason.UNKNOWN_DEVICE, "deleted from the registry meanwhile", record.device)
            for record in batch.uplinks
            if record.device not in self._device_ids
        )
        uplinks = (
            [record for record in batch.uplinks if record.device in self._device_ids] if unregistered else batch.uplinks
        )
        stored = duplicates = transaction = known = 0
        refused = unregistered
        with connection.transaction():
            repeats = uplink_log.repeated(connection, uplinks, self._device_ids)
            if repeats:
                known = sum(len(uplinks[index].readings) for index in repeats)
                uplinks = [record for index, record in enumerate(uplinks) if index not in repeats]
            marks = [_mark(record) for record in uplinks]
            if uplinks:
                batch_columns = columns(uplinks, self._device_ids, self._metric_ids)
                inside = distinct(batch_columns)
                rows = inside.rows
                fresh, same, differs = self._sort_out(connection, rows, marks, way)
                known_uplinks = np.concatenate([inside.repeats.uplink, same.uplink])
                with connection.cursor().copy(_COPY) as copy:
                    copy.write(copy_buffer(fresh) if way is not _Way.INSERT else EMPTY)
                    # The server is busy with the rows for a while: time to prepare what comes after them.
                    packs = latest.packs(fresh) if len(fresh) else None
                    entries = uplink_log.entries(uplinks, batch_columns, fresh.uplink, known_uplinks)
                if packs:
                    latest.advance(connection, packs)
                transaction = uplink_log.record(connection, entries)
                stored, duplicates = len(fresh), len(known_uplinks)
                conflicts = [*_conflicts(uplinks, inside.conflicts), *_conflicts(uplinks, differs)]
                refused = (*unregistered, *conflicts)
            kept = quarantine.keep(connection, [*batch.quarantine, *refused])
            if batch.drained:
                connection.execute(_DRAINED, batch.drained)
        self._seen.add(marks)
        return Committed(stored, duplicates + known, transaction, refused, kept.dropped)

    def _sort_out(
        self, connection: Connection, rows: Columns, marks: Sequence[_Mark], way: _Way
    ) -> tuple[Columns, Columns, Columns]:
        """Which rows are to be stored by COPY (or are, by the last way), which are there with the same value, and which
        with another."""
        suspect = (
            np.isin(rows.uplink, [index for index, mark in enumerate(marks) if mark in self._seen])
            if way is _Way.FAST
            else np.ones(len(rows), np.bool_)
        )
        same, differs = _stored(connection, rows, suspect)
        if way is not _Way.INSERT:
            return rows.take(~(same | differs)), rows.take(same), rows.take(differs)
        inserted_keys = set(connection.execute(_INSERT, array_parameters(rows)).fetchall())
        keys = zip(rows.device_id.tolist(), rows.metric_id.tolist(), rows.measured_at.tolist(), strict=True)
        inserted = np.fromiter((key in inserted_keys for key in keys), np.bool_, len(rows))
        _, differs = _stored(connection, rows, ~inserted)
        return rows.take(inserted), rows.take(~inserted & ~differs), rows.take(differs)

    def _resolve(self, connection: Connection, uplinks: Iterable[UplinkRecord]) -> None:
        missing = {record.device for record in uplinks} - self._device_ids.keys()
        if missing:
            if len(self._device_ids) > _DEVICES:
                self._device_ids.clear()
            rows = connection.execute(
                "SELECT identity, device_id FROM device WHERE identity = ANY(%s)", (sorted(missing),), binary=True
            )
            self._device_ids.update((str(identity), int(str(number))) for identity, number in rows)


def _stored(
    connection: Connection, rows: Columns, suspect: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which of the suspects are in the database with the same value, and which with another."""
    same, differs = np.zeros((2, len(rows)), np.bool_)
    places = np.flatnonzero(suspect)
    if len(places):
        asked = rows.take(places)
        bounds = {"since": moment(int(asked.measured_at.min())), "until": moment(int(asked.measured_at.max()))}
        for ord_, equal in connection.execute(_STORED, array_parameters(asked) | bounds).fetchall():
            (same if equal else differs)[places[int(str(ord_)) - 1]] = True
    return same, differs


def _conflicts(uplinks: Sequence[UplinkRecord], rows: Columns) -> list[QuarantineRecord]:
    """One quarantine record for each uplink that gives another value for a reading that is stored already."""
    found = []
    for index in np.unique(rows.uplink).tolist():
        record = uplinks[index]
        mine = rows.take(rows.uplink == index)
        detail = f"{len(mine)} of {len(record.readings)} readings, the first at {moment(int(mine.measured_at[0]))}"
        found.append(QuarantineRecord(record.uplink, Reason.CONFLICTING_VALUE, detail, record.device, len(mine)))
    return found
