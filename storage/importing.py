"""Readings from files into the database: a block is one transaction, with its latest values and its place in the uplink
log, by which the alarm engine and other followers find it.

The way is that of the commit path: COPY, and a look-up where a key is stored already. A block that was committed before
is known again, so an import that was cut off is simply run again. The same value is a duplicate; another one is handed
back, never chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import errors

from devices.document import DocumentError
from devices.model import Instant, moment
from storage import latest, uplink_log
from storage.database import Connection, first_line, unavailable
from storage.exchange import Block
from storage.packing import NULL, Columns, array_parameters, copy_buffer, copy_rows, distinct

TRANSPORT = b"import"
"""What the uplink log names as the transport of imported readings."""
_TRIES = 5
_COPY = "COPY reading (measured_at, device_id, metric_id, value, quality) FROM STDIN (FORMAT binary)"
_STORED = """
SELECT i.ord, r.value
FROM unnest(%(measured_at)s, %(device_id)s, %(metric_id)s) WITH ORDINALITY AS i(measured_at, device_id, metric_id, ord)
JOIN reading r ON r.device_id = i.device_id AND r.metric_id = i.metric_id AND r.measured_at = i.measured_at
WHERE r.measured_at BETWEEN %(since)s AND %(until)s
"""
_EARLIEST, _LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999, in microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row that gives another value than the one that is stored, or that came earlier in the same block."""

    row: int
    """Its place in the block."""
    stored: float


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a block's rows."""

    stored: int
    duplicates: int
    conflicts: list[Conflict] = field(default_factory=list)


