"""A storm: a fleet that reports at the top of the hour. What it is, when each device comes, and what it found.

Pure; who speaks CoAP and MQTT is in `storm_coap` and `storm_mqtt`, and `storm_run` lets both run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from simulators.nbiot import LEVELS, STUDY_ENERGY, STUDY_YEARS, message_energy
from simulators.noise import Floats, uniform

Numbers = NDArray[np.int64]


class Shape(StrEnum):
    """How arrivals spread."""

    HOUR = "hour"
    """Clocks say the full hour: exponential, with a mean of a fifth of the time; 63 % come in that fifth."""
    EVEN = "even"


@dataclass(frozen=True, slots=True)
class Storm:
    """What is to happen."""

    series: str
    devices: int
    within: float
    """Seconds over which the devices come; 0 is as fast as they are answered."""
    shape: Shape = Shape.HOUR
    seed: int = 1
    under_way: int = 0
    """Devices that wait for an answer at the same time, at the most; 0 is no bound."""
    loss: float = 0.0
    """Share of datagrams lost, each way; made here, so that it is known. MQTT has TCP for that."""
    ack_timeout: float = 2.0
    """Seconds, RFC 7252 section 4.8; cellular devices use 10 to 20."""
    ports: int = 0
    """Source ports for CoAP; 0 is as few as message ids allow."""
    rebind: bool = False
    """Each retransmission comes from another port, as behind a NAT that forgets."""
    connections: int = 4
    """To the broker; many devices share one."""
    coverage: tuple[float, float, float] = (0.8, 0.15, 0.05)
    """Shares of devices at coverage levels 0, 1 and 2."""
    patience: float = 247.0
    """Seconds after the last arrival at which all ends: EXCHANGE_LIFETIME of RFC 7252."""


def arrivals(storm: Storm, numbers: Numbers) -> tuple[Numbers, Floats]:
    """The devices in the order in which they come, and when: seconds from the beginning."""
    if storm.within <= 0:
        return numbers, np.zeros(len(numbers))
    share = uniform(storm.seed, "storm/arrival", numbers)
    if storm.shape is Shape.HOUR:
        mean = storm.within / 5
        at = -mean * np.log1p(-share * (1 - np.exp(-storm.within / mean)))
    else:
        at = share * storm.within
    order = np.argsort(at, kind="stable")
    return numbers[order], at[order]


def coverage_levels(storm: Storm, numbers: Numbers) -> NDArray[np.int64]:
    """The coverage level of each device."""
    bounds = np.cumsum(storm.coverage)[:-1] / sum(storm.coverage)
    return np.searchsorted(bounds, uniform(storm.seed, "storm/coverage", numbers)).astype(np.int64)


@dataclass(slots=True)
class Tally:
    """What the devices of one transport met."""

    devices: int = 0
    started: int = 0
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Devices with a final refusal, by its code."""
    later: int = 0
    """Answers that asked to try again later (5.03, 4.29, nobody at the broker)."""
    retransmissions: int = 0
    given_up: int = 0
    """Devices that no answer reached within all retransmissions, or that were put off too often."""
    lost: int = 0
    """Datagrams lost on purpose."""
    transmissions: list[int] = field(default_factory=lambda: [0] * LEVELS)
    """By coverage level."""
    payload_bytes: int = 0
    latencies: Floats = field(default_factory=lambda: np.empty(0))
    """Seconds from a device's first transmission to its final acknowledgement."""

    @property
    def finished(self) -> int:
        """Devices for which it is over."""
        return self.acknowledged + sum(self.refused.values()) + self.given_up

    @property
    def unfinished(self) -> int:
        """Devices that were still at it, or not begun, when time was up."""
        return self.devices - self.finished

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        found = np.quantile(self.latencies, list(quantiles.values())) if len(self.latencies) else np.zeros(4)
        return {
            "devices": self.devices, "started": self.started, "acknowledged": self.acknowledged,
            "refused": dict(self.refused), "asked_to_wait": self.later, "retransmissions": self.retransmissions,
            "given_up": self.given_up, "unfinished": self.unfinished, "datagrams_lost_on_purpose": self.lost,
            "latency_seconds": {name: round(float(value), 4) for name, value in zip(quantiles, found, strict=True)},
            "battery": battery([self]),
        }  # fmt: skip


@dataclass(slots=True)
class Report:
    """How a storm went, or stands."""

    tallies: dict[str, Tally]
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    complete: bool = False
    """Every device came to its end; false where it was stopped or its time was up."""

    @property
    def finished(self) -> int:
        """Devices for which it is over."""
        return sum(tally.finished for tally in self.tallies.values())

    @property
    def acknowledged(self) -> int:
        """Devices that were acknowledged."""
        return sum(tally.acknowledged for tally in self.tallies.values())

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "complete": self.complete,
            "seconds": round(self.seconds, 3),
            "acknowledged_per_second": round(self.acknowledged / self.seconds, 1) if self.seconds else 0.0,
            "sender_cpu_microseconds_per_uplink": (
                round(self.cpu_seconds / self.finished * 1e6, 2) if self.finished else None
            ),
            "transports": {name: tally.as_dict() for name, tally in self.tallies.items()},
            "battery": battery(list(self.tallies.values())),
        }


def battery(tallies: Sequence[Tally]) -> dict[str, object]:
    """What all batteries paid together, and a device on average, in days of the study's battery life at its level."""
    joules = repeated = days = 0.0
    devices = 0
    for tally in tallies:
        each = [message_energy(tally.payload_bytes, level) for level in range(LEVELS)]
        spent = sum(count * each[level] for level, count in enumerate(tally.transmissions))
        joules += spent
        for level, count in enumerate(tally.transmissions):
            # A day of the study's life is its 5 Wh over its years.
            days += count * each[level] / (STUDY_ENERGY / (STUDY_YEARS[level] * 365.25))
        sent = sum(tally.transmissions)
        repeated += spent * (sent - tally.started) / sent if sent else 0.0
        devices += tally.started
    return {
        "watt_hours": round(joules / 3600, 4),
        "watt_hours_of_repeats": round(repeated / 3600, 4),
        "days_of_life_per_device": round(days / devices, 3) if devices else 0.0,
        "transmissions_by_coverage_level": [
            sum(tally.transmissions[level] for tally in tallies) for level in range(LEVELS)
        ],
    }
