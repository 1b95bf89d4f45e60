"""Readings out of the database, a block at a time and all of one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from psycopg import sql

from devices.model import Instant, moment
from storage.database import Connection, unavailable
from storage.exchange import BLOCK, Block
from storage.packing import POSTGRES_EPOCH

_DEVICES_AT_ONCE = 100
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        ("l0", ">i4"), ("device_id", ">i4"),
        ("l1", ">i4"), ("metric_id", ">i2"),
        ("l2", ">i4"), ("measured_at", ">i8"),
        ("l3", ">i4"), ("value", ">f8"),
        ("l4", ">i4"), ("quality", ">i2"),
    ]
)  # fmt: skip
"""A row of a binary COPY; no column can be null, so all rows have one width."""
_HEAD = 19
_COPY = sql.SQL("""
COPY (SELECT device_id, metric_id, measured_at, value, quality FROM reading
      WHERE device_id = ANY({devices}::int[]) AND metric_id = ANY({metrics}::smallint[]) AND {span}
      ORDER BY device_id, metric_id, measured_at) TO STDOUT (FORMAT binary)
""")


class NothingSelectedError(ValueError):
    """No device or metric of that name."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to export; empty or None means all. `since` is included, `until` is not; both are sample times."""

    devices: Sequence[str] = ()
    site: str | None = None
    metrics: Sequence[str] = ()
    since: Instant | None = None
    until: Instant | None = None


def export(
    connection: Connection, choice: Choice, advanced: Callable[[int, int], None] = lambda *_: None
) -> Iterator[Block]:
    """The readings by device, metric and time, in one snapshot; `advanced` is told devices done and their total.

    `NothingSelectedError` naming what is not known.
    """
    with unavailable(), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # a slow disk is no reason to give up
        devices, metrics = _chosen(connection, choice)
        numbers = list(devices)
        for start in range(0, len(numbers), _DEVICES_AT_ONCE):
            some = numbers[start : start + _DEVICES_AT_ONCE]
            yield from _blocks(connection, choice, {number: devices[number] for number in some}, metrics)
            advanced(start + len(some), len(numbers))


def _chosen(connection: Connection, choice: Choice) -> tuple[dict[int, str], dict[int, tuple[str, str]]]:
    rows = connection.execute(
        "SELECT device_id, identity FROM device WHERE (%(all)s OR identity = ANY(%(names)s))"
        " AND (%(site)s::text IS NULL OR site = %(site)s) ORDER BY device_id",
        {"all": not choice.devices, "names": list(choice.devices), "site": choice.site},
    ).fetchall()
    devices = {int(str(number)): str(identity) for number, identity in rows}
    missing = set(choice.devices) - set(devices.values())
    if missing:
        place = f" at the site {choice.site!r}" if choice.site is not None else ""
        raise NothingSelectedError(
            f"{', '.join(sorted(missing))}: not registered{place}; `headworks devices list` shows what is"
        )
    if choice.site is not None and not devices:
        raise NothingSelectedError(f"there is no device at a site {choice.site!r}")
    found = connection.execute("SELECT metric_id, name, unit FROM metric ORDER BY metric_id").fetchall()
    metrics = {int(str(number)): (str(name), str(unit)) for number, name, unit in found}
    unknown = set(choice.metrics) - {name for name, _ in metrics.values()}
    if unknown:
        known = ", ".join(sorted(name for name, _ in metrics.values()))
        raise NothingSelectedError(f"{', '.join(sorted(unknown))}: no such metric; known are {known}")
    if choice.metrics:
        metrics = {number: metric for number, metric in metrics.items() if metric[0] in choice.metrics}
    return devices, metrics


def _blocks(
    connection: Connection, choice: Choice, devices: dict[int, str], metrics: dict[int, tuple[str, str]]
) -> Iterator[Block]:
    # Only the bounds that were given: the planner leaves out chunks by them.
    span: list[sql.Composable] = [sql.SQL("true")]
    if choice.since is not None:
        span.append(sql.SQL("measured_at >= {}").format(sql.Literal(moment(choice.since))))
    if choice.until is not None:
        span.append(sql.SQL("measured_at < {}").format(sql.Literal(moment(choice.until))))
    query = _COPY.format(
        devices=sql.Literal(list(devices)), metrics=sql.Literal(list(metrics)), span=sql.SQL(" AND ").join(span)
    )
    names = _Names(devices, metrics)
    with connection.cursor().copy(query) as copy:
        held: list[bytes] = []
        size = -_HEAD
        started = False
        for data in copy:
            held.append(bytes(data))
            size += len(data)
            if size >= BLOCK * _ROW.itemsize:
                stream = b"".join(held)[0 if started else _HEAD :]
                whole = len(stream) // _ROW.itemsize * _ROW.itemsize
                yield names.block(stream[:whole])
                held, size, started = [stream[whole:]], len(stream) - whole, True
        stream = b"".join(held)[0 if started else _HEAD :]
        whole = len(stream) // _ROW.itemsize * _ROW.itemsize
        if whole:
            yield names.block(stream[:whole])


class _Names:
    """Turns rows with numbers into blocks with names."""

    def __init__(self, devices: dict[int, str], metrics: dict[int, tuple[str, str]]) -> None:
        self._identities, self._metrics = list(devices.values()), list(metrics.values())
        self._device_ids, self._metric_ids = np.array(list(devices)), np.array(list(metrics))

    def block(self, stream: bytes) -> Block:
        rows = np.frombuffer(stream, _ROW)
        return Block(
            self._identities,
            self._metrics,
            np.searchsorted(self._device_ids, rows["device_id"]).astype(np.int32),
            np.searchsorted(self._metric_ids, rows["metric_id"]).astype(np.int32),
            rows["measured_at"].astype(np.int64) + POSTGRES_EPOCH,
            rows["value"].astype(np.float64),
            rows["quality"].astype(np.int16),
        )
