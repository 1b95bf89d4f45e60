"""From what a device says to what we keep: canonical metric, canonical unit, quality; or a reason why not.

One record that cannot be used never costs its neighbours: it becomes a `Reject`, and the rest are readings.
"""

from __future__ import annotations

from typing import NamedTuple

from devices.metrics import CATALOGUE
from devices.model import MINUTE, Device, Instant, Measurement, Quality, Reading, Reason, Report, moment
from devices.profile import Profile
from devices.units import Conversion

EARLIEST: Instant = 1_262_304_000_000_000
"""2010-01-01: older than any device of this kind, younger than every epoch that a real-time clock resets to (1970,
1980, 2000), and early enough for archives that are replayed."""
AHEAD: Instant = 10 * MINUTE
"""How far a sample may lie in the future: a clock that drifts by 10 ppm for two years is off by this much."""


class Reject(NamedTuple):
    """One record that is not stored, and why; `detail` is for people."""

    reason: Reason
    detail: str


def normalize(
    report: Report, device: Device, profile: Profile, received_at: Instant
) -> tuple[list[Reading], list[Reject]]:
    """Readings of a report in canonical units, and the records that could not become one.

    Quality: bad outside the sensor's range, uncertain outside the process range, else good.
    """
    table = profile.compiled
    identity = device.identity
    latest = received_at + AHEAD
    readings: list[Reading] = []
    rejects: list[Reject] = []
    for record in report.measurements:
        name, unit, value, time = record
        spec = table.get(name)
        if spec is None:
            rejects.append(Reject(Reason.UNKNOWN_METRIC, f"{name!r} is not in the profile {profile.profile!r}"))
            continue
        scale = spec.units.get(unit)
        if scale is None:
            canonical = CATALOGUE[spec.metric].unit
            rejects.append(Reject(Reason.UNIT_MISMATCH, f"{name!r} in {unit!r} cannot be converted to {canonical!r}"))
            continue
        if not EARLIEST <= time <= latest:
            rejects.append(Reject(Reason.TIME_OUT_OF_RANGE, f"{name!r} at {_readable(time)}"))
            continue
        # Records with a text or without a value, NaN and the infinities all fail one of these two comparisons.
        number = value * scale[0] / scale[1] + scale[2] if value.__class__ is float else _number(record, scale)
        if not -1.7e308 < number < 1.7e308:
            rejects.append(Reject(Reason.NOT_A_NUMBER, f"{name!r} is {value!r}"))
            continue
        if spec.uncertain_below <= number <= spec.uncertain_above:
            quality = Quality.GOOD
        elif spec.bad_below <= number <= spec.bad_above:
            quality = Quality.UNCERTAIN
        else:
            quality = Quality.BAD
        readings.append(Reading(identity, spec.metric, time, number, quality))
    return readings, rejects


def _number(record: Measurement, scale: Conversion) -> float:
    """The value of a record that is not a plain float: booleans are 0 and 1, texts and nothing are NaN."""
    if isinstance(record.value, int | float):
        return float(record.value) * scale.factor / scale.divisor + scale.offset
    return float("nan")


def _readable(time: Instant) -> str:
    try:
        return moment(time).isoformat(timespec="seconds")
    except OverflowError:
        return f"{time / 1e6:.0f} s"
