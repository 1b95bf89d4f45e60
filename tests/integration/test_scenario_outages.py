"""Scenarios while the broker or the platform goes away in the middle: devices keep what nobody has promised to keep,
and all of it arrives when there is somebody again."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from deploy.provision import Installation
from devices.codecs.sparkplug_schema import Payload
from devices.model import Instant
from headworks import clock
from headworks.embedded import EmbeddedBroker
from headworks.scenarios import prepare
from headworks.service import Doors
from headworks.settings import Settings
from ingest.mqtt import Broker
from simulators.records import acknowledged_keys, read_ledger
from simulators.scenario import Protocol
from simulators.scenario_plant import Played, load_scenario, play
from simulators.scenario_run import Progress, run_scenario
from tests.integration.test_gateways import eventually, running
from tests.integration.test_quarantine import as_url
from tests.integration.test_scenarios import HOST, START, stored
from tests.ports import free_port

Key = tuple[str, str, Instant]

EVERY_MQTT = """
scenario: Every stack of MQTT
duration: 4h
speed: 1200
sites: [{site: pumping-station}, {site: control-skid}]
fleets:
  - {devices: [PS-P1], protocol: iotda}
  - {devices: [PS-P2], protocol: thingsboard}
  - {devices: [PS-P3], protocol: mqtt, format: json}
  - {devices: [CV-TANK], protocol: mqtt, format: cbor}
  - {devices: ["LG-*"], protocol: mqtt, format: frame, reporting: {sampling: 15m, interval: 15m}}
  - {devices: ["SK-*"], protocol: sparkplug, node: Refinery/RTU-7}
"""


@pytest.fixture
def broker(installation: Installation, scratch: Path) -> Iterator[EmbeddedBroker]:
    """A broker of this test's own, which it may stop."""
    own = EmbeddedBroker(installation, scratch / f"own-{time.monotonic_ns()}", port=free_port(socket.SOCK_STREAM))
    own.start()
    yield own
    own.stop()


class Playing:
    """A scenario that plays in a thread of its own, from its beginning to its end."""

    def __init__(self, platform: Doors, database_url: str, broker_url: str, text: str, folder: Path) -> None:
        path = folder / "scenario.yaml"
        path.write_text(text, "utf-8")
        scenario = load_scenario(path)
        settings = Settings(
            database_url=as_url(database_url),  # type: ignore[arg-type]  # a text becomes a secret
            mqtt_url=broker_url,  # type: ignore[arg-type]
            mqtt_door_port=platform.mqtt_door or None,
            coap_port=int(platform.coap.rsplit(":", 1)[1]),
            key_file=folder / "secret.key",
        )
        self.ledger = folder / "ledger.jsonl"
        self.played: Played = play(scenario, START)
        self.progress: Progress | None = None
        target = prepare(settings, scenario, folder)
        clocks = (time.monotonic, clock.now)

        async def main() -> None:
            run = run_scenario(
                self.played, target, scenario.document.speed, folder, clocks, self._report, asyncio.Event()
            )
            await asyncio.wait_for(run, 300)

        self._error: BaseException | None = None

        def guarded() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:  # `finish` raises it
                self._error = error

        self._thread = threading.Thread(target=guarded)
        self._thread.start()

    def _report(self, progress: Progress) -> None:
        self.progress = progress

    def until(self, done: str, count: int, *protocols: Protocol) -> None:
        """Wait until a number that is counted for each of these protocols is that high."""

        def reached() -> bool:
            assert self._thread.is_alive(), self._error or "the scenario was over before"
            return self.progress is not None and all(
                getattr(self.progress.by[protocol], done) >= count for protocol in protocols
            )

        eventually(reached, f"{done} of {', '.join(protocols)} is {count}")

    def finish(self) -> Progress:
        self._thread.join(300)
        if self._error is not None:
            raise self._error
        assert self.progress is not None
        return self.progress

    def sent(self) -> list[set[Key]]:
        """What was sent, uplink by uplink in the order of the answers."""
        return [
            {(line["device"], metric, at) for metric, times in line["readings"].items() for at in times}
            for line in read_ledger(self.ledger)
            if line["sent"]
        ]


@contextmanager
def listening(broker_url: str, *filters: str) -> Iterator[list[tuple[str, bytes]]]:
    """All messages on some topics, as another subscriber has them."""
    heard: list[tuple[str, bytes]] = []
    up = threading.Event()
    observer = paho.Client(CallbackAPIVersion.VERSION2)
    observer.on_message = lambda _, __, message: heard.append((message.topic, bytes(message.payload)))
    observer.on_connect = lambda client, *_: client.subscribe([(one, 1) for one in filters])
    observer.on_subscribe = lambda *_: up.set()
    address = Broker.parse(broker_url)
    observer.connect(address.host, address.port)
    observer.loop_start()
    try:
        assert up.wait(60)
        yield heard
    finally:
        observer.disconnect()
        observer.loop_stop()


