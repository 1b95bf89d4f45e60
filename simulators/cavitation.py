"""Where water boils: vapour pressure, net positive suction head of pumps, choked flow and cavitation of valves.

Pressures are bar gauge unless said otherwise, temperatures °C, heads m.
"""

from __future__ import annotations

import numpy as np

from simulators.curves import DENSITY, GRAVITY, Values
from simulators.noise import Floats

ATMOSPHERE = 1.01325
"""bar: what gauge pressures are above."""
_CRITICAL = 220.64
"""bar, critical pressure of water (IAPWS)."""


def vapour_pressure(temperature: Values) -> Floats:
    """Absolute, in bar, for 1 to 150 °C: Antoine's equation with water's constants below and above 100 °C.

    Within 1 % of the steam tables there.
    """
    t = np.asarray(temperature, dtype=np.float64)
    low = 8.07131 - 1730.63 / (233.426 + t)
    high = 8.14019 - 1810.94 / (244.485 + t)
    return np.asarray(np.power(10.0, np.where(t < 100.0, low, high)) / 750.0617)


def npsh_available(suction: Values, temperature: Values) -> Floats:
    """Net positive suction head in m at the suction flange, without the velocity head: (p + p_atm - p_v) / (ρ·g)."""
    return np.asarray((suction + ATMOSPHERE - vapour_pressure(temperature)) * 1e5 / (DENSITY * GRAVITY))


def npsh_required(flow: Values, speed: Values, rated_flow: Values, rated: Values) -> Floats:
    """NPSH3 in m of a pump at a flow and a fraction of its rated speed.

    The affinity law NPSH ∝ n² of a curve that is flat to half of the rated flow and rises with its square; 3 % of head
    are lost at it (ISO 9906).
    """
    n = np.maximum(speed, 1e-6)
    x = np.asarray(flow) / (rated_flow * n)
    return np.asarray(rated * np.square(speed) * (0.6 + 0.4 * np.square(np.maximum(x, 0.0))))


def head_left(margin: Values) -> Floats:
    """The share of its head that a pump keeps at a ratio of available to required NPSH.

    0.97 at 1 by the definition of NPSH3, all of it from 1.3 on, none at half of it: the knee of test curves.
    """
    return np.asarray(np.interp(margin, (0.5, 0.8, 1.0, 1.3), (0.0, 0.75, 0.97, 1.0)))


def choked_drop(inlet: Values, temperature: Values, recovery: Values) -> Floats:
    """The pressure drop in bar beyond which a valve passes no more liquid: FL²·(p1 - FF·pv), IEC 60534-2-1.

    `recovery` is FL, and FF = 0.96 - 0.28·√(pv/pc).
    """
    vapour = vapour_pressure(temperature)
    critical_ratio = 0.96 - 0.28 * np.sqrt(vapour / _CRITICAL)
    return np.asarray(np.square(recovery) * np.maximum(inlet + ATMOSPHERE - critical_ratio * vapour, 0.0))


def cavitation_index(inlet: Values, outlet: Values, temperature: Values) -> Floats:
    """σ = (p1 - pv) / (p1 - p2) of a throttle (ISA-RP75.23); infinite where nothing is throttled."""
    drop = np.asarray(inlet, dtype=np.float64) - outlet
    above = inlet + ATMOSPHERE - vapour_pressure(temperature)
    return np.where(drop > 0.0, above / np.maximum(drop, 1e-9), np.inf)
