"""Readings as they are stored, for whoever judges them again: the engine after a late uplink or a restart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from psycopg import Cursor

from devices.batch import Changed, LoggedUplink, Past
from devices.model import Instant, Quality, Reading, moment
from storage.database import Connection, unavailable
from storage.packing import POSTGRES_EPOCH

_QUALITIES = {int(quality): quality for quality in Quality}
_MICROSECONDS = "(extract(epoch FROM {}) * 1000000)::bigint"


LEAD = timedelta(days=7)
"""What the longest window holds before that (`alerts.functions.LONGEST_WINDOW`)."""
HORIZON = timedelta(days=14)
"""How much of a device's past is judged again at the most: what comes later than this, after what was judged already,
is stored, but no longer changes an alarm. It bounds what a start has to read."""
_ROWS = 10_000
"""Rows that are there at a time beside the readings that are made of them."""
_LAST_UPLINKS = 20
"""Among so many the newest sample is looked for: uplinks of one device overtake each other by a few places."""


# Most are not late at all; for the others it is asked what their devices had sent before.
_BOUNDED = """CASE WHEN f.first >= p.newest - %(horizon)s THEN f.first ELSE greatest(f.first,
 (SELECT max(b.last_measured_at) FROM (SELECT last_measured_at FROM uplink WHERE device_id = f.device_id
  AND received_at < %(since)s ORDER BY received_at DESC LIMIT %(last)s) b) - %(horizon)s) END"""


_FRESH = f"""
WITH fresh AS (SELECT u.xid, u.device_id, min(CASE WHEN u.transport = 'import'
  THEN greatest(u.first_measured_at, p.newest - %(horizon)s) ELSE u.first_measured_at END) AS first
 FROM uplink u LEFT JOIN latest_pack p USING (device_id) WHERE u.received_at BETWEEN %(since)s AND %(until)s
 AND u.xid >= %(position)s::text::xid8 AND u.xid <> ALL(%(known)s::text[]::xid8[]) GROUP BY 1, 2)
SELECT f.xid::text, d.identity, {_MICROSECONDS.format(_BOUNDED)}
FROM fresh f JOIN device d USING (device_id) LEFT JOIN latest_pack p USING (device_id)
"""  # noqa: S608 - constants of this module


def _as_readings(found: Cursor[Any], names: Mapping[int, str] = MappingProxyType({})) -> list[Reading]:
    """The rows, whose devices may be given as numbers with `names`. Each name is held once, however many rows have it:
    of a reading the two of them would be more than half. Row by row only a part: the rows take more than that again."""
    kept: dict[object, object] = dict(names.items())
    held = kept.setdefault
    make = tuple.__new__  # by its class a named tuple takes half as long again, and these are millions at a start
    readings: list[Reading] = []
    while rows := found.fetchmany(_ROWS):
        readings += [
            make(Reading, (held(device, device), held(metric, metric), at, value, _QUALITIES[quality]))
            for device, metric, at, value, quality in rows
        ]
    return readings


# By number, device by device through the index (OFFSET keeps the planner from turning it about), and with a constant
# bound that tells it which chunks it needs. By names, and with a bound of each device's own alone, it read all chunks
# once for each question; joined, it does so where a young chunk has no statistics yet.
_PAST = f"""
SELECT b.device_id, m.name, {_MICROSECONDS.format("r.measured_at")}, r.value, r.quality
FROM unnest(%(devices)s::int[], %(begins)s::timestamptz[]) AS b(device_id, begin)
 CROSS JOIN LATERAL (SELECT metric_id, measured_at, value, quality FROM reading r WHERE r.device_id = b.device_id
  AND r.measured_at >= b.begin AND r.measured_at >= %(first)s {{}} OFFSET 0) r JOIN metric m USING (metric_id)
