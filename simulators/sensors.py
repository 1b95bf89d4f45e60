"""Instruments: noise, resolution and the unit that goes on the wire.

Units are SenML's (RFC 8428, RFC 8798), as real devices send them; the platform converts to canonical ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.model import SECOND
from simulators.noise import Floats, Integers, normal


@dataclass(frozen=True, slots=True)
class Instrument:
    """How one metric is measured: wire value = canonical value * factor, rounded to `decimals` of the wire unit.

    Noise is one standard deviation, in canonical units and as a share of the reading; below `cut_off` (canonical) zero
    is shown, as flow meters do.
    """

    unit: str
    factor: float
    decimals: int
    noise: float = 0.0
    relative: float = 0.0
    cut_off: float = 0.0


INSTRUMENTS: dict[str, Instrument] = {
    "running": Instrument("count", 1.0, 0),
    "suction_pressure": Instrument("Pa", 1e5, -2, noise=0.004),
    "pressure": Instrument("Pa", 1e5, -2, noise=0.01),
    "pressure_max": Instrument("Pa", 1e5, -2),
    "pressure_min": Instrument("Pa", 1e5, -2),
    "outlet_pressure": Instrument("Pa", 1e5, -2, noise=0.01),
    "flow": Instrument("l/s", 1 / 3.6, 3, noise=0.04, relative=0.004, cut_off=0.25),
    "speed": Instrument("1/min", 1.0, 0, relative=0.0004),
    "current": Instrument("A", 1.0, 1, relative=0.004),
    "voltage": Instrument("V", 1.0, 1, noise=0.3),
    "power": Instrument("W", 1e3, -1, relative=0.004),
    "vibration": Instrument("m/s", 1e-3, 5, noise=0.03, relative=0.03),
    "bearing_temperature": Instrument("Cel", 1.0, 1, noise=0.1),
    "temperature": Instrument("Cel", 1.0, 1, noise=0.05),
    "position": Instrument("/100", 1.0, 1, noise=0.08),
    "position_command": Instrument("/100", 1.0, 1),
    "torque": Instrument("Nm", 1.0, 1, relative=0.02),
    "stroke_time": Instrument("s", 1.0, 1),
    "battery": Instrument("%EL", 1.0, 0),
    "battery_voltage": Instrument("V", 1.0, 2, noise=0.005),
    "rsrp": Instrument("dBm", 1.0, 0),
    "snr": Instrument("dB", 1.0, 0),
    "coverage_level": Instrument("count", 1.0, 0),
    "cell_id": Instrument("count", 1.0, 0),
    "enclosure_open": Instrument("count", 1.0, 0),
}
"""By metric. Accuracies are those of ordinary field instruments: 0.2 % transmitters, 0.4 % flow meters."""


def measure(seed: int, tag: str, metric: str, true: Floats, times: Integers) -> Floats:
    """What the instrument shows, in its wire unit, for true values in canonical units."""
    instrument = INSTRUMENTS[metric]
    value = np.asarray(true, dtype=np.float64)
    if instrument.noise or instrument.relative:
        spread = np.hypot(instrument.noise, instrument.relative * value)
        value = value + spread * normal(seed, f"{tag}/{metric}", times // SECOND)
    if instrument.cut_off:
        value = np.where(np.abs(value) < instrument.cut_off, 0.0, value)
    # Adding zero turns -0.0, which rounding leaves behind, into 0.0.
    return np.round(value * instrument.factor, instrument.decimals) + 0.0


def canonical(metric: str, shown: Floats) -> Floats:
    """Wire values back in canonical units."""
    return shown / INSTRUMENTS[metric].factor
