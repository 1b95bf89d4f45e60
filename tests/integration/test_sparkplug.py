"""Sparkplug B through a real broker, by an edge node that we did not write."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.provision import Installation
from devices.codecs.sparkplug import node_identity
from devices.model import SECOND, Device
from devices.profile import shipped_profiles
from headworks import clock
from headworks.embedded import EmbeddedBroker
from ingest.mqtt import Broker
from ingest.sparkplug import SparkplugHost
from storage.database import connect
from storage.registry import register
from tests.integration.test_gateways import eventually, query, running
from tests.peers.start import peer
from tests.unit.test_sparkplug import NOW, device_birth, device_data, node_birth, node_death

HOST = "waterworks"
PUMP = Device(node_identity("North", "RTU-7", "P-101"), "centrifugal-pump", tag="P-101", site="North")


@pytest.fixture
def plant(database_url: str) -> str:
    with connect(database_url) as connection:
        register(connection, [PUMP], shipped_profiles())
    return database_url


class EdgeNode:
    """The peer's process, by its input and output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        eventually(lambda: "connected" in self.lines, "the edge node is connected")

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def do(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        eventually(lambda: f"done {command}" in self.lines, f"the edge node has done {command}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)


@contextmanager
def edge_node(broker_url: str) -> Iterator[EdgeNode]:
    with peer("sparkplug", "sparkplug_edge.py", str(Broker.parse(broker_url).port)) as process:
        yield EdgeNode(process)


def readings(url: str, metric: str) -> list[float]:
    rows = query(
        url, f"SELECT value FROM reading JOIN metric USING (metric_id) WHERE name = '{metric}' ORDER BY measured_at"
    )
    return [float(str(value)) for (value,) in rows]


def test_births_data_and_a_death_become_readings(plant: str, broker_url: str) -> None:
    with running(plant, broker_url, sparkplug_host=HOST), edge_node(broker_url) as edge:
        eventually(lambda: readings(plant, "pressure") == [4.0], "the birth is stored")
        edge.do("update 4.5")
        edge.do("alias 4.75")
        eventually(lambda: readings(plant, "pressure") == [4.0, 4.5, 4.75], "its data are stored")
        assert readings(plant, "connected") == [1.0]
        edge.kill()  # the broker says its will
        eventually(lambda: readings(plant, "connected") == [1.0, 0.0], "its death is stored")
        value = "SELECT value FROM latest JOIN metric USING (metric_id) WHERE name = 'pressure'"
        assert query(plant, value) == [(4.75,)], "what it said last stays"


def test_a_host_that_comes_later_asks_for_the_birth_and_loses_nothing_that_it_got(plant: str, broker_url: str) -> None:
    with edge_node(broker_url) as edge, running(plant, broker_url, sparkplug_host=HOST):
        edge.do("alias 4.25")
        eventually(lambda: "command spBv1.0/North/NCMD/RTU-7" in edge.lines, "the host asks for a birth")
        assert readings(plant, "pressure") == []
        edge.do("rebirth")
        eventually(lambda: readings(plant, "pressure") == [4.0, 4.25], "its birth is stored, and what waited for it")


def test_what_an_edge_node_sends_until_it_has_heard_that_the_host_goes_is_stored(plant: str, broker_url: str) -> None:
    """An edge node that waits for its host: it is born when the host comes, and dies when it hears that the host goes.
    What it sent before that is under way, with QoS 0."""
    node = paho.Client(CallbackAPIVersion.VERSION2)

    def send(kind: str, payload: bytes) -> None:
        node.publish(f"spBv1.0/North/{kind}/RTU-7" + ("/P-101" if kind[0] == "D" else ""), payload)

    def on_message(_: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        if json.loads(message.payload)["online"]:
            send("NBIRTH", node_birth())
            send("DBIRTH", device_birth())
        else:
            send("DDATA", device_data(2, 4.5, at=NOW + SECOND))
            send("NDEATH", node_death())

    node.on_message = on_message
    broker = Broker.parse(broker_url)
    node.connect(broker.host, broker.port)
    node.subscribe(f"spBv1.0/STATE/{HOST}", qos=1)
    node.loop_start()
    try:
        with running(plant, broker_url, sparkplug_host=HOST):
            eventually(lambda: readings(plant, "pressure") == [4.0], "the birth is stored")
    finally:
        node.disconnect()
        node.loop_stop()
    assert readings(plant, "pressure") == [4.0, 4.5]
    assert readings(plant, "connected") == [1.0, 0.0], "the node's death is stored, too"


@contextmanager
def observer(broker_url: str) -> Iterator[list[tuple[str, bool, int]]]:
    """What a client hears of hosts: topic, whether on line, and the time that stands with it."""
    heard: list[tuple[str, bool, int]] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)

    def on_message(_: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        state = json.loads(message.payload)
        heard.append((message.topic, state["online"], state["timestamp"]))

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe("spBv1.0/STATE/#", qos=1)
    broker = Broker.parse(broker_url)
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_host_that_goes_while_the_broker_is_away_is_not_on_line_afterwards(
    installation: Installation, scratch: Path
) -> None:
    with EmbeddedBroker(installation, scratch / "left-by-a-host") as broker:
        host = SparkplugHost(Broker.parse(broker.url), HOST, lambda *_: None, clock.now)
        host.start()
        try:
            eventually(lambda: host.connected, "it is on line")
            with observer(broker.url) as before:
                eventually(lambda: len(before) == 1, "it says so")
            broker.stop()
            eventually(lambda: not host.connected, "it knows that the broker is away")
            host.stop_taking()
            broker.start()
            with observer(broker.url) as after:
                eventually(lambda: any(since > before[0][2] for *_, since in after), "it has another connection")
                # Its last birth was perhaps not acknowledged, and is said again.
                eventually(lambda: not after[-1][1], "what stands is that it is off line")
        finally:
            host.close()


def test_a_host_says_whether_it_is_on_line(plant: str, broker_url: str) -> None:
    with observer(broker_url) as heard:
        with running(plant, broker_url, sparkplug_host=HOST):
            eventually(lambda: len(heard) == 1, "it says that it is there")
        eventually(lambda: len(heard) >= 2, "it says that it goes")
    topics, online, times = zip(*heard, strict=True)
    assert set(topics) == {f"spBv1.0/STATE/{HOST}"}
    assert online[0] is True
    assert set(online[1:]) == {False}
    assert len(set(times)) == 1, "its death carries the time of its birth"


def test_an_edge_node_that_nobody_registered_is_quarantined(database_url: str, broker_url: str) -> None:
    with running(database_url, broker_url, sparkplug_host=HOST), edge_node(broker_url):
        asked = "SELECT DISTINCT identity, reason FROM quarantine"
        eventually(
            lambda: (PUMP.identity, "unknown_device") in query(database_url, asked), "its birth is in quarantine"
        )
