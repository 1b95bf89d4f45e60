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
from collections.abc import Sequence
from functools import partial
from math import isnan, nan

from alerts.window_code import valued
from alerts.window_kinds import KINDS, STEPS, Part, Room, counted
from devices.model import Instant

EARLY = 3
"""Steps of a window that count as its beginning."""


class Window:
    """One kind over one length of time, at its place in a device's array."""

    __slots__ = (
        "_join", "before", "begin", "empty", "end", "kind", "ring", "size", "total", "value", "width",
    )  # fmt: skip

    def __init__(self, kind: str, length: Instant, begin: int = 0, rollover: float | None = None) -> None:
        self.kind = KINDS[kind]
        if rollover and self.kind.join is counted:
            self.kind = self.kind._replace(join=partial(counted, rollover=rollover))
        self._join = self.kind.join
        self.width = -(-length // STEPS)
        self.size = len(self.kind.first(0, 0.0))
        self.begin = begin
        self.total = begin + 1
        self.ring = begin + 1 + self.size
        self.end = self.ring + STEPS * self.size
        # For each place of the newest step those of the steps before it, by time.
        self.before = tuple(
            tuple(self.ring + (newest + n) % STEPS * self.size for n in range(1, STEPS)) for newest in range(STEPS)
        )
        self.empty = 0.0 if kind == "count" else None
        self.value = valued(self)
        """What it amounts to at a moment that is not before its newest reading; None if that is unknown."""

    @property
    def reach(self) -> Instant:
        """How far before a moment its window may begin, at most."""
        return STEPS * self.width

    def plain_value(self, room: Room, at: Instant) -> float | None:
        """The same for every case."""
        step, newest = at // self.width, room[self.begin]
        if isnan(newest) or step - newest >= STEPS:
            return self.empty
        if step == newest:
            place = self.ring + step % STEPS * self.size
            part = room[place : place + self.size]
            if isnan(room[self.total]):
                return self.kind.value(part)
            return self.kind.value(self._join(room[self.total : self.ring], part))
        sums = self._sum(room, step, int(newest))
        return self.empty if sums is None else self.kind.value(sums)

    def turn(self, room: Room, step: int) -> None:
        """Begin a step, whose own part is written by who calls: what is too old goes, and the parts before it are added
        up once."""
        newest, size = room[self.begin], self.size
        if step - newest >= STEPS:
            room[self.total : self.end] = array("d", [nan]) * (self.end - self.total)
        elif newest == newest:  # not NaN: there everything is empty already
            for gone in range(int(newest) + 1, step):
                place = self.ring + gone % STEPS * size
                room[place : place + size] = array("d", [nan]) * size
            if self.kind.total is not None:
                self.kind.total(room, self.total, self.before[step % STEPS])
            else:
                total = self._sum(room, step, step - 1)
                room[self.total : self.ring] = array("d", total or [nan] * size)
        room[self.begin] = step

    def _sum(self, room: Room, step: int, last: int) -> Part | None:
        """The parts that are inside at `step`, up to that of step `last`, added up in the order of time."""
        total: Part | None = None
        size = self.size
        for number in range(step - STEPS + 1, last + 1):
            place = self.ring + number % STEPS * size
            if room[place] == room[place]:  # not NaN
                part = room[place : place + size]
                total = part if total is None else self._join(total, part)
        return total


class Early(Window):
    """The mean of a window's beginning: of its first `EARLY` steps from the oldest that holds a reading on. What it was
    before: a window's length ago, or when it was first heard of after a gap."""

    __slots__ = ()

    def plain_value(self, room: Room, at: Instant) -> float | None:
        """The mean; None where the window is empty."""
        step, newest, size = at // self.width, room[self.begin], self.size
        if isnan(newest) or step - newest >= STEPS:
            return None
        first = last = step - STEPS + 1
        total: Part | None = None
        while last <= newest and (total is None or last < first + EARLY):
            place = self.ring + last % STEPS * size
            if room[place] == room[place]:  # not NaN
                part = room[place : place + size]
                total, first = (part, last) if total is None else (self._join(total, part), first)
            last += 1
        return None if total is None else self.kind.value(total)


def lay_out(kinds: Sequence[tuple[str, Instant, float | None]]) -> tuple[Window, ...]:
    """Windows with their places in one array, in this order: kind, length, and where its counter rolls over."""
    found: list[Window] = []
    for kind, length, rollover in kinds:
        found.append((Early if kind == "early" else Window)(kind, length, found[-1].end if found else 0, rollover))
    return tuple(found)


def empty_room(windows: Sequence[Window]) -> Room:
    """The array of windows that have seen nothing."""
    return array("d", [nan]) * (windows[-1].end if windows else 0)
