"""Readings as they are stored, for whoever judges them again: the engine after a late uplink or a restart."""

from __future__ import annotations

from collections.abc import Iterable

from devices.batch import Changed
from devices.model import Instant, Quality, Reading, moment
from storage.database import Connection, unavailable

_MICROSECONDS = "(extract(epoch FROM {}) * 1000000)::bigint"


def readings(connection: Connection, identity: str, since: Instant | None = None) -> list[Reading]:
    """A device's readings from `since` on (all if None), by sample time."""
    with unavailable():
        rows = connection.execute(
            f"SELECT m.name, {_MICROSECONDS.format('r.measured_at')}, r.value, r.quality"  # noqa: S608 - a constant
            " FROM reading r JOIN metric m USING (metric_id)"
            " WHERE r.device_id = (SELECT device_id FROM device WHERE identity = %s)"
            " AND r.measured_at >= coalesce(%s, '-infinity'::timestamptz) ORDER BY r.measured_at, m.name",
            (identity, None if since is None else moment(since)),
        ).fetchall()
    return [
        Reading(identity, metric, at, value, Quality(quality))  # type: ignore[arg-type]
        for metric, at, value, quality in rows
    ]


def changed(connection: Connection, position: int, known: Iterable[int] = ()) -> Changed:
    """The devices with uplinks from transactions at or after `position` that are not among the `known` ones.

    A transaction that began earlier may commit later; so the safe position is the oldest one still running, and what
    lies between it and now is seen again.
    """
    with unavailable():
        row = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
        assert row is not None
        watermark = int(str(row[0]))
        rows = connection.execute(
            f"SELECT u.xid::text, d.identity, {_MICROSECONDS.format('min(u.first_measured_at)')}"  # noqa: S608
            " FROM uplink u JOIN device d USING (device_id)"
            " WHERE u.xid >= %s::text::xid8 AND u.xid <> ALL(%s::text[]::xid8[]) GROUP BY 1, 2",
            (position, [str(number) for number in known]),
        ).fetchall()
    since: dict[str, Instant] = {}
    for _, identity, first in rows:
        at = int(str(first))
        since[str(identity)] = min(at, since.get(str(identity), at))
    return Changed(since, frozenset(int(str(number)) for number, _, _ in rows), max(position, watermark))
