"""Windows in sample time: what the last minutes or days of one metric amount to, in bounded memory. Pure.

A window is made of `STEPS` steps that begin at fixed times (multiples of a tenth of its length since 1970): at a moment
it holds the readings of the step that the moment lies in and of the nine before it. So samples that are at least a
tenth of the window apart are told exactly (the window is the last `length`, its beginning excluded), and denser ones
to a tenth. Being fixed, the steps make the value a function of the *set* of readings up to then, whatever came when.

What is kept of a step is a few sums, a *part*. Parts are added up in the order of time, never taken away from, so that
the same readings give the same bits on every way. All windows of a device share one array of doubles, in which each has
a place: the number of its newest step, the sum of the parts before that step, and a ring of parts, one a step. NaN in
the first number of a part says that it is empty.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import partial
from math import inf, isnan, nan, sqrt
from typing import NamedTuple, TypeAlias

from devices.model import HOUR, SECOND, Instant

STEPS = 10
"""Steps of a window."""
EARLY = 3
"""Steps of a window that count as its beginning."""

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


class Window:
    """One kind over one length of time, at its place in a device's array."""

    __slots__ = (
        "_both", "_first", "_grow", "_join", "_ring", "_size", "_total", "_value", "begin", "empty", "end", "width",
    )  # fmt: skip

    def __init__(self, kind: str, length: Instant, begin: int = 0, rollover: float | None = None) -> None:
        self._first, self._join, self._value, self._grow, self._both = KINDS[kind]
        if rollover and self._join is _counted:
            self._join = partial(_counted, rollover=rollover)
        self._size = len(self._first(0, 0.0))
        self.begin = begin
        self._total = begin + 1
        self._ring = begin + 1 + self._size
        self.end = self._ring + STEPS * self._size
        self.width = -(-length // STEPS)
        self.empty = 0.0 if kind == "count" else None

    @property
    def reach(self) -> Instant:
        """How far before a moment its window may begin, at most."""
        return STEPS * self.width

    def add(self, room: Room, at: Instant, value: float) -> None:
        """Take in a reading that is later than all before."""
        step, size = at // self.width, self._size
        part = self._ring + step % STEPS * size
        if room[self.begin] == step:
            if self._grow is not None:
                self._grow(room, part, at, value)
                return
            room[part : part + size] = array("d", self._join(room[part : part + size], self._first(at, value)))
            return
        self._turn(room, step)
        room[part : part + size] = array("d", self._first(at, value))

    def value(self, room: Room, at: Instant) -> float | None:
        """What the window amounts to at a moment that is not before its newest reading; None if that is unknown."""
        step, newest = at // self.width, room[self.begin]
        size = self._size
        if step == newest:
            place = self._ring + step % STEPS * size
            total = room[self._total]
            if total == total and self._both is not None:  # not NaN
                return self._both(room, self._total, place)
            part = room[place : place + size]
            if total == total:
                return self._value(self._join(room[self._total : self._ring], part))
            return self._value(part)
        if isnan(newest) or step - newest >= STEPS:
            return self.empty
        sums = self._sum(room, step, int(newest))
        return self.empty if sums is None else self._value(sums)

    def _turn(self, room: Room, step: int) -> None:
        """Begin a step: what is too old goes, and the parts before it are added up once."""
        newest, size = room[self.begin], self._size
        if isnan(newest) or step - newest >= STEPS:
            room[self._total : self.end] = array("d", [nan]) * (self.end - self._total)
        else:
            for gone in range(int(newest) + 1, step + 1):
                place = self._ring + gone % STEPS * size
                room[place : place + size] = array("d", [nan]) * size
            total = self._sum(room, step, step - 1)
            room[self._total : self._ring] = array("d", total or [nan] * size)
        room[self.begin] = step

    def _sum(self, room: Room, step: int, last: int) -> Part | None:
        """The parts that are inside at `step`, up to that of step `last`, added up in the order of time."""
        total: Part | None = None
        size = self._size
        for number in range(step - STEPS + 1, last + 1):
            place = self._ring + number % STEPS * size
            if room[place] == room[place]:  # not NaN
                part = room[place : place + size]
                total = part if total is None else self._join(total, part)
        return total


class Early(Window):
    """The mean of a window's beginning: of its first `EARLY` steps from the oldest that holds a reading on. What it was
    before: a window's length ago, or when it was first heard of after a gap."""

    __slots__ = ()

    def value(self, room: Room, at: Instant) -> float | None:
        """The mean; None where the window is empty."""
        step, newest, size = at // self.width, room[self.begin], self._size
        if isnan(newest) or step - newest >= STEPS:
            return None
        first = last = step - STEPS + 1
        total: Part | None = None
        while last <= newest and (total is None or last < first + EARLY):
            place = self._ring + last % STEPS * size
            if room[place] == room[place]:  # not NaN
                part = room[place : place + size]
                total, first = (part, last) if total is None else (self._join(total, part), first)
            last += 1
        return None if total is None else self._value(total)


def lay_out(kinds: Sequence[tuple[str, Instant, float | None]]) -> tuple[Window, ...]:
    """Windows with their places in one array, in this order: kind, length, and where its counter rolls over."""
    found: list[Window] = []
    for kind, length, rollover in kinds:
        found.append((Early if kind == "early" else Window)(kind, length, found[-1].end if found else 0, rollover))
    return tuple(found)


def empty_room(windows: Sequence[Window]) -> Room:
    """The array of windows that have seen nothing."""
    return array("d", [nan]) * (windows[-1].end if windows else 0)


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


def _counted(a: Part, b: Part, rollover: float = inf) -> tuple[float, ...]:
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


KINDS: dict[str, Kind] = {
    "count": Kind(
        lambda _, __: (1.0,),
        lambda a, b: (a[0] + b[0],),
        lambda p: p[0],
        _one_more,
        lambda room, a, b: room[a] + room[b],
    ),
    "avg": Kind(
        lambda _, v: (1.0, v),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        lambda p: p[1] / p[0],
        _sum_more,
        lambda room, a, b: (room[a + 1] + room[b + 1]) / (room[a] + room[b]),
    ),
    "early": Kind(lambda _, v: (1.0, v), lambda a, b: (a[0] + b[0], a[1] + b[1]), lambda p: p[1] / p[0], _sum_more),
    "min": Kind(
        lambda _, v: (v,),
        lambda a, b: (a[0] if a[0] <= b[0] else b[0],),
        lambda p: p[0],
        _less,
        lambda room, a, b: room[a] if room[a] <= room[b] else room[b],
    ),
    "max": Kind(
        lambda _, v: (v,),
        lambda a, b: (a[0] if a[0] >= b[0] else b[0],),
        lambda p: p[0],
        _more,
        lambda room, a, b: room[a] if room[a] >= room[b] else room[b],
    ),
    "stdev": Kind(lambda _, v: (1.0, v, 0.0), _moments, lambda p: sqrt(p[2] / (p[0] - 1)) if p[0] > 1 else None),
    "slope": Kind(lambda t, v: (1.0, float(t), v, 0.0, 0.0), _line, lambda p: _per_hour(p[4], p[3])),
    "rate": Kind(
        lambda t, v: (float(t), v, float(t), v),
        lambda a, b: (a[0], a[1], b[2], b[3]),
        lambda p: _per_hour(p[3] - p[1], p[2] - p[0]),
    ),
    "span": Kind(
        lambda t, _: (float(t), float(t)),
        lambda a, b: (a[0], b[1]),
        lambda p: (p[1] - p[0]) / SECOND,
        _later,
        lambda room, a, b: (room[b + 1] - room[a]) / SECOND,
    ),
    "increase": Kind(lambda t, v: (float(t), float(t), v, v, 0.0), _counted, lambda p: _per_hour(p[4], p[1] - p[0])),
}
"""By name. `increase` is `rate` for a counter. avg is the mean of the readings, stdev their sample standard deviation;
slope (least squares) and rate (last minus first) are per hour. stdev, slope and rate need two readings.
span is the time in seconds from the first to the last one: whether the window is full yet. early is the mean of the
window's beginning alone (`Early`)."""
