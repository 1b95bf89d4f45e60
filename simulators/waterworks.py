"""What is built: sites with pumps, supply areas and valves, drawn once from a seed. No time and no state here.

The layers over it, each a pure function of the plant, the faults and the instants asked for:

    control and actuators (`actuator`)   what is commanded, and where the stems stand
    hydraulics (`hydraulics`)            pressures and flows for those positions
    machines (`machine`)                 power, current, vibration, temperature of the pump sets
    sensors (`sensors`)                  noise, resolution and unit of what instruments see
    observation (`observation`)          all of these, for a time range
    devices (`device`, `radio`)          what is sent, when, how, and what the radio does to it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from devices.model import HOUR, Instant
from simulators.curves import BAR_PER_METRE, in_series, opening_factor, shaft_power, valve_flow
from simulators.noise import choice

SITE_NAMES = ("Nanxi", "Oubei", "Shangtang", "Qiaotou", "Yantou", "Bilian", "Fenglin", "Huangtian")
"""Sites of a fictive county waterworks."""
_ASSETS_PER_SITE = 8
PEAK_FACTOR = 1.75
"""The highest demand a plant is built for, over the mean: the daily peak and some of what varies from day to day."""
NIGHT_FACTOR = 0.75
"""The highest demand, over the mean, in the hours when the high tank is filled."""
MOTOR_EFFICIENCY = 0.94
_MOTORS = (5.5, 7.5, 11.0, 15.0, 18.5, 22.0, 30.0, 37.0, 45.0, 55.0, 75.0, 90.0, 110.0, 132.0, 160.0)
"""Rated powers in kW that motors are made in (IEC 60072-1)."""
_VALVES = (
    (50, 40.0), (65, 63.0), (80, 100.0), (100, 160.0), (125, 250.0), (150, 400.0), (200, 630.0), (250, 1000.0),
    (300, 1600.0),
)  # fmt: skip
"""Nominal width in mm and Kvs in m³/h of globe control valves as makers list them."""

Draw = Callable[[str, float, float], float]
"""Draws a property of a site from a range."""


@dataclass(frozen=True, slots=True)
class Pump:
    """A centrifugal pump set on a frequency converter."""

    tag: str
    rated_flow: float
    """m³/h at the best efficiency point."""
    rated_head: float
    """m."""
    rated_power: float
    """kW on the motor's plate."""
    rated_speed: float
    """rpm."""
    efficiency: float
    vibration: float
    """mm/s RMS when healthy, at rated speed and best efficiency flow."""
    heating: float
    """K that the bearing is above its surroundings at rated load."""


@dataclass(frozen=True, slots=True)
class Valve:
    """An electric control valve."""

    tag: str
    dn: int
    kvs: float
    """m³/h at 1 bar, fully open."""
    stroke: float
    """Seconds for a full stroke."""
    share: float
    """Of the site's demand that goes through it; 0 for a tank's filling valve."""
    opening: float
    """% that a filling valve is opened to; 0 for the others."""
    area: int
    """The supply area it feeds, by number within its site; -1 for a tank's filling valve."""

    @property
    def fills_tank(self) -> bool:
        """Whether it fills a tank at night, and is shut by day, instead of feeding an area."""
        return self.area < 0


@dataclass(frozen=True, slots=True)
class Area:
    """A supply area behind one main."""

    name: str
    resistance: float
    """bar/(m³/h)² of its main, from the station to the valves."""
    peak_flow: float
    """m³/h."""


@dataclass(frozen=True)
class Site:
    """A pumping station on a clear-water tank, its supply areas and a high tank that is filled at night.

    Pressures in bar (gauge) at the station's level; what no valve measures is `unmetered`, a share of the demand.
    """

    name: str
    pumps: tuple[Pump, ...]
    valves: tuple[Valve, ...]
    areas: tuple[Area, ...]
    mean_flow: float
    unmetered: float
    header_pressure: float
    rise: float
    """bar that the areas lie above the station."""
    outlet_pressure: float
    """What the valves reduce to."""
    tank_pressure: float
    """Static pressure of the high tank at its filling valve."""
    tank_main: float
    """Conductance (m³/h at 1 bar) of the main to the high tank."""
    water_level: float
    """m above the pumps, in the clear-water tank."""
    fill_hours: tuple[float, float]
    """Local hours between which the high tank is filled; the first is before midnight."""


@dataclass(frozen=True)
class Waterworks:
    """All of it. Two waterworks of the same arguments are equal."""

    seed: int
    sites: tuple[Site, ...]
    utc_offset: Instant = 8 * HOUR

    @cached_property
    def pumps(self) -> dict[str, tuple[Site, Pump]]:
        """Every pump with its site, by tag."""
        return {pump.tag: (site, pump) for site in self.sites for pump in site.pumps}

    @cached_property
    def valves(self) -> dict[str, tuple[Site, Valve]]:
        """Every valve with its site, by tag."""
        return {valve.tag: (site, valve) for site in self.sites for valve in site.valves}


def build_works(seed: int, pumps: int = 12, valves: int = 12, sites: int | None = None) -> Waterworks:
    """A plant with so many pumps and valves, spread evenly over its sites (by default one site for eight of them).

    `ValueError` for numbers that make no plant.
    """
    if pumps < 0 or valves < 0 or pumps + valves < 1:
        raise ValueError(f"{pumps} pumps and {valves} valves make no plant: name at least one")
    count = sites if sites is not None else max(1, round((pumps + valves) / _ASSETS_PER_SITE))
    if count < 1:
        raise ValueError(f"{count} sites make no plant: name at least one")
    return Waterworks(
        seed,
        tuple(
            _site(
                seed,
                number,
                pumps * (number + 1) // count - pumps * number // count,
                valves * (number + 1) // count - valves * number // count,
            )
            for number in range(count)
        ),
    )


