"""From the arrival of an uplink to its alarm in the journal, and how long a start takes with a large fleet.

Run it with `make bench`; alone: `python -m tests.benchmarks.bench_alarms URL`.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alerts.engine import Engine
from alerts.live import LiveEngine
from alerts.notify import Notifier
from alerts.ports import Ports
from alerts.rulefiles import shipped_rules
from alerts.rules import Rule
from devices.alarm import AlarmChange, Announcement, ChangeKind
from devices.batch import Batch, Committed, UplinkRecord
from devices.codecs.senml import encode_cbor
from devices.model import MINUTE, SECOND, ContentFormat, Device, Instant, Measurement, Reading, Transport, Uplink
from devices.profile import shipped_profiles
from headworks import clock, contacts
from headworks.judging import Journal
from headworks.run import tune
from headworks.session import Session
from ingest.directory import Directory
from ingest.pipeline import Pipeline
from storage.database import connect
from storage.registry import find, register, sync_metrics
from storage.writer import Writer
from tests.benchmarks.figures import Figure

LATENCY_TARGET = 250.0
"""Milliseconds from a reading's arrival to its alarm committed, 99 of 100."""
START_TARGET = 10.0
"""Seconds until a platform with a hundred thousand devices judges."""
DEVICES = 2_000
FLEET = 100_000
SECONDS = 8.0
WINDOW = 400
"""Uplinks on their way at most, while the best throughput is looked for."""
_FIELDS = (("pressure", "bar", 4.0), ("flow", "m3/h", 90.0), ("vibration", "mm/s", 2.0), ("current", "A", 12.0),
           ("power", "kW", 10.0), ("temperature", "Cel", 18.0), ("speed", "rpm", 1480.0))  # fmt: skip
PROFILES = shipped_profiles()


def run(url: str) -> list[Figure]:
    """Latency at half of the best throughput, and the start."""
    return [*_latency(url), *_start(url)]


