"""What an MQTT message costs the gateway, beside a bare paho subscriber that acknowledges and does nothing else.

`python -m tests.benchmarks.bench_mqtt KIND URL COUNT` is one subscriber: it takes COUNT messages of its session, the
gateway through decode and normalise, and prints its processor time a message in microseconds.
"""

from __future__ import annotations

import gc
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devices.model import Uplink
from ingest.mqtt import RECEIVE_MAXIMUM, Broker, MqttGateway
from ingest.pipeline import Done
from tests.benchmarks.bench_gateways import START, _identity, _pack
from tests.benchmarks.coap_servers import RECEIVED, take
from tests.benchmarks.figures import Figure

MESSAGES = 20_000
ROUNDS = 3
WARM = 1_000
_FILTER = "headworks/+/telemetry"


def figures(broker_url: str) -> list[Figure]:
    """Microseconds of processor time a message, the best of some rounds, taken in turns."""
    costs: dict[str, list[float]] = {"gateway": [], "bare": []}
    for kind in costs:
        _subscriber(kind, broker_url, 0)  # leaves its session with the broker, which queues from now on
    for _ in range(ROUNDS):
        _queue(broker_url)
        for kind, found in costs.items():
            found.append(_subscriber(kind, broker_url, MESSAGES))
    bare = min(costs["bare"])
    return [Figure("mqtt_message_cpu", min(costs["gateway"]), "µs", 1.5 * bare, "1.5 times bare paho (at most 1)")]


def _subscriber(kind: str, url: str, count: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.bench_mqtt", kind, url, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return float(done.stdout.splitlines()[-1])


def _queue(url: str) -> None:
    broker = Broker.parse(url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(500)
    client.connect(broker.host, broker.port)
    client.loop_start()
    for number in range(MESSAGES):
        sent = client.publish(f"headworks/{_identity(number)}/telemetry", _pack(number, START), qos=1)
    sent.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


class _Meter:
    """Processor time between the `WARM`th message and the last."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._seen = 0
        self._since = 0.0
        self.cost = 0.0
        self.ended = threading.Event()

    def count(self, more: int) -> None:
        """Some more messages were acknowledged."""
        before, self._seen = self._seen, self._seen + more
        if before < WARM <= self._seen:
            self._since, self._first = time.process_time(), self._seen
        if self._seen >= self._count:
            self.cost = (time.process_time() - self._since) / (self._seen - self._first) * 1e6
            self.ended.set()


def _gateway(broker: Broker, count: int) -> float:
    """The gateway with a thread behind it that takes batches, as the pipeline does, without a database."""
    meter = _Meter(count)
    waiting: queue.SimpleQueue[tuple[Uplink, Done]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            taken = [waiting.get()]
            while len(taken) < RECEIVE_MAXIMUM and not waiting.empty():
                taken.append(waiting.get())
            for (_, done), outcome in zip(taken, take([uplink for uplink, _ in taken]), strict=True):
                done(outcome)
            meter.count(len(taken))

    threading.Thread(target=work, daemon=True).start()
    gateway = MqttGateway(broker, lambda uplink, done: waiting.put((uplink, done)), lambda: RECEIVED, filters=[_FILTER])
    gateway.start()
    _await(lambda: gateway.connected if not count else meter.ended.is_set())
    gateway.close()
    return meter.cost


def _bare(broker: Broker, count: int) -> float:
    meter = _Meter(count)
    subscribed = threading.Event()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id="bench-bare", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
    )

    def on_message(client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        client.ack(message.mid, message.qos)
        meter.count(1)

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(_FILTER, qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    client.connect(broker.host, broker.port, clean_start=False, properties=properties)
    client.loop_start()
    _await(lambda: subscribed.is_set() if not count else meter.ended.is_set())
    client.disconnect()
    client.loop_stop()
    return meter.cost


def _await(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not question():
        if time.monotonic() > deadline:
            raise TimeoutError("the messages did not come")
        time.sleep(0.02)


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    _, kind, url, count = sys.argv
    print({"gateway": _gateway, "bare": _bare}[kind](Broker.parse(url), int(count)))