def test_a_broker_that_goes_away_and_comes_back_costs_no_sample(
    database_url: str, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    key = tmp_path / "secret.key"
    with running(database_url, broker.url, mqtt_door_port=0, sparkplug_host=HOST, key_file=key) as platform:
        run = Playing(platform, database_url, broker.url, EVERY_MQTT, tmp_path)
        run.until("acknowledged", 50, Protocol.MQTT)
        run.until("unpromised", 50, Protocol.SPARKPLUG)
        broker.stop()
        run.until("waiting", 5, Protocol.MQTT, Protocol.SPARKPLUG)
        broker.start()
        done = run.finish()
        assert done.complete
        promised = set(acknowledged_keys(run.ledger))
        eventually(lambda: promised <= stored(database_url).keys(), "all that was promised is stored")
    for line in read_ledger(run.ledger):
        assert line["code"] in ("PUBACK", "QoS 0"), "each was taken in the end"
    for protocol in (Protocol.MQTT, Protocol.THINGSBOARD, Protocol.IOTDA):
        counts = done.by[protocol]
        assert counts.readings == counts.acknowledged > 0, protocol
        assert (counts.waiting, counts.dropped, counts.rejected) == (0, 0, 0), protocol


def test_a_platform_that_restarts_costs_no_sample_of_those_that_log_in_at_its_door(
    database_url: str, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    key = tmp_path / "secret.key"
    more: dict[str, Any] = {"sparkplug_host": HOST, "key_file": key}
    logins = (Protocol.THINGSBOARD, Protocol.IOTDA)
    door = free_port(socket.SOCK_STREAM)
    with running(database_url, broker.url, mqtt_door_port=door, **more) as platform:
        run = Playing(platform, database_url, broker.url, EVERY_MQTT, tmp_path)
        run.until("acknowledged", 50, *logins)
    run.until("waiting", 2, *logins)
    with running(database_url, broker.url, mqtt_door_port=door, **more):
        done = run.finish()
        assert done.complete
        promised = set(acknowledged_keys(run.ledger))
        eventually(lambda: promised <= stored(database_url).keys(), "all that was promised is stored")
    for protocol in (*logins, Protocol.MQTT):
        counts = done.by[protocol]
        assert counts.readings == counts.acknowledged > 0, protocol
        assert (counts.waiting, counts.dropped, counts.rejected) == (0, 0, 0), protocol


def test_an_edge_node_says_its_births_again_when_a_platform_that_came_back_asks(
    database_url: str, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"sparkplug_host": HOST, "key_file": tmp_path / "secret.key"}
    births, commands = "spBv1.0/Refinery/NBIRTH/RTU-7", "spBv1.0/Refinery/NCMD/RTU-7"
    with listening(broker.url, births, commands) as heard:
        door = free_port(socket.SOCK_STREAM)
        with running(database_url, broker.url, mqtt_door_port=door, **more) as platform:
            run = Playing(platform, database_url, broker.url, EVERY_MQTT, tmp_path)
            run.until("unpromised", 50, Protocol.SPARKPLUG)
            before = len(run.sent())
            known = set().union(*run.sent()[:before])
            eventually(lambda: known <= stored(database_url).keys(), "what was sent until now has arrived")
        run.until("waiting", 5, Protocol.SPARKPLUG)
        while_away = len(run.sent())
        assert [topic for topic, _ in heard] == [births], "one birth was enough for a platform that was there"
        with running(database_url, broker.url, mqtt_door_port=door, **more):
            assert run.finish().complete
            sent = run.sent()
            kept = set().union(*sent[:before], *sent[while_away:])
            assert len(sent[while_away:]) > 5
            # What was on its way in the moment of the stop had QoS 0: nobody promises that.
            eventually(lambda: kept <= stored(database_url).keys(), "all but what had QoS 0 at that moment")
    topics = [topic for topic, _ in heard]
    assert commands in topics[1:]
    assert births in topics[topics.index(commands) :], "it said its birth again"
    lives = [Payload.FromString(octets) for topic, octets in heard if topic == births]
    numbers = {metric.long_value for life in lives for metric in life.metrics if metric.name == b"bdSeq"}
    assert len(numbers) == 1, "a rebirth is the same life: its will has the number that it was written with"
    assert {life.seq for life in lives} == {0}
