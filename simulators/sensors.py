"""Instruments: response time, noise, range, resolution and the unit that goes on the wire.

Units are SenML's (RFC 8428, RFC 8798), as real devices send them; the platform converts to canonical ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.model import SECOND, Instant
from simulators.noise import Floats, Integers, normal

_FOLLOWED = 1e-4
"""What is left of a step after less than this is nothing that a sample shows."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """How one metric is measured: wire value = canonical value * factor, rounded to `decimals` of the wire unit.

    Noise is one standard deviation, in canonical units and as a share of the reading; below `cut_off` (canonical) zero
    is shown, as flow meters do. `span` is what it can measure: it stands at the end of that for what lies beyond.
    `response` is the time in which it follows 63 % of a step.
    """

    unit: str
    factor: float
    decimals: int
    noise: float = 0.0
    relative: float = 0.0
    cut_off: float = 0.0
    span: tuple[float, float] = (-np.inf, np.inf)
    response: Instant = 0


INSTRUMENTS: dict[str, Instrument] = {
    "running": Instrument("count", 1.0, 0),
    "suction_pressure": Instrument("Pa", 1e5, -2, noise=0.004, span=(-1, 10), response=SECOND // 5),
    "pressure": Instrument("Pa", 1e5, -2, noise=0.01, span=(-1, 25), response=SECOND // 5),
    "pressure_max": Instrument("Pa", 1e5, -2, span=(-1, 25)),
    "pressure_min": Instrument("Pa", 1e5, -2, span=(-1, 25)),
    "outlet_pressure": Instrument("Pa", 1e5, -2, noise=0.01, span=(-1, 25), response=SECOND // 5),
    "flow": Instrument(
        "l/s", 1 / 3.6, 3, noise=0.04, relative=0.004, cut_off=0.25, span=(-2000, 2000), response=5 * SECOND
    ),
    "speed": Instrument("1/min", 1.0, 0, relative=0.0004),
    "current": Instrument("A", 1.0, 1, relative=0.004),
    "voltage": Instrument("V", 1.0, 1, noise=0.3),
    "power": Instrument("W", 1e3, -1, relative=0.004),
    "vibration": Instrument("m/s", 1e-3, 5, noise=0.03, relative=0.03, span=(0, 50)),
    "bearing_temperature": Instrument("Cel", 1.0, 1, noise=0.1, span=(-40, 200), response=30 * SECOND),
    "temperature": Instrument("Cel", 1.0, 1, noise=0.05, span=(-40, 150), response=45 * SECOND),
    "position": Instrument("/100", 1.0, 1, noise=0.08, span=(-5, 105)),
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
"""By metric. Accuracies are those of ordinary field instruments: 0.2 % transmitters, 0.4 % flow meters; ranges those of
the shipped profiles. Response times are assumptions of ours, inside what makers publish: 0.2 s of a pressure
transmitter, 5 s of damping in a flow meter, 45 s of a resistance thermometer in its well, 30 s of one on a bearing."""


def measure(seed: int, tag: str, metric: str, true: Floats, times: Integers) -> Floats:
    """What the instrument shows, in its wire unit, for true values in canonical units."""
    instrument = INSTRUMENTS[metric]
    value = np.asarray(true, dtype=np.float64)
    if instrument.noise or instrument.relative:
        spread = np.hypot(instrument.noise, instrument.relative * value)
        value = value + spread * normal(seed, f"{tag}/{metric}", times // SECOND)
    if instrument.cut_off:
        value = np.where(np.abs(value) < instrument.cut_off, 0.0, value)
    value = np.clip(value, *instrument.span)
    # Adding zero turns -0.0, which rounding leaves behind, into 0.0.
    return np.round(value * instrument.factor, instrument.decimals) + 0.0


def respond(metric: str, true: Floats, step: Instant) -> Floats:
    """What an instrument has followed of true values that come at each `step`: a first-order lag, exact for values that
    are constant over a step, in equilibrium with the first one before it."""
    left = float(np.exp(-step / INSTRUMENTS[metric].response)) if INSTRUMENTS[metric].response else 0.0
    if left < _FOLLOWED or len(true) == 0:
        return true
    weights = (1.0 - left) * left ** np.arange(int(np.ceil(np.log(_FOLLOWED) / np.log(left))) + 1)
    weights[-1] += 1.0 - weights.sum()
    before = np.full(len(weights) - 1, true[0])
    return np.asarray(np.convolve(np.concatenate([before, true]), weights, "valid"))


def canonical(metric: str, shown: Floats) -> Floats:
    """Wire values back in canonical units."""
    return shown / INSTRUMENTS[metric].factor
