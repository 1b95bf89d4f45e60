"""Keeps the hourly and daily aggregates up to date, late readings included, by what the uplink log says has changed.

Three steps, each in short transactions that may be interrupted anywhere: mark the buckets that got readings, compute
those that are closed, and then move the line up to which the views read the stored part. Readings are never changed, so
computing a bucket twice does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from devices.model import DAY, HOUR, Instant, instant, moment
from storage.database import Connection, unavailable
from storage.packing import binary_array

OPEN_HOURS: Instant = 2 * HOUR
"""How long a bucket stays open after its end: what comes within that is never missing from the views, not for a moment.
Most NB-IoT uplinks are minutes to an hour late."""
AT_ONCE = 5_000
"""Buckets of devices that one transaction computes."""

# Metrics are taken from the newest values, so that the index on (device, metric, time) is entered at the right place.
# OFFSET 0 keeps it so: of new tables the planner thinks that few rows come out of such a subquery, and where it is free
# to join two, it computes the second once for each row of the first (a minute, not a second, for 1,000 devices).
_HOURS = """
INSERT INTO hourly_store (bucket, device_id, metric_id, min_value, max_value, sum_value, readings, p95_value)
SELECT d.bucket, d.device_id, m.metric_id, min(v.value), max(v.value), sum(v.value), count(*),
       percentile_disc(0.95) WITHIN GROUP (ORDER BY v.value)
FROM unnest(%(device)s::int[], %(bucket)s::timestamptz[]) AS d(device_id, bucket)
JOIN latest_pack p ON p.device_id = d.device_id CROSS JOIN LATERAL unnest(p.metric_id) AS m(metric_id)
CROSS JOIN LATERAL (
    SELECT value FROM reading r
    WHERE r.device_id = d.device_id AND r.metric_id = m.metric_id AND r.quality = 192
      AND r.measured_at >= d.bucket AND r.measured_at < d.bucket + %(width)s
      AND r.measured_at >= %(first)s AND r.measured_at < %(last)s
    OFFSET 0
) v
GROUP BY 1, 2, 3
ON CONFLICT (device_id, metric_id, bucket) DO UPDATE SET
    (min_value, max_value, sum_value, readings, p95_value) =
    (excluded.min_value, excluded.max_value, excluded.sum_value, excluded.readings, excluded.p95_value)
"""
_DAYS = """
INSERT INTO daily_store (bucket, device_id, metric_id, min_value, max_value, sum_value, readings, p95_value)
SELECT h.bucket, h.device_id, h.metric_id, h.min_value, h.max_value, h.sum_value, h.readings,
    (SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY r.value) FROM reading r
     WHERE r.device_id = h.device_id AND r.metric_id = h.metric_id AND r.quality = 192
       AND r.measured_at >= h.bucket AND r.measured_at < h.bucket + %(width)s
       AND r.measured_at >= %(first)s AND r.measured_at < %(last)s)
FROM (
    SELECT d.bucket, d.device_id, s.metric_id, min(s.min_value) AS min_value, max(s.max_value) AS max_value,
           sum(s.sum_value) AS sum_value, sum(s.readings) AS readings
    FROM unnest(%(device)s::int[], %(bucket)s::timestamptz[]) AS d(device_id, bucket)
    JOIN latest_pack p ON p.device_id = d.device_id CROSS JOIN LATERAL unnest(p.metric_id) AS m(metric_id)
    JOIN hourly_store s ON s.device_id = d.device_id AND s.metric_id = m.metric_id AND s.bucket >= d.bucket
        AND s.bucket < d.bucket + %(width)s AND s.bucket >= %(first)s AND s.bucket < %(last)s
    GROUP BY 1, 2, 3
) h
ON CONFLICT (device_id, metric_id, bucket) DO UPDATE SET
    (min_value, max_value, sum_value, readings, p95_value) =
    (excluded.min_value, excluded.max_value, excluded.sum_value, excluded.readings, excluded.p95_value)
"""
_MARK = """
INSERT INTO aggregate_due (width, bucket, device_id)
SELECT DISTINCT w.name, b.bucket, u.device_id
FROM uplink u CROSS JOIN (VALUES ('hour', interval '1 hour'), ('day', interval '1 day')) AS w(name, width)
CROSS JOIN LATERAL generate_series(time_bucket(w.width, u.first_measured_at), u.last_measured_at, w.width) AS b(bucket)
WHERE u.received_at BETWEEN %(since)s AND %(until)s AND u.readings > 0
  AND u.xid >= %(position)s::text::xid8 AND u.xid < %(watermark)s::text::xid8
