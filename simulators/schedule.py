"""A schedule of faults for a demonstration: seeded, spread over the time, each where and when it can be seen.

A pump that stands still cannot run dry, and a valve whose command does not move cannot be seen to stick: so candidates
are looked at against what the healthy plant does in that time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.model import HOUR, MINUTE, Instant
from simulators.faults import Fault, FaultKind, affected
from simulators.noise import Floats, Integers, choice, uniform
from simulators.observation import sample_times, states
from simulators.waterworks import Waterworks

_STEP = 10 * MINUTE
"""Onsets are tried at steps of this length."""
_DEVIATION = 8.0
_DEVIATION_SAMPLES = 20
"""A stuck stem must be away from its command by so many % in so many samples."""


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: FaultKind
    duration: Instant
    growth: Instant
    least: float
    """The lowest severity that is drawn; every one from here on is strong enough for an alarm."""


_PROGRAMME = (
    _Entry(FaultKind.BEARING_WEAR, 4 * HOUR, 2 * HOUR, 0.9),
    _Entry(FaultKind.STICTION, 150 * MINUTE, 0, 1.0),
    _Entry(FaultKind.DRY_RUN, 45 * MINUTE, 2 * MINUTE, 1.0),
    _Entry(FaultKind.PIPE_BURST, 75 * MINUTE, 0, 0.9),
    _Entry(FaultKind.SEAT_PASSING, 3 * HOUR, HOUR, 0.8),
    _Entry(FaultKind.TAMPER, 50 * MINUTE, 0, 1.0),
    _Entry(FaultKind.BATTERY, 5 * HOUR, HOUR, 0.95),
    _Entry(FaultKind.DRY_RUN, 30 * MINUTE, 2 * MINUTE, 1.0),
)


@dataclass(frozen=True)
class _Healthy:
    """What the healthy plant does, [time], by tag."""

    times: Integers
    running: dict[str, NDArray[np.bool_]]
    command: dict[str, Floats]

    def within(self, since: Instant, until: Instant) -> slice:
        return slice(int(np.searchsorted(self.times, since)), int(np.searchsorted(self.times, until)))


def schedule(works: Waterworks, start: Instant, end: Instant) -> list[Fault]:
    """Faults of every kind within [start, end), by onset, each on devices of its own.

    What finds no place, as the time is short or the plant small, is left out. Same arguments, same faults.
    """
    healthy = _healthy(works, start, end)
    faults: list[Fault] = []
    places = np.argsort(uniform(works.seed, "programme", np.arange(len(_PROGRAMME), dtype=np.int64)))
    for number, entry in enumerate(_PROGRAMME):
        latest = end - entry.duration - _STEP
        earliest = start + HOUR
        wanted = earliest + round((int(places[number]) + 0.5) / len(_PROGRAMME) * max(latest - earliest, 0))
        severity = round(choice(works.seed, f"severity/{number}", entry.least, 1.0), 3)
        for since, target in _candidates(works, entry.kind, number, earliest, latest, wanted):
            fault = Fault(entry.kind, target, since, since + entry.duration, severity, entry.growth)
            if _apart(works, fault, faults) and _SEEN[entry.kind](works, healthy, fault):
                faults.append(fault)
                break
    return sorted(faults, key=lambda fault: fault.since)


def _healthy(works: Waterworks, start: Instant, end: Instant) -> _Healthy:
    times = sample_times(start, end)
    running: dict[str, list[NDArray[np.bool_]]] = {}
    command: dict[str, list[Floats]] = {}
    for state in states(works, [], times):
        for k, pump in enumerate(state.site.pumps):
            running.setdefault(pump.tag, []).append(state.flows.running[k])
        for k, valve in enumerate(state.site.valves):
            command.setdefault(valve.tag, []).append(state.command[k])
    return _Healthy(
        times,
        {tag: np.concatenate(parts) for tag, parts in running.items()},
        {tag: np.concatenate(parts) for tag, parts in command.items()},
    )


def _candidates(
    works: Waterworks, kind: FaultKind, number: int, earliest: Instant, latest: Instant, wanted: Instant
) -> Iterator[tuple[Instant, str]]:
    """Onsets, those near the wanted time first, each with every target in a drawn order."""
    targets = _targets(works, kind)
    order = np.argsort(uniform(works.seed, f"targets/{number}", np.arange(len(targets), dtype=np.int64)))
    onsets = range(-(-earliest // _STEP) * _STEP, latest + 1, _STEP)
    for since in sorted(onsets, key=lambda onset: abs(onset - wanted)):
        for index in order:
            yield since, targets[int(index)]


def _targets(works: Waterworks, kind: FaultKind) -> list[str]:
    if kind in (FaultKind.DRY_RUN, FaultKind.BEARING_WEAR):
        return list(works.pumps)
    if kind is FaultKind.PIPE_BURST:
        return [area.name for site in works.sites for area in site.areas]
    if kind in (FaultKind.STICTION, FaultKind.SEAT_PASSING):
        return list(works.valves)
    return [*works.pumps, *works.valves]


def _apart(works: Waterworks, fault: Fault, others: list[Fault]) -> bool:
    """Whether no other fault is on the same devices, nor changes the flows of the same site at the same time."""
    tags = affected(works, fault)
    sites = _sites(works, fault)
    for other in others:
        if set(tags) & set(affected(works, other)):
            return False
        together = fault.since < other.until + HOUR and other.since < fault.until + HOUR
        if together and _moves_water(fault) and _moves_water(other) and sites & _sites(works, other):
            return False
    return True


def _sites(works: Waterworks, fault: Fault) -> set[str]:
    everything = {tag: site.name for tag, (site, _) in (works.pumps | works.valves).items()}
    return {everything[tag] for tag in affected(works, fault)}


def _moves_water(fault: Fault) -> bool:
    return fault.kind not in (FaultKind.TAMPER, FaultKind.BATTERY)


def _runs(works: Waterworks, healthy: _Healthy, fault: Fault) -> bool:
    """The pump runs for as long as the fault is at its worst."""
    return bool(healthy.running[fault.target][healthy.within(fault.since + fault.growth // 2, fault.until)].all())


def _is_moved(works: Waterworks, healthy: _Healthy, fault: Fault) -> bool:
    """The command leaves the place where the stem would stick."""
    command = healthy.command[fault.target][healthy.within(fault.since, fault.until)]
    away = np.abs(command - command[0]) > _DEVIATION
    return bool(np.convolve(away, np.ones(_DEVIATION_SAMPLES), "valid").max(initial=0.0) >= _DEVIATION_SAMPLES)


def _is_shut(works: Waterworks, healthy: _Healthy, fault: Fault) -> bool:
    """The valve is shut on purpose all the time."""
    return bool((healthy.command[fault.target][healthy.within(fault.since, fault.until)] == 0.0).all())


def _always(works: Waterworks, healthy: _Healthy, fault: Fault) -> bool:
    return True


_SEEN: dict[FaultKind, Callable[[Waterworks, _Healthy, Fault], bool]] = {
    FaultKind.DRY_RUN: _runs,
    FaultKind.BEARING_WEAR: _runs,
    FaultKind.STICTION: _is_moved,
    FaultKind.SEAT_PASSING: _is_shut,
    FaultKind.PIPE_BURST: _always,
    FaultKind.TAMPER: _always,
    FaultKind.BATTERY: _always,
}
