"""The functions that a condition may call, with the units they take and give. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alerts import physics
from devices.metrics import CATALOGUE
from devices.model import DAY

WINDOWS = ("avg", "min", "max", "rate", "stdev", "count", "slope", "span", "early")
"""Functions of one metric over a window of sample time, as in avg(pressure, '10m')."""
PAST = ("previous", "age", "changed", "quality")
"""Functions of one metric's newest readings."""
LONGEST_WINDOW = 7 * DAY
"""Half of what is read of a device's past when it is judged anew, so that a window is full when it counts."""

COUNTERS = frozenset(name for name, metric in CATALOGUE.items() if "(counter)" in metric.description)
"""Metrics that only grow, until they are set back to zero: their rate is that of what they have counted."""

QUALITIES = {"bad": 0.0, "uncertain": 64.0, "good": 192.0}
"""The names that quality(metric) is compared with, as `devices.model.Quality` numbers them."""

STATE = "1"
"""The catalogue's unit of plain numbers and of states."""

RATED = {
    "rated_flow": "m3/h",
    "rated_head": "m",
    "rated_power": "kW",
    "rated_current": "A",
    "rated_speed": "rpm",
    "rated_pressure": "bar",
    "shutoff_head": "m",
    "bep_flow": "m3/h",
    "minimum_flow": "m3/h",
    "npsh_required": "m",
    "pn": "bar",
    "stroke_time": "s",
    "baseline_vibration": "mm/s",
    "rated_voltage": "V",
    "breakaway_torque": "N*m",
    "rated_torque": "N*m",
}
"""Nameplate entries whose unit is agreed; others fit every unit."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Units of the arguments (None fits all), how many of the last may be left out, and the unit of the result."""

    arguments: tuple[str | None, ...]
    unit: str | None
    calculate: Callable[..., float]
    optional: int = 0


PHYSICS = {
    "vapour_pressure": Signature(("degC",), "bar", physics.vapour_pressure),
    "head": Signature(("bar", "degC"), "m", physics.head, 1),
    "npsh_available": Signature(("bar", "degC"), "m", physics.npsh_available),
    "hydraulic_power": Signature(("m3/h", "bar"), "kW", physics.hydraulic_power),
    "pump_head": Signature(("m3/h", "m3/h", "m", "m", STATE), "m", physics.pump_head, 1),
    "affinity_flow": Signature(("m3/h", STATE), "m3/h", physics.affinity_flow),
    "affinity_head": Signature(("m", STATE), "m", physics.affinity_head),
    "affinity_power": Signature(("kW", STATE), "kW", physics.affinity_power),
    "equal_percentage": Signature(("%", None), STATE, physics.equal_percentage),
    "kv_flow": Signature((None, "bar", STATE), "m3/h", physics.kv_flow, 1),
    "choked_drop": Signature(("bar", "degC", STATE), "bar", physics.choked_drop),
    "cavitation_index": Signature(("bar", "bar", "degC"), STATE, physics.cavitation_index),
    "vibration_limit": Signature(("kW", STATE, STATE), "mm/s", physics.vibration_limit),
    "vibration_zone": Signature(("mm/s", "kW", STATE), STATE, physics.vibration_zone),
}
"""What `alerts.physics` offers."""

CHOICES: dict[str, tuple[int, int]] = {"abs": (1, 1), "min": (2, 8), "max": (2, 8)}
"""Functions whose result is in the unit of their arguments, with the least and the largest number of them."""

AGGREGATES = ("sum", "min", "max")
"""Functions over the devices of one role, in rules on a group."""

UNUSUAL = "unusual"
"""How far a rule's features are from what its model was taught, as a share of the limit (`alerts.multivariate`)."""

NAMES = tuple(dict.fromkeys([*CHOICES, *WINDOWS, *PAST, *PHYSICS, UNUSUAL]))
"""Every function."""
