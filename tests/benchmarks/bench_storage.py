"""What dashboards lean on, over twenty million readings, and what a reading costs at rest: `make bench-storage`.

A database of its own with 1,000 devices at 20 sites: four weeks of readings every quarter of an hour (8 metrics, values
that wander as real ones do), their hourly and a year of daily aggregates. Takes a few minutes and 5 GB, which it gives
back.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.provision import provision
from headworks.embedded import EmbeddedPostgres
from headworks.service import prepare
from storage.database import Connection, connect
from storage.status import status
from tests.benchmarks.bench_writer import METRICS
from tests.benchmarks.figures import Figure

OUTPUT = Path("build/bench.json")
DEVICES, DAYS = 1_000, 27
LIMIT_MS = 100.0
REPEATS = 40

FILL = (
    (
        "devices",
        "INSERT INTO device (identity, profile, kind, tag, site, report_interval)"
        " SELECT 'urn:dev:bench:' || n, 'centrifugal-pump', 'pump', 'P-' || n, 'Site ' || n % 20, '15 minutes'"
        f" FROM generate_series(1, {DEVICES}) n",
    ),
    (
        "readings",
        "INSERT INTO reading (measured_at, device_id, metric_id, value, quality)"
        " SELECT t, d.device_id, m.metric_id,"
        "  round((10 * m.metric_id + 3 * sin(extract(epoch FROM t) / 13751 + d.device_id)"
        "   + 0.2 * random())::numeric, 2),"
        "  CASE WHEN random() < 0.01 THEN 64 ELSE 192 END"
        f" FROM device d, metric m, generate_series(now() - interval '{DAYS} days', now(), interval '15 minutes') t"
        f" WHERE m.name = ANY(ARRAY{list(METRICS)!r}) ORDER BY t, d.device_id, m.metric_id",
    ),
    (
        "uplinks",
        "INSERT INTO uplink (received_at, device_id, transport, first_measured_at, last_measured_at, readings)"
        " SELECT t, device_id, 'coap', t, t, 8 FROM device,"
        f" generate_series(now() - interval '{DAYS} days', now(), interval '15 minutes') t ORDER BY t",
    ),
    (
        "latest values",
        "INSERT INTO latest_pack SELECT device_id, now(), array_agg(metric_id), array_agg(now()),"
        " array_agg(1.0::float8), array_agg(192::int2) FROM device, metric"
        f" WHERE name = ANY(ARRAY{list(METRICS)!r}) GROUP BY 1",
    ),
    (
        "hourly aggregates",
        "INSERT INTO hourly_store SELECT time_bucket(interval '1 hour', measured_at), device_id, metric_id, min(value),"
        " max(value), sum(value), count(*), percentile_disc(0.95) WITHIN GROUP (ORDER BY value)"
        " FROM reading WHERE quality = 192 AND measured_at < date_trunc('hour', now()) GROUP BY 1, 2, 3",
    ),
    (
        "daily aggregates",
        "INSERT INTO daily_store SELECT t, device_id, metric_id, 1, 2, 96, 96, 2 FROM device, metric,"
        " generate_series(date_trunc('day', now()) - interval '365 days', date_trunc('day', now()) - interval '1 day',"
        f"  interval '1 day') t WHERE name = ANY(ARRAY{list(METRICS)!r}) ORDER BY t",
    ),
    (
        "lines",
        "UPDATE aggregate_state SET closed_to = CASE width WHEN 'hour' THEN date_trunc('hour', now())"
        " ELSE date_trunc('day', now()) END",
    ),
)
QUERIES = {
    "query_fleet_latest": "SELECT d.site, d.tag, m.name, l.value, l.quality, l.measured_at FROM latest l"
    " JOIN device d USING (device_id) JOIN metric m USING (metric_id) WHERE m.name IN ('pressure', 'flow')",
    "query_device_trend_24h": "SELECT measured_at, value FROM reading WHERE device_id = 17"
    " AND metric_id = (SELECT metric_id FROM metric WHERE name = 'pressure')"
    " AND measured_at BETWEEN now() - interval '1 day' AND now() ORDER BY 1",
    "query_site_hourly_30d": "SELECT bucket, avg(avg_value), min(min_value), max(max_value) FROM reading_hourly"
    " WHERE device_id = ANY(ARRAY(SELECT device_id FROM device WHERE site = 'Site 3'))"
    " AND metric_id = (SELECT metric_id FROM metric WHERE name = 'pressure')"
    " AND bucket >= now() - interval '30 days' AND bucket <= now() GROUP BY 1 ORDER BY 1",
    "query_fleet_daily_1y": "SELECT bucket, sum(avg_value * readings) / sum(readings) FROM reading_daily"
    " WHERE metric_id = (SELECT metric_id FROM metric WHERE name = 'pressure')"
    " AND bucket >= now() - interval '365 days' AND bucket <= now() GROUP BY 1 ORDER BY 1",
    "query_band_p5_p95": "SELECT extract(hour FROM bucket), percentile_cont(0.05) WITHIN GROUP (ORDER BY avg_value),"
    " percentile_cont(0.95) WITHIN GROUP (ORDER BY avg_value) FROM reading_hourly WHERE device_id = 17"
    " AND metric_id = (SELECT metric_id FROM metric WHERE name = 'pressure')"
    " AND bucket >= now() - interval '30 days' AND bucket <= now() GROUP BY 1 ORDER BY 1",
    "query_late_devices": "SELECT d.tag, u.received_at FROM device d"
    " LEFT JOIN LATERAL (SELECT x.received_at FROM uplink x"
    "  WHERE x.device_id = d.device_id AND x.received_at > now() - interval '30 days'"
    "  ORDER BY x.received_at DESC LIMIT 1) u ON true WHERE u.received_at IS NULL"
    "  OR u.received_at < now() - 4 * d.report_interval",
}


def figures(connection: Connection, console: Console) -> list[Figure]:
    """Fill, then measure each query warm."""
    for what, statement in FILL:
        begin = time.perf_counter()
        count = connection.execute(statement.encode()).rowcount
        console.print(f"  {count:,} {what} in {time.perf_counter() - begin:.0f} s")
    connection.execute("VACUUM (ANALYZE)")
    found = []
    for name, query in QUERIES.items():
        times = []
        for _ in range(REPEATS + 3):
            begin = time.perf_counter()
            connection.execute(query.encode()).fetchall()
            times.append((time.perf_counter() - begin) * 1e3)
        found.append(Figure(name, statistics.quantiles(times[3:], n=20)[-1], "ms p95", LIMIT_MS, "the limit"))
    state = status(connection)
    reading = state.tables[0]
    found.append(Figure("bench_storage_readings", reading.rows, "rows", 20e6, "the least"))
    found.append(Figure(f"bytes_per_reading_{state.server.edition.name.lower()}", state.bytes_per_reading or 0, "B"))
    return found


def main() -> int:
    """Run on a server of its own; adds its figures to those of `make bench`."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="hw-"))
    folder.chmod(0o711)
    try:
        with EmbeddedPostgres(provision(console.print), folder / "postgres") as postgres:
            prepare(postgres.url)
            with connect(postgres.url) as connection:
                measured = figures(connection, console)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table("figure", "value", "unit", "beside", "ratio", box=None, pad_edge=False)
    for figure in measured:
        beside = "" if figure.beside is None else f"{figure.beside:,.4g} {figure.peer}"
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, beside, f"{figure.ratio or 0:.2f}")
    console.print(table)
    OUTPUT.parent.mkdir(exist_ok=True)
    report = json.loads(OUTPUT.read_text("utf-8")) if OUTPUT.exists() else {"figures": {}}
    report["figures"] |= {figure.name: figure.as_dict() for figure in measured}
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