ORDER BY b.device_id, r.measured_at, m.name
"""  # noqa: S608 - constants of this module
_OF_METRICS = "AND r.metric_id = ANY(ARRAY(SELECT metric_id FROM metric WHERE name = ANY(%(metrics)s)))"
_CUT = """
SELECT b.device_id FROM unnest(%(devices)s::int[], %(begins)s::timestamptz[]) AS b(device_id, begin)
 CROSS JOIN LATERAL (SELECT FROM reading r WHERE r.device_id = b.device_id
  AND r.measured_at >= %(first)s::timestamptz - %(lead)s AND r.measured_at < %(last)s
  AND r.measured_at >= b.begin - %(lead)s AND r.measured_at < b.begin LIMIT 1) r
"""


def past(connection: Connection, since: Mapping[str, Instant | None], metrics: Collection[str] | None = None) -> Past:
    """What devices are to be judged from, of some metrics or of all: `HORIZON` before each one's newest reading, or
    before `since` where that is earlier and was not judged yet; and of which of them that leaves out what a window
    (`LEAD`) would have held."""
    with unavailable():
        names, asked = _begins(connection, since)
        if not names:
            return Past([], ())
        found = connection.execute(
            _PAST.format("" if metrics is None else _OF_METRICS),
            asked | ({} if metrics is None else {"metrics": list(metrics)}),
            prepare=False,
        )
        readings = _as_readings(found, names)
        cut: list[tuple[Any, ...]] = connection.execute(_CUT, asked | {"lead": LEAD}, prepare=False).fetchall()
    return Past(readings, {names[device] for (device,) in cut})


def _begins(connection: Connection, since: Mapping[str, Instant | None]) -> tuple[dict[int, str], dict[str, object]]:
    """The names of those that have readings, by number; and from when on each is to be judged, as parameters."""
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT d.device_id, d.identity, least(i.since, p.newest) - %(horizon)s"
        " FROM unnest(%(identities)s::text[], %(since)s::timestamptz[]) AS i(identity, since)"
        " JOIN device d USING (identity) JOIN latest_pack p USING (device_id) ORDER BY 1",
        {
            "identities": list(since),
            "since": [None if at is None else moment(at) for at in since.values()],
            "horizon": HORIZON,
        },
    ).fetchall()
    begins = [begin for _, _, begin in rows]
    asked: dict[str, object] = {"devices": [device for device, _, _ in rows], "begins": begins}
    if rows:
        asked |= {"first": min(begins), "last": max(begins)}
    return {device: identity for device, identity, _ in rows}, asked


def readings(connection: Connection, identities: Sequence[str], since: Instant) -> list[Reading]:
    """The readings of devices from `since` on, by device and sample time."""
    with unavailable():
        rows = connection.execute(
            f"SELECT d.identity, m.name, {_MICROSECONDS.format('r.measured_at')}, r.value, r.quality"  # noqa: S608
            " FROM device d JOIN reading r USING (device_id) JOIN metric m USING (metric_id)"
            " WHERE d.identity = ANY(%(identities)s) AND r.measured_at >= %(since)s"
            " ORDER BY d.identity, r.measured_at, m.name",
            {"identities": list(identities), "since": moment(since)},
        )
        return _as_readings(rows)


def readings_since(connection: Connection, since: Mapping[str, Instant]) -> list[Reading]:
    """The readings of several devices, of each from a moment of its own on, by device and sample time.

    One question for many: each device's metrics are taken from its newest values, so that the index is entered at the
    very reading that is wanted, and the earliest moment keeps older chunks out of the plan.
    """
    if not since:
        return []
    with unavailable():
        rows = connection.execute(
            f"SELECT i.identity, m.name, {_MICROSECONDS.format('r.measured_at')}, r.value, r.quality"  # noqa: S608
            " FROM unnest(%(identities)s::text[], %(since)s::timestamptz[]) AS i(identity, since)"
            " JOIN device d USING (identity) JOIN latest_pack p USING (device_id)"
            " CROSS JOIN LATERAL unnest(p.metric_id) AS n(metric_id)"
            " JOIN LATERAL (SELECT measured_at, value, quality FROM reading WHERE device_id = d.device_id"
            "  AND metric_id = n.metric_id AND measured_at >= i.since AND measured_at >= %(first)s) r ON true"
            " JOIN metric m ON m.metric_id = n.metric_id ORDER BY i.identity, r.measured_at",
            {
                "identities": list(since),
                "since": [moment(at) for at in since.values()],
                "first": moment(min(since.values())),
            },
        )
        return _as_readings(rows)


def changed(connection: Connection, position: int, known: Iterable[int] = ()) -> Changed:
    """The uplinks of transactions at or after `position` that are not among the `known` ones.

    A transaction that began earlier may commit later; so the safe position is the oldest one still running, and what
    lies between it and now is seen again. `since` of an uplink is never more than `HORIZON` before what its device had
    sent when these began, however late it is; an import counts as late.
    """
    parameters: dict[str, object] = {"position": position, "known": [str(number) for number in known]}
    with unavailable(), connection.transaction():
        # One snapshot: what commits between two questions must not be seen by half.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        found = connection.execute(
            "SELECT transaction_number(pg_snapshot_xmin(pg_current_snapshot()))::text,"
            " min(first_received_at), max(last_received_at)"
            " FROM commit_log WHERE xid >= %(position)s::text::xid8 AND xid <> ALL(%(known)s::text[]::xid8[])",
            parameters,
        ).fetchone()
        assert found is not None
        watermark, since, until = int(str(found[0])), found[1], found[2]
        if since is None:  # the usual case, asked every second
            return Changed([], max(position, watermark))
        rows = connection.execute(
            _FRESH,
            parameters | {"since": since, "until": until, "horizon": HORIZON, "last": _LAST_UPLINKS},
        ).fetchall()
    uplinks = [LoggedUplink(int(str(number)), str(device), int(str(first))) for number, device, first in rows]
    return Changed(uplinks, max(position, watermark))


_ARRAY_HEADER = 20
"""Bytes before the first element of a binary array: dimensions, flags, element type, length, lower bound."""


class Stretch:
    """A device's readings over a stretch of time, in columns: a range is had from them without making a single one."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self.columns: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int16]]] = {}
        """By metric: when, what, of which quality; by sample time."""

    def __len__(self) -> int:
        return sum(len(at) for at, _, _ in self.columns.values())

    def readings(self, metrics: Collection[str] | None = None) -> list[Reading]:
        """Those of some metrics, or all; of each by sample time."""
        return [
            Reading(self._identity, metric, at, value, _QUALITIES[quality])
            for metric, columns in self.columns.items()
            if metrics is None or metric in metrics
            for at, value, quality in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def take(self, metric: str, arrays: Sequence[bytes | None]) -> None:
        """Take one metric's columns as the server sends arrays, in any order: times and values, then the times and
        qualities of those that are not good."""
        at, value = _times(arrays[0]), _elements(arrays[1], ">f8").astype(np.float64)
        if np.any(at[1:] < at[:-1]):
            order = np.argsort(at, kind="stable")
            at, value = at[order], value[order]
        quality = np.full(len(at), int(Quality.GOOD), np.int16)
        if arrays[2] is not None:
            quality[np.searchsorted(at, _times(arrays[2]))] = _elements(arrays[3], ">i2")
        self.columns[metric] = (at, value, quality)


def _times(array: bytes | None) -> npt.NDArray[np.int64]:
    return _elements(array, ">i8").astype(np.int64) + POSTGRES_EPOCH


def _elements(array: bytes | None, kind: str) -> npt.NDArray[Any]:
    """The elements of a binary array without nulls: each has its length before it."""
    assert array is not None
    return np.frombuffer(array, [("length", ">i4"), ("element", kind)], offset=_ARRAY_HEADER)["element"]


class Extent(NamedTuple):
    """One metric of a device over a stretch of time: how many readings, and between which values those lie that are not
    bad (None if all are)."""

    readings: int
    range: tuple[float, float] | None


# Numbers and not names, and not from a subquery: of these the server knows how many rows there are, and does not enter
# an index for each of millions.
_CHOSEN = """
 FROM reading WHERE device_id = ANY(%(devices)s::int[]) AND metric_id = ANY(%(metrics)s::smallint[])
 AND measured_at >= %(since)s AND measured_at < %(until)s GROUP BY 1, 2
"""
_EXTENTS = f"""
SELECT device_id, metric_id, count(*),
 min(value) FILTER (WHERE quality >= {int(Quality.UNCERTAIN)}),
 max(value) FILTER (WHERE quality >= {int(Quality.UNCERTAIN)}) {_CHOSEN}
"""
# Qualities are sent where they are not good.
_STRETCH = f"""
SELECT device_id, metric_id, array_agg(measured_at), array_agg(value),
 array_agg(measured_at) FILTER (WHERE quality <> {int(Quality.GOOD)}),
 array_agg(quality) FILTER (WHERE quality <> {int(Quality.GOOD)}) {_CHOSEN}
"""


def extents(
    connection: Connection, identities: Sequence[str], metrics: Sequence[str], since: Instant, until: Instant
) -> dict[str, dict[str, Extent]]:
    """What there is of some devices and metrics from `since` to before `until`, added up by the server: half the work
    of reading it."""
    with unavailable():
        asked, whose, what = _chosen(connection, identities, metrics, since, until)
        rows: list[tuple[Any, ...]] = connection.execute(_EXTENTS, asked, prepare=False).fetchall()
    found: dict[str, dict[str, Extent]] = {}
    for device, metric, readings, low, high in rows:
        found.setdefault(whose[device], {})[what[metric]] = Extent(readings, None if low is None else (low, high))
    return found


def prepare_for_stretches(connection: Connection) -> None:
    """Let the server put the arrays of `stretch` together in memory, for as long as this connection lasts; by default
    the sort behind that goes by its disk."""
    with unavailable():
        connection.execute("SET work_mem = '64MB'")


def stretch(
    connection: Connection, identities: Sequence[str], metrics: Sequence[str], since: Instant, until: Instant
) -> dict[str, Stretch]:
    """The readings of some devices and metrics from `since` to before `until`, for each device by metric and time.

    A metric of a device is one row with its arrays, taken as the server sends them: row by row, or by COPY, which
    psycopg takes row by row as well, it is three to five times as slow.
    """
    found = {identity: Stretch(identity) for identity in identities}
    with unavailable():
        asked, whose, what = _chosen(connection, identities, metrics, since, until)
        cursor = connection.cursor(binary=True)
        cursor.execute(_STRETCH, asked, prepare=False)
        result = cursor.pgresult
    assert result is not None
    for row in range(result.ntuples):
        device, metric = (int.from_bytes(result.get_value(row, column) or b"") for column in (0, 1))
        found[whose[device]].take(what[metric], [result.get_value(row, column) for column in range(2, 6)])
    return found


def _chosen(
    connection: Connection, identities: Sequence[str], metrics: Sequence[str], since: Instant, until: Instant
) -> tuple[dict[str, object], dict[int, str], dict[int, str]]:
    """What these questions ask for by number, and the names of the devices and metrics that are known."""
    devices = "SELECT device_id, identity FROM device WHERE identity = ANY(%s)"
    whose: dict[int, str] = dict(connection.execute(devices, (list(identities),)).fetchall())  # type: ignore[arg-type]
    names = "SELECT metric_id, name FROM metric WHERE name = ANY(%s)"
    what: dict[int, str] = dict(connection.execute(names, (list(metrics),)).fetchall())  # type: ignore[arg-type]
    asked = {"devices": list(whose), "metrics": list(what), "since": moment(since), "until": moment(until)}
    return asked, whose, what
