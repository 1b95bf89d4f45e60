"""All layers together: what every instrument of a plant shows over a time range, under given faults.

A pure function of waterworks, faults and instants. What has memory (stems with friction, warm bearings) is computed day
by day (UTC), each day from a start of its own some hours earlier, so that a sample has the same value whatever range it
is asked for in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from devices.model import DAY, HOUR, MINUTE, Instant
from simulators import machine
from simulators.actuator import TICK, commands, follow, stem_torque
from simulators.curves import BAR_PER_METRE
from simulators.faults import (
    Fault,
    FaultKind,
    bearing_wear,
    check_faults,
    disturbances,
    stiction_band,
    total,
)
from simulators.hydraulics import Flows, solve
from simulators.noise import Floats, Integers
from simulators.sensors import measure
from simulators.telemeter import status
from simulators.waterworks import Site, Waterworks

SAMPLING: Instant = MINUTE
_WARM_UP: Instant = 6 * HOUR
"""Sixteen time constants of a bearing: what was before has no weight left in what is shown."""


@dataclass(frozen=True)
class SiteState:
    """The true state of a site, before any instrument: canonical units, [asset, time]."""

    site: Site
    times: Integers
    command: Floats
    position: Floats
    flows: Flows
    machines: machine.Machines
    torque: Floats


@dataclass(frozen=True)
class Observation:
    """What the instruments show: by asset tag and metric, in wire units, one value for each of `times`."""

    times: Integers
    values: dict[str, dict[str, Floats]]


def sample_times(start: Instant, end: Instant) -> Integers:
    """The instants in [start, end) at which devices sample: whole minutes."""
    return np.arange(-(-start // SAMPLING) * SAMPLING, end, SAMPLING, dtype=np.int64)


def observe(works: Waterworks, faults: Iterable[Fault], start: Instant, end: Instant) -> Observation:
    """What is shown at the sample times in [start, end). `ValueError` for a fault that the plant cannot have."""
    listed = list(faults)
    check_faults(works, listed)
    times = sample_times(start, end)
    if not len(times):
        raise ValueError("no sample falls into this time range: make it a minute at least")
    parts: dict[str, dict[str, list[Floats]]] = {}
    for state in states(works, listed, times):
        for tag, metrics in _shown(works, listed, state).items():
            for metric, values in metrics.items():
                parts.setdefault(tag, {}).setdefault(metric, []).append(values)
    joined = {
        tag: {metric: np.concatenate(pieces) for metric, pieces in metrics.items()} for tag, metrics in parts.items()
    }
    return Observation(times, joined)


def states(works: Waterworks, faults: Sequence[Fault], times: Integers) -> Iterable[SiteState]:
    """The true state of every site, day by day, at these sample times (ascending)."""
    for day in np.unique(times // DAY):
        wanted = times[times // DAY == day]
        for site in works.sites:
            yield _day(works, site, faults, int(day), wanted)


def _day(works: Waterworks, site: Site, faults: Sequence[Fault], day: int, wanted: Integers) -> SiteState:
    begin = day * DAY - _WARM_UP
    ticks = np.arange(begin, int(wanted[-1]) + TICK, TICK, dtype=np.int64)
    every = SAMPLING // TICK
    times = ticks[::every]
    command = commands(works, site, ticks)
    position = command[:, ::every]
    if site.valves:
        stroke = np.array([valve.stroke for valve in site.valves])
        band = stiction_band(site.valves, faults, ticks)
        position = follow(command, band, stroke, _first_positions(works, site, faults, begin))[:, ::every]
    wrong = disturbances(site, faults, times)
    flows = solve(works, site, times, position, wrong)
    wear = bearing_wear(site.pumps, faults, times)
    machines = machine.run(works, site, times, SAMPLING, flows, wrong.delivery, wear)
    friction = 1.0 + 1.5 * stiction_band(site.valves, faults, times) / 100.0
    dn = np.array([[float(valve.dn)] for valve in site.valves]).reshape(-1, 1)
    torque = stem_torque(position, command[:, ::every], flows.inlet - flows.outlet, dn, friction)
    keep = np.searchsorted(times, wanted)
    return SiteState(
        site,
        wanted,
        command[:, ::every][:, keep],
        position[:, keep],
        Flows(**{name: values[..., keep] for name, values in vars(flows).items()}),
        machine.Machines(**{name: values[..., keep] for name, values in vars(machines).items()}),
        torque[:, keep],
    )


def _first_positions(works: Waterworks, site: Site, faults: Sequence[Fault], begin: Instant) -> Floats:
    """Where the stems stand at an instant: on their commands, or where they stuck before it."""
    first = commands(works, site, np.array([begin], dtype=np.int64))[:, 0]
    for k, valve in enumerate(site.valves):
        for fault in faults:
            if fault.kind is FaultKind.STICTION and fault.target == valve.tag and fault.since <= begin < fault.until:
                first[k] = commands(works, site, np.array([fault.since], dtype=np.int64))[k, 0]
    return first


def _shown(works: Waterworks, faults: Sequence[Fault], state: SiteState) -> dict[str, dict[str, Floats]]:
    flows, machines, times = state.flows, state.machines, state.times
    true: dict[str, dict[str, Floats]] = {}
    for k, pump in enumerate(state.site.pumps):
        true[pump.tag] = {
            "running": flows.running[k].astype(np.float64),
            "suction_pressure": flows.suction[k],
            "pressure": flows.suction[k] + BAR_PER_METRE * flows.head[k],
            "flow": flows.pump_flow[k],
            "speed": machines.speed[k],
            "current": machines.current[k],
            "voltage": machines.voltage[k],
            "power": machines.power[k],
            "vibration": machines.vibration[k],
            "bearing_temperature": machines.bearing[k],
            "temperature": machines.water,
        }
    for k, valve in enumerate(state.site.valves):
        true[valve.tag] = {
            "position": state.position[k],
            "position_command": state.command[k],
            "pressure": flows.inlet[k],
            "outlet_pressure": flows.outlet[k],
            "flow": flows.valve_flow[k],
            "torque": state.torque[k],
        }
    for tag, metrics in true.items():
        collapse = total(faults, FaultKind.BATTERY, tag, times)
        opened = total(faults, FaultKind.TAMPER, tag, times)
        metrics.update(status(works.seed, tag, times, collapse, opened))
    return {
        tag: {metric: measure(works.seed, tag, metric, values, times) for metric, values in metrics.items()}
        for tag, metrics in true.items()
    }
