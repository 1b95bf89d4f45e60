"""The commit path: one transaction for a batch's readings, uplink log, latest values and quarantine.

The normal way is a binary COPY. A reading that is stored already makes the server refuse it; then the same batch goes
through a conflict-tolerant insert. What the server refuses for any other reason is found by halving and put into
quarantine alone. Nothing here decides what a reading is (`devices.normalize`) or when to commit (`ingest.pipeline`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import errors

from devices.batch import Batch, Committed, QuarantineRecord, UplinkRecord
from devices.errors import UnavailableError
from devices.model import Reason, moment
from storage.database import Connection, connect, first_line, unavailable
from storage.packing import Columns, array_parameters, binary_array, columns, copy_buffer, distinct, newest
from storage.registry import find, sync_metrics

_COPY = "COPY reading (measured_at, device_id, metric_id, value, quality) FROM STDIN (FORMAT binary)"

# The columns of a batch as a set (`array_parameters`).
_ROWS = """
unnest(%(measured_at)s, %(device_id)s, %(metric_id)s, %(value)s, %(quality)s)
WITH ORDINALITY AS i(measured_at, device_id, metric_id, value, quality, ord)
"""
_CONFLICTS = f"""
SELECT i.ord, r.value FROM {_ROWS}
JOIN reading r ON r.device_id = i.device_id AND r.metric_id = i.metric_id AND r.measured_at = i.measured_at
WHERE r.value <> i.value
"""  # noqa: S608 - constants of this module, as below
_INSERT = f"""
INSERT INTO reading (measured_at, device_id, metric_id, value, quality)
SELECT measured_at, device_id, metric_id, value, quality FROM {_ROWS} ON CONFLICT DO NOTHING
RETURNING device_id, metric_id, (extract(epoch FROM measured_at) * 1000000)::bigint
"""  # noqa: S608
_LATEST = f"""
INSERT INTO latest (measured_at, device_id, metric_id, value, quality)
SELECT measured_at, device_id, metric_id, value, quality FROM {_ROWS}
ON CONFLICT (device_id, metric_id) DO UPDATE
SET measured_at = excluded.measured_at, value = excluded.value, quality = excluded.quality
WHERE excluded.measured_at > latest.measured_at
"""  # noqa: S608
# The same as a join: two thirds of the upsert's cost, but two writers that insert the same row collide. Then the batch
# goes the tolerant way.
_LATEST_FAST = f"""
MERGE INTO latest l USING (SELECT * FROM {_ROWS}) i ON l.device_id = i.device_id AND l.metric_id = i.metric_id
WHEN MATCHED AND i.measured_at > l.measured_at THEN
    UPDATE SET measured_at = i.measured_at, value = i.value, quality = i.quality
WHEN NOT MATCHED THEN
    INSERT (measured_at, device_id, metric_id, value, quality)
    VALUES (i.measured_at, i.device_id, i.metric_id, i.value, i.quality)
"""  # noqa: S608
# -1 stands for "no sequence number" and 1970 for "not sent_at": arrays without nulls pack faster.
_UPLINKS = """
INSERT INTO uplink (received_at, device_id, transport, sequence, sent_at, first_measured_at, last_measured_at,
                    readings, duplicates)
SELECT received_at, device_id, transport, nullif(sequence, -1), nullif(sent_at, 'epoch'), first_at, last_at,
       readings, duplicates
FROM unnest(%(received_at)s, %(device_id)s, %(transport)s::text[], %(sequence)s, %(sent_at)s, %(first_at)s,
            %(last_at)s, %(readings)s, %(duplicates)s)
     AS u(received_at, device_id, transport, sequence, sent_at, first_at, last_at, readings, duplicates)
