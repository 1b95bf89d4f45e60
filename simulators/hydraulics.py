"""Hydraulics of one site: pressures and flows for given valve positions, instant by instant (quasi-static).

A station holds its header pressure by speed; areas and the high tank draw from the header. All throttles are of the
kind Q = G·√ΔP and demand is one of them (it falls with pressure), so that only the header pressure of a station at full
speed has to be searched. `solve` is what a network solver would replace: its arguments and its answer say nothing of
how.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.model import MINUTE
from simulators.actuator import fills, planned_demand
from simulators.curves import BAR_PER_METRE, in_series, opening_factor, pump_head, pump_speed, valve_flow
from simulators.demand import local_day
from simulators.noise import Floats, Integers, drift
from simulators.waterworks import Site, Waterworks, fill_flow

_DUTY_CHANGE = 2.5
"""Local hour at which the duty passes to the next pump."""
_STAGE = 0.97
"""Of its best efficiency flow that a pump carries before the next one is started."""
_SUCTION_LOSS = 0.06
"""bar lost in the suction line at rated flow."""
_ALMOST = 1e-9


@dataclass(frozen=True)
class Disturbances:
    """What is wrong with the pipes and machines, [asset, time]; `healthy` makes one with nothing wrong."""

    delivery: Floats
    """Of each pump: 1 healthy, 0 runs dry (its suction is lost)."""
    seat_leak: Floats
    """Kv in m³/h of each valve's leaking seat."""
    burst: Floats
    """Conductance in m³/h at 1 bar of a burst in each area, at the valves."""

    @classmethod
    def healthy(cls, site: Site, count: int) -> Disturbances:
        """Nothing is wrong, at so many instants."""
        return cls(
            np.ones((len(site.pumps), count)), np.zeros((len(site.valves), count)), np.zeros((len(site.areas), count))
        )


@dataclass(frozen=True)
class Flows:
    """The state of one site: pressures in bar, flows in m³/h, heads in m; [asset, time], or [time] for the header."""

    running: NDArray[np.bool_]
    speed: Floats
    """Fraction of the rated speed; 0 at rest."""
    pump_flow: Floats
    head: Floats
    suction: Floats
    header: Floats
    inlet: Floats
    outlet: Floats
    valve_flow: Floats


@dataclass(frozen=True)
class _Network:
    """What hangs on the header, as conductances [.., time]."""

    site: Site
    unmetered: Floats
    valves: Floats
    demand: Floats
    """Of the customers behind each valve; infinite-like for a tank, which takes what comes."""
    areas: Floats

    def inlet_of_area(self, header: Floats, number: int) -> Floats:
        """p = (header - rise)/(1 + K·G²): the main takes K·Q², and the area Q = G·√p."""
        available = np.maximum(header - self.site.rise, 0.0)
        return np.asarray(available / (1.0 + self.site.areas[number].resistance * np.square(self.areas[number])))

    def drawn(self, header: Floats) -> Floats:
        """All that leaves the header."""
        site = self.site
        total = valve_flow(self.unmetered, header)
        for number in range(len(site.areas)):
            total = total + valve_flow(self.areas[number], self.inlet_of_area(header, number))
        for k, valve in enumerate(site.valves):
            if valve.fills_tank:
                total = total + valve_flow(in_series(self.valves[k], site.tank_main), header - site.tank_pressure)
        return total


def solve(works: Waterworks, site: Site, times: Integers, positions: Floats, wrong: Disturbances) -> Flows:
    """Pressures and flows of a site at these instants. `positions` are stem positions in %, [valve, time]."""
    planned = planned_demand(works, site, times)
    demand = planned * (1.0 + 0.012 * drift(works.seed, f"minutes/{site.name}", times, 4 * MINUTE))
    network = _network(site, demand, positions, wrong)
    level = site.water_level + 0.25 * drift(works.seed, f"level/{site.name}", times, 360 * MINUTE)
    still = BAR_PER_METRE * level
    running = _staged(works, site, times, planned, wrong.delivery)
    header, running, speed, per_pump = _operate(site, network, still, running, wrong.delivery)
    flow = np.where(running, per_pump * wrong.delivery, 0.0)
    wet = np.where(running, wrong.delivery, 1.0)
    rated = site.pumps[0] if site.pumps else None
    head = np.zeros_like(flow)
    suction = np.zeros_like(flow)
    if rated is not None:
        # A pump that draws air builds up head in proportion to what is left in it to throw.
        head = np.where(running, wet * pump_head(flow, speed, rated.rated_flow, rated.rated_head), 0.0)
        # A lost suction leaves the flange a little below the atmosphere.
        suction = still * wet - 0.08 * (1.0 - wet) - _SUCTION_LOSS * np.square(flow / rated.rated_flow)
    inlet, outlet, through = _at_valves(site, network, header)
    return Flows(running, np.where(running, speed, 0.0), flow, head, suction, header, inlet, outlet, through)


def planned_draw(works: Waterworks, site: Site, times: Integers, planned: Floats) -> Floats:
    """What the controller expects to deliver, m³/h: demand and the tank's filling."""
    return planned + np.where(fills(works, site, times), fill_flow(site), 0.0)