ON CONFLICT DO NOTHING
"""
_TAKE = """
DELETE FROM aggregate_due a USING (
    SELECT width, bucket, device_id FROM aggregate_due
    WHERE width = %(name)s AND bucket < %(close_to)s ORDER BY bucket, device_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
) t WHERE a.width = t.width AND a.bucket = t.bucket AND a.device_id = t.device_id
RETURNING a.bucket, a.device_id
"""


@dataclass(frozen=True, slots=True)
class Width:
    """One aggregate: its name, its width, where it is stored, and the statement that computes its buckets."""

    name: str
    width: Instant
    store: str
    statement: str


WIDTHS = (Width("hour", HOUR, "hourly_store", _HOURS), Width("day", DAY, "daily_store", _DAYS))


def refresh(connection: Connection, now: Instant, floor: Instant | None = None) -> int:
    """Bring the aggregates up to date as of `now`; returns how many buckets of devices were computed.

    `floor` is the oldest moment whose readings are still all there: a bucket before it that was computed once, when it
    was whole, stays as it is.
    """
    with unavailable():
        mark(connection)
        computed = 0
        for width in WIDTHS:
            close_to = (now - OPEN_HOURS) // width.width * width.width
            while count := _compute(connection, width, close_to, floor):
                computed += count
            connection.execute(
                "UPDATE aggregate_state SET closed_to = %s WHERE width = %s AND closed_to < %s",
                (moment(close_to), width.name, moment(close_to)),
            )
    return computed


def mark(connection: Connection) -> None:
    """Mark the buckets that the uplinks since the last time have touched, and remember up to where that is."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        found = connection.execute(
            "SELECT transaction_number(pg_snapshot_xmin(pg_current_snapshot()))::text, s.xid::text,"
            " min(c.first_received_at), max(c.last_received_at)"
            " FROM aggregate_state s LEFT JOIN commit_log c ON c.xid >= s.xid WHERE s.width = 'hour' GROUP BY 2"
        ).fetchone()
        assert found is not None
        watermark, position, since, until = found
        if since is not None:
            connection.execute(_MARK, {"since": since, "until": until, "position": position, "watermark": watermark})
        connection.execute("UPDATE aggregate_state SET xid = %s::text::xid8", (watermark,))


def _compute(connection: Connection, width: Width, close_to: Instant, floor: Instant | None) -> int:
    """Compute some of the buckets that are due and closed; returns how many were taken."""
    with connection.transaction():
        taken = connection.execute(
            _TAKE, {"name": width.name, "close_to": moment(close_to), "limit": AT_ONCE}
        ).fetchall()
        whole = [(_at(bucket), int(str(device))) for bucket, device in taken]
        if floor is not None and any(at < floor for at, _ in whole):
            known = _computed(connection, width, [entry for entry in whole if entry[0] < floor])
            whole = [entry for entry in whole if entry not in known]
        if whole:
            first = min(at for at, _ in whole)
            last = max(at for at, _ in whole) + width.width
            connection.execute(
                width.statement,
                {
                    **_arrays(whole),
                    "width": timedelta(microseconds=width.width),
                    "first": moment(first),
                    "last": moment(last),
                },
            )
    return len(taken)


def _computed(connection: Connection, width: Width, buckets: list[tuple[Instant, int]]) -> set[tuple[Instant, int]]:
    """Those of the buckets that are in the store."""
    rows = connection.execute(
        "SELECT d.bucket, d.device_id"  # noqa: S608 - a constant of this module
        " FROM unnest(%(device)s::int[], %(bucket)s::timestamptz[]) AS d(device_id, bucket)"
        f" WHERE EXISTS (SELECT FROM {width.store} s WHERE s.device_id = d.device_id AND s.bucket = d.bucket)",
        _arrays(buckets),
    ).fetchall()
    return {(_at(bucket), int(str(device))) for bucket, device in rows}


def _arrays(buckets: list[tuple[Instant, int]]) -> dict[str, object]:
    return {
        "device": binary_array("int4", np.array([device for _, device in buckets], np.int32)),
        "bucket": binary_array("timestamptz", np.array([at for at, _ in buckets], np.int64)),
    }


def _at(value: object) -> Instant:
    assert isinstance(value, datetime)
    return instant(value)
