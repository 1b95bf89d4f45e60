"""Faults with onset, growth and ground truth, and which alarms would explain each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.model import HOUR, MINUTE, Instant
from simulators.noise import Array, Times
from simulators.plant import Asset, Plant


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: where it can be, how it grows, and which rules are right to raise an alarm."""

    name: str
    on: str
    duration: Instant
    growth: Instant
    """Time from onset to full severity; 0 is sudden."""
    explains: tuple[str, ...]


KINDS = (
    Kind("pump-dry-run", "pump", HOUR, 0, ("pump-dry-run",)),
    Kind("bearing-wear", "pump", 5 * HOUR, 2 * HOUR, ("pump-vibration-high", "bearing-temperature-high")),
    # DAMADICS f4: friction grown so far that the stem stays behind its command.
    Kind("stiction", "valve", 2 * HOUR, 0, ("valve-travel-deviation",)),
    Kind("pipe-burst", "valve", 90 * MINUTE, 0, ("pressure-low",)),
    # DAMADICS f6: internal leakage.
    Kind("seat-passing", "valve", 4 * HOUR, 0, ("valve-seat-passing",)),
    Kind("tamper", "valve", 40 * MINUTE, 0, ("enclosure-open",)),
    Kind("battery-collapse", "pump", 4 * HOUR, HOUR, ("battery-low",)),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault on one device, from onset to repair; `severity` from 0 to 1."""

    kind: Kind
    device: str
    begins: Instant
    ends: Instant
    severity: float

    def intensity(self, times: Times) -> Array:
        """How strong it is at each time, from 0 to `severity`."""
        active = (times >= self.begins) & (times < self.ends)
        grown = np.ones(len(times)) if not self.kind.growth else np.clip((times - self.begins) / self.kind.growth, 0, 1)
        result: Array = np.where(active, self.severity * grown, 0.0)
        return result


def schedule(plant: Plant, start: Instant, end: Instant) -> list[Fault]:
    """One fault of each kind, each on a device of its own, spread over the time. Same seed, same faults."""
    rng = np.random.default_rng([plant.seed, 2])
    free = [plant.assets[int(i)] for i in rng.permutation(len(plant.assets))]
    faults = []
    for kind in KINDS:
        asset = next((a for a in free if _can_have(a, kind)), None)
        if asset is None:
            continue
        free.remove(asset)
        first, last = start + (end - start) // 12, end - kind.duration - (end - start) // 24
        if kind.name == "seat-passing":
            first, last = _closed(start, end, kind.duration)
        last = max(last, first + MINUTE)
        begins = int(rng.integers(first, last)) // MINUTE * MINUTE
        faults.append(Fault(kind, asset.device.identity, begins, begins + kind.duration, float(rng.uniform(0.85, 1.0))))
    return sorted(faults, key=lambda fault: fault.begins)


def _can_have(asset: Asset, kind: Kind) -> bool:
    if asset.is_pump != (kind.on == "pump"):
        return False
    if kind.name == "seat-passing":
        return asset.number % 4 == 3  # one that closes
    if kind.name in ("pump-dry-run", "bearing-wear"):
        return asset.number % 3 != 0  # one that always runs
    return kind.name not in ("stiction", "pipe-burst") or asset.number % 4 != 3


def _closed(start: Instant, end: Instant, duration: Instant) -> tuple[Instant, Instant]:
    """Within the hours in which the tank-filling valves are closed (7 to 22, UTC+8), as far as the time allows."""
    day = 24 * HOUR
    closes = -(-(start + 8 * HOUR - 8 * HOUR) // day) * day - HOUR
    for opening in (closes - day, closes, closes + day):
        first, last = max(opening, start) + HOUR, min(opening + 15 * HOUR, end) - duration
        if last > first:
            return first, last
    return start, start + MINUTE
