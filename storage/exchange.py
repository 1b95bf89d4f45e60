"""Readings in files: CSV for people and other programs, Parquet for analysis; a block of rows at a time, so that memory
does not grow with the file. What the database does with them is in `storage.export` and `storage.importing`.

Both formats have the columns `COLUMNS`: times are UTC in microseconds, values in the metric's canonical unit, quality
is good, uncertain or bad. Written and read again, every value is the same to the last bit.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from devices.document import DocumentError
from devices.model import Quality, instant

COLUMNS = ("identity", "metric", "unit", "measured_at", "value", "quality")
FORMAT = "1"
"""Of these columns; another number is another layout."""
BLOCK = 65_536
"""Rows that are read at once, and at the least in a Parquet row group (but the last)."""
_ROWS = 512
_QUALITY = {quality.name.lower(): int(quality) for quality in Quality}
_QUALITY_NAME = {number: name for name, number in _QUALITY.items()}


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows as columns of one length. `identity` and `metric` are places in `identities` and `metrics`; `unit`
    belongs to the metric, so a metric under two units is there twice."""

    identities: Sequence[str]
    metrics: Sequence[tuple[str, str]]
    """Name and unit."""
    identity: npt.NDArray[np.int32]
    metric: npt.NDArray[np.int32]
    measured_at: npt.NDArray[np.int64]
    """Microseconds since 1970."""
    value: npt.NDArray[np.float64]
    quality: npt.NDArray[np.int16]
    first: int = 1
    """Number of the first row: the line in a CSV file (the head is line 1), counted from 1 in Parquet."""

    def __len__(self) -> int:
        return len(self.value)


class Sink(Protocol):
    """Takes blocks, one after the other."""

    def write(self, block: Block) -> None:
        """Write a block."""


def check_suffix(path: Path) -> str:
    """`csv` or `parquet`, by the file's name; `DocumentError` for any other, or where pyarrow is not there."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DocumentError([f"{path}: the name has to end in .csv or .parquet"])
    if suffix == ".parquet":
        _pyarrow(path)
    return suffix[1:]


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow  # an extra: 55 MB that a gateway has no use for
        import pyarrow.parquet
    except ImportError:
        raise DocumentError([f"{path}: Parquet needs pyarrow; `pip install headworks[parquet]`, or use .csv"]) from None
    return pyarrow, pyarrow.parquet


@contextmanager
def writing(path: Path, version: str) -> Iterator[Sink]:
    """Write a file that is there only when it is whole: under another name first, then fsync and rename."""
    kind = check_suffix(path)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as handle:
            if kind == "csv":
                yield _CsvSink(handle)
            else:
                sink = _ParquetSink(path, handle, version)
                yield sink
                sink.close()
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _CsvSink:
    def __init__(self, handle: io.BufferedWriter) -> None:
        self._handle = handle
        handle.write((",".join(COLUMNS) + "\n").encode())

    def write(self, block: Block) -> None:
        heads = [_quoted(identity) for identity in block.identities]
        metrics = [f"{_quoted(name)},{_quoted(unit)}" for name, unit in block.metrics]
        times = np.datetime_as_string(block.measured_at.astype("datetime64[us]")).tolist()
        rows = zip(
            block.identity.tolist(), block.metric.tolist(), times, block.value.tolist(), block.quality.tolist(),
            strict=True,
        )  # fmt: skip
        self._handle.write(
            "".join(
                f"{heads[device]},{metrics[metric]},{at}Z,{value!r},{_QUALITY_NAME[quality]}\n"
                for device, metric, at, value, quality in rows
            ).encode()
        )


def _quoted(text: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([text])
    return line.getvalue()


class _ParquetSink:
    def __init__(self, path: Path, handle: io.BufferedWriter, version: str) -> None:
        self._pa, parquet = _pyarrow(path)
        pa = self._pa
        label = pa.dictionary(pa.int32(), pa.string())
        self._schema = pa.schema(
            [
                ("identity", label),
                ("metric", label),
                ("unit", label),
                ("measured_at", pa.timestamp("us", tz="UTC")),
                ("value", pa.float64()),
                ("quality", label),
            ],
            metadata={"headworks.format": FORMAT, "headworks.version": version},
        )
        self._writer = parquet.ParquetWriter(handle, self._schema, compression="zstd")
        self._pending: list[Any] = []

    def write(self, block: Block) -> None:
        pa = self._pa
        levels = sorted(_QUALITY_NAME)
        labels = (
            (block.identity, list(block.identities)),
            (block.metric, [name for name, _ in block.metrics]),
            (block.metric, [unit for _, unit in block.metrics]),
            (np.searchsorted(levels, block.quality).astype(np.int32), [_QUALITY_NAME[level] for level in levels]),
        )
        identity, metric, unit, quality = (
            pa.array(np.array(names, object)[codes], pa.string()).dictionary_encode() for codes, names in labels
        )
        at = pa.array(block.measured_at).cast(self._schema.field("measured_at").type)
        self._pending.append(
            pa.table([identity, metric, unit, at, pa.array(block.value), quality], schema=self._schema)
        )
        if sum(map(len, self._pending)) >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        table = self._pa.concat_tables(self._pending)
        self._pending = []
        self._writer.write_table(table, row_group_size=len(table))

    def close(self) -> None:
        if self._pending:
            self._flush()
        self._writer.close()


def count_rows(path: Path) -> int | None:
    """How many rows a file has, where it says so."""
    if check_suffix(path) == "csv":
        return None
    return int(_parquet_file(path).metadata.num_rows)


def read(path: Path) -> Iterator[Block]:
    """The rows of a file; `DocumentError` naming the line where one is not valid."""
    return _read_csv(path) if check_suffix(path) == "csv" else _read_parquet(path)


def ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks, each read in a thread while the one before is written: the database and we work at once."""
    with ThreadPoolExecutor(1, "headworks read") as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block


