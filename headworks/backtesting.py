"""Sets of rules over stored history: what is read for them, and how far ahead. `headworks backtest` prints it.

The server is asked first between which values each metric lies; where no rule could call for these, nothing is read.
While one portion of the devices is judged, the next one is read in a thread beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from alerts.backtest import Backtest, ranges_in
from alerts.columns import Column
from alerts.rules import Rule
from alerts.screening import Range, can_call
from devices.alarm import Alarm
from devices.model import Device, Instant
from storage import history
from storage.database import Connection

READINGS = 4_000_000
"""Held at a time, about: some 100 MB, and as much for what is read ahead."""
_DEVICES = 20
"""In the first portion; how many the next ones have follows from what those before had."""
_MOST_DEVICES = 1_000
_SPARED = 0.5
"""Asking for the ranges first costs about half of reading: worth it where it spares at least this share of it."""
_UNASKED = 10
"""So many portions are read without asking where it is not."""


@dataclass(slots=True)
class Judged:
    """A portion of the devices: by set of rules what occurred; how many have readings that rules ask for, and how many
    readings those are."""

    alarms: list[list[Alarm]]
    portion: int
    devices: int = 0
    readings: int = 0


@dataclass(slots=True)
class _Read:
    """The past of a portion: of each device the rules of each set that may call, and its columns."""

    portion: Sequence[Device]
    counts: dict[str, int] = field(default_factory=dict)
    rules: dict[str, list[list[Rule]]] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Column]] = field(default_factory=dict)


def judge(
    connection: Connection, devices: Sequence[Device], sets: Sequence[Backtest], since: Instant, until: Instant
) -> Iterator[Judged]:
    """The occurrences of each set of rules in [since, until), portion by portion of the devices. The connection is used
    by another thread until the last portion has come."""
    history.prepare_for_stretches(connection)
    reader = _Reader(connection, devices, sets, since, until)
    with ThreadPoolExecutor(1, "backtest reader") as beside:
        following = beside.submit(reader.next)
        while (read := following.result()) is not None:
            following = beside.submit(reader.next)
            yield _judge(read, sets)


def _judge(read: _Read, sets: Sequence[Backtest]) -> Judged:
    found = Judged([[] for _ in sets], len(read.portion), len(read.counts), sum(read.counts.values()))
    for device in read.portion:
        columns = read.columns.get(device.identity, {})
        for rules, backtest, alarms in zip(read.rules.get(device.identity, ()), sets, found.alarms, strict=False):
            if rules:
                alarms += backtest.occurrences(rules, device, columns)
    return found


class _Reader:
    """Reads portion after portion."""

    def __init__(
        self,
        connection: Connection,
        devices: Sequence[Device],
        sets: Sequence[Backtest],
        since: Instant,
        until: Instant,
    ) -> None:
        self._connection = connection
        self._devices = devices
        self._sets = sets
        self._since, self._until = since, until
        self._done = 0
        self._size = _DEVICES
        self._unasked = 0

    def next(self) -> _Read | None:
        """The next portion; None if there is none."""
        portion = self._devices[self._done : self._done + self._size]
        if not portion:
            return None
        self._done += len(portion)
        read = _Read(portion)
        fitting = {device.identity: [one.rules_for(device) for one in self._sets] for device in portion}
        asked = {identity: _metrics(sets) for identity, sets in fitting.items()}
        if self._unasked:
            self._unasked -= 1
            read.columns = self._columns(asked)
            ranges = {identity: ranges_in(columns) for identity, columns in read.columns.items()}
            read.counts = {i: sum(len(at) for at, _, _ in columns.values()) for i, columns in read.columns.items()}
        else:
            extents = self._extents(asked)
            ranges = {i: {m: e.range for m, e in of.items() if e.range is not None} for i, of in extents.items()}
            read.counts = {identity: sum(one.readings for one in of.values()) for identity, of in extents.items()}
        read.counts = {identity: count for identity, count in read.counts.items() if count}
        for device in portion:
            known = ranges.get(device.identity, {})
            read.rules[device.identity] = [_may_call(rules, device, known) for rules in fitting[device.identity]]
        if not read.columns:
            wanted = {i: metrics for i, sets in read.rules.items() if (metrics := _metrics(sets))}
            read.columns = self._columns(wanted)
            self._spare(sum(read.counts.values()), read.columns)
        self._adapt(read)
        return read

    def _extents(self, asked: Mapping[str, set[str]]) -> dict[str, dict[str, history.Extent]]:
        every = sorted(set().union(*asked.values()))
        if not every:
            return {}
        found = history.extents(self._connection, list(asked), every, self._since, self._until)
        return {i: {m: extent for m, extent in of.items() if m in asked[i]} for i, of in found.items()}

    def _columns(self, wanted: Mapping[str, set[str]]) -> dict[str, Mapping[str, Column]]:
        every = sorted(set().union(*wanted.values()))
        if not every:
            return {}
        found = history.stretch(self._connection, list(wanted), every, self._since, self._until)
        return {i: {m: c for m, c in one.columns.items() if m in wanted[i]} for i, one in found.items()}

    def _spare(self, asked: int, columns: Mapping[str, Mapping[str, Column]]) -> None:
        read = sum(len(at) for of in columns.values() for at, _, _ in of.values())
        if asked and 1 - read / asked < _SPARED:
            self._unasked = _UNASKED

    def _adapt(self, read: _Read) -> None:
        share = sum(read.counts.values()) / len(read.portion)
        self._size = max(1, min(_MOST_DEVICES, 4 * len(read.portion), int(READINGS / max(share, 1))))


def _metrics(sets: Sequence[Sequence[Rule]]) -> set[str]:
    return {metric for rules in sets for rule in rules for metric in rule.parsed.metrics}


def _may_call(rules: Sequence[Rule], device: Device, ranges: Mapping[str, Range]) -> list[Rule]:
    return [rule for rule in rules if can_call(rule, device, ranges)]
