"""Control and actuators: what the station's controller commands, and where the stems stand.

The controller is feed-forward: it opens each pressure valve as far as the demand it sees needs on the healthy network,
and works by schedule at the tanks. So positions do not depend on the hydraulics, which can be replaced.
"""

from __future__ import annotations

import numpy as np

from devices.model import MINUTE, SECOND, Instant
from simulators.curves import opening_for
from simulators.demand import demand_factor, local_hour
from simulators.noise import Floats, Integers, drift
from simulators.waterworks import Site, Valve, Waterworks

TICK: Instant = 10 * SECOND
"""The step at which stems are moved: a stroke takes some minutes' parts, a sample is taken once a minute."""
_UPDATE: Instant = 5 * MINUTE
_RESOLUTION = 0.5
"""% of the controller's output: smaller steps would only wear the packing."""
STEM_SLIP = 2.0
"""% beyond its command that a sticking stem jumps to when it breaks away is neglected; it stops this near to it."""


def planned_demand(works: Waterworks, site: Site, times: Integers) -> Floats:
    """The site's demand in m³/h as the controller sees it: the daily curve and the drift of hours, without the noise of
    minutes."""
    shape = demand_factor(times, works.utc_offset)
    return site.mean_flow * shape * (1.0 + 0.035 * drift(works.seed, f"demand/{site.name}", times, 60 * MINUTE))


def fills(works: Waterworks, site: Site, times: Integers) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether the high tank is being filled."""
    hour = local_hour(times, works.utc_offset)
    begin, end = site.fill_hours
    return np.asarray((hour >= begin) | (hour < end), dtype=np.bool_)


def commands(works: Waterworks, site: Site, times: Integers) -> Floats:
    """Commanded positions in %, [valve, time]. The controller gives a new one every five minutes."""
    held = times - (times - 20 * SECOND) % _UPDATE
    demand = planned_demand(works, site, held)
    filling = fills(works, site, held)
    rows = [
        np.where(filling, valve.opening, 0.0) if valve.fills_tank else _pressure_command(site, valve, demand)
        for valve in site.valves
    ]
    return np.array(rows).reshape(len(rows), len(times))


def _pressure_command(site: Site, valve: Valve, demand: Floats) -> Floats:
    """The opening at which the valve lets its demand through at the outlet pressure it is to hold."""
    area = site.areas[valve.area]
    through_main = demand * sum(other.share for other in site.valves if other.area == valve.area)
    inlet = site.header_pressure - site.rise - area.resistance * np.square(through_main)
    needed = demand * valve.share / np.sqrt(np.maximum(inlet - site.outlet_pressure, 0.1))
    return np.round(opening_for(needed / valve.kvs) / _RESOLUTION) * _RESOLUTION


def follow(command: Floats, band: Floats, stroke: Floats, start: Floats) -> Floats:
    """Stem positions in %, [valve, tick], for commands at steps of `TICK`.

    A motor moves the stem at its stroke rate until it stands on the command. With friction (`band` in %, 0 for none) it
    does not move until the command is further away than the band, then slips until near its command: the dead band and
    slip of stiction (Choudhury, Thornhill, Shah: "Modelling valve stiction", Control Engineering Practice 13, 2005).
    A band of 100 % or more is a stuck stem.
    `stroke` is seconds for a full stroke and `start` the position before the first tick, one a valve.
    """
    step = 100.0 * (TICK / SECOND) / stroke
    position = start.copy()
    moving = np.zeros(len(start), dtype=np.bool_)
    positions = np.empty_like(command)
    for tick in range(command.shape[1]):
        error = command[:, tick] - position
        distance = np.abs(error)
        sticks = band[:, tick]
        # Once broken away, the stem keeps moving: friction in motion is far below that at rest.
        moving = (distance > sticks) | (moving & (distance > np.minimum(sticks, STEM_SLIP)) & (sticks < 100.0))
        position = position + np.where(moving, np.clip(error, -step, step), 0.0)
        positions[:, tick] = position
    return positions


def stem_torque(position: Floats, command: Floats, drop: Floats, dn: Floats, friction: Floats) -> Floats:
    """Torque at the stem nut in N·m: packing friction, thrust of the drop on the plug, and what a stem that does not
    follow is pressed with. `friction` is 1 for a healthy packing. Arrays [valve, time], `dn` [valve, 1].

    Size and shape are those of makers' tables for DN 50–300, not derived.
    """
    packing = 0.08 * dn * friction
    thrust = 0.02 * dn * np.maximum(drop, 0.0)
    pressed = 0.15 * dn * np.clip(np.abs(command - position) / 5.0, 0.0, 1.0) * (friction > 1.0)
    return np.asarray(packing + thrust + pressed)
