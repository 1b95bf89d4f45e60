"""Faults: what can be wrong, how it grows, and at which physical quantity it bites.

A fault never touches a signal: it changes a conductance, a friction, a bearing or a contact, and the layers above carry
it to every instrument that would see it. A schedule of faults for a demonstration is made in `simulators.schedule`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from devices.model import Instant
from simulators.hydraulics import Disturbances
from simulators.noise import Floats, Integers
from simulators.waterworks import Pump, Site, Valve, Waterworks


class FaultKind(StrEnum):
    """What can be wrong. The f-numbers are those of the DAMADICS actuator benchmark."""

    DRY_RUN = "dry-run"
    """A pump loses its suction: air, an empty source, a shut suction valve."""
    BEARING_WEAR = "bearing-wear"
    """A pump's bearing fails: vibration and temperature grow."""
    STICTION = "valve-stiction"
    """f4: the packing's friction holds the stem; from severity 1 on it is stuck."""
    SEAT_PASSING = "seat-passing"
    """f6: a shut valve lets water through."""
    PIPE_BURST = "pipe-burst"
    """A main bursts at the valves of a supply area."""
    TAMPER = "tamper"
    """Somebody opens the enclosure of a telemetry unit."""
    BATTERY = "battery-collapse"
    """A telemetry unit's battery gives up."""


EXPLAINS: dict[FaultKind, tuple[str, ...]] = {
    FaultKind.DRY_RUN: ("pump-dry-run", "suction-pressure-low", "suction-pressure-fell"),
    FaultKind.BEARING_WEAR: (
        "pump-vibration-high", "pump-vibration-danger", "pump-vibration-changed",
        "bearing-temperature-high", "bearing-temperature-danger", "bearing-temperature-rising",
    ),
    FaultKind.STICTION: ("valve-travel-deviation", "valve-stiction"),
    FaultKind.SEAT_PASSING: ("valve-seat-passing",),
    FaultKind.PIPE_BURST: ("pressure-low", "pressure-transient", "flow-jump"),
    FaultKind.TAMPER: ("enclosure-open",),
    FaultKind.BATTERY: ("battery-low", "battery-voltage-low"),
}  # fmt: skip
"""The shipped alarm rules whose alarms, on an affected device, such a fault explains; at least one of them must come
from a fault of severity 1."""

STUCK_BAND = 100.0
"""% of travel that the command must be away to move a stem with stiction of severity 1: never."""
SEAT_LEAK = 0.08
"""Kv over Kvs of a seat passing with severity 1: an eroded seat; FCI 70-2 class II allows 0.005."""
BURST = 3.0
"""Conductance of a burst of severity 1, over that of its area at peak demand."""
BATTERY_LEFT = 4.0
"""% that a battery collapsed with severity 1 still tells."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: it begins at `since`, reaches `severity` (0…1) after `growth`, and is repaired at `until`.

    `target` is a pump's or valve's tag, or for a burst the name of a supply area.
    """

    kind: FaultKind
    target: str
    since: Instant
    until: Instant
    severity: float = 1.0
    growth: Instant = 0

    def __post_init__(self) -> None:
        if not self.since < self.until:
            raise ValueError(f"the fault {self.kind} of {self.target} ends before it begins")
        if not 0.0 < self.severity <= 1.0:
            raise ValueError(f"the severity of {self.kind} of {self.target} is {self.severity}; it goes from 0 to 1")
        if self.growth < 0:
            raise ValueError(f"the growth of {self.kind} of {self.target} is negative")

    def intensity(self, times: Integers) -> Floats:
        """Its severity at these instants: grows with the square of time, as wear does, then stays until the repair."""
        active = (times >= self.since) & (times < self.until)
        grown = np.clip((times - self.since) / self.growth, 0.0, 1.0) if self.growth else np.ones(len(times))
        return np.where(active, self.severity * grown * grown, 0.0)


def check_faults(works: Waterworks, faults: Iterable[Fault]) -> None:
    """`ValueError` for a fault whose target is not in the plant, or cannot have it."""
    for fault in faults:
        if not affected(works, fault):
            raise ValueError(f"‘{fault.target}’ is nothing in this plant that can have the fault ‘{fault.kind}’")


def affected(works: Waterworks, fault: Fault) -> tuple[str, ...]:
    """The tags of the assets whose devices see the fault; empty if its target is not in the plant."""
    if fault.kind is FaultKind.PIPE_BURST:
        return tuple(
            valve.tag
            for site in works.sites
            for valve in site.valves
            if not valve.fills_tank and site.areas[valve.area].name == fault.target
        )
    if fault.kind in (FaultKind.DRY_RUN, FaultKind.BEARING_WEAR):
        known = fault.target in works.pumps
    elif fault.kind in (FaultKind.STICTION, FaultKind.SEAT_PASSING):
        known = fault.target in works.valves
    else:
        known = fault.target in works.pumps or fault.target in works.valves
    return (fault.target,) if known else ()


def total(faults: Iterable[Fault], kind: FaultKind, target: str, times: Integers) -> Floats:
    """The intensity of all faults of a kind on a target, at most 1."""
    intensity = np.zeros(len(times))
    for fault in faults:
        if fault.kind is kind and fault.target == target:
            intensity = intensity + fault.intensity(times)
    return np.minimum(intensity, 1.0)


def disturbances(site: Site, faults: Iterable[Fault], times: Integers) -> Disturbances:
    """What the faults change in the hydraulics of a site."""
    listed = list(faults)
    wrong = Disturbances.healthy(site, len(times))
    for k, pump in enumerate(site.pumps):
        wrong.delivery[k] -= total(listed, FaultKind.DRY_RUN, pump.tag, times)
    for k, valve in enumerate(site.valves):
        wrong.seat_leak[k] = SEAT_LEAK * valve.kvs * total(listed, FaultKind.SEAT_PASSING, valve.tag, times)
    for k, area in enumerate(site.areas):
        peak = area.peak_flow / np.sqrt(site.header_pressure - site.rise)
        wrong.burst[k] = BURST * peak * total(listed, FaultKind.PIPE_BURST, area.name, times)
    return wrong


def bearing_wear(pumps: Iterable[Pump], faults: Iterable[Fault], times: Integers) -> Floats:
    """Severity of bearing wear, [pump, time]."""
    listed = list(faults)
    rows = [total(listed, FaultKind.BEARING_WEAR, pump.tag, times) for pump in pumps]
    return np.array(rows).reshape(len(rows), len(times))


def stiction_band(valves: Iterable[Valve], faults: Iterable[Fault], times: Integers) -> Floats:
    """% of travel that the command must be away before the stem moves, [valve, time]."""
    listed = list(faults)
    rows = [STUCK_BAND * total(listed, FaultKind.STICTION, valve.tag, times) for valve in valves]
    return np.array(rows).reshape(len(rows), len(times))