"""
_QUARANTINE = """
INSERT INTO quarantine (received_at, reason, detail, identity, transport, source, content_format, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
_DRAINED = """
INSERT INTO spool_position (spool, position) VALUES (%s::uuid, %s)
ON CONFLICT (spool) DO UPDATE SET position = excluded.position, drained_at = now()
"""


class Writer:
    """Commits batches over one connection of its own, which it opens when needed and again when it was lost.

    Not for several threads at once: each takes its own.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._metric_ids: dict[str, int] = {}
        self._device_ids: dict[str, int] = {}

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
        """Fast way, then tolerant way, then halves."""
        try:
            try:
                return self._transact(connection, batch, tolerant=False)
            except errors.UniqueViolation:
                return self._transact(connection, batch, tolerant=True)
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
            )
        if not batch.uplinks:
            raise error
        record = batch.uplinks[0]
        refused = QuarantineRecord(record.uplink, Reason.STORAGE_REFUSED, first_line(error), record.device)
        done = self._transact(connection, Batch([], [*batch.quarantine, refused], batch.drained), tolerant=False)
        return Committed(transaction=done.transaction, refused=(refused,))

    def _transact(self, connection: Connection, batch: Batch, *, tolerant: bool) -> Committed:
        self._resolve(connection, batch.uplinks)
        unregistered = tuple(
            QuarantineRecord(record.uplink, Reason.UNKNOWN_DEVICE, "deleted from the registry meanwhile", record.device)
            for record in batch.uplinks
            if record.device not in self._device_ids
        )
        uplinks = (
            [record for record in batch.uplinks if record.device in self._device_ids] if unregistered else batch.uplinks
        )
        stored = duplicates = transaction = 0
        refused = unregistered
        with connection.transaction():
            if uplinks:
                batch_columns = columns([record.readings for record in uplinks], self._device_ids, self._metric_ids)
                sorted_out = distinct(batch_columns)
                fresh, known, conflicting = sorted_out.rows, sorted_out.repeats, sorted_out.conflicts
                if tolerant:
                    fresh, stored_before, conflicting_before = _insert(connection, fresh)
                    known_uplinks = np.concatenate([known.uplink, stored_before.uplink])
                    conflicts = [*_conflicts(uplinks, conflicting), *_conflicts(uplinks, conflicting_before)]
                else:
                    with connection.cursor().copy(_COPY) as copy:
                        copy.write(copy_buffer(fresh))
                    known_uplinks = known.uplink
                    conflicts = _conflicts(uplinks, conflicting)
                if len(fresh):
                    connection.execute(_LATEST if tolerant else _LATEST_FAST, array_parameters(newest(fresh)))
                transaction = _log_uplinks(connection, uplinks, batch_columns, fresh.uplink, known_uplinks)
                stored, duplicates = len(fresh), len(known_uplinks)
                refused = (*unregistered, *conflicts)
            _quarantine(connection, [*batch.quarantine, *refused])
            if batch.drained:
                connection.execute(_DRAINED, batch.drained)
        return Committed(stored, duplicates, transaction, refused)

    def _resolve(self, connection: Connection, uplinks: Iterable[UplinkRecord]) -> None:
        missing = {record.device for record in uplinks} - self._device_ids.keys()
        if missing:
            found = find(connection, sorted(missing))
            self._device_ids.update({identity: entry.device_id for identity, entry in found.items()})


def _insert(connection: Connection, rows: Columns) -> tuple[Columns, Columns, Columns]:
    """Insert what is not there yet: (inserted, there with the same value, there with another value)."""
    conflicts = connection.execute(_CONFLICTS, array_parameters(rows)).fetchall()
    differs = np.zeros(len(rows), np.bool_)
    differs[[int(str(ord_)) - 1 for ord_, _ in conflicts]] = True
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, array_parameters(rows))
        inserted_keys = set(cursor.fetchall())
    keys = zip(rows.device_id.tolist(), rows.metric_id.tolist(), rows.measured_at.tolist(), strict=True)
    inserted = np.fromiter((key in inserted_keys for key in keys), np.bool_, len(rows))
    return rows.take(inserted), rows.take(~inserted & ~differs), rows.take(differs)


def _conflicts(uplinks: Sequence[UplinkRecord], rows: Columns) -> list[QuarantineRecord]:
    """One quarantine record for each uplink that gives another value for a reading that is stored already."""
    found = []
    for index in np.unique(rows.uplink).tolist():
        record = uplinks[index]
        mine = rows.take(rows.uplink == index)
        detail = f"{len(mine)} of {len(record.readings)} readings, the first at {moment(int(mine.measured_at[0]))}"
        found.append(QuarantineRecord(record.uplink, Reason.CONFLICTING_VALUE, detail, record.device, len(mine)))
    return found


def _log_uplinks(
    connection: Connection,
    uplinks: Sequence[UplinkRecord],
    batch: Columns,
    stored: npt.NDArray[np.int32],
    duplicates: npt.NDArray[np.int32],
) -> int:
    """Write the uplink log; `batch` is in order of arrival.

    Returns the transaction's number, by which followers know how far they have read.
    """
    count = len(uplinks)
    starts = np.searchsorted(batch.uplink, np.arange(count, dtype=np.int32))
    sent_at = [record.sent_at or 0 for record in uplinks]
    sequence = [-1 if record.sequence is None else record.sequence for record in uplinks]
    received_at = [record.uplink.received_at for record in uplinks]
    connection.execute(
        _UPLINKS,
        {
            "received_at": binary_array("timestamptz", np.array(received_at, np.int64)),
            "device_id": binary_array("int4", batch.device_id[starts]),
            "transport": [record.transport.value for record in uplinks],
            "sequence": binary_array("int8", np.array(sequence, np.int64)),
            "sent_at": binary_array("timestamptz", np.array(sent_at, np.int64)),
            "first_at": binary_array("timestamptz", np.minimum.reduceat(batch.measured_at, starts)),
            "last_at": binary_array("timestamptz", np.maximum.reduceat(batch.measured_at, starts)),
            "readings": binary_array("int4", np.bincount(stored, minlength=count)),
            "duplicates": binary_array("int4", np.bincount(duplicates, minlength=count)),
        },
    )
    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return int(str(row[0]))


def _quarantine(connection: Connection, records: Sequence[QuarantineRecord]) -> None:
    if not records:
        return
    rows = [
        (
            moment(record.uplink.received_at),
            record.reason.value,
            _clean(record.detail),
            None if record.identity is None else _clean(record.identity),
            record.uplink.transport.value,
            _clean(record.uplink.source),
            record.uplink.content_format,
            record.uplink.payload,
        )
        for record in records
    ]
    connection.cursor().executemany(_QUARANTINE, rows)


def _clean(text: str) -> str:
    """A text that came from outside as PostgreSQL can store it: no NUL, no lone surrogates, bounded."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:1000]
