"""The engine alone: readings per second and core with ten rules a device, and the memory that a device takes.

Run it with `python -m tests.benchmarks.bench_engine`.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from alerts.engine import Engine
from alerts.rulefiles import shipped_rules
from alerts.rules import Rule
from devices.alarm import Alarm
from devices.model import MINUTE, Device, Instant, Reading
from devices.profile import Kind, shipped_profiles
from tests.benchmarks.figures import Figure

TARGET = 150_000
"""Readings per second and core, about what one process commits."""
_START: Instant = 1_790_000_000_000_000
_METRICS = {
    "running": 1.0,
    "flow": 100.0,
    "power": 11.0,
    "suction_pressure": 1.0,
    "pressure": 4.0,
    "vibration": 3.0,
    "bearing_temperature": 55.0,
    "temperature": 15.0,
    "current": 20.0,
    "battery": 80.0,
    "enclosure_open": 0.0,
    "rsrp": -100.0,
}
_VALVE = {
    "pressure": 4.0,
    "outlet_pressure": 3.0,
    "pressure_setpoint": 3.0,
    "flow": 20.0,
    "position": 50.0,
    "temperature": 15.0,
    "battery": 80.0,
    "rsrp": -100.0,
}
_CONDITIONS = (
    "pressure < 2",
    "suction_pressure < 0.2 and running",
    "current > 30",
    "temperature > 60",
    "power > 1.1 * design.rated_power",
)
_PLAIN = ("pump-dry-run", "pump-vibration-high", "bearing-temperature-high", "battery-low", "enclosure-open")


@dataclass(frozen=True)
class Result:
    """What one way of delivery cost."""

    readings_per_second: int
    microseconds_per_reading: float
    rules: int
    changes: int


def bench(devices: int = 200, samples: int = 60, per_uplink: int = 5) -> dict[str, dict[str, float]]:
    """Deliver the same readings in order in uplinks of several samples, in order sample by sample, and with every
    20th uplink late by half an hour."""
    fleet, uplinks = _fleet(devices, samples, per_uplink)
    single = _fleet(devices, samples, 1)[1]
    chance = random.Random(1)
    arrival = [number + 6 * devices * (chance.random() < 0.05) for number in range(len(uplinks))]
    late = [uplinks[number] for number in sorted(range(len(uplinks)), key=arrival.__getitem__)]
    runs = {"in order": uplinks, "sample by sample": single, "5 % late": late}
    found = {name: asdict(_run(fleet, run)) for name, run in runs.items()}
    valves = _valves()
    return found | {"valves of one area": asdict(_run(*valves, batch=1))}


def figures() -> list[Figure]:
    """The same as figures, each beside the target of one core."""
    found = []
    for name, result in bench().items():
        label = "engine_" + name.replace("5 % late", "5_percent_late").replace(" ", "_")
        found.append(Figure(label, result["readings_per_second"], "readings/s", TARGET, "the target"))
    found.append(Figure("engine_memory", memory(_ten()) / 1000, "kB/device", 2.0, "the target"))
    found.append(Figure("engine_memory_whole_library", memory(shipped_rules()) / 1000, "kB/device"))
    return found


def _fleet(
    devices: int, samples: int, per_uplink: int, start: Instant = _START
) -> tuple[dict[str, Device], list[list[Reading]]]:
    fleet = {
        f"urn:dev:imei:{n}": Device(
            f"urn:dev:imei:{n}", "centrifugal-pump", design={"rated_power": 11.0, "rated_flow": 100.0}
        )
        for n in range(devices)
    }
    chance = random.Random(0)
    uplinks = []
    for first in range(0, samples, per_uplink):
        for identity in fleet:
            readings = [
                Reading(identity, metric, start + number * MINUTE, usual * chance.uniform(0.9, 1.1))
                for number in range(first, first + per_uplink)
                for metric, usual in _METRICS.items()
            ]
            if chance.random() < 0.02:
                readings = [r._replace(value=9.0) if r.metric == "vibration" else r for r in readings]
            uplinks.append(readings)
    return fleet, uplinks


def _valves(
    devices: int = 150, samples: int = 60, per_uplink: int = 15
) -> tuple[dict[str, Device], list[list[Reading]]]:
    """Reducing valves that rules on their area judge together, each with an uplink of its own."""
    fleet = {
        f"urn:dev:imei:{n}": Device(f"urn:dev:imei:{n}", "pressure-reducing-valve", tag=f"V-{n}", site="s", area="a")
        for n in range(devices)
    }
    chance = random.Random(0)
    return fleet, [
        [
            Reading(identity, metric, _START + number * MINUTE, usual * chance.uniform(0.98, 1.02))
            for number in range(first, first + per_uplink)
            for metric, usual in _VALVE.items()
        ]
        for first in range(0, samples, per_uplink)
        for identity in fleet
    ]


def _ten() -> list[Rule]:
    """Ten rules that meet a pump, none with a window."""
    shipped = [rule for rule in shipped_rules() if rule.rule in _PLAIN]
    return [*shipped, *_rules()[-len(_CONDITIONS) :]]


def _rules() -> list[Rule]:
    """The whole library and some more of the simple kind."""
    shipped = shipped_rules()
    simple = next(rule for rule in shipped if rule.rule == "battery-low")
    more = [
        Rule.model_validate(
            simple.model_dump() | {"rule": f"more-{n}", "condition": text, "deadband": 0.01, "setpoints": {}}
        )
        for n, text in enumerate(_CONDITIONS)
    ]
    return [*shipped, *more]


def _run(fleet: dict[str, Device], uplinks: Sequence[Sequence[Reading]], batch: int = 20) -> Result:
    together = list(fleet.values())
    committed: dict[str, list[Reading]] = {identity: [] for identity in fleet}
    alarms: dict[str, dict[tuple[str, Instant], Alarm]] = {identity: {} for identity in fleet}

    def history(identity: str, since: Instant | None) -> list[Reading]:
        return [r for r in committed[identity] if since is None or r.measured_at >= since]

    engine = Engine(_rules(), shipped_profiles())
    spent, total, changed = 0.0, 0, 0
    for readings in _batches(uplinks, batch):
        for reading in readings:
            committed[reading.device].append(reading)
        started = time.process_time()
        changes = engine.apply(
            readings, fleet, history, lambda identity: list(alarms[identity].values()), mates=lambda _: together
        )
        spent += time.process_time() - started
        total += len(readings)
        changed += len(changes)
        for change in changes:
            held = alarms[change.alarm.device]
            if change.before is not None:
                held.pop((change.before.rule, change.before.raised_at), None)
            if change.after is not None:
                held[change.after.rule, change.after.raised_at] = change.after
    fitting = sum(rule.group is None and rule.applies_to.kind is not Kind.VALVE for rule in _rules())
    return Result(round(total / spent), round(spent / total * 1e6, 2), fitting, changed)


def memory(rules: Sequence[Rule], devices: int = 200, samples: int = 600) -> int:
    """Bytes that the engine keeps for a device after ten hours of samples, with the readings and alarms gone."""
    engine = Engine(rules, shipped_profiles())
    # What is shared by all devices (rules compiled for a profile) is built before counting.
    one, (uplink,) = _fleet(1, 1, 1)
    engine.apply(uplink, one, partial(_everything, uplink), lambda identity: [])
    tracemalloc.start()
    fleet, _ = _fleet(devices, 0, 1)
    before = tracemalloc.get_traced_memory()[0]
    for number in range(0, samples, 10):
        for uplink in _fleet(devices, 10, 10, _START + number * MINUTE)[1]:
            engine.apply(uplink, fleet, partial(_everything, uplink), lambda identity: [])
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept // devices


def _everything(readings: list[Reading], _identity: str, _since: Instant | None) -> list[Reading]:
    return readings


def _batches(uplinks: Sequence[Sequence[Reading]], size: int) -> Iterator[list[Reading]]:
    for first in range(0, len(uplinks), size):
        yield [reading for uplink in uplinks[first : first + size] for reading in uplink]


if __name__ == "__main__":
    for name, result in bench().items():
        print(f"{name:18}", result)
    print(f"{'memory':18}", memory(_ten()), "bytes a device with ten rules,", memory(shipped_rules()), "with all")
