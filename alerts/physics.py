"""Physics of water, pumps and valves that a condition may use: plain functions of numbers, with their sources. Pure.

Every function takes canonical units (`devices.metrics`: bar gauge, m3/h, degC, kW, mm/s) and raises `ValueError` (or
`ZeroDivisionError`) where it has no meaning; a condition takes that as unknown.
"""

from __future__ import annotations

from math import sqrt

ATMOSPHERE = 1.01325
"""Standard atmosphere, in bar: what gauge pressures are taken to be above."""
GRAVITY = 9.80665
"""Standard gravity, in m/s2."""

_CRITICAL_PRESSURE = 220.64
"""Water's critical pressure, in bar (IAPWS)."""

# IAPWS-IF97, region 4 (saturation line), table 34.
_N = (
    1167.0521452767, -724213.16703206, -17.073846940092, 12020.824702470, -3232555.0322333,
    14.915108613530, -4823.2657361591, 405113.40542057, -0.23855557567849, 650.17534844798,
)  # fmt: skip

_ZONES = {
    (1, False): (2.5, 4.0, 6.6),
    (1, True): (3.5, 5.0, 7.6),
    (2, False): (3.2, 5.1, 8.5),
    (2, True): (4.2, 6.1, 9.5),
}
"""ISO 10816-7 boundaries A/B, B/C, C/D in mm/s RMS by category and whether above 200 kW (per standard, unverified)."""


def vapour_pressure(temperature: float) -> float:
    """Absolute vapour pressure of water in bar at a temperature in degC, 0 to 373 degC (IAPWS-IF97, equation 30)."""
    kelvin = temperature + 273.15
    if not 273.15 <= kelvin <= 647.096:
        raise ValueError("water has no vapour pressure at this temperature")
    theta = kelvin + _N[8] / (kelvin - _N[9])
    a = theta * theta + _N[0] * theta + _N[1]
    b = _N[2] * theta * theta + _N[3] * theta + _N[4]
    c = _N[5] * theta * theta + _N[6] * theta + _N[7]
    return float(10.0 * (2 * c / (-b + sqrt(b * b - 4 * a * c))) ** 4)


def density(temperature: float) -> float:
    """Density of water in kg/m3 at 0 to 150 degC and atmospheric pressure (Kell 1975, J. Chem. Eng. Data 20, 97)."""
    t = temperature
    if not 0 <= t <= 150:
        raise ValueError("outside the formula's 0 to 150 degC")
    powers = 999.83952 + t * (
        16.945176 + t * (-7.9870401e-3 + t * (-46.170461e-6 + t * (105.56302e-9 - t * 280.54253e-12)))
    )
    return powers / (1 + 16.879850e-3 * t)


def head(pressure: float, temperature: float = 20.0) -> float:
    """The height in m of a column of water that a pressure difference in bar carries: h = p / (rho g)."""
    return pressure * 1e5 / (density(temperature) * GRAVITY)


def npsh_available(suction_pressure: float, temperature: float) -> float:
    """Net positive suction head available in m at the suction flange: (p + p_atm - p_v) / (rho g).

    The velocity head is left out, which errs on the safe side (ISO 9906 has the full definition).
    """
    return head(suction_pressure + ATMOSPHERE - vapour_pressure(temperature), temperature)


def hydraulic_power(flow: float, pressure_rise: float) -> float:
    """Power in kW that goes into the water: Q dp, for m3/h and bar."""
    return flow * pressure_rise / 36.0


def pump_head(
    flow: float, rated_flow: float, rated_head: float, shutoff_head: float, speed_ratio: float = 1.0
) -> float:
    """Head in m that a pump gives at a flow and a speed (as a share of rated speed).

    The curve is the parabola through shut-off and rated point, H = H0 - (H0 - Hr) (Q/Qr)^2, moved by the affinity laws
    (Q ~ n, H ~ n^2).
    """
    if rated_flow <= 0 or speed_ratio < 0:
        raise ValueError("a pump has a rated flow above zero and does not turn backwards")
    return speed_ratio * speed_ratio * shutoff_head - (shutoff_head - rated_head) * (flow / rated_flow) ** 2


def affinity_flow(flow: float, speed_ratio: float) -> float:
    """Flow at another speed: Q ~ n (affinity law)."""
    return flow * speed_ratio


def affinity_head(height: float, speed_ratio: float) -> float:
    """Head at another speed: H ~ n^2 (affinity law)."""
    return height * speed_ratio**2


def affinity_power(power: float, speed_ratio: float) -> float:
    """Power at another speed: P ~ n^3 (affinity law)."""
    return power * speed_ratio**3


def equal_percentage(position: float, rangeability: float) -> float:
    """The share of its Kvs that a valve with an equal percentage characteristic has at a position in %: R^(h - 1).

    Source: IEC 60534-2-4; 30 and 50 are usual rangeabilities. Below some 5 % of travel no maker promises it.
    """
    if not 0 <= position <= 100 or rangeability <= 1:
        raise ValueError("a position is 0 to 100 %, a rangeability above 1")
    return float(rangeability ** (position / 100.0 - 1.0))


def kv_flow(kv: float, pressure_drop: float, relative_density: float = 1.0) -> float:
    """Flow in m3/h through a valve of flow coefficient Kv: Q = Kv sqrt(dp / SG), turbulent and not choked.

    Source: IEC 60534-2-1.
    """
    if pressure_drop < 0:
        raise ValueError("the flow through a valve goes with the pressure")
    return kv * sqrt(pressure_drop / relative_density)


def choked_drop(inlet_pressure: float, temperature: float, recovery: float) -> float:
    """Pressure drop in bar from which a valve's flow is choked: FL^2 (p1 - FF p_v), FF = 0.96 - 0.28 sqrt(p_v / p_c)
    (IEC 60534-2-1); `recovery` is FL."""
    vapour = vapour_pressure(temperature)
    factor = 0.96 - 0.28 * sqrt(vapour / _CRITICAL_PRESSURE)
    return recovery * recovery * (inlet_pressure + ATMOSPHERE - factor * vapour)


def cavitation_index(inlet_pressure: float, outlet_pressure: float, temperature: float) -> float:
    """The index sigma = (p1 - p_v) / (p1 - p2) of a valve (ISA-RP75.23); below some 1.5 to 2 most valves cavitate."""
    drop = inlet_pressure - outlet_pressure
    if drop <= 0:
        raise ValueError("without a pressure drop there is no cavitation")
    return (inlet_pressure + ATMOSPHERE - vapour_pressure(temperature)) / drop


def vibration_limit(rated_power: float, category: float, boundary: float) -> float:
    """A zone boundary of ISO 10816-7 in mm/s RMS: 1 is A/B, 2 is B/C, 3 is C/D.

    Category 1 is critical service, 2 the rest; above 200 kW higher limits hold.
    """
    limits = _ZONES.get((int(category), rated_power > 200))
    if limits is None or category != int(category) or boundary not in (1, 2, 3):
        raise ValueError("the category is 1 or 2, the boundary 1, 2 or 3")
    return limits[int(boundary) - 1]


def vibration_zone(vibration: float, rated_power: float, category: float) -> float:
    """The zone of ISO 10816-7: 1 for A (new), 2 for B (unlimited), 3 for C (limited), 4 for D (damage)."""
    return 1.0 + sum(vibration > vibration_limit(rated_power, category, boundary) for boundary in (1, 2, 3))
