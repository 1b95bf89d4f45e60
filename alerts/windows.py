"""Windows in sample time: what the last minutes or days of one metric amount to, in bounded memory. Pure.

A window is made of `STEPS` steps that begin at fixed times (multiples of a tenth of its length since 1970): at a moment
it holds the readings of the step that the moment lies in and of the nine before it. So samples that are at least a
tenth of the window apart are told exactly (the window is the last `length`, its beginning excluded), and denser ones
to a tenth. Being fixed, the steps make the value a function of the *set* of readings up to then, whatever came when.

What is kept of a step is a few sums, a *part*. Parts are added up in the order of time, never taken away from, so that
the same readings give the same bits on every way. A window's state is immutable: snapshots share it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

from devices.model import HOUR, SECOND, Instant

STEPS = 10
"""Steps of a window."""

Part = tuple[float, ...]
"""The sums of some readings; what they are is a kind's own business."""


class State(NamedTuple):
    """A window after a reading: the step it lies in, its part so far, the steps before it (packed: number and part,
    one after the other) and those added up."""

    step: int
    part: Part
    before: bytes
    total: Part | None


class Kind(NamedTuple):
    """How readings become a part, two parts become one (the first is the earlier), and a part becomes a value."""

    first: Callable[[Instant, float], Part]
    join: Callable[[Part, Part], Part]
    value: Callable[[Part], float | None]


class Window:
    """One kind over one length of time."""

    __slots__ = ("_first", "_join", "_value", "empty", "width")

    def __init__(self, kind: str, length: Instant) -> None:
        self._first, self._join, self._value = KINDS[kind]
        self.width = -(-length // STEPS)
        self.empty = 0.0 if kind == "count" else None

    def add(self, state: State | None, at: Instant, value: float) -> State:
        """The state after one more reading, which is later than all before."""
        part, step = self._first(at, value), at // self.width
        if state is None:
            return State(step, part, b"", None)
        if state.step == step:
            return State(step, self._join(state.part, part), state.before, state.total)
        kept = [*self._parts(state.before, step), *([(state.step, state.part)] if step - state.step < STEPS else [])]
        packed = array("d", [number for s, p in kept for number in (s, *p)]).tobytes()
        return State(step, part, packed, self._total([p for _, p in kept]))

    def value(self, state: State | None, at: Instant) -> float | None:
        """What the window amounts to at a moment that is not before its newest reading; None if that is unknown."""
        if state is None:
            return self.empty
        step = at // self.width
        if step == state.step:
            part = state.part if state.total is None else self._join(state.total, state.part)
            return self._value(part)
        if step - state.step >= STEPS:
            return self.empty
        total = self._total([*(p for _, p in self._parts(state.before, step)), state.part])
        return None if total is None else self._value(total)

    def _total(self, parts: list[Part]) -> Part | None:
        total: Part | None = None
        for part in parts:
            total = part if total is None else self._join(total, part)
        return total

    def _parts(self, packed: bytes, step: int) -> list[tuple[int, Part]]:
        """The packed parts that are still inside at `step`."""
        if not packed:
            return []
        numbers = array("d", packed).tolist()
        size = 1 + len(self._first(0, 0.0))
        return [
            (int(numbers[i]), tuple(numbers[i + 1 : i + size]))
            for i in range(0, len(numbers), size)
            if step - numbers[i] < STEPS
        ]


def _moments(a: Part, b: Part) -> Part:
    """Number, mean and sum of squared deviations of two parts together (Chan, Golub, LeVeque 1979)."""
    n = a[0] + b[0]
    apart = b[1] - a[1]
    return (n, a[1] + apart * b[0] / n, a[2] + b[2] + apart * apart * a[0] * b[0] / n)


def _line(a: Part, b: Part) -> Part:
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


def _run(a: Part, b: Part) -> Part:
    """First time and value, last time and value of two parts together."""
    return (a[0], a[1], b[2], b[3])


def _counted(a: Part, b: Part) -> Part:
    """First time, last time, first and last count, and the increase between them. A counter that falls was set back to
    zero: what it shows then has been counted since."""
    step = b[2] - a[3]
    return (a[0], b[1], a[2], b[3], a[4] + b[4] + (step if step >= 0 else b[2]))


def _per_hour(change: float, duration: float) -> float | None:
    return change / duration * HOUR if duration > 0 else None


KINDS: dict[str, Kind] = {
    "count": Kind(lambda _, __: (1.0,), lambda a, b: (a[0] + b[0],), lambda p: p[0]),
    "avg": Kind(lambda _, v: (1.0, v), lambda a, b: (a[0] + b[0], a[1] + b[1]), lambda p: p[1] / p[0]),
    "min": Kind(lambda _, v: (v,), lambda a, b: a if a[0] <= b[0] else b, lambda p: p[0]),
    "max": Kind(lambda _, v: (v,), lambda a, b: a if a[0] >= b[0] else b, lambda p: p[0]),
    "stdev": Kind(lambda _, v: (1.0, v, 0.0), _moments, lambda p: sqrt(p[2] / (p[0] - 1)) if p[0] > 1 else None),
    "slope": Kind(lambda t, v: (1.0, float(t), v, 0.0, 0.0), _line, lambda p: _per_hour(p[4], p[3])),
    "rate": Kind(lambda t, v: (float(t), v, float(t), v), _run, lambda p: _per_hour(p[3] - p[1], p[2] - p[0])),
    "span": Kind(lambda t, _: (float(t), float(t)), lambda a, b: (a[0], b[1]), lambda p: (p[1] - p[0]) / SECOND),
    "increase": Kind(lambda t, v: (float(t), float(t), v, v, 0.0), _counted, lambda p: _per_hour(p[4], p[1] - p[0])),
}
"""By name. `increase` is `rate` for a counter. avg is the mean of the readings, stdev their sample standard deviation;
slope (least squares) and rate (last minus first) are per hour. stdev, slope and rate need two readings.
span is the time in seconds from the first to the last one: whether a window is full yet."""
