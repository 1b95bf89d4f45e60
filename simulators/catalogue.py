"""The catalogue of faults that a site can have: what each does, where it is known from, and which shipped rules see it.

The f-numbers are those of the DAMADICS actuator benchmark (Bartyś, Patton, Syfert, de las Heras, Quevedo, Control
Engineering Practice 14, 2006). One of them at work is an `injection`; how they bite is in `site_run` and `site_view`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class On(StrEnum):
    """What a fault is put on."""

    PUMP = "pump"
    VALVE = "valve"
    NODE = "node"
    LINK = "link"
    INSTRUMENT = "instrument"
    """TAG/metric of any device."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of fault."""

    on: On
    effect: str
    """What a severity of 1 changes."""
    source: str
    rules: tuple[str, ...] = ()
    """The shipped rules that are expected to see it; none where a symptom hides in a healthy plant's scatter."""
    explains: tuple[str, ...] = ()
    """Other shipped rules whose alarms it explains."""


_TRAVEL = ("valve-travel-deviation",)
_BEARING = ("bearing-temperature-high", "bearing-temperature-danger", "bearing-temperature-rising")
_VIBRATION = ("pump-vibration-high", "pump-vibration-danger", "pump-vibration-rising")
_PRESSURE = ("pressure-low", "pressure-transient", "logger-pressure-swing")
_FAILED = ("pressure-sensor-failed", "flow-sensor-failed")
_KV = ("valve-kv-low", "valve-kv-high", "valve-pressures-contradict", "flow-zero-off")
_BALANCE = ("station-balance-off",)
_DOUBLE = ("redundant-sensors-disagree",)
_DAMADICS = "DAMADICS"
_PRACTICE = "practice of the field"