def _network(site: Site, demand: Floats, positions: Floats, wrong: Disturbances) -> _Network:
    count = demand.shape[0]
    valves = np.zeros((len(site.valves), count))
    customers = np.zeros_like(valves)
    areas = np.array(wrong.burst, copy=True)
    for k, valve in enumerate(site.valves):
        valves[k] = valve.kvs * opening_factor(positions[k]) + wrong.seat_leak[k]
        if not valve.fills_tank:
            # Customers are a throttle to the open air, sized so that the demand is met at the pressure to be held.
            customers[k] = valve.share * demand / np.sqrt(site.outlet_pressure)
            areas[valve.area] += in_series(valves[k], customers[k])
    return _Network(site, site.unmetered * demand / np.sqrt(site.header_pressure), valves, customers, areas)


def _staged(works: Waterworks, site: Site, times: Integers, planned: Floats, delivery: Floats) -> NDArray[np.bool_]:
    """Which pumps run: as many as the planned draw needs, from the duty pump on; one that delivers nothing does not
    count, as the header pressure tells the controller."""
    count = len(site.pumps)
    running = np.zeros((count, len(times)), dtype=np.bool_)
    if not count:
        return running
    needed = np.ceil(planned_draw(works, site, times, planned) / (_STAGE * site.pumps[0].rated_flow))
    needed = np.clip(needed, 1, count)
    order = _order(works, times, count)
    at = np.arange(len(times))
    sufficient = np.zeros(len(times))
    for rank in range(count):
        pump = order[rank]
        starts = sufficient < needed - _ALMOST
        running[pump, at] = starts
        sufficient = sufficient + np.where(starts, delivery[pump, at], 0.0)
    return running


def _order(works: Waterworks, times: Integers, count: int) -> Integers:
    """The pump at each rank, [rank, time]: the duty goes round by the day."""
    day = local_day(times, works.utc_offset, _DUTY_CHANGE)
    return (np.arange(count)[:, None] + day[None, :]) % count


def _operate(
    site: Site, network: _Network, still: Floats, running: NDArray[np.bool_], delivery: Floats
) -> tuple[Floats, NDArray[np.bool_], Floats, Floats]:
    """Header pressure, running pumps, their speed and the flow of each healthy one.

    More pumps are started while those that run cannot hold the header at full speed; when all run, pressure gives way.
    """
    header = np.full(still.shape, site.header_pressure)
    if not site.pumps:
        return header, running, np.zeros_like(header), np.zeros_like(header)
    pump = site.pumps[0]
    drawn = network.drawn(header)
    while True:
        able = np.maximum((running * delivery).sum(axis=0), 1e-3)
        flow = drawn / able
        loss = _SUCTION_LOSS * np.square(flow / pump.rated_flow)
        lift = (site.header_pressure - still + loss) / BAR_PER_METRE
        speed = pump_speed(flow, lift, pump.rated_flow, pump.rated_head)
        short = speed > 1.0
        spare = short & ~running.all(axis=0)
        if not spare.any():
            break
        first = np.argmin(running, axis=0)
        running = running.copy()
        running[first[spare], np.flatnonzero(spare)] = True
    if short.any():
        header, flow = _give_way(site, network, still, able, short, header, flow)
    return header, running, np.minimum(speed, 1.0), flow


def _give_way(
    site: Site,
    network: _Network,
    still: Floats,
    able: Floats,
    short: NDArray[np.bool_],
    header: Floats,
    flow: Floats,
) -> tuple[Floats, Floats]:
    """The header pressure at which full speed delivers what is drawn, by bisection (both fall or rise steadily)."""
    pump = site.pumps[0]
    low, high = np.zeros_like(header), header.copy()
    for _ in range(40):
        middle = 0.5 * (low + high)
        each = network.drawn(middle) / able
        reached = still + BAR_PER_METRE * pump_head(each, 1.0, pump.rated_flow, pump.rated_head)
        reached = reached - _SUCTION_LOSS * np.square(each / pump.rated_flow)
        low, high = np.where(reached > middle, middle, low), np.where(reached > middle, high, middle)
    found = np.where(short, low, header)
    return found, np.where(short, network.drawn(found) / able, flow)


def _at_valves(site: Site, network: _Network, header: Floats) -> tuple[Floats, Floats, Floats]:
    """Inlet pressure, outlet pressure and flow of every valve."""
    inlet = np.zeros((len(site.valves), len(header)))
    outlet = np.zeros_like(inlet)
    through = np.zeros_like(inlet)
    for k, valve in enumerate(site.valves):
        if valve.fills_tank:
            path = in_series(network.valves[k], site.tank_main)
            through[k] = valve_flow(path, header - site.tank_pressure)
            inlet[k] = header
            outlet[k] = site.tank_pressure + np.square(through[k] / site.tank_main)
        else:
            inlet[k] = network.inlet_of_area(header, valve.area)
            through[k] = valve_flow(in_series(network.valves[k], network.demand[k]), inlet[k])
            outlet[k] = np.square(through[k] / np.maximum(network.demand[k], 1e-9))
    return inlet, outlet, through
