"""The laws of pumps and valves as functions of numbers or arrays: no plant, no time, no state.

Units are those of the metric catalogue: m³/h, bar (gauge), kW, %; heads in m.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from simulators.noise import Floats

Number = TypeVar("Number", float, Floats)

GRAVITY = 9.80665
DENSITY = 998.2
"""Water at 20 °C, kg/m³."""
BAR_PER_METRE = DENSITY * GRAVITY / 1e5

SHUT_OFF_HEAD = 1.25
"""Head at zero flow over head at the best efficiency point: usual for a single-stage radial pump."""
RANGEABILITY = 50.0
"""Of an equal-percentage trim (IEC 60534-2-4)."""
_SEATED = 0.05
"""Below this opening the characteristic runs straight into the seat, as an exponential never reaches zero."""


def pump_head(flow: Number, speed: Number, rated_flow: float, rated_head: float) -> Number:
    """Head in m of a pump at a fraction of its rated speed.

    A parabola through the shut-off head and the rated point. The affinity laws (Q ∝ n, H ∝ n²) turn
    H0 - a·Q² into H0·n² - a·Q².
    """
    a = (SHUT_OFF_HEAD - 1.0) * rated_head / rated_flow**2
    return SHUT_OFF_HEAD * rated_head * speed * speed - a * flow * flow


def pump_speed(flow: Number, head: Number, rated_flow: float, rated_head: float) -> Number:
    """The fraction of rated speed at which a pump gives this flow at this head: `pump_head` solved for the speed."""
    a = (SHUT_OFF_HEAD - 1.0) * rated_head / rated_flow**2
    square = (head + a * flow * flow) / (SHUT_OFF_HEAD * rated_head)
    return np.sqrt(np.maximum(square, 0.0))  # type: ignore[return-value]


def pump_efficiency(flow: Number, speed: Number, rated_flow: float, best: float) -> Number:
    """Hydraulic efficiency 0…1: a parabola with its top `best` at the best efficiency flow, which follows the speed."""
    x = flow / (rated_flow * np.maximum(speed, 1e-6))
    return np.maximum(best * x * (2.0 - x), 0.0)  # type: ignore[return-value]


def shaft_power(flow: Number, head: Number, speed: Number, rated_flow: float, best: float) -> Number:
    """P = ρ·g·Q·H/η in kW, at the shaft.

    With `pump_efficiency` put in, Q cancels out: the power at zero flow is finite, as it is on a real pump.
    """
    x = np.minimum(flow / (rated_flow * np.maximum(speed, 1e-6)), 1.8)
    return DENSITY * GRAVITY * head * rated_flow * speed / (3.6e6 * best * (2.0 - x))  # type: ignore[return-value]


def opening_factor(position: Number) -> Number:
    """Kv over Kvs at a stem position in %: equal percentage, Kv/Kvs = R^(h-1)."""
    h = np.clip(position, 0.0, 100.0) / 100.0
    curve = RANGEABILITY ** (np.maximum(h, _SEATED) - 1.0)
    return np.where(h < _SEATED, curve * h / _SEATED, curve)  # type: ignore[return-value]


def opening_for(factor: Number) -> Number:
    """The stem position in % with this Kv over Kvs: the inverse of `opening_factor`, limited to 0…100 %."""
    seated = RANGEABILITY ** (_SEATED - 1.0)
    h = 1.0 + np.log(np.maximum(factor, seated)) / np.log(RANGEABILITY)
    return np.clip(np.where(factor < seated, _SEATED * factor / seated, h), 0.0, 1.0) * 100.0  # type: ignore[return-value]


def valve_flow(kv: Number, drop: Number) -> Number:
    """Q = Kv·√(ΔP/SG) in m³/h with ΔP in bar and SG 1 (IEC 60534-2-1, turbulent, not choked); 0 against the drop."""
    return kv * np.sqrt(np.maximum(drop, 0.0))  # type: ignore[return-value]


def in_series(*conductances: Number) -> Number:
    """The conductance of throttles in series, each with Q = G·√ΔP: 1/G² adds up; a shut one shuts all."""
    resistance = sum(1.0 / np.maximum(g, 1e-9) ** 2 for g in conductances)
    return 1.0 / np.sqrt(resistance)  # type: ignore[return-value,no-any-return]
