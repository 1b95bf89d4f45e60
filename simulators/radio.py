"""What a bad radio does to the uplinks of a device: some are sent twice, some change places, some come hours late.

Pure and seeded; losses on the way are not made here, they happen to real datagrams and are repaired by retransmission.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from devices.model import MINUTE, Instant
from simulators.device import Uplink
from simulators.noise import uniform


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Shares of uplinks, 0…1."""

    repeated: float = 0.02
    """Sent once more although acknowledged: the acknowledgement was lost after the device's last retransmission."""
    swapped: float = 0.02
    """Sent after the next one."""
    delayed: float = 0.01
    """Held back for `longest_delay` at most: no coverage."""
    longest_delay: Instant = 90 * MINUTE


DEFAULTS = Disturbance()


@dataclass(frozen=True, slots=True)
class Transmission:
    """An uplink as it goes out."""

    at: Instant
    """In plant time."""
    uplink: Uplink
    repeat: bool = False


def disturbed(
    uplinks: Iterable[Uplink], seed: int, name: str, disturbance: Disturbance = DEFAULTS
) -> Iterator[Transmission]:
    """The transmissions of a device in the order in which they go out; every uplink is among them, whatever happens."""
    # (when, tie-breaker, transmission); what waits here goes out as soon as its time has come.
    held: list[tuple[Instant, int, Transmission]] = []
    after_next: Uplink | None = None
    for uplink in uplinks:
        while held and held[0][0] <= uplink.due:
            yield heapq.heappop(held)[2]
        dice, how_long = _dice(seed, name, uplink.sequence)
        if dice < disturbance.delayed:
            at = uplink.due + round((0.1 + 0.9 * how_long) * disturbance.longest_delay)
            heapq.heappush(held, (at, uplink.sequence, Transmission(at, uplink)))
            continue
        dice -= disturbance.delayed
        if dice < disturbance.swapped and after_next is None:
            after_next = uplink
            continue
        dice -= disturbance.swapped
        yield Transmission(uplink.due, uplink)
        if 0.0 <= dice < disturbance.repeated:
            yield Transmission(uplink.due, uplink, repeat=True)
        if after_next is not None:
            yield Transmission(uplink.due, after_next)
            after_next = None
    if after_next is not None:
        yield Transmission(after_next.due, after_next)
    while held:
        yield heapq.heappop(held)[2]


def _dice(seed: int, name: str, sequence: int) -> tuple[float, float]:
    index = np.array([sequence], dtype=np.int64)
    return float(uniform(seed, f"{name}/radio", index)[0]), float(uniform(seed, f"{name}/radio delay", index)[0])
