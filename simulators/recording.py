"""Recorded tables as batches of measurements: what is read, what is left out and why, and how far a replay came.

Reading of CSV only; Parquet is in `parquet_rows`, sending in `replay`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from devices.document import suggest
from devices.model import Instant, Measurement
from simulators.mapping import Mapping


class ReplayError(ValueError):
    """The file does not fit the mapping, or the platform does not want it; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row that was read: its number from 1, its time, and (identity, measurement) for each value."""

    number: int
    at: Instant
    values: list[tuple[str, Measurement]]


@dataclass(slots=True)
class Findings:
    """What reading has found so far."""

    skipped: list[str] = field(default_factory=list)
    """Rows that could not be read, as `file:line: why`."""
    empty_cells: int = 0
    """Cells without a value: no reading was made of them."""
    unmapped: tuple[str, ...] = ()
    """Columns that the mapping neither uses nor ignores."""


def rows(path: Path, mapping: Mapping, findings: Findings, after: int = 0) -> Iterator[Row]:
    """The rows of a CSV file after row `after`, as measurements.

    A row that cannot be read is told in `findings` and left out. `ReplayError` for an empty file or a missing column,
    `OSError` where it cannot be opened.
    """
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        reader = csv.reader(file, delimiter=mapping.separator)
        read = _reader(_header(path, reader, mapping, findings), mapping)
        number = 0
        while True:
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                number += 1
                if number <= after or not cells:
                    continue
                at, values = read(cells)
            except (ValueError, OverflowError, csv.Error) as error:
                if number > after:
                    findings.skipped.append(f"{path}:{reader.line_num}: {error}")
                continue
            findings.empty_cells += len(mapping.columns) - len(values)
            if values:
                yield Row(number, at, values)


def batches(source: Iterable[Row], mapping: Mapping) -> Iterator[list[Row]]:
    """Rows in batches of the mapping's size, each over one interval at most and never across a jump of the clock."""
    batch: list[Row] = []
    for row in source:
        if batch and (len(batch) == mapping.batch or _is_apart(batch, row, mapping)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _is_apart(batch: list[Row], row: Row, mapping: Mapping) -> bool:
    # A device whose clock jumps back has been restarted: what it had gathered went out or was lost before.
    return row.at < batch[-1].at or (
        mapping.batch_interval is not None and row.at - batch[0].at >= mapping.batch_interval
    )


def count_rows(path: Path) -> int:
    """About how many rows a file has (line breaks inside quotes count too): for a progress bar."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            lines += block.count(b"\n")
            last = block[-1:]
    return max(0, lines + (last != b"\n") - 1)


def fingerprint(path: Path, reading: str, target: str) -> str:
    """What a checkpoint belongs to: the same bytes, read the same way, sent to the same place."""
    digest = hashlib.sha256(reading.encode() + b"\0" + target.encode() + b"\0")
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a replay was answered: all rows up to `rows`, in `uplinks` uplinks."""

    rows: int = 0
    uplinks: int = 0


def load_checkpoint(path: Path, belongs_to: str) -> Checkpoint:
    """The checkpoint of an interrupted run; that of another file, or one that cannot be read, counts as none."""
    try:
        saved = json.loads(path.read_text("utf-8"))
        if saved["of"] == belongs_to:
            return Checkpoint(int(saved["rows"]), int(saved["uplinks"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return Checkpoint()


def save_checkpoint(path: Path, belongs_to: str, reached: Checkpoint) -> None:
    """Write it so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"of": belongs_to, "rows": reached.rows, "uplinks": reached.uplinks}), "utf-8")
    part.replace(path)


def _header(path: Path, reader: Iterator[list[str]], mapping: Mapping, findings: Findings) -> list[str]:
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise ReplayError(f"{path}: the file is empty; a header line with the column names is needed")
    hint = f". Is its separator really ‘{mapping.separator}’?" if len(header) == 1 else ""
    check_columns(f"{path}:1", header, mapping, findings, hint)
    return header


def check_columns(place: str, header: list[str], mapping: Mapping, findings: Findings, hint: str = "") -> None:
    """`ReplayError` where a column of the mapping is not there; what it does not use is noted."""
    for name in mapping.wanted:
        if name not in header:
            raise ReplayError(
                f"{place}: there is no column ‘{name}’{suggest(name, header)} It has: {', '.join(header)}{hint}"
            )
    findings.unmapped = tuple(name for name in header if name not in mapping.wanted and name not in mapping.ignore)


def _reader(
    header: list[str], mapping: Mapping
) -> Callable[[list[str]], tuple[Instant, list[tuple[str, Measurement]]]]:
    """A function from a row's cells to its time and values; it raises `ValueError` or `OverflowError`."""
    time_at = header.index(mapping.time_column)
    device_at = header.index(mapping.device_column.column) if mapping.device_column else -1
    columns = [(header.index(name), name, column) for name, column in mapping.columns.items()]
    identities = [target.identity for target in mapping.devices]

    def read(cells: list[str]) -> tuple[Instant, list[tuple[str, Measurement]]]:
        if len(cells) != len(header):
            raise ValueError(f"{len(cells)} fields, but the header has {len(header)}")
        at = mapping.instant(cells[time_at].strip())
        own = identities
        if mapping.device_column:
            name = cells[device_at].strip()
            if not name:
                raise ValueError(f"no device in column ‘{mapping.device_column.column}’")
            own = [mapping.device_column.prefix + name]
        values = []
        for index, name, column in columns:
            text = cells[index].strip()
            if text:
                value = _number(text, name, mapping.decimal) * column.scale
                values.append((own[column.device], Measurement(column.metric, column.unit, value, at)))
        return at, values

    return read


def _number(text: str, column: str, decimal: str) -> float:
    try:
        value = float(text.replace(",", ".") if decimal == "," else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"‘{column}’ is {text!r}, not a number")
    return value
