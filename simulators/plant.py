"""What is built: sites with pumps, supply areas and valves, drawn once from a seed. No time and no state here.

The layers over it, each a pure function of the plant, the faults and the instants asked for:

    control and actuators (`actuator`)   what is commanded, and where the stems stand
    hydraulics (`hydraulics`)            pressures and flows for those positions
    machines (`machine`)                 power, current, vibration, temperature of the pump sets
    sensors (`sensors`)                  noise, resolution and unit of what instruments see
    devices (`device`)                   what is sent, when, and how
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from devices.model import HOUR, Instant

SITE_NAMES = (
    "Nanxi Water Works",
    "Oubei Booster Station",
    "Shangtang Pumping Station",
    "Qiaotou Booster Station",
    "Yantou Pumping Station",
    "Bilian Booster Station",
    "Fenglin Pumping Station",
    "Huangtian Booster Station",
)
_ASSETS_PER_SITE = 8
_MOTORS = (5.5, 7.5, 11.0, 15.0, 18.5, 22.0, 30.0, 37.0, 45.0, 55.0, 75.0, 90.0, 110.0, 132.0, 160.0)
"""Rated powers in kW that motors are made in (IEC 60072-1)."""
_VALVES = (
    (50, 40.0), (65, 63.0), (80, 100.0), (100, 160.0), (125, 250.0), (150, 400.0), (200, 630.0), (250, 1000.0),
    (300, 1600.0),
)  # fmt: skip
"""Nominal width in mm and Kvs in m³/h of globe control valves as makers list them."""


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
class Plant:
    """All of it. Two plants of the same arguments are equal."""

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


def build_plant(seed: int, pumps: int = 12, valves: int = 12, sites: int | None = None) -> Plant:
    """A plant with so many pumps and valves, spread evenly over its sites (by default one site for eight of them).

    `ValueError` for numbers that make no plant.
    """
    if pumps < 0 or valves < 0 or pumps + valves < 1:
        raise ValueError(f"{pumps} pumps and {valves} valves make no plant: name at least one")
    count = sites if sites is not None else max(1, round((pumps + valves) / _ASSETS_PER_SITE))
    if count < 1:
        raise ValueError(f"{count} sites make no plant: name at least one")
    return Plant(
        seed,
        tuple(_site(seed, k, pumps * (k + 1) // count - pumps * k // count, valves * (k + 1) // count - valves * k // count)
              for k in range(count)),
    )  # fmt: skip


def fill_flow(site: Site) -> float:
    """m³/h into the high tank while its valves stand at their openings and the header at its set point."""
    from simulators.curves import in_series, opening_factor, valve_flow

    drop = site.header_pressure - site.tank_pressure
    return sum(
        float(valve_flow(in_series(v.kvs * opening_factor(v.opening), site.tank_main), drop))
        for v in site.valves
        if v.fills_tank
    )
