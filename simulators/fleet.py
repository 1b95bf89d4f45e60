"""The registry's view of a plant: one telemetry device on each pump and valve, with its nameplate.

Makers, models and places are fictive. How a device speaks is in `device`.
"""

from __future__ import annotations

from devices.model import Device
from simulators.waterworks import Pump, Site, Valve, Waterworks

_PUMP_MAKERS = ("Nanxi Pumps", "Yandang Machinery", "Oujiang Hydraulic")
_VALVE_MAKERS = ("Yongning Valve", "Nanxi Flow Control", "Daruoyan Valve")
_PRESSURE_CLASS = 16.0


def imei(seed: int, serial: int) -> str:
    """Fifteen digits with a valid Luhn check digit (GSMA TS.06).

    It begins with 00, the range of test equipment, so that no real device can have it; plants of different seeds
    (modulo 10,000) have different ones.
    """
    digits = f"0010{seed % 10_000:04d}{serial:06d}"
    return digits + str(luhn_digit(digits))


def luhn_digit(digits: str) -> int:
    """The check digit to append (ISO/IEC 7812-1, annex B): every second digit from the right is doubled."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 - place % 2)
        total += doubled // 10 + doubled % 10
    return -total % 10


def devices(works: Waterworks) -> list[Device]:
    """One device for each pump, then one for each valve, in the order of their tags."""
    pumps = [_pump(works.seed, serial, site, pump) for serial, (site, pump) in enumerate(works.pumps.values())]
    first = len(pumps)
    valves = [
        _valve(works.seed, first + serial, site, valve) for serial, (site, valve) in enumerate(works.valves.values())
    ]
    return pumps + valves


def _pump(seed: int, serial: int, site: Site, pump: Pump) -> Device:
    return Device(
        identity=f"urn:dev:imei:{imei(seed, serial)}",
        profile="centrifugal-pump",
        tag=pump.tag,
        site=site.name,
        area="Pump house",
        unit="High-lift pumps",
        manufacturer=_PUMP_MAKERS[serial % len(_PUMP_MAKERS)],
        model=f"ISG {pump.rated_flow:.0f}-{pump.rated_head:.0f}",
        serial=f"P{seed % 10_000:04d}-{serial:05d}",
        design={
            "rated_flow": pump.rated_flow,
            "rated_head": pump.rated_head,
            "rated_power": pump.rated_power,
            "rated_speed": pump.rated_speed,
            "pn": _PRESSURE_CLASS,
        },
    )


def _valve(seed: int, serial: int, site: Site, valve: Valve) -> Device:
    return Device(
        identity=f"urn:dev:imei:{imei(seed, serial)}",
        profile="control-valve",
        tag=valve.tag,
        site=site.name,
        area="High tank" if valve.fills_tank else site.areas[valve.area].name,
        unit="Tank filling" if valve.fills_tank else "Pressure control",
        manufacturer=_VALVE_MAKERS[serial % len(_VALVE_MAKERS)],
        model=f"ZAZP {valve.dn}",
        serial=f"V{seed % 10_000:04d}-{serial:05d}",
        design={"kv": valve.kvs, "dn": float(valve.dn), "pn": _PRESSURE_CLASS, "stroke_time": valve.stroke},
    )
