"""The writing path from a batch of readings to COMMIT, beside the server's own COPY of the same rows."""

from __future__ import annotations

import random
import time
from pathlib import Path

import psycopg

from devices.batch import Batch, UplinkRecord
from devices.model import SECOND, Device, Reading, Transport, Uplink
from devices.profile import shipped_profiles
from storage.database import connect
from storage.packing import columns, copy_buffer, distinct
from storage.registry import find, register, sync_metrics
from storage.writer import Writer
from tests.benchmarks.figures import Figure

METRICS = ("pressure", "flow", "vibration", "current", "power", "temperature", "speed", "voltage")
START = 1_750_000_000 * SECOND
DEVICES = 1_000
ROWS = 100_000
"""Readings written for each figure."""


def run(url: str, folder: Path) -> list[Figure]:
    """Measure batches of 1,000 and 10,000 readings, and 10,000 with 5 % duplicates."""
    with connect(url) as connection:
        names = [f"urn:dev:bench:{number}" for number in range(DEVICES)]
        register(connection, [Device(name, "centrifugal-pump") for name in names], shipped_profiles())
        device_ids = {name: entry.device_id for name, entry in find(connection, names).items()}
        metric_ids = sync_metrics(connection)
    figures = []
    epoch = 0
    for size, share in ((1_000, 0.0), (10_000, 0.0), (10_000, 0.05)):
        ours = limit = 0.0
        # Turn about, each with rows of its own, so that both meet the same table and the same noise of the machine.
        for _ in range(ROWS // size):
            rows = distinct(columns(_batch(size, epoch).uplinks, device_ids, metric_ids)).rows
            limit += _server_copy(url, copy_buffer(rows), folder / "batch.bin")
            batch = _batch(size, epoch + 1)
            if share:
                _commit(url, _part(batch, share))
            ours += _commit(url, batch)
            epoch += 2
        name = f"write_{size}" + (f"_{share:.0%}_duplicates" if share else "")
        figures.append(Figure(name, ROWS / ours, "readings/s", ROWS / limit, "by the server's own COPY"))
    return figures


def _batch(size: int, epoch: int) -> Batch:
    uplinks = []
    for number in range(size // len(METRICS)):
        name = f"urn:dev:bench:{number % DEVICES}"
        at = START + epoch * 3600 * SECOND + number // DEVICES * SECOND
        readings = [Reading(name, metric, at, random.random()) for metric in METRICS]
        uplinks.append(UplinkRecord(Uplink(Transport.MQTT, b"", at), name, readings, epoch))
    return Batch(uplinks)


def _part(batch: Batch, share: float) -> Batch:
    return Batch(batch.uplinks[: int(len(batch.uplinks) * share)])


_writers: dict[str, Writer] = {}


def _commit(url: str, batch: Batch) -> float:
    writer = _writers.setdefault(url, Writer(url))
    begin = time.perf_counter()
    writer.commit(batch)
    return time.perf_counter() - begin


def _server_copy(url: str, data: bytes, path: Path) -> float:
    path.write_bytes(data)
    path.chmod(0o644)
    with psycopg.connect(url, autocommit=True) as connection:
        begin = time.perf_counter()
        connection.execute(
            f"COPY reading (measured_at, device_id, metric_id, value, quality) FROM '{path}' (FORMAT binary)".encode()
        )
        return time.perf_counter() - begin
