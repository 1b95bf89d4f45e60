"""The radio of an NB-IoT unit: coverage, what gets lost, how long it takes, what a message costs the battery.

Pure functions of seed, tag and time. Where a figure is not from a source that is named, it is an assumption of ours, to
be changed in a scenario's `radio`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from devices.model import DAY, MINUTE, SECOND, Instant
from devices.profile import Sleep
from simulators.device_faults import DeviceFault, active
from simulators.noise import choice, drift, uniform

LEVELS = 3
"""Coverage levels 0, 1, 2 reach 144, 154, 164 dB of coupling loss (3GPP TR 45.820, 5.1; levels: TS 36.321, 5.1.1)."""
MAX_RETRANSMIT = 4
"""RFC 7252, section 4.8."""
NAT_MAPPING = 2 * MINUTE
"""A carrier's NAT forgets an address that has been silent for as long (RFC 4787, REQ-5: two minutes at least)."""
PSM_POWER = 15e-6
"""W of a modem in power saving mode (3GPP TR 45.820, 5.4)."""
PAGING_ENERGY = 0.02
"""J of one paging window of eDRX: an assumption, 50 mW for some 0.4 s of listening."""
ACTIVE_POWER = 1.5e-3
"""W while a unit can be reached after it has spoken (T3324), with DRX cycles of 2.56 s: an assumption."""
STUDY_ENERGY, STUDY_YEARS, STUDY_BYTES = 5.0 * 3600.0, (25.0, 18.0, 4.0), 84
"""5 Wh and 84 bytes a day last so many years at 144, 154, 164 dB: a published study of the 5 Wh class."""
_FIXED = 0.5
"""Share of a message's energy that does not depend on its length (synchronisation, random access, release) in the
study's case: an assumption."""


def _of_study(years: float) -> float:
    daily = STUDY_ENERGY / (years * 365.25)
    return daily - PSM_POWER * DAY / SECOND


MESSAGE_ENERGY = tuple(_of_study(years) for years in STUDY_YEARS)
"""J of one message of 84 bytes at levels 0, 1, 2: what of the study's days is not sleep."""


@dataclass(frozen=True, slots=True)
class Radio:
    """What one transmission meets, by coverage level."""

    loss: tuple[float, float, float] = (0.01, 0.04, 0.12)
    """Share of datagrams that are lost on either way, after HARQ and RLC: assumptions."""
    delay: tuple[float, float, float] = (1.5, 3.0, 9.0)
    """Seconds that a message takes at the most from sleep to the gateway: TR 45.820 asks for 10 s at 164 dB."""
    repeated: tuple[float, float, float] = (0.005, 0.02, 0.05)
    """Share of uplinks that are sent once more although they were answered: assumptions."""
    ack_timeout: tuple[float, float] = (10.0, 20.0)
    """Seconds: from coverage level 0 to level 2. RFC 7252 has 2; Zephyr uses 20 with cellular modems."""

    def timeout(self, level: int) -> float:
        """ACK_TIMEOUT in seconds at a level."""
        first, last = self.ack_timeout
        return first + (last - first) * level / (LEVELS - 1)


class Fate(NamedTuple):
    """What becomes of one transmission."""

    uplink_lost: bool
    answer_lost: bool

    @property
    def heard(self) -> bool:
        """Whether the device gets its answer."""
        return not (self.uplink_lost or self.answer_lost)


