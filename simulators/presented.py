"""What a device type shows of the site that it sits at: the metrics of its profile, some worked out from others.

A site has three device types of its own (`site`); a scenario may say that a device there is of another type, for
instance a ball valve that speaks CJ/T 188.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from devices.model import HOUR
from devices.profile import Profile
from simulators.noise import Floats, Integers, choice
from simulators.sensors import canonical

_OPEN = 50.0
"""% of travel from which a valve that is only open or shut says that it is open."""
UNIT_METRICS = ("battery", "battery_voltage", "rsrp", "snr", "coverage_level", "battery_low")
"""The telemetry unit's own: what `firmware` knows at the moment of a report."""


def present(seed: int, tag: str, profile: Profile, times: Integers, shown: Mapping[str, Floats]) -> dict[str, Floats]:
    """The series of a profile's metrics in wire units, without those of the telemetry unit itself.

    `ValueError` where the profile has nothing that could be measured there.
    """
    found = {
        metric: series for metric, series in shown.items() if metric in profile.metrics and metric not in UNIT_METRICS
    }
    if "valve_fault" in profile.metrics and "position" in shown:
        found["valve_fault"] = np.zeros(len(times))
        if "position_command" not in profile.metrics:  # a valve of two positions
            found["position"] = np.where(shown["position"] >= _OPEN, 100.0, 0.0)
    if "volume" in profile.metrics and "flow" in shown:
        flow = np.maximum(canonical("flow", shown["flow"]), 0.0)
        passed = np.concatenate([[0.0], np.cumsum(flow[:-1] * np.diff(times) / HOUR)])
        volume = np.floor((choice(seed, f"{tag}/volume", 1_000.0, 50_000.0) + passed) * 100.0) / 100.0
        found["volume"] = volume
        if "settlement_volume" in profile.metrics:
            found["settlement_volume"] = np.full(len(times), volume[0])
    if not found:
        raise ValueError(f"a device of the profile ‘{profile.profile}’ has nothing to measure there")
    return found