class Bench:
    """A pipeline, the engine behind it and the journal, as a platform has them, without a gateway."""

    def __init__(self, url: str) -> None:
        rules = self.rules = [*shipped_rules(), hot_rule()]
        self._judging, self._lookup = Session(url, "bench engine"), Session(url, "bench registry")
        self._writer = Writer(url)
        self._beside = Session(url, "bench contact")
        ports = Journal(self._judging, rules, [], PROFILES, self._beside).ports(self._devices)
        self.seconds: list[float] = []
        self.arrived: dict[tuple[str, Instant], float] = {}
        ports = replace(ports, record=self._timed(ports))
        notifier = Notifier(rules, clock.now, lambda _rule, _device: None)
        self.engine = LiveEngine(Engine(rules, PROFILES), ports, notifier, time.monotonic)
        directory = Directory(self._devices, time.monotonic)
        self.pipeline = Pipeline(self._writer.commit, directory.resolve, PROFILES, self._hand_over, time.monotonic)
        self._free = threading.Semaphore(WINDOW)
        self.done = 0
        self._number = 0
        self._from = clock.now() - 30 * MINUTE

    def start(self) -> float:
        """Seconds until it judges."""
        begin = time.perf_counter()
        self.engine.start()
        assert self.engine.wait_idle(120)
        self.pipeline.start()
        return time.perf_counter() - begin

    def close(self) -> None:
        self.pipeline.close(30)
        self.engine.close(30)
        for session in (self._judging, self._lookup, self._beside, self._writer):
            session.close()

    def send(self, *, hot: bool) -> None:
        """Hand in the next uplink; of each device the samples go forward."""
        number, self._number = self._number, self._number + 1
        self.send_of(f"urn:dev:alarms:{number % DEVICES}", self._from + number // DEVICES * SECOND, hot=hot)

    def send_of(self, device: str, at: Instant, *, hot: bool) -> None:
        """Hand in a device's uplink with a sample of this moment."""
        fields = [Measurement(name, unit, value, at) for name, unit, value in _FIELDS]
        fields.append(Measurement("bearing_temperature", "Cel", 150.0 if hot else 50.0, at))
        payload = encode_cbor(device, fields)
        if hot:
            self.arrived[device, at] = time.perf_counter()
        uplink = Uplink(Transport.COAP, payload, clock.now(), content_format=ContentFormat.SENML_CBOR)
        self._free.acquire()
        self.pipeline.submit(uplink, self._finished, patient=True)

    def _finished(self, _: object) -> None:
        self.done += 1
        self._free.release()

    def _devices(self, identities: Sequence[str]) -> Mapping[str, Device]:
        found = self._lookup.run(lambda connection: find(connection, identities))
        return {identity: entry.device for identity, entry in found.items()}

    def _hand_over(self, batch: Batch, committed: Committed) -> None:
        readings = [reading for record in batch.uplinks for reading in record.readings]
        self.engine.hand_over(committed.transaction, readings)

    def _timed(self, ports: Ports) -> Any:
        def record(changes: Sequence[AlarmChange], position: int, announcements: Sequence[Announcement]) -> None:
            ports.record(changes, position, announcements)
            now = time.perf_counter()
            for change in changes:
                begun = self.arrived.pop((change.alarm.device, change.alarm.raised_at), None)
                if begun is not None and change.kind is ChangeKind.RAISED and change.alarm.rule == "bench-hot":
                    self.seconds.append(now - begun)

        return record


def hot_rule() -> Rule:
    """One that calls at every hot sample and is quiet at the others."""
    model = next(rule for rule in shipped_rules() if rule.rule == "bearing-temperature-high").model_dump()
    model |= {"rule": "bench-hot", "condition": "bearing_temperature > 140", "metric": None, "setpoints": {}}
    return Rule.model_validate(model | {"on_delay": 0, "off_delay": 0, "deadband": 0.0, "overrides": ()})


def _latency(url: str) -> list[Figure]:
    with connect(url) as connection:
        sync_metrics(connection)
        fleet = [Device(f"urn:dev:alarms:{n}", "centrifugal-pump", site="alarms") for n in range(DEVICES)]
        register(connection, fleet, PROFILES)
    bench = Bench(url)
    bench.start()
    for _ in range(2 * DEVICES):  # every device is met, and has a past
        bench.send(hot=False)
    assert bench.engine.wait_idle(120)
    begin, before = time.perf_counter(), bench.done
    while time.perf_counter() - begin < SECONDS:
        bench.send(hot=False)
    assert bench.engine.wait_idle(120)  # what is committed and not judged is no throughput
    best = (bench.done - before) / (time.perf_counter() - begin)
    pause, begin, sent = 2 / best, time.perf_counter(), 0
    while (now := time.perf_counter() - begin) < 2 * SECONDS:
        if sent * pause > now:
            time.sleep(sent * pause - now)
        # Of each device one uplink in twenty is hot, never two in a row.
        bench.send(hot=sent % DEVICES % 20 == sent // DEVICES % 20)
        sent += 1
    assert bench.engine.wait_idle(120)
    bench.close()
    milliseconds = sorted(1_000 * one for one in bench.seconds)
    cuts = statistics.quantiles(milliseconds, n=100)
    readings = len(_FIELDS) + 1
    return [
        Figure("alarm_best_throughput", best * readings, "readings/s judged"),
        Figure("alarm_latency_p50", cuts[49], "ms"),
        Figure("alarm_latency_p99", cuts[98], "ms", LATENCY_TARGET, f"the target, of {len(milliseconds)} alarms"),
    ]


def _start(url: str) -> list[Figure]:
    with connect(url) as connection:
        fleet = [Device(f"urn:dev:start:{n}", "centrifugal-pump", site="start") for n in range(FLEET)]
        register(connection, fleet, PROFILES)
    _say(url, fleet)
    tune()  # as every platform does
    # Nothing of the fleet is judged yet: the most that a start can find.
    behind = Bench(url)
    catching_up = behind.start()
    behind.close()
    bench = Bench(url)
    seconds = bench.start()
    bench.close()
    spent = []
    for _ in range(2):  # at first every state is new
        with connect(url) as connection:
            begin = time.perf_counter()
            contacts.judge(connection, PROFILES, [], clock.now())
            spent.append(time.perf_counter() - begin)
    return [
        Figure("engine_start_100000_devices", seconds, "s", START_TARGET, "the target"),
        Figure("engine_start_100000_devices_unjudged", catching_up, "s", START_TARGET, "the target"),
        Figure("contact_100000_devices", spent[1], "s"),
    ]


def _say(url: str, fleet: Sequence[Device]) -> None:
    """An uplink of every device, within the last five minutes."""
    writer, now = Writer(url), clock.now()
    for first in range(0, len(fleet), 1_000):
        records = []
        for number, device in enumerate(fleet[first : first + 1_000], first):
            at = now - number * 5 * MINUTE // len(fleet)
            readings = [Reading(device.identity, metric, at, value) for metric, _, value in _FIELDS]
            records.append(UplinkRecord(Uplink(Transport.COAP, b"", at), device.identity, readings))
        writer.commit(Batch(records))
    writer.close()


if __name__ == "__main__":
    for figure in run(sys.argv[1]):
        print(figure.as_dict())