def _read_csv(path: Path) -> Iterator[Block]:
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        try:
            head = next(reader, [])
            missing = [name for name in COLUMNS if name not in head]
            if missing:
                raise DocumentError([f"{path}:1: the column {missing[0]} is missing; expected {','.join(COLUMNS)}"])
            places = [head.index(name) for name in COLUMNS]
            line = 2
            while (columns := _gather(path, reader, len(head), line))[0]:
                yield _csv_block(path, [columns[place] for place in places], line)
                line += len(columns[0])
        except csv.Error as error:
            raise DocumentError([f"{path}:{reader.line_num}: {error}"]) from None
        except UnicodeDecodeError as error:
            raise DocumentError([f"{path}: not UTF-8 after line {reader.line_num}: {error.reason}"]) from None


def _gather(path: Path, reader: Iterator[list[str]], width: int, line: int) -> list[list[str]]:
    """The columns of the next rows, at most a block of them. Few rows exist at any time: tens of thousands of lists
    would keep the garbage collector busy for longer than the reading takes."""
    columns: list[list[str]] = [[] for _ in range(width)]
    while len(columns[0]) < BLOCK and (rows := list(islice(reader, _ROWS))):
        odd = next((index for index, row in enumerate(rows) if len(row) != width), None)
        if odd is not None:
            at = line + len(columns[0]) + odd
            raise DocumentError([f"{path}:{at}: {len(rows[odd])} columns, where the head has {width}"])
        for column, part in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(part)
    return columns


def _csv_block(path: Path, columns: Sequence[Sequence[str]], first: int) -> Block:
    identity, metric, unit, at, value, quality = columns
    count = len(identity)
    try:
        values = np.fromiter(map(float, value), np.float64, count)
    except ValueError:
        raise _first_bad(path, first, value, float, "is not a number") from None
    try:
        qualities = np.fromiter(map(_QUALITY.__getitem__, quality), np.int16, count)
    except KeyError:
        raise _first_bad(path, first, quality, _QUALITY.__getitem__, "is not good, uncertain or bad") from None
    identities, identity_codes = _codes(identity)
    metrics, metric_codes = _codes(zip(metric, unit, strict=True))
    return Block(
        identities, metrics, identity_codes, metric_codes, _times(path, first, at), values, qualities, first
    )  # fmt: skip


