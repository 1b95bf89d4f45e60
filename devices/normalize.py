"""From what a device says to what we keep: canonical metric, canonical unit, quality; or a reason why not.

One record that cannot be used never costs its neighbours: it becomes a `Reject`, and the rest are readings.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from devices.clock_repair import AHEAD, EARLIEST, common_offset, offset_ahead, offset_since_reset
from devices.metrics import CATALOGUE
from devices.model import SECOND, Calibration, Device, Instant, Measurement, Quality, Reading, Reason, Report, moment
from devices.profile import Profile
from devices.units import Conversion

CLOCK_ERROR = "clock_error"
"""The one metric that we calculate: by how much a device's clock was wrong, where its times were repaired."""


class Reject(NamedTuple):
    """One record that is not stored, and why; `detail` is for people."""

    reason: Reason
    detail: str


class Normalized(NamedTuple):
    """What a report gives. `clock_offset` was added to the times of those readings whose clock was wrong; 0 if none."""

    readings: list[Reading]
    rejects: list[Reject]
    clock_offset: Instant


def normalize(report: Report, device: Device, profile: Profile, received_at: Instant) -> Normalized:
    """Readings of a report in canonical units, and the records that could not become one.

    Quality: bad outside the sensor's range, uncertain outside the process range or with a repaired time, else good.
    Where times were repaired and the profile has `clock_error`, that is a reading more.
    """
    return _normalized(
        report, device, profile, received_at, common_offset(report, received_at, stamped=profile.reporting.stamped)
    )


def _normalized(report: Report, device: Device, profile: Profile, received_at: Instant, clock: Instant) -> Normalized:
    """The same, with what every sample time is off by."""
    table = profile.compiled
    identity = device.identity
    latest = received_at + AHEAD
    calibrations = device.calibrations
    since_reset: Instant | None = None
    repaired = 0
    readings: list[Reading] = []
    rejects: list[Reject] = []
    # By its class a named tuple takes 0.4 µs, so 0.25: eight of them are a twentieth of what an uplink costs.
    make = tuple.__new__
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
        moved = clock
        if not EARLIEST <= time + moved <= latest:
            if not clock and time > latest and (ahead := offset_ahead(report, received_at, profile.reporting.sampling)):
                return _normalized(report, device, profile, received_at, ahead)
            if time < EARLIEST and since_reset is None:
                since_reset = offset_since_reset(report, received_at)
            moved = since_reset or clock
            if not (time < EARLIEST and EARLIEST <= time + moved <= latest):
                reason = Reason.FUTURE_TIME if time + moved > latest else Reason.TIME_OUT_OF_RANGE
                rejects.append(Reject(reason, f"{name!r} at {_readable(time)}"))
                continue
            repaired = max(repaired, time + moved)
        # Records with a text or without a value, NaN and the infinities all fail one of these two comparisons.
        number = value * scale[0] / scale[1] + scale[2] if value.__class__ is float else _number(record, scale)
        if not -1.7e308 < number < 1.7e308:
            rejects.append(Reject(Reason.NOT_A_NUMBER, f"{name!r} is {value!r}"))
            continue
        if calibrations and (steps := calibrations.get(spec.metric)):
            number = _calibrated(number, steps, time + moved)
        if spec.uncertain_below <= number <= spec.uncertain_above:
            quality = Quality.UNCERTAIN if moved else Quality.GOOD
        elif spec.bad_below <= number <= spec.bad_above:
            quality = Quality.UNCERTAIN_LOW if number < spec.uncertain_below else Quality.UNCERTAIN_HIGH
        else:
            quality = Quality.BAD_LOW if number < spec.bad_below else Quality.BAD_HIGH
        readings.append(make(Reading, (identity, spec.metric, time + moved, number, quality)))
    found = Normalized(readings, rejects, since_reset or clock)
    return _with_clock_error(found, repaired, device, profile) if found.clock_offset else found


def _with_clock_error(found: Normalized, repaired: Instant, device: Device, profile: Profile) -> Normalized:
    """With what the clock was wrong by, at the newest sample whose time it is that was repaired."""
    if found.readings and CLOCK_ERROR in profile.metrics:
        # 0 where it was every sample's; of a clock that was reset it is what was measured since.
        at = repaired or max(reading.measured_at for reading in found.readings)
        error = -found.clock_offset / SECOND
        found.readings.append(Reading(device.identity, CLOCK_ERROR, at, error, Quality.UNCERTAIN))
    return found


def _number(record: Measurement, scale: Conversion) -> float:
    """The value of a record that is not a plain float: booleans are 0 and 1, texts and nothing are NaN."""
    if isinstance(record.value, int | float):
        return float(record.value) * scale.factor / scale.divisor + scale.offset
    return float("nan")


def _calibrated(value: float, steps: Sequence[Calibration], at: Instant) -> float:
    index = bisect_right(steps, at, key=lambda step: step.since)
    if not index:
        return value
    _, gain, offset = steps[index - 1]
    return gain * value + offset


def _readable(time: Instant) -> str:
    try:
        return moment(time).isoformat(timespec="seconds")
    except OverflowError:
        return f"{time / 1e6:.0f} s"
