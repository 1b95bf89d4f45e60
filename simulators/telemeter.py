"""The telemetry unit itself: its battery, its radio and its enclosure."""

from __future__ import annotations

import numpy as np

from devices.model import DAY, MINUTE
from simulators.faults import BATTERY_LEFT
from simulators.noise import Floats, Integers, choice, drift, normal

_COVERAGE_1, _COVERAGE_2 = -110.0, -120.0
"""dBm of reference signal power below which networks usually send a device to coverage level 1 and 2."""


def status(seed: int, tag: str, times: Integers, collapse: Floats, opened: Floats) -> dict[str, Floats]:
    """Canonical values of the unit's own metrics at these instants.

    `collapse` is the severity of a battery's collapse, `opened` above 0 while the enclosure is open; one a time.
    """
    charge = choice(seed, f"{tag}/charge", 55.0, 99.0) - 2.0 * ((times % (365 * DAY)) / (365.0 * DAY))
    charge = charge * (1.0 - collapse) + BATTERY_LEFT * collapse
    mean = choice(seed, f"{tag}/rsrp", -117.0, -84.0)
    rsrp = mean + 2.0 * drift(seed, f"{tag}/fading", times, 45 * MINUTE)
    rsrp = np.clip(rsrp + 1.0 * normal(seed, f"{tag}/fast fading", times), -140.0, -60.0)
    return {
        "battery": charge,
        # A lithium thionyl chloride cell: flat at 3.6 V, then falling fast.
        "battery_voltage": 3.62 - 0.9 * np.clip((20.0 - charge) / 20.0, 0.0, 1.0) ** 2,
        "rsrp": rsrp,
        "snr": np.clip((rsrp + 118.0) * 0.7, -12.0, 25.0),
        "coverage_level": np.where(rsrp > _COVERAGE_1, 0.0, np.where(rsrp > _COVERAGE_2, 1.0, 2.0)),
        # One base station of three sectors; a device that is built in stays in its own.
        "cell_id": np.full(len(times), 0x1A2B3 * 256 + 1 + int(choice(seed, f"{tag}/cell", 0.0, 3.0)), np.float64),
        "enclosure_open": np.where(opened > 0.0, 1.0, 0.0),
    }
