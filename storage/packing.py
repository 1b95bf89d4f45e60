"""Readings as columns, and columns as PostgreSQL's binary formats: the fast half of the writer, without SQL.

A buffer packed with numpy costs 0.6 µs of our CPU a row against 7.9 for text COPY and 1.1 for psycopg's `write_row`,
and then the server is the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devices.batch import UplinkRecord

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
EMPTY = _HEADER + _TRAILER
"""A binary COPY stream without rows."""
POSTGRES_EPOCH = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: where PostgreSQL counts its timestamps from."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings as arrays of one length. `uplink` says from which uplink of the batch each came."""

    device_id: npt.NDArray[np.int32]
    metric_id: npt.NDArray[np.int16]
    measured_at: npt.NDArray[np.int64]
    """Microseconds since 1970."""
    value: npt.NDArray[np.float64]
    quality: npt.NDArray[np.int16]
    uplink: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Columns:
        """The columns of some of the rows."""
        return Columns(
            self.device_id[rows],
            self.metric_id[rows],
            self.measured_at[rows],
            self.value[rows],
            self.quality[rows],
            self.uplink[rows],
        )


def columns(uplinks: Sequence[UplinkRecord], device_ids: Mapping[str, int], metric_ids: Mapping[str, int]) -> Columns:
    """The readings of a batch's uplinks as columns, in order of arrival. `KeyError` for an unknown name."""
    flat = [reading for record in uplinks for reading in record.readings]
    _, metric, measured_at, value, quality = zip(*flat, strict=True)
    count = len(flat)
    sizes = [len(record.readings) for record in uplinks]
    return Columns(
        np.repeat(np.fromiter((device_ids[record.device] for record in uplinks), np.int32, len(uplinks)), sizes),
        np.fromiter(map(metric_ids.__getitem__, metric), np.int16, count),
        np.fromiter(measured_at, np.int64, count),
        np.fromiter(value, np.float64, count),
        np.fromiter(quality, np.int16, count),
        np.repeat(np.arange(len(uplinks), dtype=np.int32), sizes),
    )


@dataclass(frozen=True, slots=True)
class Distinct:
    """A batch in key order without repeats: `rows` to store; `repeats` that say the same again; `conflicts` that give
    another value for a key that came earlier in the batch."""

    rows: Columns
    repeats: Columns
    conflicts: Columns


def distinct(batch: Columns) -> Distinct:
    """Sort a batch by (device, metric, time) and set aside what comes twice; the first to arrive stays.

    Sorted rows also land side by side in the index, which saves the server more than the sort costs.
    """
    order = np.lexsort((batch.measured_at, batch.metric_id, batch.device_id))  # stable: arrival order within a key
    ordered = batch.take(order)
    again = np.zeros(len(ordered), np.bool_)
    again[1:] = (
        (ordered.measured_at[1:] == ordered.measured_at[:-1])
        & (ordered.metric_id[1:] == ordered.metric_id[:-1])
        & (ordered.device_id[1:] == ordered.device_id[:-1])
    )
    if not again.any():
        nothing = ordered.take(again)
        return Distinct(ordered, nothing, nothing)
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(ordered))))
    differs = again & (ordered.value != ordered.value[first])
    return Distinct(ordered.take(~again), ordered.take(again & ~differs), ordered.take(differs))


def newest(batch: Columns) -> Columns:
    """The last reading by sample time of each (device, metric); `batch` must be in key order (`distinct`)."""
    last = np.ones(len(batch), np.bool_)
    last[:-1] = (batch.metric_id[1:] != batch.metric_id[:-1]) | (batch.device_id[1:] != batch.device_id[:-1])
    return batch.take(last)


_OIDS = {"int2": 21, "int4": 23, "int8": 20, "float8": 701, "timestamptz": 1184}
_ELEMENTS = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float8": ">f8", "timestamptz": ">i8"}
_ARRAY_OIDS = {"int2": 1005, "int4": 1007, "int8": 1016, "float8": 1022, "timestamptz": 1185}
NULL = np.iinfo(np.int64).min
"""Stands for a null in the integer columns of `copy_rows`."""


def copy_buffer(batch: Columns) -> bytes:
    """The whole COPY stream of `COPY reading (measured_at, device_id, metric_id, value, quality) … (FORMAT binary)`."""
    return copy_rows(
        [
            ("timestamptz", batch.measured_at),
            ("int4", batch.device_id),
            ("int2", batch.metric_id),
            ("float8", batch.value),
            ("int2", batch.quality),
        ]
    )


def copy_rows(columns_: Sequence[tuple[str, npt.NDArray[np.generic]]]) -> bytes:
    """A whole binary COPY stream of columns of one length, each with its type; `text` takes bytes without NUL.

    Every row is laid out at full width in one array; where there is a null or a shorter text, what is not used is
    left out at the end, all rows at once.
    """
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for index, (kind, values) in enumerate(columns_):
        fields += [(f"length{index}", ">i4"), (f"value{index}", _ELEMENTS.get(kind, values.dtype.str))]
    layout = np.dtype(fields)
    count = len(columns_[0][1])
    rows = np.empty(count, layout)
    rows["fields"] = len(columns_)
    unused = None
    for index, (kind, values) in enumerate(columns_):
        name = f"value{index}"
        width = layout[name].itemsize
        if kind == "text":
            lengths = np.char.str_len(values.astype(np.bytes_))
            rows[name] = values
        else:
            lengths = np.where(values == NULL, -1, width) if kind in ("int8", "timestamptz") else np.full(count, width)
            rows[name] = values - POSTGRES_EPOCH if kind == "timestamptz" else values
        rows[f"length{index}"] = lengths
        if (lengths != width).any():
            if unused is None:
                unused = np.zeros((count, layout.itemsize), np.bool_)
            offset = layout.fields[name][1]  # type: ignore[index]  # a structured type has fields
            unused[:, offset : offset + width] = np.arange(width) >= np.maximum(lengths, 0)[:, None]
    body = rows.tobytes() if unused is None else rows.view(np.uint8).reshape(count, -1)[~unused].tobytes()
    return b"".join((_HEADER, body, _TRAILER))


@dataclass(frozen=True, slots=True)
class BinaryArray:
    """A query parameter: a one-dimensional PostgreSQL array without nulls, in its binary form.

    Packing it with numpy costs a fiftieth of handing psycopg a list of Python objects to dump one by one.
    """

    oid: int
    data: bytes


def binary_array(kind: str, values: npt.NDArray[np.generic]) -> BinaryArray:
    """An array of `int2`, `int4`, `int8`, `float8` or `timestamptz` (microseconds since 1970)."""
    elements = np.empty(len(values), np.dtype([("length", ">i4"), ("value", _ELEMENTS[kind])]))
    elements["length"] = np.dtype(_ELEMENTS[kind]).itemsize
    elements["value"] = values - POSTGRES_EPOCH if kind == "timestamptz" else values
    # ndim, has-null flag, element type, then the dimension's size and lower bound; an empty array has no dimension.
    head = [1, 0, _OIDS[kind], len(values), 1] if len(values) else [0, 0, _OIDS[kind]]
    return BinaryArray(_ARRAY_OIDS[kind], np.array(head, ">i4").tobytes() + elements.tobytes())


def array_parameters(batch: Columns) -> dict[str, BinaryArray]:
    """The columns as parameters named like them."""
    return {
        "measured_at": binary_array("timestamptz", batch.measured_at),
        "device_id": binary_array("int4", batch.device_id),
        "metric_id": binary_array("int2", batch.metric_id),
        "value": binary_array("float8", batch.value),
        "quality": binary_array("int2", batch.quality),
    }