def fate(radio: Radio, seed: int, tag: str, at: Instant, attempt: int, level: int) -> Fate:
    """The fate of the n-th transmission (from 0) of the uplink that is due at `at`."""
    index = np.array([at // SECOND * 1024 + attempt], dtype=np.int64)
    lost = radio.loss[level]
    return Fate(
        bool(uniform(seed, f"{tag}/lost up", index)[0] < lost),
        bool(uniform(seed, f"{tag}/lost down", index)[0] < lost),
    )


def attempts(radio: Radio, seed: int, tag: str, at: Instant, level: int) -> int:
    """How many transmissions an uplink takes, as far as the radio decides: 1 to `MAX_RETRANSMIT` + 1."""
    for attempt in range(MAX_RETRANSMIT):
        if fate(radio, seed, tag, at, attempt, level).heard:
            return attempt + 1
    return MAX_RETRANSMIT + 1


def delay(radio: Radio, seed: int, tag: str, at: Instant, level: int) -> Instant:
    """How long an uplink takes to leave: wake up, find the cell, get access."""
    share = 0.3 + 0.7 * _dice(seed, f"{tag}/delay up", at)
    return round(radio.delay[level] * share * SECOND)


def is_repeated(radio: Radio, seed: int, tag: str, at: Instant, level: int, faults: Iterable[DeviceFault]) -> bool:
    """Whether an uplink is sent once more although it was answered."""
    fault = active(faults, "uplinks-repeated", at)
    share = max(radio.repeated[level], fault.severity if fault else 0.0)
    return _dice(seed, f"{tag}/repeated", at) < share


def is_reordered(seed: int, tag: str, at: Instant, faults: Iterable[DeviceFault]) -> bool:
    """Whether an uplink is held back until after the next one."""
    fault = active(faults, "uplinks-reordered", at)
    return fault is not None and _dice(seed, f"{tag}/reordered", at) < fault.severity


def usual_level(seed: int, tag: str, shares: Sequence[float]) -> int:
    """The coverage level a device lives at, drawn with these shares for levels 0, 1, 2."""
    dice = choice(seed, f"{tag}/coverage", 0.0, sum(shares))
    for level, share in enumerate(shares):
        if dice < share:
            return level
        dice -= share
    return max(level for level, share in enumerate(shares) if share > 0.0)


def level_at(usual: int, at: Instant, faults: Iterable[DeviceFault]) -> int:
    """The coverage level at an instant."""
    fault = active(faults, "coverage-change", at)
    if fault is None:
        return usual
    return max(usual, 2 if fault.severity > 0.5 else 1)


_RSRP = ((-104.0, -85.0), (-118.0, -112.0), (-131.0, -124.0))
"""dBm of reference signal power at a level: a cell that sends it with 35 dBm reaches 144 dB at -109 dBm."""


def signal(seed: int, tag: str, at: Instant, level: int) -> float:
    """Reference signal received power in dBm."""
    low, high = _RSRP[level]
    mean = choice(seed, f"{tag}/rsrp {level}", low, high)
    moved = float(drift(seed, f"{tag}/fading", np.array([at], dtype=np.int64), 45 * MINUTE)[0])
    return float(round(min(max(mean + 1.5 * moved, low), high)))


def message_energy(octets: int, level: int) -> float:
    """J of one transmission of a payload."""
    return MESSAGE_ENERGY[level] * (_FIXED + (1.0 - _FIXED) * octets / STUDY_BYTES)


def sleep_energy(sleep: Sleep | None, span: Instant) -> float:
    """J of being asleep; with eDRX also of listening once in a cycle."""
    seconds = span / SECOND
    paging = PAGING_ENERGY * span / sleep.edrx if sleep and sleep.edrx else 0.0
    return PSM_POWER * seconds + paging


def reachable_energy(sleep: Sleep | None) -> float:
    """J of staying reachable (T3324) after a contact."""
    return ACTIVE_POWER * sleep.t3324 / SECOND if sleep and sleep.t3324 else 0.0


def years(octets_a_day: float, messages_a_day: float, level: int, watt_hours: float) -> float:
    """How long a battery lasts with so much to say, asleep in between."""
    spoken = messages_a_day * message_energy(round(octets_a_day / messages_a_day), level)
    return watt_hours * 3600.0 / (spoken + sleep_energy(None, DAY)) / 365.25


def _dice(seed: int, stream: str, at: Instant) -> float:
    return float(uniform(seed, stream, np.array([at // SECOND], dtype=np.int64))[0])
