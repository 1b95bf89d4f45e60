"""A simulated plant plays through real sockets and a real broker, and the shipped alarm rules judge what it sends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from alerts.backtest import occurrences
from alerts.rulefiles import shipped_rules
from devices.alarm import Alarm
from devices.decode import decode
from devices.model import DAY, HOUR, MINUTE, Instant, Reading, Transport, Uplink, instant
from devices.normalize import normalize
from devices.profile import shipped_profiles
from simulators.device import manner, uplinks
from simulators.faults import Fault
from simulators.observation import observe
from simulators.plant import Plant, build
from simulators.radio import Disturbance
from simulators.records import acknowledged_keys, read_ledger, truth_of
from simulators.run import Config, Progress, simulate
from simulators.schedule import schedule
from simulators.truth import Truth, read_truth
from tests.unit.simulators.peer import UNAVAILABLE, Manners, Peer, Request, honest, serving

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))
PROFILES = shipped_profiles()
GRACE = 30 * MINUTE


class Subscriber:
    """Takes what the broker has, as the platform would."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.messages: list[tuple[str, bytes]] = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("headworks/+/telemetry", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _, __, message: self.messages.append((message.topic, bytes(message.payload)))
        self._client.connect(parts.hostname or "", parts.port or 1883)
        self._client.loop_start()
        assert self._ready.wait(60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def play(
    broker_url: str,
    folder: Path,
    manners: Manners = honest,
    *,
    hours: float = 3.0,
    stop_at: Callable[[Progress], bool] = lambda _: False,
    **settings: object,
) -> tuple[Progress, Peer, Config]:
    """Simulate against a CoAP peer of this test's own and the broker."""

    async def main() -> tuple[Progress, Peer, Config]:
        async with serving(manners) as peer:
            config = Config(
                start=START, end=START + round(hours * HOUR), coap_host="127.0.0.1", coap_port=peer.port,
                mqtt_url=broker_url, ledger=folder / "ledger.jsonl", truth=folder / "truth.jsonl", pumps=4, valves=4,
                play_seconds=0.0, ack_timeout=0.2,
            )  # fmt: skip
            config = replace(config, **settings)  # type: ignore[arg-type]
            stop = asyncio.Event()

            def look(progress: Progress) -> None:
                if stop_at(progress):
                    stop.set()

            progress = await simulate(config, time.monotonic, look, stop)
            return progress, peer, config

    return asyncio.run(asyncio.wait_for(main(), 300))


def keys_of_mqtt(subscriber: Subscriber, expected: int) -> set[tuple[str, str, Instant]]:
    deadline = time.monotonic() + 60
    while len(subscriber.messages) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    found = set()
    for topic, payload in subscriber.messages:
        for report in decode(Uplink(Transport.MQTT, payload, START + DAY, topic.split("/")[1])):
            assert report.identity == topic.split("/")[1]
            found |= {(report.identity or "", entry.name, entry.time) for entry in report.measurements}
    return found


def unaliased(keys: set[tuple[str, str, Instant]]) -> set[tuple[str, str, Instant]]:
    names = {"travel": "position", "setpoint": "position_command"}
    return {(device, names.get(metric, metric), at) for device, metric, at in keys}


def test_what_devices_were_promised_is_what_arrived(broker_url: str, tmp_path: Path) -> None:
    subscriber = Subscriber(broker_url)
    progress, peer, config = play(broker_url, tmp_path, disturbance=Disturbance(0.1, 0.1, 0.1))
    ledger = list(read_ledger(config.ledger))
    by_mqtt = [entry for entry in ledger if entry["transport"] == "mqtt"]
    arrived = keys_of_mqtt(subscriber, len(by_mqtt)) | {(device, name, at) for device, name, at, _ in peer.taken}
    subscriber.close()
    assert progress.complete
    assert progress.repeated > 0
    assert {entry["code"] for entry in ledger} == {"2.04", "PUBACK"}
    assert set(acknowledged_keys(config.ledger)) == unaliased(arrived)
    plant = build(config.seed, 4, 4)
    faults = schedule(plant.works, config.start, config.end)
    observation = observe(plant.works, faults, config.start, config.end)
    sent = Counter[Transport]()
    for asset in plant.assets:
        for uplink in uplinks(asset, PROFILES[asset.device.profile].reporting, config.seed, observation):
            sent[manner(asset).transport] += uplink.count
    assert progress.sent == progress.acknowledged == sent
    ports = {request.port for request in peer.requests}
    assert len(ports) > 4, "a device that slept comes back from another port"
    assert read_truth(config.truth) == truth_of(plant, faults, config.start, config.end)


def test_a_lossy_and_busy_gateway_gets_everything_in_the_end(broker_url: str, tmp_path: Path) -> None:
    def moody(peer: Peer, request: Request) -> None:
        number = len(peer.requests)
        if number % 7 == 0:
            return  # lost
        if number % 11 == 0:
            peer.piggyback(request, UNAVAILABLE, b"\xd1\x01\x00")  # not now; Max-Age 0
        else:
            peer.take(request)

    subscriber = Subscriber(broker_url)
    progress, peer, config = play(broker_url, tmp_path, moody, hours=1.0)
    subscriber.close()
    assert progress.complete
    assert progress.retransmitted > 0
    assert progress.unanswered > 0
    by_coap = {
        (entry["device"], metric, at)
        for entry in read_ledger(config.ledger)
        if entry["transport"] == "coap" and entry["acknowledged"]
        for metric, times in entry["readings"].items()
        for at in times
    }
    assert by_coap == unaliased({(device, name, at) for device, name, at, _ in peer.taken})
    assert progress.sent[Transport.COAP] == len(by_coap)


def both_ways(progress: Progress) -> bool:
    """Whether something was acknowledged by CoAP and by MQTT."""
    return min(progress.acknowledged[way] for way in (Transport.COAP, Transport.MQTT)) > 0


def test_a_run_that_is_stopped_promises_no_more_than_was_answered(broker_url: str, tmp_path: Path) -> None:
    subscriber = Subscriber(broker_url)
    progress, peer, config = play(broker_url, tmp_path, hours=24.0, play_seconds=120.0, stop_at=both_ways)
    subscriber.close()
    assert not progress.complete
    assert config.start < progress.at < config.end
    promised = set(acknowledged_keys(config.ledger))
    taken = unaliased({(device, name, at) for device, name, at, _ in peer.taken})
    devices = {device for device, _, _ in taken}
    assert {key for key in promised if key[0] in devices} <= taken


def test_data_that_no_subscriber_waits_for_is_not_counted_as_delivered(broker_url: str, tmp_path: Path) -> None:
    def tried(progress: Progress) -> bool:
        return progress.acknowledged[Transport.COAP] > 0 and progress.unanswered > 0

    progress, _, config = play(broker_url, tmp_path, hours=0.5, stop_at=tried, with_faults=False)
    assert progress.acknowledged[Transport.MQTT] == 0
    assert progress.acknowledged[Transport.COAP] > 0
    assert not any(entry["acknowledged"] for entry in read_ledger(config.ledger) if entry["transport"] == "mqtt")


def test_a_broker_that_is_not_there_is_told_by_its_address(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"the MQTT broker at 127\.0\.0\.1:1 cannot be reached"):
        play("mqtt://me:secret@127.0.0.1:1", tmp_path, hours=0.5)


def alarms_of(plant: Plant, faults: list[Fault], start: Instant, end: Instant) -> list[Alarm]:
    """What the shipped rules say to all that the devices send."""
    observation = observe(plant.works, faults, start, end)
    rules = shipped_rules()
    found: list[Alarm] = []
    for asset in plant.assets:
        profile = PROFILES[asset.device.profile]
        readings: list[Reading] = []
        for uplink in uplinks(asset, profile.reporting, plant.seed, observation):
            received = Uplink(Transport.COAP, uplink.payload, end, None, manner(asset).content_format)
            for report in decode(received):
                readings += normalize(report, asset.device, profile, end)[0]
        found += occurrences(rules, asset.device, PROFILES, readings)
    return found


def is_explained(alarm: Alarm, truth: Truth) -> bool:
    return (
        alarm.device == truth.device
        and alarm.rule in truth.explains
        and truth.begins <= alarm.raised_at <= truth.ends + GRACE
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_day_raises_no_alarm_and_each_fault_of_a_sick_one_does(seed: int) -> None:
    plant = build(seed, 8, 8)
    start, end = START + seed * DAY, START + (seed + 1) * DAY
    assert alarms_of(plant, [], start, end) == []
    faults = schedule(plant.works, start, end)
    truths = truth_of(plant, faults, start, end).faults
    alarms = alarms_of(plant, faults, start, end)
    assert len(truths) >= 6
    unexplained = [alarm for alarm in alarms if not any(is_explained(alarm, truth) for truth in truths)]
    missed = [truth for truth in truths if not any(is_explained(alarm, truth) for alarm in alarms)]
    assert (unexplained, missed) == ([], [])
