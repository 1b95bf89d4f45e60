"""What a CoAP request costs the server, beside aiocoap doing the same and beside a datagram protocol that does nothing.

Each server is a process of its own; the figure is its processor time a request, from /proc.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

from simulators.storm_run import Targets
from tests.benchmarks.bench_gateways import _cpu
from tests.benchmarks.coap_load import send
from tests.benchmarks.figures import Figure

REQUESTS = 12_000
ROUNDS = 3
KINDS = ("gateway", "aiocoap", "bare", "bare-decoding")


def figures() -> list[Figure]:
    """Microseconds of processor time a request, the best of some rounds, taken in turns."""
    costs = {kind: min(costs) for kind, costs in _measured().items()}
    ours, library = costs["gateway"], costs["aiocoap"]
    return [
        Figure("coap_request_cpu", ours, "µs", library / 8, "an eighth of an aiocoap Site (at most 1)"),
        Figure(
            "coap_request_cpu_over_bare", ours, "µs", 2 * costs["bare-decoding"], "twice bare, decoding (at most 1)"
        ),
        Figure("coap_request_cpu_bare", costs["bare"], "µs", costs["bare-decoding"], "with decoding"),
    ]


def _measured() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            found[kind].append(_cost(kind))
    return found


def _cost(kind: str) -> float:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.benchmarks.coap_servers", kind, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert b"ready\n" in process.stdout  # the log comes before it
            targets = Targets(("127.0.0.1", port))
            send(targets, 500, window=50)  # caches and adaptive code are warm from here on
            time.sleep(0.1)
            before = _cpu(process.pid)
            result = send(targets, REQUESTS, window=50)
            assert result.acknowledged == REQUESTS, result
            return (_cpu(process.pid) - before) / result.acknowledged * 1e6
        finally:
            process.stdin.close()
