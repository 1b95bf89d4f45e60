"""Pump sets as machines: power, current, vibration and bearing temperature for the flows that hydraulics gives.

Formulas with their sources stand at the functions; the coefficients are ours, chosen inside what makers publish for
sets of this size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.model import MINUTE, Instant
from simulators.curves import shaft_power
from simulators.demand import local_hour
from simulators.hydraulics import Flows
from simulators.noise import Floats, Integers, drift
from simulators.waterworks import Site, Waterworks

VOLTAGE = 380.0
_RATED_POWER_FACTOR = 0.86
_MAGNETISING = 0.35
"""Magnetising current over rated current: what a motor without load still draws."""
_FIXED_LOSS = 0.02
"""Iron and friction losses over rated power; the rest of the losses is proportional to the load."""
_PROPORTIONAL = 0.96
_DRY_POWER = 0.22
"""Shaft power of an impeller in air, with its seals and bearings, over rated power at rated speed."""
_OFF_DESIGN = 1.4
"""How fast vibration grows away from the best efficiency point: by a third at half of the best flow."""
_AT_REST = 0.15
"""mm/s that running neighbours shake a standing pump with."""
_CAVITATION = 1.6
_WEAR_VIBRATION = 9.0
_WEAR_HEATING = 52.0
"""mm/s and K that a bearing worn out (severity 1) adds at rated speed."""
BEARING_LAG: Instant = 22 * MINUTE
"""Time constant of bearing metal and housing."""


@dataclass(frozen=True)
class Machines:
    """Of the pump sets of one site, [pump, time]: kW, A, V, mm/s, °C, rpm; `water` is the medium in °C, [time]."""

    speed: Floats
    power: Floats
    current: Floats
    voltage: Floats
    vibration: Floats
    bearing: Floats
    water: Floats


def run(
    works: Waterworks, site: Site, times: Integers, step: Instant, flows: Flows, wet: Floats, wear: Floats
) -> Machines:
    """The machines of a site at instants that are `step` apart; bearings begin in equilibrium.

    `wet` is 1 where a pump throws water and 0 where it runs dry, `wear` the severity of bearing wear; [pump, time].
    """
    shape = flows.speed.shape
    power, current, vibration = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    target = np.zeros(shape)
    hour = local_hour(times, works.utc_offset)
    room = 21.0 + 2.5 * np.cos((hour - 15.0) * (2.0 * np.pi / 24.0))
    room = room + 0.8 * drift(works.seed, f"room/{site.name}", times, 240 * MINUTE)
    voltage = VOLTAGE * (1.0 + 0.008 * drift(works.seed, f"voltage/{site.name}", times, 10 * MINUTE))
    for k, pump in enumerate(site.pumps):
        n, running = flows.speed[k], flows.running[k]
        shaft = shaft_power(flows.pump_flow[k], flows.head[k], n, pump.rated_flow, pump.efficiency)
        shaft = wet[k] * shaft + (1.0 - wet[k]) * _DRY_POWER * pump.rated_power * n**3
        power[k] = np.where(running, electrical_power(shaft, pump.rated_power), 0.0)
        current[k] = np.where(running, motor_current(power[k], voltage, pump.rated_power), 0.0)
        x = flows.pump_flow[k] / (pump.rated_flow * np.maximum(n, 1e-6))
        away = np.where(wet[k] > 0.5, np.square(x - 1.0), 0.0)
        shaking = pump.vibration * n * (1.0 + _OFF_DESIGN * away)
        shaking = shaking + _CAVITATION * (1.0 - wet[k]) + _WEAR_VIBRATION * wear[k] * n
        vibration[k] = np.where(running, shaking, _AT_REST)
        # Friction heat goes with speed, belt and shaft load with power.
        heat = pump.heating * (0.4 * n * n + 0.6 * power[k] / pump.rated_power) + _WEAR_HEATING * wear[k] * n
        target[k] = room + np.where(running, heat, 0.0)
    water = 16.0 + 0.6 * drift(works.seed, f"water/{site.name}", times, 360 * MINUTE)
    rated = np.array([[pump.rated_speed] for pump in site.pumps]).reshape(-1, 1)
    return Machines(
        flows.speed * rated,
        power,
        current,
        np.broadcast_to(voltage, shape),
        vibration,
        lagged(target, step, BEARING_LAG),
        water,
    )


def electrical_power(shaft: Floats, rated: float) -> Floats:
    """kW drawn for kW at the shaft: a fixed loss and one proportional to the load."""
    return shaft / _PROPORTIONAL + _FIXED_LOSS * rated


def motor_current(power: Floats, voltage: Floats, rated: float) -> Floats:
    """A of one phase: the active current P/(√3·U) and the magnetising current, at right angles to each other."""
    rated_current = rated * 1e3 / (np.sqrt(3.0) * VOLTAGE * _RATED_POWER_FACTOR * 0.94)
    return np.asarray(np.hypot(power * 1e3 / (np.sqrt(3.0) * voltage), _MAGNETISING * rated_current))


def lagged(target: Floats, step: Instant, lag: Instant) -> Floats:
    """A first-order lag, T' = (target - T)/τ, solved exactly for a target that is constant over each step; [.., time].

    Begins in equilibrium with the first target.
    """
    share = -np.expm1(-step / lag)
    result = np.empty_like(target)
    if target.shape[-1] == 0:
        return result
    state = target[..., 0].copy()
    for at in range(target.shape[-1]):
        state = state + (target[..., at] - state) * share
        result[..., at] = state
    return result