CATALOGUE: dict[str, Entry] = {
    # Valves
    "valve-clogging": Entry(
        On.VALVE,
        "Kv falls by 95 %",
        f"{_DAMADICS} f1",
        ("valve-kv-low",),
        (
            "pressure-low",
            "valve-stiction",
            "redundant-sensors-disagree",
        ),
    ),
    "seat-sedimentation": Entry(
        On.VALVE, "the stem cannot go below 40 % of travel", f"{_DAMADICS} f2", _TRAVEL, ("valve-stiction",)
    ),
    "seat-erosion": Entry(
        On.VALVE, "the shut valve keeps 15 % of its Kv", f"{_DAMADICS} f3", ("valve-seat-passing",), ("valve-kv-high",)
    ),
    "valve-friction": Entry(
        On.VALVE,
        "the stem moves only for steps above 100 % of travel: stuck",
        f"{_DAMADICS} f4",
        (*_TRAVEL, "valve-stiction"),
        ("valve-seat-passing", "pressure-low", "valve-cavitation"),
    ),
    "valve-external-leak": Entry(
        On.VALVE,
        "5 % of its Kv leak to the open",
        f"{_DAMADICS} f5",
        (*_BALANCE,),
        (
            *_PRESSURE,
            "flow-jump",
        ),
    ),
    "valve-internal-leak": Entry(
        On.VALVE, "the shut valve keeps 8 % of its Kv", f"{_DAMADICS} f6", ("valve-seat-passing",), ("valve-kv-high",)
    ),
    "critical-flow": Entry(
        On.VALVE,
        "the medium is 60 K hotter: it boils in the trim",
        f"{_DAMADICS} f7, IEC 60534",
        (
            "valve-cavitation",
            "medium-temperature-changed",
        ),
        ("valve-kv-low",),
    ),
    "bent-rod": Entry(
        On.VALVE,
        "dead band of 10 %, and the upper 60 % of travel are blocked",
        f"{_DAMADICS} f8",
        _TRAVEL,
        ("valve-stiction", "pressure-low"),
    ),
    "servomotor-leak": Entry(
        On.VALVE,
        "the stem follows at a hundredth of its speed",
        f"{_DAMADICS} f9",
        (
            *_TRAVEL,
            "valve-stroke-time-long",
        ),
        ("valve-stiction",),
    ),
    "diaphragm-perforation": Entry(
        On.VALVE, "the upper 80 % of travel are out of reach", f"{_DAMADICS} f10", _TRAVEL, ("pressure-low",)
    ),
    "spring-fault": Entry(
        On.VALVE, "the stem stands 30 % too high", f"{_DAMADICS} f11", _TRAVEL, ("pressure-low", "valve-cavitation")
    ),
    "transducer-fault": Entry(
        On.VALVE, "the positioner gets 25 % too little", f"{_DAMADICS} f12", _TRAVEL, ("pressure-low",)
    ),
    "position-sensor-fault": Entry(
        On.VALVE, "the position is shown 20 % too high", f"{_DAMADICS} f13", _TRAVEL, (*_KV,)
    ),
    "pressure-sensor-fault": Entry(
        On.VALVE,
        "the inlet pressure is shown 7 bar too low, or as a broken wire below -1 bar",
        f"{_DAMADICS} f14",
        ("pressure-low", "pressure-sensor-failed"),
        (
            "pressure-transient",
            "valve-cavitation",
            *_KV,
            *_DOUBLE,
        ),
    ),
    "positioner-feedback-fault": Entry(
        On.VALVE,
        "the positioner sees 40 % less than there is and opens too far",
        f"{_DAMADICS} f15",
        _TRAVEL,
        ("pressure-low", "valve-cavitation"),
    ),
    "supply-pressure-drop": Entry(
        On.VALVE,
        "a twentieth of the speed, and the upper half of travel out of reach",
        f"{_DAMADICS} f16",
        (
            *_TRAVEL,
            "valve-stroke-time-long",
        ),
        ("valve-stiction", "pressure-low"),
    ),
    "pressure-change": Entry(
        On.VALVE,
        "the pressure before the valve collapses",
        f"{_DAMADICS} f17",
        _PRESSURE,
        (
            "valve-cavitation",
            *_BALANCE,
            *_KV,
        ),
    ),
    "bypass-open": Entry(
        On.VALVE,
        "half of its Kv goes round the valve, through its meter",
        f"{_DAMADICS} f18",
        ("valve-seat-passing",),
        (
            *_KV,
            "flow-jump",
        ),
    ),
    "flow-sensor-fault": Entry(
        On.VALVE,
        "the meter shows 40 % too much, from 0.8 on what cannot be",
        f"{_DAMADICS} f19",
        (
            "flow-sensor-failed",
            "valve-kv-high",
            *_BALANCE,
        ),
        ("flow-jump",),
    ),
    # Pumps
    "dry-run": Entry(
        On.PUMP,
        "air in the suction: no delivery, no head",
        _PRACTICE,
        ("pump-dry-run", "suction-pressure-low"),
        (
            "npsh-margin-low",
            "pump-efficiency-low",
            "pump-head-low",
            "pump-vibration-rising",
            "pump-vibration-changed",
            "suction-pressure-fell",
        ),
    ),
    "dead-head": Entry(
        On.PUMP,
        "its discharge is shut: no flow at the shut-off head",
        _PRACTICE,
        ("pump-dead-head",),
        (
            "pump-flow-below-minimum",
            "pump-efficiency-low",
            "pump-vibration-rising",
            "pump-vibration-high",
            "bearing-temperature-rising",
            "pump-vibration-changed",
        ),
    ),
    "pump-cavitation": Entry(
        On.PUMP,
        "suction falls to boiling: head is lost, noise above 300 Hz",
        "ISO 9906, ANSI/HI 9.6.1",
        (
            "npsh-margin-low",
            "suction-pressure-low",
            "suction-pressure-fell",
        ),
        (
            *_VIBRATION,
            "pump-head-low",
            "pump-efficiency-low",
            "pump-dry-run",
            "pump-vibration-changed",
        ),
    ),
    "bearing-wear": Entry(
        On.PUMP,
        "9 mm/s at BPFO and 52 K of friction heat",
        "ISO 13373-3, API 610",
        (
            *_VIBRATION,
            *_BEARING,
            "pump-vibration-changed",
        ),
        (),
    ),
    "impeller-wear": Entry(
        On.PUMP,
        "35 % of head and efficiency are lost",
        "ANSI/HI 9.6.3, " + _PRACTICE,
        ("pump-head-low", "pump-efficiency-low"),
        (
            "motor-overload",
            "pump-dry-run",
            "pump-dead-head",
            "pump-flow-below-minimum",
            "pressure-low",
            "pump-vibration-changed",
        ),
    ),
    "misalignment": Entry(
        On.PUMP,
        "9 mm/s (peak) at twice the speed",
        "ISO 13373-3",
        (
            *_VIBRATION,
            "pump-vibration-changed",
        ),
        (),
    ),
    "motor-overload": Entry(
        On.PUMP,
        "something rubs: 80 % of rated power more",
        "NEMA MG 1",
        ("motor-overload", "motor-current-high"),
        ("pump-efficiency-low", "bearing-temperature-high", "bearing-temperature-rising"),
    ),
    "check-valve-passing": Entry(
        On.PUMP,
        "15 % of rated flow run back through the standing pump",
        _PRACTICE,
        ("check-valve-failure",),
        (*_BALANCE,),
    ),
    "strainer-clogging": Entry(
        On.PUMP,
        "14 m of head at rated flow are lost before the pump",
        _PRACTICE,
        (
            "npsh-margin-low",
            "suction-pressure-low",
            "suction-pressure-fell",
        ),
        (
            "pump-head-low",
            "pump-efficiency-low",
            *_VIBRATION,
            "pump-vibration-changed",
        ),
    ),
    # Network
    "burst": Entry(
        On.NODE,
        "a leak of 300 m³/h at 1 bar",
        "Lambert 2001",
        (
            *_PRESSURE,
            "flow-jump",
        ),
        (
            "valve-cavitation",
            *_BALANCE,
        ),
    ),
    "background-leak": Entry(On.NODE, "a leak of 2 m³/h at 1 bar", "Lambert 2001", (*_BALANCE, "night-flow-rose"), ()),
    "valve-left-closed": Entry(
        On.LINK,
        "a pipe is shut",
        _PRACTICE,
        ("pressure-low",),
        (
            "pressure-transient",
            "flow-jump",
            *_BALANCE,
        ),
    ),
    "water-hammer": Entry(
        On.NODE,
        "every 20 minutes 1 m/s of water is stopped",
        "Joukowsky 1898",
        ("pressure-transient", "logger-pressure-swing", "pressure-high"),
        ("pressure-sensor-noisy",),
    ),
    "illegal-draw": Entry(
        On.NODE,
        "60 m³/h are drawn from 1 to 4 at night",
        _PRACTICE,
        (
            "flow-jump",
            *_BALANCE,
        ),
        (*_PRESSURE, "night-flow-rose"),
    ),
    # Instruments
    "sensor-range": Entry(
        On.INSTRUMENT,
        "it shows what it cannot measure: a broken wire",
        "NAMUR NE 43",
        ("pressure-sensor-failed", "flow-sensor-failed"),
        (
            "pressure-transient",
            *_KV,
            *_BALANCE,
            *_DOUBLE,
        ),
    ),
    "sensor-offset": Entry(
        On.INSTRUMENT,
        "a fifth of its usual value too low",
        _PRACTICE,
        (
            *_KV,
            *_BALANCE,
            *_DOUBLE,
        ),
        (
            "pressure-low",
            "flow-jump",
        ),
    ),
    "sensor-drift": Entry(
        On.INSTRUMENT,
        "a tenth of its usual value a day, upwards",
        _PRACTICE,
        (
            "flow-sensor-drift",
            *_KV,
            *_BALANCE,
            *_DOUBLE,
        ),
        (),
    ),
    "sensor-freeze": Entry(
        On.INSTRUMENT,
        "it repeats its last value",
        _PRACTICE,
        ("pressure-sensor-frozen", "flow-sensor-frozen"),
        (
            *_KV,
            *_BALANCE,
            *_DOUBLE,
        ),
    ),
    "sensor-noise": Entry(
        On.INSTRUMENT,
        "it scatters by a third of its usual value",
        _PRACTICE,
        (
            "pressure-sensor-noisy",
            "flow-sensor-noisy",
        ),
        (
            *_PRESSURE,
            *_KV,
            "flow-jump",
            *_BALANCE,
            *_DOUBLE,
        ),
    ),
    "sensor-spikes": Entry(
        On.INSTRUMENT,
        "one sample in ten is twice what it should be",
        _PRACTICE,
        (
            "pressure-transient",
            "flow-sensor-noisy",
        ),
        (
            "pressure-sensor-noisy",
            "pressure-high",
            *_FAILED,
            *_KV,
            "flow-jump",
            *_BALANCE,
            *_DOUBLE,
        ),
    ),
}
"""By name."""
