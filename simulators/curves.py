"""The laws of pumps and valves as functions of arrays (or of single numbers): no plant, no time, no state.

Units are those of the metric catalogue: m³/h, bar (gauge), kW, %; heads in m.
"""

from __future__ import annotations

import numpy as np

from simulators.noise import Floats

Values = Floats | float

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


def pump_head(flow: Values, speed: Values, rated_flow: float, rated_head: float) -> Floats:
    """Head in m of a pump at a fraction of its rated speed.

    A parabola through the shut-off head and the rated point. The affinity laws (Q ∝ n, H ∝ n²) turn
    H0 - a·Q² into H0·n² - a·Q².
    """
    a = (SHUT_OFF_HEAD - 1.0) * rated_head / rated_flow**2
    return np.asarray(SHUT_OFF_HEAD * rated_head * np.square(speed) - a * np.square(flow))


def pump_speed(flow: Values, head: Values, rated_flow: float, rated_head: float) -> Floats:
    """The fraction of rated speed at which a pump gives this flow at this head: `pump_head` solved for the speed."""
    a = (SHUT_OFF_HEAD - 1.0) * rated_head / rated_flow**2
    return np.sqrt(np.maximum((head + a * np.square(flow)) / (SHUT_OFF_HEAD * rated_head), 0.0))


def pump_efficiency(flow: Values, speed: Values, rated_flow: float, best: float) -> Floats:
    """Hydraulic efficiency 0…1: a parabola with its top `best` at the best efficiency flow, which follows the speed."""
    x = flow / (rated_flow * np.maximum(speed, 1e-6))
    return np.maximum(best * x * (2.0 - x), 0.0)


def shaft_power(flow: Values, head: Values, speed: Values, rated_flow: float, best: float) -> Floats:
    """P = ρ·g·Q·H/η in kW, at the shaft.

    With `pump_efficiency` put in, Q cancels out: the power at zero flow is finite, as it is on a real pump. Meant for
    flows up to 1.8 times the best one.
    """
    x = np.minimum(flow / (rated_flow * np.maximum(speed, 1e-6)), 1.8)
    return np.asarray(DENSITY * GRAVITY * head * rated_flow * speed / (3.6e6 * best * (2.0 - x)))


def opening_factor(position: Values) -> Floats:
    """Kv over Kvs at a stem position in %: equal percentage, Kv/Kvs = R^(h-1)."""
    h = np.clip(position, 0.0, 100.0) / 100.0
    curve = np.power(RANGEABILITY, np.maximum(h, _SEATED) - 1.0)
    return np.where(h < _SEATED, curve * h / _SEATED, curve)


def opening_for(factor: Values) -> Floats:
    """The stem position in % with this Kv over Kvs: the inverse of `opening_factor`, limited to 0…100 %."""
    seated = RANGEABILITY ** (_SEATED - 1.0)
    h = 1.0 + np.log(np.maximum(factor, seated)) / np.log(RANGEABILITY)
    opening = np.where(factor < seated, _SEATED * np.asarray(factor) / seated, h)
    return np.asarray(np.clip(opening, 0.0, 1.0) * 100.0)


def valve_flow(kv: Values, drop: Values) -> Floats:
    """Q = Kv·√(ΔP/SG) in m³/h with ΔP in bar and SG 1 (IEC 60534-2-1, turbulent, not choked); 0 against the drop."""
    return np.asarray(kv * np.sqrt(np.maximum(drop, 0.0)))


def in_series(one: Values, other: Values) -> Floats:
    """The conductance of two throttles in series, each with Q = G·√ΔP: 1/G² adds up; a shut one shuts both."""
    return 1.0 / np.sqrt(1.0 / np.square(np.maximum(one, 1e-9)) + 1.0 / np.square(np.maximum(other, 1e-9)))


def loss_coefficient(kv: Values, diameter: Values) -> Floats:
    """K = 2·ΔP/(ρ·v²) of a valve with this Kv (m³/h at 1 bar, IEC 60534-2-1) at the velocity in its diameter (mm)."""
    area = np.pi * np.square(np.asarray(diameter) / 1e3) / 4.0
    return np.asarray(2e5 / DENSITY * np.square(3600.0 * area / np.asarray(kv)))
