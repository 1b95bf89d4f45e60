"""Recorded Parquet files as rows, by the mapping that CSV files have: by name, typed cells in place of texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from devices.model import Instant, Measurement
from simulators.mapping import UNIX, UNIX_MS, Mapping
from simulators.recording import Findings, ReplayError, Row, check_columns

_AT_ONCE = 10_000


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def count_parquet_rows(path: Path) -> int:
    """How many rows it has, by its footer."""
    return int(_open(path).metadata.num_rows)


def parquet_rows(path: Path, mapping: Mapping, findings: Findings, after: int = 0) -> Iterator[Row]:
    """The rows after row `after`, as measurements; null and NaN are empty cells.

    A row that cannot be read is told in `findings` and left out. `ReplayError` for a missing column or a file that is
    damaged, or where pyarrow is not installed.
    """
    table = _open(path)
    check_columns(str(path), list(table.schema_arrow.names), mapping, findings)
    identities = [target.identity for target in mapping.devices]
    number = 0
    for batch in table.iter_batches(batch_size=_AT_ONCE, columns=mapping.wanted):
        if number + batch.num_rows <= after:
            number += batch.num_rows
            continue
        cells = {name: batch.column(name).to_pylist() for name in mapping.wanted}
        for index in range(batch.num_rows):
            number += 1
            if number <= after:
                continue
            try:
                row = _row(number, {name: column[index] for name, column in cells.items()}, mapping, identities)
            except (ValueError, OverflowError, TypeError) as error:
                findings.skipped.append(f"{path}: row {number}: {error}")
                continue
            findings.empty_cells += len(mapping.columns) - len(row.values)
            if row.values:
                yield row


def _row(number: int, cells: dict[str, Any], mapping: Mapping, identities: list[str]) -> Row:
    at = _time(cells[mapping.time_column], mapping)
    own = identities
    if mapping.device_column:
        name = str(cells[mapping.device_column.column] or "").strip()
        if not name:
            raise ValueError(f"no device in column ‘{mapping.device_column.column}’")
        own = [mapping.device_column.prefix + name]
    values = []
    for name, column in mapping.columns.items():
        value = _number(cells[name], name, mapping.decimal)
        if value is not None:
            values.append((own[column.device], Measurement(column.metric, column.unit, value * column.scale, at)))
    return Row(number, at, values)


def _time(cell: Any, mapping: Mapping) -> Instant:
    if cell is None:
        raise ValueError(f"no time in column ‘{mapping.time_column}’")
    if isinstance(cell, datetime):
        return mapping.instant_of(cell)
    if isinstance(cell, int | float) and mapping.time_format not in (UNIX, UNIX_MS):
        raise ValueError(f"‘{mapping.time_column}’ is a number: write time_format: unix or unix_ms into the map")
    return mapping.instant(str(cell).strip())


def _number(cell: Any, column: str, decimal: str) -> float | None:
    if isinstance(cell, str):
        text = cell.strip()
        if not text:
            return None
        cell = text.replace(",", ".") if decimal == "," else text
    if cell is None:
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"‘{column}’ is {cell!r}, not a number") from None
    if math.isinf(value):
        raise ValueError(f"‘{column}’ is {cell!r}, not a number")
    return None if math.isnan(value) else value


def _open(path: Path) -> Any:
    module = _pyarrow(path)
    try:
        return module.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ReplayError(f"{path}: this is no Parquet file that can be read: {error}") from error


def _pyarrow(path: Path) -> ModuleType:
    try:
        import pyarrow.parquet as module
    except ImportError:
        raise ReplayError(f"{path}: Parquet needs pyarrow: pip install 'headworks[parquet]'") from None
    return module  # type: ignore[no-any-return]
