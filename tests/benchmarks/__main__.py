"""`make bench`: measures what the product promises, each figure beside its limit or peer in the same run.

Machines are noisy: read the ratios, not the rates. Writes build/bench.json and prints the same as a table.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.provision import provision
from headworks.embedded import EmbeddedBroker, EmbeddedPostgres
from headworks.service import prepare
from tests.benchmarks import (
    bench_alarms,
    bench_backtest,
    bench_coap,
    bench_engine,
    bench_flatness,
    bench_frames,
    bench_gateways,
    bench_judging,
    bench_mqtt,
    bench_restart,
    bench_sites,
    bench_storm,
    bench_writer,
)
from tests.benchmarks.figures import Figure

OUTPUT = Path("build/bench.json")


def main() -> int:
    """Run every benchmark on services of its own; returns the exit code."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="hw-"))
    folder.chmod(0o711)
    figures: list[Figure] = []
    try:
        installation = provision(console.print)
        with (
            EmbeddedPostgres(installation, folder / "postgres") as postgres,
            EmbeddedBroker(installation, folder / "mosquitto") as broker,
        ):
            database = prepare(postgres.url)
            for name, run in (
                ("the engine", bench_engine.figures),
                ("binary frames", bench_frames.figures),
                ("a simulated day of 500 devices", bench_sites.figures),
                ("the shipped rules by ground truth", bench_judging.figures),
                ("a CoAP request", bench_coap.figures),
                ("an MQTT message", lambda: bench_mqtt.figures(broker.url)),
                ("the writing path", lambda: bench_writer.run(postgres.url, folder)),
                ("the gateways", lambda: bench_gateways.run(postgres.url, broker.url, folder)),
                ("a storm's sender", lambda: bench_storm.run(postgres.url, broker.url, folder)),
                ("from arrival to alarm", lambda: bench_alarms.run(postgres.url)),
                ("a restart", lambda: bench_restart.run(postgres.url)),
                ("a backtest", lambda: bench_backtest.run(postgres.url)),
                ("the writing path by the size of the fleet", lambda: bench_flatness.run(postgres.url)),
            ):
                console.print(f"Measuring {name} …")
                figures += run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table("figure", "value", "unit", "beside", "ratio", box=None, pad_edge=False)
    for figure in figures:
        beside = "" if figure.beside is None else f"{figure.beside:,.4g} {figure.peer}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, beside, ratio)
    console.print(table)
    OUTPUT.parent.mkdir(exist_ok=True)
    report = {
        "headworks": version("headworks"),
        "python": platform.python_version(),
        "database": {"edition": database.edition.value, "version": database.version},
        "broker": broker.version,
        "figures": {figure.name: figure.as_dict() for figure in figures},
    }
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    console.print(f"written to {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
