"""Whether the storm's sender measures itself: its processor time an uplink beside that of what it sends to, in one run.

Two peers: the whole platform (the shipped rules, a real database), and a server that only parses and answers.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from devices.profile import shipped_profiles
from simulators.storm_run import Targets
from storage.database import connect
from storage.registry import register
from tests.benchmarks.bench_gateways import _cpu, _platform, _stored, _until
from tests.benchmarks.coap_load import FLEET, send
from tests.benchmarks.figures import Figure

UPLINKS = 20_000
BARE_UPLINKS = 100_000
_HALF = "half of the platform's (at most 1)"


def run(database_url: str, broker_url: str, folder: Path) -> list[Figure]:
    """Microseconds of processor time an uplink of 8 readings."""
    with connect(database_url) as connection:
        register(connection, FLEET, shipped_profiles())
    bare_sender, bare_server = _bare()
    figures = [Figure("storm_sender_cpu_bare", bare_sender, "µs/uplink", bare_server, "a server that only answers")]
    for name in ("coap", "mqtt"):
        with _platform(database_url, broker_url, folder) as (process, port):
            targets = Targets(("127.0.0.1", port)) if name == "coap" else Targets(mqtt=broker_url)
            send(targets, 1_000, 400)  # caches and adaptive code are warm from here on
            _until(lambda: _cpu_rests(process.pid))
            before, cpu = _stored(database_url), _cpu(process.pid)
            load = send(targets, UPLINKS, 400)
            _until(lambda: _stored(database_url) - before >= UPLINKS * 8)  # noqa: B023 - called at once
            platform = (_cpu(process.pid) - cpu) / load.uplinks * 1e6
        assert load.acknowledged == load.uplinks, load
        figures += [
            Figure(f"storm_sender_cpu_{name}", load.cpu_seconds / load.uplinks * 1e6, "µs/uplink", platform / 2, _HALF),
            Figure(f"storm_platform_cpu_{name}", platform, "µs/uplink"),
        ]
    return figures


def _bare() -> tuple[float, float]:
    """(sender, server) in µs an uplink."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.benchmarks.coap_servers", "bare", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert b"ready\n" in process.stdout
            targets = Targets(("127.0.0.1", port))
            send(targets, 5_000, 400)
            cpu = _cpu(process.pid)
            load = send(targets, BARE_UPLINKS, 1_000)
            server = (_cpu(process.pid) - cpu) / load.uplinks * 1e6
        finally:
            process.stdin.close()
    assert load.acknowledged == load.uplinks, load
    return load.cpu_seconds / load.uplinks * 1e6, server


def _cpu_rests(pid: int) -> bool:
    before = _cpu(pid)
    time.sleep(0.3)
    return _cpu(pid) - before < 0.05
