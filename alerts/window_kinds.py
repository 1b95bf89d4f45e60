"""What is kept of some readings of a window, by kind: averages, extremes, slopes … as a few sums, a *part*. Pure.

How parts are added up to a window is in `alerts.windows`. Each kind says the same twice: plainly, as tuples, and in
place, as the words of which `alerts.window_code` makes functions. A property test holds both to the same bits.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from math import inf, nan, sqrt
from typing import NamedTuple, TypeAlias

from devices.model import HOUR, SECOND, Instant

STEPS = 10
"""Steps of a window."""

Part = Sequence[float]
"""The sums of some readings; what they are is a kind's own business."""
Room: TypeAlias = "array[float]"
"""The windows of a device."""


class Kind(NamedTuple):
    """How readings become a part, two parts become one (the first is the earlier), and a part becomes a value."""

    first: Callable[[Instant, float], tuple[float, ...]]
    join: Callable[[Part, Part], tuple[float, ...]]
    value: Callable[[Part], float | None]
    start: str = ""
    """The same as `first`, in place: `room[p]` is the first number of the part, `value` and `at` are the reading's."""
    grow: str = ""
    """The same as joining the part at `p` with one more reading, in place."""
    both: str = ""
    """The same as the value of the parts at `a` and at `p` joined; neither is empty."""
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


def per_hour(change: float, duration: float) -> float | None:
    """A change over a duration in µs, by the hour; None where there is no duration."""
    return change / duration * HOUR if duration > 0 else None


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


def _all_lines(room: Room, total: int, places: Sequence[int]) -> None:
    n = when = what = times = mixed = nan
    for place in places:
        one = room[place]
        if one == one:
            if n == n:
                more = n + one
                time, value = room[place + 1] - when, room[place + 2] - what
                share = n * one / more
                when += time * one / more
                what += value * one / more
                times = times + room[place + 3] + time * time * share
                mixed = mixed + room[place + 4] + time * value * share
                n = more
            else:
                n, when, what, times, mixed = room[place : place + 5]
    room[total], room[total + 1], room[total + 2], room[total + 3], room[total + 4] = n, when, what, times, mixed


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


def _ends(room: Room, total: int, places: Sequence[int]) -> None:
    begin = first = end = last = nan
    for place in places:
        one = room[place]
        if one == one:
            if begin != begin:
                begin, first = one, room[place + 1]
            end, last = room[place + 2], room[place + 3]
    room[total], room[total + 1], room[total + 2], room[total + 3] = begin, first, end, last


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
        start="room[p] = 1.0",
        grow="room[p] += 1.0",
        both="room[a] + room[p]",
        total=_all_ones,
    ),
    "avg": Kind(
        first=lambda _, v: (1.0, v),
        join=lambda a, b: (a[0] + b[0], a[1] + b[1]),
        value=lambda p: p[1] / p[0],
        start="room[p] = 1.0; room[p + 1] = value",
        grow="room[p] += 1.0; room[p + 1] += value",
        both="(room[a + 1] + room[p + 1]) / (room[a] + room[p])",
        total=_all_sums,
    ),
    "early": Kind(
        first=lambda _, v: (1.0, v),
        join=lambda a, b: (a[0] + b[0], a[1] + b[1]),
        value=lambda p: p[1] / p[0],
        start="room[p] = 1.0; room[p + 1] = value",
        grow="room[p] += 1.0; room[p + 1] += value",
        total=_all_sums,
    ),
    "min": Kind(
        first=lambda _, v: (v,),
        join=lambda a, b: (a[0] if a[0] <= b[0] else b[0],),
        value=lambda p: p[0],
        start="room[p] = value",
        grow="if value < room[p]: room[p] = value",
        both="room[a] if room[a] <= room[p] else room[p]",
        total=_least,
    ),
    "max": Kind(
        first=lambda _, v: (v,),
        join=lambda a, b: (a[0] if a[0] >= b[0] else b[0],),
        value=lambda p: p[0],
        start="room[p] = value",
        grow="if value > room[p]: room[p] = value",
        both="room[a] if room[a] >= room[p] else room[p]",
        total=_most,
    ),
    "stdev": Kind(
        first=lambda _, v: (1.0, v, 0.0),
        join=_moments,
        value=lambda p: sqrt(p[2] / (p[0] - 1)) if p[0] > 1 else None,
        start="room[p] = 1.0; room[p + 1] = value; room[p + 2] = 0.0",
        grow=(
            "n = room[p] + 1.0; off = value - room[p + 1]; room[p + 1] += off / n; "
            "room[p + 2] += off * off * room[p] / n; room[p] = n"
        ),
        both=(
            "sqrt((room[a + 2] + room[p + 2] + (off := room[p + 1] - room[a + 1]) * off * room[a] * room[p]"
            " / (n := room[a] + room[p])) / (n - 1))"
        ),
        total=_all_moments,
    ),
    "slope": Kind(
        first=lambda t, v: (1.0, float(t), v, 0.0, 0.0),
        join=_line,
        value=lambda p: per_hour(p[4], p[3]),
        start="room[p] = 1.0; room[p + 1] = at; room[p + 2] = value; room[p + 3] = room[p + 4] = 0.0",
        grow=(
            "n = room[p] + 1.0; time = at - room[p + 1]; off = value - room[p + 2]; share = room[p] / n; "
            "room[p + 1] += time / n; room[p + 2] += off / n; "
            "room[p + 3] += time * time * share; room[p + 4] += time * off * share; room[p] = n"
        ),
        both=(
            "per_hour(room[a + 4] + room[p + 4] + (time := room[p + 1] - room[a + 1]) * (room[p + 2] - room[a + 2])"
            " * (share := room[a] * room[p] / (room[a] + room[p])), room[a + 3] + room[p + 3] + time * time * share)"
        ),
        total=_all_lines,
    ),
    "rate": Kind(
        first=lambda t, v: (float(t), v, float(t), v),
        join=lambda a, b: (a[0], a[1], b[2], b[3]),
        value=lambda p: per_hour(p[3] - p[1], p[2] - p[0]),
        start="room[p] = room[p + 2] = at; room[p + 1] = room[p + 3] = value",
        grow="room[p + 2] = at; room[p + 3] = value",
        both="per_hour(room[p + 3] - room[a + 1], room[p + 2] - room[a])",
        total=_ends,
    ),
    "span": Kind(
        first=lambda t, _: (float(t), float(t)),
        join=lambda a, b: (a[0], b[1]),
        value=lambda p: (p[1] - p[0]) / SECOND,
        start="room[p] = room[p + 1] = at",
        grow="room[p + 1] = at",
        both="(room[p + 1] - room[a]) / SECOND",
        total=_first_to_last,
    ),
    "increase": Kind(
        first=lambda t, v: (float(t), float(t), v, v, 0.0),
        join=counted,
        value=lambda p: per_hour(p[4], p[1] - p[0]),
    ),
}
"""By name. `increase` is `rate` for a counter. avg is the mean of the readings, stdev their sample standard deviation;
slope (least squares) and rate (last minus first) are per hour. stdev, slope and rate need two readings.
span is the time in seconds from the first to the last one: whether the window is full yet. early is the mean of the
window's beginning alone (`Early`)."""