def _codes(values: Iterable[Any]) -> tuple[list[Any], npt.NDArray[np.int32]]:
    places: dict[Any, int] = {}
    codes = np.array([places.setdefault(value, len(places)) for value in values], np.int32)
    return list(places), codes


def _times(path: Path, first: int, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Our own form at numpy's speed, any other ISO 8601 one by one; a zone is needed."""
    if all(len(text) == 27 and text[-1] == "Z" for text in texts):
        try:
            return np.array([text[:-1] for text in texts], "datetime64[us]").astype(np.int64)
        except ValueError:
            pass
    try:
        return np.fromiter(map(_time, texts), np.int64, len(texts))
    except ValueError:
        raise _first_bad(path, first, texts, _time, "is not a time such as 2026-11-23T10:00:00Z") from None


def _time(text: str) -> int:
    return instant(datetime.fromisoformat(text))


def _first_bad(path: Path, first: int, texts: Sequence[str], parse: Any, problem: str) -> DocumentError:
    for index, text in enumerate(texts):
        try:
            parse(text)
        except (ValueError, KeyError):
            return DocumentError([f"{path}:{first + index}: {text[:100]!r} {problem}"])
    return DocumentError([f"{path}:{first}: a value {problem}"])


def _parquet_file(path: Path) -> Any:
    pa, parquet = _pyarrow(path)
    try:
        return parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DocumentError([f"{path}: not a Parquet file: {str(error).splitlines()[0]}"]) from None


def _read_parquet(path: Path) -> Iterator[Block]:
    pa, _ = _pyarrow(path)
    file = _parquet_file(path)
    missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
    if missing:
        raise DocumentError([f"{path}: the column {missing[0]} is missing; expected {', '.join(COLUMNS)}"])
    said = (file.schema_arrow.metadata or {}).get(b"headworks.format", FORMAT.encode()).decode()
    if said != FORMAT:
        raise DocumentError([f"{path}: written by a newer Headworks (format {said}); update this one"])
    row = 1
    for batch in file.iter_batches(BLOCK, columns=list(COLUMNS)):
        data = {name: batch.column(index) for index, name in enumerate(batch.schema.names)}
        for name, column in data.items():
            if column.null_count:
                place = column.is_null().index(True).as_py()
                raise DocumentError([f"{path}: row {row + place}: there is no {name}"])
        try:
            yield _parquet_block(pa, data, row)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
            raise DocumentError([f"{path}: rows from {row}: {error}"]) from None
        row += len(batch)


def _parquet_block(pa: Any, data: Mapping[str, Any], row: int) -> Block:
    labels: dict[str, tuple[list[str], npt.NDArray[np.int64]]] = {}
    for name in ("identity", "metric", "unit", "quality"):
        column = data[name]
        encoded = column if pa.types.is_dictionary(column.type) else column.cast(pa.string()).dictionary_encode()
        labels[name] = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    identities, identity = labels["identity"]
    names, name_codes = labels["metric"]
    units, unit_codes = labels["unit"]
    pairs, metric = np.unique(name_codes * len(units) + unit_codes, return_inverse=True)
    qualities, quality = labels["quality"]
    at = data["measured_at"]
    if not pa.types.is_timestamp(at.type) or at.type.tz is None:
        raise KeyError("measured_at has to be a timestamp with a time zone")
    return Block(
        identities,
        [(names[pair // len(units)], units[pair % len(units)]) for pair in pairs.tolist()],
        identity.astype(np.int32),
        metric.astype(np.int32),
        at.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(zero_copy_only=False),
        data["value"].cast(pa.float64()).to_numpy(zero_copy_only=False),
        np.array([_QUALITY[name] for name in qualities], np.int16)[quality],
        row,
    )


def place(path: Path, block: Block, index: int) -> str:
    """Where a row stands, as an error message says it."""
    return f"{path}:{block.first + index}" if path.suffix.lower() == ".csv" else f"{path}: row {block.first + index}"


def text_of(at: int) -> str:
    """A time as the files write it."""
    return str(np.datetime_as_string(np.datetime64(at, "us"))) + "Z"
