"""Writing speed by the number of registered devices that speak, each with newest values already there.

Devices take turns, so that a batch never meets the pages of the one before: the hardest case for the cache.
"""

from __future__ import annotations

import random
import statistics
import time

from devices.batch import Batch, UplinkRecord
from devices.model import SECOND, Reading, Transport, Uplink
from storage.database import Connection, connect
from storage.registry import sync_metrics
from storage.writer import Writer
from tests.benchmarks.bench_writer import METRICS
from tests.benchmarks.figures import Figure

FLEETS = (1_000, 10_000, 100_000, 1_000_000)
BATCHES = 24
UPLINKS = 1_250
START = 1_770_000_000 * SECOND


def run(url: str) -> list[Figure]:
    """Readings a second by batches of 10,000, each fleet beside the smallest."""
    figures: list[Figure] = []
    registered = 0
    for fleet in FLEETS:
        with connect(url) as connection:
            _register(connection, registered, fleet)
        registered = fleet
        writer = Writer(url)
        seconds = []
        for number in range(BATCHES):
            batch = _batch(number, fleet)
            begin = time.perf_counter()
            writer.commit(batch)
            seconds.append(time.perf_counter() - begin)
        writer.close()
        rate = UPLINKS * len(METRICS) / statistics.median(seconds)
        beside = figures[0].value if figures else None
        figures.append(Figure(f"write_fleet_{fleet}", rate, "readings/s", beside, "with 1,000 devices"))
    return figures


def _batch(number: int, fleet: int) -> Batch:
    """Uplinks of devices all over the fleet, with sample times that go forward for each."""
    uplinks = []
    for index in range(number * UPLINKS, (number + 1) * UPLINKS):
        name = f"urn:dev:fleet:{index * 7919 % fleet}"
        at = START + (fleet + index) * SECOND
        readings = [Reading(name, metric, at, random.random()) for metric in METRICS]
        uplinks.append(UplinkRecord(Uplink(Transport.MQTT, b"", at), name, readings, index))
    return Batch(uplinks)


def _register(connection: Connection, first: int, fleet: int) -> None:
    ids = sync_metrics(connection)
    metrics = sorted(ids[name] for name in METRICS)
    connection.execute(
        "INSERT INTO device (identity, profile, kind, report_interval)"
        " SELECT 'urn:dev:fleet:' || n, 'centrifugal-pump', 'pump', '15 minutes'"
        " FROM generate_series(%s::int, %s::int) n",
        (first, fleet - 1),
    )
    connection.execute(
        "INSERT INTO latest_pack SELECT device_id, t, %(metrics)s::int2[], array_fill(t, ARRAY[8]),"
        " array_fill(1.0::float8, ARRAY[8]), array_fill(192::int2, ARRAY[8])"
        " FROM device, to_timestamp(%(at)s) t WHERE identity LIKE 'urn:dev:fleet:%%' ON CONFLICT DO NOTHING",
        {"metrics": metrics, "at": START / SECOND - 1},
    )
    connection.execute("VACUUM (ANALYZE) device, latest_pack")
    connection.execute("CHECKPOINT")
