"""The newest value of each metric of a device: one row a device, advanced in the transaction of its readings.

It never goes back in time, in whatever order uplinks come and however many gateways write. Readers use the view
`latest`; the table behind it (`latest_pack`) is nobody else's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.database import Connection
from storage.packing import BinaryArray, Columns, array_parameters, binary_array, newest

# A device's usual uplink: the metrics that stand first in its row, all of them newer than anything there. Then their
# part of the arrays is replaced without looking into it. Whatever is not that comes back as not updated.
_ADVANCE = """
UPDATE latest_pack p SET
    newest = i.newest, measured_at[1:i.count] = i.measured_at, value[1:i.count] = i.value,
    quality[1:i.count] = i.quality
FROM (
    SELECT device_id, oldest, newest, last - first + 1 AS count,
           (%(metric_id)s::int2[])[first:last] AS metric_id,
           (%(measured_at)s::timestamptz[])[first:last] AS measured_at,
           (%(value)s::float8[])[first:last] AS value, (%(quality)s::int2[])[first:last] AS quality
    FROM unnest(%(device_id)s, %(first)s, %(last)s, %(oldest)s, %(newest)s) AS d(device_id, first, last, oldest, newest)
    OFFSET 0
) i
WHERE p.device_id = i.device_id AND p.newest < i.oldest AND p.metric_id[1:i.count] = i.metric_id
RETURNING p.device_id
"""
# Everything else: a new device, other metrics than last time, late samples. What came now stands first afterwards. A
# row that another gateway creates meanwhile is not touched and not returned: the caller asks again.
_MERGE = """
WITH came AS (
    SELECT * FROM unnest(%(device_id)s, %(metric_id)s, %(measured_at)s, %(value)s, %(quality)s)
        AS i(device_id, metric_id, measured_at, value, quality)
), held AS (
    SELECT * FROM latest_pack WHERE device_id IN (SELECT device_id FROM came) ORDER BY device_id FOR UPDATE
), both_sides AS (
    SELECT device_id, metric_id, measured_at, value, quality, 1 AS came FROM came
    UNION ALL
    SELECT h.device_id, u.*, 0 FROM held h, unnest(h.metric_id, h.measured_at, h.value, h.quality) u
), merged AS (
    SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, measured_at, value, quality,
           max(came) OVER (PARTITION BY device_id, metric_id) AS came
    FROM both_sides ORDER BY device_id, metric_id, measured_at DESC
), packed AS (
    SELECT device_id, max(measured_at) AS newest, array_agg(metric_id ORDER BY came DESC, metric_id) AS metric_id,
           array_agg(measured_at ORDER BY came DESC, metric_id) AS measured_at,
           array_agg(value ORDER BY came DESC, metric_id) AS value,
           array_agg(quality ORDER BY came DESC, metric_id) AS quality,
           device_id IN (SELECT device_id FROM held) AS held
    FROM merged GROUP BY device_id
), updated AS (
    UPDATE latest_pack p SET newest = i.newest, metric_id = i.metric_id, measured_at = i.measured_at, value = i.value,
                             quality = i.quality
    FROM packed i WHERE i.held AND p.device_id = i.device_id RETURNING p.device_id
), inserted AS (
    INSERT INTO latest_pack (device_id, newest, metric_id, measured_at, value, quality)
    SELECT device_id, newest, metric_id, measured_at, value, quality FROM packed WHERE NOT held
    ON CONFLICT DO NOTHING RETURNING device_id
)
SELECT device_id FROM updated UNION ALL SELECT device_id FROM inserted
"""


@dataclass(frozen=True, slots=True)
class Packs:
    """The newest reading of each metric of each device of a batch, ready to be sent."""

    rows: Columns
    parameters: dict[str, BinaryArray]


def packs(rows: Columns) -> Packs:
    """Prepare readings in key order (`packing.distinct`); at least one."""
    last = newest(rows)
    # Where each device's part of the columns is.
    first = np.flatnonzero(np.r_[True, last.device_id[1:] != last.device_id[:-1]])
    parameters = array_parameters(last) | {
        "device_id": binary_array("int4", last.device_id[first]),
        "first": binary_array("int4", first + 1),
        "last": binary_array("int4", np.r_[first[1:], len(last)]),
        "oldest": binary_array("timestamptz", np.minimum.reduceat(last.measured_at, first)),
        "newest": binary_array("timestamptz", np.maximum.reduceat(last.measured_at, first)),
    }
    return Packs(last, parameters)


def advance(connection: Connection, prepared: Packs) -> None:
    """Bring the newest values up to date."""
    done = connection.execute(_ADVANCE, prepared.parameters, prepare=True).fetchall()
    pending = prepared.rows
    while True:
        finished = np.array([device for (device,) in done], np.int32)
        pending = pending.take(~np.isin(pending.device_id, finished))
        if not len(pending):
            return
        done = connection.execute(_MERGE, array_parameters(pending)).fetchall()