class Importer:
    """Imports blocks over a connection that nobody else uses meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._devices: dict[str, int] = {}
        self._look = False
        with unavailable():
            rows = connection.execute("SELECT name, unit, metric_id FROM metric").fetchall()
        self._metrics = {str(name): (str(unit), int(str(number))) for name, unit, number in rows}

    def write(self, block: Block, received_at: Instant) -> Imported:
        """Store a block in one transaction of its own; `received_at` goes to the uplink log.

        `DocumentError` without a place where a name, a unit, a value or a time is not valid (see `problems`): then
        nothing of the block is stored.
        """
        device_ids, metric_ids = self._numbers(block)
        columns = Columns(
            device_ids[block.identity],
            metric_ids[block.metric],
            block.measured_at,
            block.value,
            block.quality,
            np.arange(len(block), dtype=np.int32),
        )
        inside = distinct(columns)
        repeated = [
            Conflict(row, float(inside.rows.value[_find(inside.rows, inside.conflicts, index)]))
            for index, row in enumerate(inside.conflicts.uplink.tolist())
        ]
        with unavailable():
            for _ in range(_TRIES):
                try:
                    stored, same, conflicts = self._transact(inside.rows, received_at)
                except (errors.UniqueViolation, errors.DeadlockDetected):
                    self._look = True  # stored before, or by a gateway just now
                    continue
                except (psycopg.DataError, psycopg.IntegrityError) as error:
                    raise DocumentError([f"the database refuses it: {first_line(error)}"]) from error
                return Imported(stored, same + len(inside.repeats), [*repeated, *conflicts])
        raise DocumentError(["others write the same readings at this moment; run it again"])

    def _transact(self, rows: Columns, received_at: Instant) -> tuple[int, int, list[Conflict]]:
        connection = self._connection
        with connection.transaction():
            known: npt.NDArray[np.bool_] = np.zeros(len(rows), np.bool_)
            conflicts: list[Conflict] = []
            if self._look:
                known, conflicts = self._known(rows)
            fresh = rows.take(~known)
            if len(fresh):
                with connection.cursor().copy(_COPY) as copy:
                    copy.write(copy_buffer(fresh))
                latest.advance(connection, latest.packs(fresh))
                uplink_log.record(connection, _entries(fresh, received_at))
        self._look = bool(known.any())
        return len(fresh), int(known.sum()) - len(conflicts), conflicts

    def _known(self, rows: Columns) -> tuple[npt.NDArray[np.bool_], list[Conflict]]:
        found = self._connection.execute(
            _STORED,
            array_parameters(rows)
            | {"since": moment(int(rows.measured_at.min())), "until": moment(int(rows.measured_at.max()))},
        ).fetchall()
        known = np.zeros(len(rows), np.bool_)
        conflicts = []
        for ord_, value in found:
            place = int(str(ord_)) - 1
            known[place] = True
            if value != rows.value[place]:
                conflicts.append(Conflict(int(rows.uplink[place]), float(str(value))))
        return known, conflicts

    def _numbers(self, block: Block) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int16]]:
        missing = sorted(set(block.identities) - self._devices.keys())
        if missing:
            with unavailable():
                rows = self._connection.execute(
                    "SELECT identity, device_id FROM device WHERE identity = ANY(%s)", (missing,)
                ).fetchall()
            self._devices.update({str(identity): int(str(number)) for identity, number in rows})
        found = list(self._problems(block))
        if found:
            raise RowsError(found)
        return (
            np.array([self._devices.get(identity, 0) for identity in block.identities], np.int32),
            np.array([self._metrics.get(name, ("", 0))[1] for name, _ in block.metrics], np.int16),
        )

    def _problems(self, block: Block) -> Iterable[tuple[int, str]]:
        """The first row of each thing that is wrong with a block."""
        for code in np.unique(block.identity).tolist():
            identity = block.identities[code]
            if identity not in self._devices:
                yield (
                    int(np.argmax(block.identity == code)),
                    f"{identity!r} is not registered; register it with `headworks devices add` or `devices import`",
                )
        for code in np.unique(block.metric).tolist():
            name, unit = block.metrics[code]
            known = self._metrics.get(name)
            if known is None:
                yield int(np.argmax(block.metric == code)), f"there is no metric {name!r}"
            elif known[0] != unit:
                yield int(np.argmax(block.metric == code)), f"{name} is kept in {known[0]!r}, not in {unit!r}"
        finite = np.isfinite(block.value)
        if not finite.all():
            yield int(np.argmin(finite)), f"{block.value[np.argmin(finite)]} is not a finite number"
        possible = (block.measured_at >= _EARLIEST) & (block.measured_at <= _LATEST)
        if not possible.all():
            yield int(np.argmin(possible)), "the time is outside the years 1 to 9999"


class RowsError(ValueError):
    """Rows that cannot be imported: (place in the block, what is wrong), one for each thing that is wrong."""

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        self.problems = sorted(problems)
        super().__init__("; ".join(text for _, text in self.problems))


def _find(rows: Columns, among: Columns, index: int) -> int:
    """Where the key of a row of `among` stands in `rows`, which are in key order."""
    device, metric, at = among.device_id[index], among.metric_id[index], among.measured_at[index]
    start, end = np.searchsorted(rows.device_id, [device, device + 1])
    low, high = start + np.searchsorted(rows.metric_id[start:end], [metric, np.int32(metric) + 1])
    return int(low + np.searchsorted(rows.measured_at[low:high], at))


def _entries(rows: Columns, received_at: Instant) -> uplink_log.Entries:
    """One row of the uplink log for each device of a block, as if it had sent its part in one uplink."""
    starts = np.flatnonzero(np.r_[True, rows.device_id[1:] != rows.device_id[:-1]])
    count = len(starts)
    first, last = np.minimum.reduceat(rows.measured_at, starts), np.maximum.reduceat(rows.measured_at, starts)
    nothing = np.full(count, NULL, np.int64)
    received = np.full(count, received_at, np.int64)
    stream = copy_rows(
        [
            ("timestamptz", received),
            ("int4", rows.device_id[starts]),
            ("text", np.full(count, TRANSPORT)),
            ("int8", nothing),
            ("timestamptz", nothing),
            ("int8", nothing),
            ("timestamptz", first),
            ("timestamptz", last),
            ("int4", np.diff(np.r_[starts, len(rows)])),
            ("int4", np.zeros(count, np.int32)),
        ]
    )
    span = (received_at, received_at, int(first.min()), int(last.max()))
    return uplink_log.Entries(stream, (*(moment(at) for at in span), count, len(rows), 0))
