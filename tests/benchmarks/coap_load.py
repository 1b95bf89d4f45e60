"""CoAP load for the benchmarks: the storm's sender, as fast as it is answered, in rounds of one uplink a device."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from devices.model import Device
from simulators.storm import Storm
from simulators.storm_payload import PROFILE, identity
from simulators.storm_run import Clocks, Targets, run_storm

SERIES = "bench"
DEVICES = 1_000
FLEET = [Device(identity(SERIES, number), PROFILE) for number in range(DEVICES)]
"""What has to be registered where the load goes; each uplink has 8 readings."""
_START = 1_760_000_000.0


@dataclass(frozen=True, slots=True)
class Load:
    """How a run went."""

    uplinks: int
    acknowledged: int
    seconds: float
    cpu_seconds: float
    """Of the sender."""
    latencies: np.ndarray[tuple[int, ...], np.dtype[np.float64]]

    def latency(self, quantile: float) -> float:
        """Seconds from sending to the answer."""
        return float(np.quantile(self.latencies, quantile))


def send(targets: Targets, uplinks: int, window: int) -> Load:
    """Send so many uplinks, at most `window` of them under way."""
    acknowledged, seconds, cpu, latencies = 0, 0.0, 0.0, []
    rounds = -(-uplinks // DEVICES)
    for _ in range(rounds):
        storm = Storm(SERIES, min(DEVICES, uplinks), 0.0, under_way=window, patience=60.0)
        # Sample times go on from round to round with the clock, so that none comes twice.
        done = run_storm(storm, targets, Clocks(time.monotonic, time.process_time, _START))
        acknowledged += done.acknowledged
        seconds += done.seconds
        cpu += done.cpu_seconds
        latencies += [tally.latencies for tally in done.tallies.values()]
    return Load(rounds * min(DEVICES, uplinks), acknowledged, seconds, cpu, np.concatenate(latencies))
