"""How much water a town draws: a factor on the mean, by local time of day and day of the week.

The shape (a deep trough at 3–4 h, a morning and an evening peak of 1.5 to 1.7 times the mean, later and flatter on days
off) is the usual diurnal curve of residential demand; its numbers are ours.
"""

from __future__ import annotations

import numpy as np

from devices.model import DAY, HOUR, Instant
from simulators.noise import Floats, Integers

_MONDAY: Instant = 4 * DAY
"""The epoch was a Thursday; the first Monday is four days later."""
_WORKDAY = ((7.4, 0.75, 14.0), (12.3, 0.28, 12.0), (19.6, 0.75, 3.6))
_DAY_OFF = ((9.6, 0.70, 8.0), (12.8, 0.33, 10.0), (19.4, 0.70, 3.6))
"""Peaks as (hour, height, sharpness)."""
_TROUGH = 0.42
# Days off begin and end in the trough, where the two shapes are nearly the same.
_BLEND_HOURS = (0.0, 1.0, 4.0, 121.0, 124.0, 168.0)
_BLEND = (1.0, 1.0, 0.0, 0.0, 1.0, 1.0)


def demand_factor(times: Integers, utc_offset: Instant) -> Floats:
    """Demand as a multiple of its mean over a working day, at these instants; periodic by the week."""
    local = times + utc_offset
    hour = (local % DAY) / HOUR
    off = np.interp(((local - _MONDAY) % (7 * DAY)) / HOUR, _BLEND_HOURS, _BLEND)
    return _shape(hour, _WORKDAY) / _MEAN_WORKDAY * (1.0 - off) + _shape(hour, _DAY_OFF) / _MEAN_DAY_OFF * off


def local_hour(times: Integers, utc_offset: Instant) -> Floats:
    """Hours since local midnight."""
    return ((times + utc_offset) % DAY) / HOUR


def local_day(times: Integers, utc_offset: Instant, begins: float) -> Integers:
    """The number of the local day, where days begin at an hour of the plant's choice."""
    return (times + utc_offset - round(begins * HOUR)) // DAY


def _shape(hour: Floats, peaks: tuple[tuple[float, float, float], ...]) -> Floats:
    total = np.full_like(hour, _TROUGH)
    for at, height, sharpness in peaks:
        # A von Mises bell: it joins at midnight without an edge.
        total += height * np.exp(sharpness * (np.cos((hour - at) * (2.0 * np.pi / 24.0)) - 1.0))
    return total


_HOURS = np.arange(0.0, 24.0, 0.05)
_MEAN_WORKDAY = float(_shape(_HOURS, _WORKDAY).mean())
_MEAN_DAY_OFF = float(_shape(_HOURS, _DAY_OFF).mean())
