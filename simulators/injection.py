"""A fault of the catalogue at work: on what, from when to when, how badly, and how fast it grows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from devices.model import Instant
from simulators.catalogue import CATALOGUE
from simulators.noise import Floats, Integers


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault of the catalogue: begins at `since`, reaches `severity` (0…1) after `growth`, is repaired at `until`.

    `target` is what its kind is put on: a device's tag, a node or a link of the network, or TAG/metric.
    """

    fault: str
    target: str
    since: Instant
    until: Instant
    severity: float = 1.0
    growth: Instant = 0

    def __post_init__(self) -> None:
        if self.fault not in CATALOGUE:
            raise ValueError(f"‘{self.fault}’ is no fault of the catalogue, which has {', '.join(CATALOGUE)}")
        if not self.since < self.until:
            raise ValueError(f"the fault {self.fault} of {self.target} ends before it begins")
        if not 0.0 < self.severity <= 1.0:
            raise ValueError(f"the severity of {self.fault} of {self.target} is {self.severity}; it goes from 0 to 1")
        if self.growth < 0:
            raise ValueError(f"the growth of {self.fault} of {self.target} is negative")

    def intensity(self, times: Integers) -> Floats:
        """Its severity at these instants: grows with the square of time, as wear does, then stays until the repair."""
        active = (times >= self.since) & (times < self.until)
        grown = np.clip((times - self.since) / self.growth, 0.0, 1.0) if self.growth else np.ones(len(times))
        return np.where(active, self.severity * np.square(grown), 0.0)


def intensity(faults: Iterable[Injection], kind: str, target: str, times: Integers) -> Floats:
    """The intensity of all faults of a kind on a target, at most 1."""
    total = np.zeros(len(times))
    for fault in faults:
        if fault.fault == kind and fault.target == target:
            total = total + fault.intensity(times)
    return np.minimum(total, 1.0)
