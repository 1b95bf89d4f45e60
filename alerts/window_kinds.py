"""What is kept of some readings of a window, by kind: averages, extremes, slopes … as a few sums, a *part*. Pure.

How parts are added up to a window is in `alerts.windows`. Each kind says the same twice: plainly, as tuples, and in
place for the kinds that are used most. A property test holds both to the same bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from math import inf, nan, sqrt
from typing import NamedTuple, TypeAlias

from devices.model import HOUR, SECOND, Instant

Part = Sequence[float]
"""The sums of some readings; what they are is a kind's own business."""
Room: TypeAlias = "array[float]"
"""The windows of a device."""


class Kind(NamedTuple):
    """How readings become a part, two parts become one (the first is the earlier), and a part becomes a value."""

    first: Callable[[Instant, float], tuple[float, ...]]
    join: Callable[[Part, Part], tuple[float, ...]]
    value: Callable[[Part], float | None]
    grow: Callable[[Room, int, Instant, float], None] | None = None
    """The same as joining a part with one more reading, in place: three times as fast."""
    both: Callable[[Room, int, int], float | None] | None = None
    """The same as the value of two parts joined."""
    start: Callable[[Room, int, Instant, float], None] | None = None
    """The same as `first`, in place."""
    total: Callable[[Room, int, Sequence[int]], None] | None = None
    """The same as joining the parts at some places in this order, in place; all NaN where none is there."""


def _moments(a: Part, b: Part) -> tuple[float, ...]:
    """Number, mean and sum of squared deviations of two parts together (Chan, Golub, LeVeque 1979)."""
    n = a[0] + b[0]
    apart = b[1] - a[1]
    return (n, a[1] + apart * b[0] / n, a[2] + b[2] + apart * apart * a[0] * b[0] / n)


def _line(a: Part, b: Part) -> tuple[float, ...]:
    """Number, mean time, mean value, and their sums of squared and mixed deviations of two parts together."""
    n = a[0] + b[0]
    time, value = b[1] - a[1], b[2] - a[2]
    share = a[0] * b[0] / n
    return (
        n,
        a[1] + time * b[0] / n,
        a[2] + value * b[0] / n,
        a[3] + b[3] + time * time * share,
        a[4] + b[4] + time * value * share,
    )


def counted(a: Part, b: Part, rollover: float = inf) -> tuple[float, ...]:
    """First time, last time, first and last count, and the increase between them. A counter that falls by most of what
    it can show has rolled over; one that falls otherwise was set back to zero, and what it shows was counted since."""
    step = b[2] - a[3]
    if step < 0:
        step = step + rollover if -step > rollover / 2 else b[2]
    return (a[0], b[1], a[2], b[3], a[4] + b[4] + step)


def _per_hour(change: float, duration: float) -> float | None:
    return change / duration * HOUR if duration > 0 else None


def _one_more(room: Room, part: int, _at: Instant, _value: float) -> None:
    room[part] += 1.0


def _sum_more(room: Room, part: int, _at: Instant, value: float) -> None:
    room[part] += 1.0
    room[part + 1] += value


def _less(room: Room, part: int, _at: Instant, value: float) -> None:
    if value < room[part]:
        room[part] = value


def _more(room: Room, part: int, _at: Instant, value: float) -> None:
    if value > room[part]:
        room[part] = value


def _later(room: Room, part: int, at: Instant, _value: float) -> None:
    room[part + 1] = at


def _one(room: Room, part: int, _at: Instant, _value: float) -> None:
    room[part] = 1.0


def _one_and_sum(room: Room, part: int, _at: Instant, value: float) -> None:
    room[part] = 1.0
    room[part + 1] = value


def _alone(room: Room, part: int, _at: Instant, value: float) -> None:
    room[part] = value


def _moment(room: Room, part: int, at: Instant, _value: float) -> None:
    room[part] = room[part + 1] = at


# Where a step begins, joining parts as tuples took a quarter of the engine's time; in place it takes a third of that.
# Minus zero is what can be added to every number without changing it.
def _all_ones(room: Room, total: int, places: Sequence[int]) -> None:
    n = 0.0
    for place in places:
        one = room[place]
        if one == one:  # not NaN
            n += one
    room[total] = n or nan


def _all_sums(room: Room, total: int, places: Sequence[int]) -> None:
    n, found = 0.0, -0.0
    for place in places:
        one = room[place]
        if one == one:
            n += one
            found += room[place + 1]
    room[total] = n or nan
    room[total + 1] = found if n else nan