def fill_flow(site: Site) -> float:
    """m³/h into the high tank while its valves stand at their openings and the header at its set point."""
    drop = site.header_pressure - site.tank_pressure
    return sum(
        float(valve_flow(in_series(valve.kvs * opening_factor(valve.opening), site.tank_main), drop))
        for valve in site.valves
        if valve.fills_tank
    )


def _site(seed: int, number: int, pumps: int, valves: int) -> Site:
    def draw(what: str, low: float, high: float) -> float:
        return choice(seed, f"site/{number}/{what}", low, high)

    header_pressure = round(draw("header", 5.2, 5.8), 1)
    rise = round(draw("rise", 0.2, 0.5), 2)
    outlet_pressure = round(draw("outlet", 2.8, 3.2), 1)
    tank_pressure = round(header_pressure - draw("tank", 1.2, 1.8), 1)
    duty = max(1, pumps - 1)
    mean_flow = round(draw("demand", 75.0, 105.0) * max(duty, 2))
    filling = valves // 4
    measured = valves - filling
    unmetered = 0.2 if measured else 1.0
    weights = [draw(f"share/{k}", 0.7, 1.3) for k in range(measured)]
    shares = [(1.0 - unmetered) * weight / sum(weights) for weight in weights]
    areas, built = _supply(number, mean_flow, shares, header_pressure - rise - outlet_pressure, draw)
    tank_main = 0.35 * mean_flow / max(filling, 1) / (header_pressure - tank_pressure) ** 0.5
    for k in range(filling):
        dn, kvs = _width(1.6 * tank_main)
        tag = f"LV-{number + 1}{len(built) + 1:02d}"
        opening = float(round(draw(f"fill/{k}", 70.0, 90.0)))
        built.append(Valve(tag, dn, kvs, round(draw(f"fill stroke/{k}", 50.0, 80.0)), 0.0, opening, -1))
    start = draw("fill from", 22.6, 23.2)
    site = Site(
        name=_name(number),
        pumps=(),
        valves=tuple(built),
        areas=areas,
        mean_flow=mean_flow,
        unmetered=unmetered,
        header_pressure=header_pressure,
        rise=rise,
        outlet_pressure=outlet_pressure,
        tank_pressure=tank_pressure,
        tank_main=tank_main,
        water_level=draw("level", 4.0, 5.0),
        fill_hours=(start, draw("fill until", 4.6, 5.2)),
    )
    return replace(site, pumps=_pumps(number, pumps, site, draw))


def _supply(
    number: int, mean_flow: float, shares: list[float], drop: float, draw: Draw
) -> tuple[tuple[Area, ...], list[Valve]]:
    """Areas of up to two valves each, with mains that take a fifth of the pressure at peak flow."""
    areas: list[Area] = []
    valves: list[Valve] = []
    for first in range(0, len(shares), 2):
        members = shares[first : first + 2]
        peak = PEAK_FACTOR * mean_flow * sum(members)
        lost = draw(f"main/{first}", 0.18, 0.24) * (drop + 3.0)
        areas.append(Area(f"District {number + 1}{chr(ord('A') + len(areas))}", lost / peak**2, peak))
        for share in members:
            dn, kvs = _width(1.15 * PEAK_FACTOR * mean_flow * share / max(drop - lost, 0.3) ** 0.5)
            stroke = round(draw(f"stroke/{len(valves)}", 45.0, 90.0))
            valves.append(Valve(f"PV-{number + 1}{len(valves) + 1:02d}", dn, kvs, stroke, share, 0.0, len(areas) - 1))
    return tuple(areas), valves


def _pumps(number: int, count: int, site: Site, draw: Draw) -> tuple[Pump, ...]:
    """Equal pumps, one of them stand-by, which carry the peak near their best efficiency flow at nearly full speed."""
    if not count:
        return ()
    duty = max(1, count - 1)
    peak = max(PEAK_FACTOR * site.mean_flow, NIGHT_FACTOR * site.mean_flow + fill_flow(site))
    rated_flow = 5.0 * ceil(peak / duty / 5.0)
    rated_head = float(ceil(1.12 * (site.header_pressure - 0.3) / BAR_PER_METRE))
    efficiency = round(draw("efficiency", 0.74, 0.82), 3)
    needed = 1.1 * float(shaft_power(rated_flow, rated_head, 1.0, rated_flow, efficiency)) / MOTOR_EFFICIENCY
    rated_power = next((size for size in _MOTORS if size >= needed), float(ceil(needed / 50.0) * 50))
    return tuple(
        Pump(
            tag=f"P-{number + 1}{k + 1:02d}",
            rated_flow=rated_flow,
            rated_head=rated_head,
            rated_power=rated_power,
            rated_speed=1480.0 if rated_power >= 45.0 else 2960.0,
            efficiency=efficiency,
            vibration=draw(f"vibration/{k}", 1.2, 2.1),
            heating=draw(f"heating/{k}", 22.0, 30.0),
        )
        for k in range(count)
    )


def _width(kv: float) -> tuple[int, float]:
    """The smallest valve with at least this Kv."""
    return next(((dn, kvs) for dn, kvs in _VALVES if kvs >= kv), _VALVES[-1])


def _name(number: int) -> str:
    name = SITE_NAMES[number % len(SITE_NAMES)]
    return name if number < len(SITE_NAMES) else f"{name} {number // len(SITE_NAMES) + 1}"
