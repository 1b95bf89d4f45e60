"""What windows amount to at many moments at once, as array operations. Pure; for `alerts.columns`.

The same bits as `alerts.windows` gives reading by reading: the parts of a step are joined in the order of time, and so
are the steps of a window; what is done at once is the same place of many steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from alerts.window_kinds import KINDS, STEPS
from devices.model import HOUR, Instant

Times: TypeAlias = "npt.NDArray[np.int64]"
Numbers: TypeAlias = "npt.NDArray[np.float64]"
_Parts = tuple[Numbers, ...]


class _Kind(NamedTuple):
    """As `alerts.window_kinds.Kind`, of many at once; the value is NaN where it is unknown."""

    first: Callable[[Numbers, Numbers], _Parts]
    join: Callable[[_Parts, _Parts], _Parts]
    value: Callable[[_Parts], Numbers]


def windowed(kind: str, length: Instant, at: Times, value: Numbers, moments: Times) -> Numbers:
    """What a window over readings (by time, each later than the one before) amounts to at moments (by time); NaN where
    that is unknown. `kind` is one of `KINDS_IN_COLUMNS`."""
    ways = KINDS_IN_COLUMNS[kind]
    nothing = 0.0 if kind == "count" else np.nan
    width = -(-length // STEPS)
    if not len(at):
        return np.full(len(moments), nothing)
    steps = at // width
    begins = np.flatnonzero(np.concatenate(([True], steps[1:] != steps[:-1])))
    parts = _grown(ways, ways.first(at.astype(np.float64), value), begins, len(at))
    ends = np.append(begins[1:], len(at)) - 1
    numbers, whole = steps[ends], tuple(part[ends] for part in parts)
    newest = np.searchsorted(at, moments, side="right") - 1
    latest = np.where(newest >= 0, steps[newest], np.iinfo(np.int64).min // 2)
    return _summed(ways, moments // width, latest, tuple(part[newest] for part in parts), (numbers, whole), nothing)


def _grown(ways: _Kind, parts: _Parts, begins: npt.NDArray[np.intp], size: int) -> _Parts:
    """At each reading the part of its step up to it: the first of every step, then the second of every step …"""
    lengths = np.diff(np.append(begins, size))
    order = np.argsort(-lengths, kind="stable")
    begins, lengths = begins[order], lengths[order]
    for place in range(1, int(lengths[0])):
        here = begins[: np.searchsorted(-lengths, -place, side="left")] + place
        joined = ways.join(tuple(part[here - 1] for part in parts), tuple(part[here] for part in parts))
        for part, more in zip(parts, joined, strict=True):
            part[here] = more
    return parts


def _summed(
    ways: _Kind, step: Times, latest: Times, last: _Parts, whole: tuple[Times, _Parts], nothing: float
) -> Numbers:
    """The steps of each window joined in the order of time; the step of its newest reading is `last`, those before it
    are whole."""
    numbers, parts = whole
    found = np.zeros(len(step), bool)
    total = tuple(np.zeros(len(step)) for _ in last)
    for back in range(STEPS - 1, -1, -1):
        wanted = step - back
        place = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
        is_last = wanted == latest
        there = is_last | ((numbers[place] == wanted) & (wanted < latest))
        here = np.flatnonzero(there)
        chosen = is_last[here]
        more = tuple(np.where(chosen, new[here], old[place[here]]) for new, old in zip(last, parts, strict=True))
        joined = ways.join(tuple(part[here] for part in total), more)
        begun = found[here]
        for part, one, alone in zip(total, joined, more, strict=True):
            part[here] = np.where(begun, one, alone)
        found |= there
    return np.where(found, ways.value(total), nothing)


def _per_hour(change: Numbers, duration: Numbers) -> Numbers:
    return np.where(duration > 0, change / duration * HOUR, np.nan)


def _ones(of: Numbers) -> Numbers:
    return np.ones(len(of))


def _nothings(of: Numbers) -> Numbers:
    return np.zeros(len(of))


def _plain(name: str) -> tuple[Callable[[_Parts, _Parts], _Parts], Callable[[_Parts], Numbers]]:
    """How parts are joined, and their value, where the arithmetic of one number is that of many."""
    kind = KINDS[name]
    return kind.join, kind.value  # type: ignore[return-value]


KINDS_IN_COLUMNS: dict[str, _Kind] = {
    "count": _Kind(lambda _, v: (_ones(v),), *_plain("count")),
    "avg": _Kind(lambda _, v: (_ones(v), v.copy()), *_plain("avg")),
    "min": _Kind(lambda _, v: (v.copy(),), lambda a, b: (np.where(a[0] <= b[0], a[0], b[0]),), lambda p: p[0]),
    "max": _Kind(lambda _, v: (v.copy(),), lambda a, b: (np.where(a[0] >= b[0], a[0], b[0]),), lambda p: p[0]),
    "stdev": _Kind(
        lambda _, v: (_ones(v), v.copy(), _nothings(v)),
        _plain("stdev")[0],
        lambda p: np.where(p[0] > 1, np.sqrt(p[2] / (p[0] - 1)), np.nan),
    ),
    "slope": _Kind(
        lambda t, v: (_ones(v), t.copy(), v.copy(), _nothings(v), _nothings(v)),
        _plain("slope")[0],
        lambda p: _per_hour(p[4], p[3]),
    ),
    "rate": _Kind(
        lambda t, v: (t.copy(), v.copy(), t.copy(), v.copy()),
        _plain("rate")[0],
        lambda p: _per_hour(p[3] - p[1], p[2] - p[0]),
    ),
    "span": _Kind(lambda t, _: (t.copy(), t.copy()), *_plain("span")),
}
"""Those that are done here: all but the counters', which are few."""
