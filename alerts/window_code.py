"""Windows as generated functions: one that takes a reading into all windows of a metric, and one that tells what a
window amounts to. Pure.

Half of the engine's time went into windows, so what is done for each is written out: of numbers (its place, its step)
and of the words of its kind (`alerts.window_kinds`), and of nothing from a rule's text. Windows of one metric with
steps of one width always begin a step together, so that is looked at once for all of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from math import isfinite, sqrt
from typing import Any, Protocol

from alerts.window_kinds import STEPS, Kind, Room, per_hour
from devices.model import SECOND, Instant

Feed = Callable[[Room, Instant, float], None]
"""Take in a reading that is later than all before."""
Value = Callable[[Room, Instant], float | None]
"""What a window amounts to at a moment that is not before its newest reading."""


class Placed(Protocol):
    """What is asked of a window (`alerts.windows.Window`)."""

    kind: Kind
    width: Instant
    size: int
    begin: int
    total: int
    ring: int
    before: tuple[tuple[int, ...], ...]

    def turn(self, room: Room, step: int) -> None:
        """Begin a step."""
        ...

    def plain_value(self, room: Room, at: Instant) -> float | None:
        """What it amounts to, whatever is there."""
        ...


def feeding(windows: Iterable[Placed]) -> Feed:
    """The function for these windows, all of one metric; always to be fed together."""
    alike: dict[Instant, list[tuple[int, Placed]]] = {}
    places: dict[str, Any] = {}
    for number, window in enumerate(windows):
        alike.setdefault(window.width, []).append((number, window))
        places |= {f"b{number}": window.begin, f"r{number}": window.ring, f"turn{number}": window.turn}
        if window.kind.total:
            places |= {
                f"a{number}": window.total,
                f"total{number}": window.kind.total,
                f"before{number}": window.before,
            }
        if not window.kind.start:
            places |= {f"start{number}": _start(window), f"grow{number}": _grow(window)}
    lines = ["def made(room, at, value):"]
    for width, group in alike.items():
        first, window = group[0]
        lines += [f" step = at // {width}", f" k = step % {STEPS}", f" if room[b{first}] == step:"]
        for number, window in group:
            lines += [
                f"  p = r{number} + k * {window.size}",
                f"  {window.kind.grow or f'grow{number}(room, p, at, value)'}",
            ]
        lines += [" else:", f"  follows = room[b{first}] + 1.0 == step"]  # the usual case: nothing else is too old
        for number, window in group:
            if window.kind.total:
                lines += [
                    f"  if follows: total{number}(room, a{number}, before{number}[k]); room[b{number}] = step",
                    f"  else: turn{number}(room, step)",
                ]
            else:
                lines.append(f"  turn{number}(room, step)")
            lines += [
                f"  p = r{number} + k * {window.size}",
                f"  {window.kind.start or f'start{number}(room, p, at, value)'}",
            ]
    feed: Feed = _made(lines, places)
    return feed


def valued(window: Placed) -> Value:
    """The function for one window; None where that is unknown, or not finite."""
    plain = window.plain_value

    def finite(room: Room, at: Instant) -> float | None:
        found = plain(room, at)
        return found if found is None or isfinite(found) else None

    if not window.kind.both:
        return finite
    lines = [
        "def made(room, at):",
        f" step = at // {window.width}",
        " if step == room[b] and room[a] == room[a]:",  # the usual case: there are parts before the newest one
        f"  p = r + step % {STEPS} * {window.size}",
        f"  found = {window.kind.both}",
        "  return found if found is None or found - found == 0.0 else None",
        " return finite(room, at)",
    ]
    places = {"b": window.begin, "a": window.total, "r": window.ring, "finite": finite}
    value: Value = _made(lines, places)
    return value


def _start(window: Placed) -> Callable[[Room, int, Instant, float], None]:
    first, size = window.kind.first, window.size

    def start(room: Room, part: int, at: Instant, value: float) -> None:
        room[part : part + size] = array("d", first(at, value))

    return start


def _grow(window: Placed) -> Callable[[Room, int, Instant, float], None]:
    first, join, size = window.kind.first, window.kind.join, window.size

    def grow(room: Room, part: int, at: Instant, value: float) -> None:
        room[part : part + size] = array("d", join(room[part : part + size], first(at, value)))

    return grow


def _made(lines: Iterable[str], places: Mapping[str, Any]) -> Any:
    """A function of these lines that knows these places."""
    inner = "\n ".join(lines)
    return _maker(f"def make({', '.join(places)}):\n {inner}\n return made")(**places)


@lru_cache(maxsize=1_024)
def _maker(text: str) -> Callable[..., Any]:
    """To compile takes a third of a millisecond: once for all devices of a group, whose windows differ by their places
    alone."""
    known: dict[str, Any] = {"__builtins__": {}, "sqrt": sqrt, "per_hour": per_hour, "SECOND": SECOND}
    exec(text, known)  # noqa: S102 - written above from numbers and the kinds' own words
    made: Callable[..., Any] = known["make"]
    return made