def _all_moments(room: Room, total: int, places: Sequence[int]) -> None:
    n = mean = squares = nan
    for place in places:
        one = room[place]
        if one == one:
            if n == n:
                more = n + one
                apart = room[place + 1] - mean
                mean += apart * one / more
                squares = squares + room[place + 2] + apart * apart * n * one / more
                n = more
            else:
                n, mean, squares = one, room[place + 1], room[place + 2]
    room[total], room[total + 1], room[total + 2] = n, mean, squares


def _least(room: Room, total: int, places: Sequence[int]) -> None:
    found = nan
    for place in places:
        one = room[place]
        if one < found or found != found:
            found = one
    room[total] = found


def _most(room: Room, total: int, places: Sequence[int]) -> None:
    found = nan
    for place in places:
        one = room[place]
        if one > found or found != found:
            found = one
    room[total] = found


def _first_to_last(room: Room, total: int, places: Sequence[int]) -> None:
    first = last = nan
    for place in places:
        one = room[place]
        if one == one:
            if first != first:
                first = one
            last = room[place + 1]
    room[total], room[total + 1] = first, last


KINDS: dict[str, Kind] = {
    "count": Kind(
        first=lambda _, __: (1.0,),
        join=lambda a, b: (a[0] + b[0],),
        value=lambda p: p[0],
        grow=_one_more,
        both=lambda room, a, b: room[a] + room[b],
        start=_one,
        total=_all_ones,
    ),
    "avg": Kind(
        first=lambda _, v: (1.0, v),
        join=lambda a, b: (a[0] + b[0], a[1] + b[1]),
        value=lambda p: p[1] / p[0],
        grow=_sum_more,
        both=lambda room, a, b: (room[a + 1] + room[b + 1]) / (room[a] + room[b]),
        start=_one_and_sum,
        total=_all_sums,
    ),
    "early": Kind(
        first=lambda _, v: (1.0, v),
        join=lambda a, b: (a[0] + b[0], a[1] + b[1]),
        value=lambda p: p[1] / p[0],
        grow=_sum_more,
        start=_one_and_sum,
        total=_all_sums,
    ),
    "min": Kind(
        first=lambda _, v: (v,),
        join=lambda a, b: (a[0] if a[0] <= b[0] else b[0],),
        value=lambda p: p[0],
        grow=_less,
        both=lambda room, a, b: room[a] if room[a] <= room[b] else room[b],
        start=_alone,
        total=_least,
    ),
    "max": Kind(
        first=lambda _, v: (v,),
        join=lambda a, b: (a[0] if a[0] >= b[0] else b[0],),
        value=lambda p: p[0],
        grow=_more,
        both=lambda room, a, b: room[a] if room[a] >= room[b] else room[b],
        start=_alone,
        total=_most,
    ),
    "stdev": Kind(
        first=lambda _, v: (1.0, v, 0.0),
        join=_moments,
        value=lambda p: sqrt(p[2] / (p[0] - 1)) if p[0] > 1 else None,
        total=_all_moments,
    ),
    "slope": Kind(first=lambda t, v: (1.0, float(t), v, 0.0, 0.0), join=_line, value=lambda p: _per_hour(p[4], p[3])),
    "rate": Kind(
        first=lambda t, v: (float(t), v, float(t), v),
        join=lambda a, b: (a[0], a[1], b[2], b[3]),
        value=lambda p: _per_hour(p[3] - p[1], p[2] - p[0]),
    ),
    "span": Kind(
        first=lambda t, _: (float(t), float(t)),
        join=lambda a, b: (a[0], b[1]),
        value=lambda p: (p[1] - p[0]) / SECOND,
        grow=_later,
        both=lambda room, a, b: (room[b + 1] - room[a]) / SECOND,
        start=_moment,
        total=_first_to_last,
    ),
    "increase": Kind(
        first=lambda t, v: (float(t), float(t), v, v, 0.0),
        join=counted,
        value=lambda p: _per_hour(p[4], p[1] - p[0]),
    ),
}
"""By name. `increase` is `rate` for a counter. avg is the mean of the readings, stdev their sample standard deviation;
slope (least squares) and rate (last minus first) are per hour. stdev, slope and rate need two readings.
span is the time in seconds from the first to the last one: whether the window is full yet. early is the mean of the
window's beginning alone (`Early`)."""
