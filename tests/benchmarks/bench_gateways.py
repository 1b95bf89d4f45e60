"""The whole way: from a sender outside to COMMIT and acknowledgement, through CoAP and through MQTT.

The platform runs as a process of its own, so that the sender never shares its interpreter; CPU time is read from /proc.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from devices.codecs.senml import encode_cbor
from devices.model import SECOND, Measurement
from devices.profile import shipped_profiles
from simulators.storm_run import Targets
from storage.audit import judged_up_to_date
from storage.database import connect
from storage.registry import register
from tests.benchmarks.bench_writer import DEVICES
from tests.benchmarks.coap_load import FLEET, send
from tests.benchmarks.figures import Figure

START = 1_760_000_000 * SECOND
MQTT_UPLINKS = 50_000
COAP_UPLINKS = 20_000
FIELDS = (
    ("pressure", "Pa", 4e5), ("flow", "l/s", 12.0), ("vibration", "m/s", 2e-3), ("current", "A", 12.0),
    ("power", "W", 7500.0), ("temperature", "Cel", 18.0), ("speed", "1/min", 1480.0), ("voltage", "V", 400.0),
)  # fmt: skip


def run(database_url: str, broker_url: str, folder: Path) -> list[Figure]:
    """Measure both gateways with packs of 8 readings, the shipped rules on."""
    with _platform(database_url, broker_url, folder):
        pass  # leaves its session with the broker, which queues from now on
    before = _stored(database_url)
    _queue(broker_url, MQTT_UPLINKS)
    with _platform(database_url, broker_url, folder) as (process, _):
        # It took some while it started; what counts is the rest.
        begin, taken, cpu = time.perf_counter(), _stored(database_url) - before, _cpu(process.pid)
        _until(lambda: _stored(database_url) - before >= MQTT_UPLINKS * 8)
        mqtt_seconds = time.perf_counter() - begin
        mqtt_cpu = _cpu(process.pid) - cpu
        _until(lambda: _judged(database_url))
        judged_seconds = time.perf_counter() - begin
    with _platform(database_url, broker_url, folder) as (process, coap):
        with connect(database_url) as connection:
            register(connection, FLEET, shipped_profiles())
        cpu = _cpu(process.pid)
        result = send(Targets(("127.0.0.1", coap)), COAP_UPLINKS, window=400)
        coap_cpu = _cpu(process.pid) - cpu
    assert result.acknowledged == COAP_UPLINKS, result
    readings = MQTT_UPLINKS * 8 - taken
    return [
        Figure("mqtt_to_commit", readings / mqtt_seconds, "readings/s", 100_000, "the target"),
        Figure("mqtt_to_judged", readings / judged_seconds, "readings/s", readings / mqtt_seconds, "to commit"),
        Figure("mqtt_platform_cpu", mqtt_cpu / readings * 1e6, "µs/reading"),
        Figure("coap_to_ack", COAP_UPLINKS * 8 / result.seconds, "readings/s", 100_000, "the target"),
        Figure("coap_platform_cpu", coap_cpu / (COAP_UPLINKS * 8) * 1e6, "µs/reading"),
        Figure("coap_ack_p50", result.latency(0.5) * 1e3, "ms"),
        Figure("coap_ack_p99", result.latency(0.99) * 1e3, "ms"),
    ]


def _identity(number: int) -> str:
    return f"urn:dev:bench:{number % DEVICES}"


def _pack(number: int, start: int) -> bytes:
    at = start + number // DEVICES * SECOND
    noise = random.Random(number)
    return encode_cbor(
        _identity(number),
        [Measurement(name, unit, value * noise.uniform(0.9, 1.1), at) for name, unit, value in FIELDS],
    )


def _queue(broker_url: str, count: int) -> None:
    """Let the broker hold the load, so that the sender's pace is no part of the figure."""
    host, port = broker_url.removeprefix("mqtt://").split(":")
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(500)
    client.connect(host, int(port))
    client.loop_start()
    for number in range(count):
        sent = client.publish(f"headworks/{_identity(number)}/telemetry", _pack(number, START), qos=1)
    sent.wait_for_publish(60)
    _until(lambda: not client._out_messages)
    client.disconnect()
    client.loop_stop()


@contextmanager
def _platform(database_url: str, broker_url: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A platform of its own process, and its CoAP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        coap = probe.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        http = probe.getsockname()[1]
    # The shipped rules are measured, and nobody is paged: the user's own settings stay out of it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWORKS_")} | {
        "HEADWORKS_SETTINGS": os.devnull,
        "HEADWORKS_DATABASE_URL": database_url, "HEADWORKS_MQTT_URL": broker_url, "HEADWORKS_COAP_PORT": str(coap),
        "HEADWORKS_HTTP_PORT": str(http), "HEADWORKS_LOG_LEVEL": "warning",
        "HEADWORKS_SPOOL": str(folder / f"spool-{coap}.db"),
    }  # fmt: skip
    with (folder / "platform.log").open("ab") as log:
        command = [sys.executable, "-m", "headworks", "serve", "--until-eof"]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=log)
    try:
        _until(lambda: _healthy(http))
        yield process, coap
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _stored(url: str) -> int:
    with connect(url) as connection:
        row = connection.execute("SELECT coalesce(sum(readings), 0) FROM commit_log").fetchone()
    assert row is not None
    return int(str(row[0]))


def _judged(url: str) -> bool:
    with connect(url) as connection:
        return judged_up_to_date(connection)


def _cpu(pid: int) -> float:
    """Seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until(question: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            raise TimeoutError("the platform did not get there")
        time.sleep(0.02)
