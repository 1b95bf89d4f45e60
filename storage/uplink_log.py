"""The uplink log: one row a device and uplink, and one a transaction, by which followers find what is new.

`storage.history.changed` reads it; here it is written, in the transaction of the readings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devices.batch import UplinkRecord
from devices.model import DAY, moment
from storage.database import Connection
from storage.packing import NULL, Columns, copy_rows

_COPY = """
COPY uplink (received_at, device_id, transport, sequence, sent_at, clock_offset, first_measured_at, last_measured_at,
             readings, duplicates) FROM STDIN (FORMAT binary)
"""
# What a device with a wrong clock sends again has other times after the repair: it is known by what it said itself.
_REPEATED = """
SELECT i.ord FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[], %s::int[])
    WITH ORDINALITY AS i(device_id, sent_at, first_said, readings, ord)
WHERE EXISTS (
    SELECT FROM uplink u WHERE u.device_id = i.device_id AND u.received_at > %s AND u.clock_offset IS NOT NULL
    AND u.sent_at IS NOT DISTINCT FROM i.sent_at AND u.readings + u.duplicates = i.readings
    AND u.first_measured_at - u.clock_offset * interval '1 microsecond' = i.first_said)
"""
_REPEAT_WITHIN = 7 * DAY

_COMMIT = """
INSERT INTO commit_log (first_received_at, last_received_at, first_measured_at, last_measured_at, uplinks, readings,
                        duplicates)
VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING xid::text
"""


@dataclass(frozen=True, slots=True)
class Entries:
    """The rows of a batch's uplinks, ready to be sent: the stream for the uplink log, the row for the commit log."""

    stream: bytes
    summary: tuple[object, ...]


def entries(
    uplinks: Sequence[UplinkRecord],
    batch: Columns,
    stored: npt.NDArray[np.int32],
    duplicates: npt.NDArray[np.int32],
) -> Entries:
    """Prepare the rows; `batch` is in order of arrival, `stored` and `duplicates` say from which uplink each such
    reading is."""
    count = len(uplinks)
    starts = np.searchsorted(batch.uplink, np.arange(count, dtype=np.int32))
    received_at = np.array([entry.uplink.received_at for entry in uplinks], np.int64)
    first_at = np.minimum.reduceat(batch.measured_at, starts)
    last_at = np.maximum.reduceat(batch.measured_at, starts)
    stream = copy_rows(
        [
            ("timestamptz", received_at),
            ("int4", batch.device_id[starts]),
            ("text", np.array([entry.transport.value for entry in uplinks], np.bytes_)),
            ("int8", np.array([NULL if entry.sequence is None else entry.sequence for entry in uplinks], np.int64)),
            (
                "timestamptz",
                np.array([NULL if entry.sent_at is None else entry.sent_at for entry in uplinks], np.int64),
            ),
            ("int8", np.array([entry.clock_offset or NULL for entry in uplinks], np.int64)),
            ("timestamptz", first_at),
            ("timestamptz", last_at),
            ("int4", np.bincount(stored, minlength=count)),
            ("int4", np.bincount(duplicates, minlength=count)),
        ]
    )
    span = (received_at.min(), received_at.max(), first_at.min(), last_at.max())
    return Entries(stream, (*(moment(int(at)) for at in span), count, len(stored), len(duplicates)))


def record(connection: Connection, prepared: Entries) -> int:
    """Write the rows; returns the transaction's number, by which followers know how far they have read."""
    with connection.cursor().copy(_COPY) as copy:
        copy.write(prepared.stream)
    row = connection.execute(_COMMIT, prepared.summary, prepare=True).fetchone()
    assert row is not None
    return int(str(row[0]))


def repeated(connection: Connection, uplinks: Sequence[UplinkRecord], device_ids: Mapping[str, int]) -> set[int]:
    """The places of those uplinks with a repaired clock that were stored before, or stand twice among these."""
    found: set[int] = set()
    said: dict[tuple[int, int | None, int, int], int] = {}
    for index, entry in enumerate(uplinks):
        if entry.clock_offset:
            first = min(reading.measured_at for reading in entry.readings) - entry.clock_offset
            key = (device_ids[entry.device], entry.sent_at, first, len(entry.readings))
            if key in said:
                found.add(index)
            said.setdefault(key, index)
    if not said:
        return found
    keys = list(said)
    rows = connection.execute(
        _REPEATED,
        (
            [key[0] for key in keys],
            [None if key[1] is None else moment(key[1]) for key in keys],
            [moment(key[2]) for key in keys],
            [key[3] for key in keys],
            moment(min(uplinks[index].uplink.received_at for index in said.values()) - _REPEAT_WITHIN),
        ),
    ).fetchall()
    return found | {said[keys[int(str(place)) - 1]] for (place,) in rows}
