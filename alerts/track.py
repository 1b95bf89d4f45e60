"""One device on its way through time: its memory, and the snapshots it can go back to. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import isnan, nan
from typing import NamedTuple

from alerts.evaluation import NEVER, Failed, Memory, Plan, RuleState
from devices.alarm import Alarm
from devices.model import MINUTE, Instant, Quality, Reading

SPACING: Instant = 15 * MINUTE
"""Sample time between the newest two snapshots, at least: about an uplink."""
RATIO = 8
"""Each older snapshot may be this many times as old as the next younger one: going back costs at most about that factor
more history than needed."""
SNAPSHOTS = 8
"""Snapshots kept: with the above, they reach back six days or more; what is later still has a device judged from its
beginning."""


class Snapshot(NamedTuple):
    """The memory after every sample up to and including `at`, packed: 16 bytes a value; states shared. `windows` holds
    all of them, or only the long ones."""

    at: Instant
    times: bytes
    values: bytes
    states: tuple[RuleState | None, ...]
    windows: bytes


class Track:
    """The memory of one device with the way back."""

    __slots__ = ("_due", "_snapshots", "digests", "memory", "newest", "tail", "tail_moved")

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.newest: Instant | None = None
        self.tail: Snapshot | None = None
        """The memory just before the newest sample, and what that sample then raised or cleared."""
        self.tail_moved: tuple[Alarm, ...] = ()
        self.digests: tuple[int, ...] = ()
        self._snapshots: list[Snapshot] = []
        self._due: Instant = NEVER

    @property
    def plan(self) -> Plan:
        """The rules this device meets."""
        return self.memory.plan

    @property
    def identity(self) -> str:
        """The device's."""
        return self.memory.device

    def advance(self, readings: Sequence[Reading], failed: Failed) -> list[Alarm]:
        """Judge relevant readings, sorted by time and all later than `newest`; what is raised or cleared comes back,
        an occurrence once in each of its states."""
        moved: list[Alarm] = []
        if not readings:
            return moved
        memory = self.memory
        times, values, plan = memory.times, memory.values, memory.plan
        slots, meets, plain, qualities = plan.metrics, plan.meets, plan.plain, plan.qualities
        last = readings[-1].measured_at
        at, mask, told = readings[0].measured_at, 0, 0
        self._pause(NEVER if self.newest is None else self.newest, at, last)
        for _, metric, measured_at, value, quality in readings:
            if measured_at != at:
                memory.judge(at, mask, moved, failed)
                if measured_at >= self._due or measured_at == last:
                    self._pause(at, measured_at, last)
                    told = len(moved)
                at, mask = measured_at, 0
            if metric in qualities:
                slot = qualities[metric]
                times[slot] = at
                values[slot] = float(quality)
                mask |= meets[slot]
                if not quality:
                    continue
            slot = slots[metric]
            if plain[slot]:
                times[slot] = at
                values[slot] = value
            else:
                memory.take(slot, at, value)
            mask |= meets[slot]
        memory.judge(at, mask, moved, failed)
        self.newest = last
        self.tail_moved = tuple(moved[told:])
        return moved

    def newest_sample(self) -> list[Reading]:
        """The values of the newest sample."""
        memory, plan, newest = self.memory, self.plan, self.newest
        found: list[Reading] = []
        if newest is None:
            return found
        for name, slot in plan.metrics.items():
            asked = plan.qualities.get(name)
            quality = Quality.GOOD
            if asked is not None and memory.times[asked] == newest:
                quality = Quality(int(memory.values[asked] or 0))
            value = memory.values[slot]
            if quality is Quality.BAD:
                found.append(Reading(memory.device, name, newest, 0.0, quality))
            elif memory.times[slot] == newest and value is not None:
                found.append(Reading(memory.device, name, newest, value, quality))
        return found

    def before(self, at: Instant) -> Snapshot | None:
        """The newest snapshot from before an instant."""
        if self.tail is not None and NEVER < self.tail.at < at:
            return self.tail
        return next((snapshot for snapshot in reversed(self._snapshots) if snapshot.at < at), None)

    def lacks_windows(self, snapshot: Snapshot) -> bool:
        """Whether the short windows are to be filled again (`Memory.refill`) after going back to it."""
        return len(snapshot.windows) < len(self.memory.windows) * 8

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; later ones are void."""
        memory = self.memory
        memory.times = array("q", snapshot.times).tolist()
        memory.values[: memory.plan.kept] = [None if isnan(value) else value for value in array("d", snapshot.values)]
        memory.states = list(snapshot.states)
        held = array("d", snapshot.windows)
        missing = len(memory.windows) - len(held)
        memory.windows = array("d", [nan]) * missing + held
        self._snapshots = [kept for kept in self._snapshots if kept.at <= snapshot.at]
        self._due = self._snapshots[-1].at + SPACING if self._snapshots else NEVER
        self.newest = None if snapshot.at == NEVER else snapshot.at
        self.tail, self.tail_moved = None, ()

    def reset(self) -> None:
        """Go back to before the first reading."""
        self.memory.clear()
        self._snapshots, self._due = [], NEVER
        self.newest, self.tail, self.tail_moved = None, None, ()

    def _pause(self, done: Instant, at: Instant, last: Instant) -> None:
        """Between the samples at `done` and `at`: take a snapshot where one is due, and always before the last one."""
        if at < self._due and at != last:
            return
        memory = self.memory
        values = array("d", [nan if value is None else value for value in memory.values[: memory.plan.kept]])
        times, states = array("q", memory.times).tobytes(), tuple(memory.states)
        if at == last:
            self.tail = Snapshot(done, times, values.tobytes(), states, memory.windows.tobytes())
        if at >= self._due and done != NEVER:
            long = memory.windows[memory.plan.long :].tobytes()
            self._snapshots.append(Snapshot(done, times, values.tobytes(), states, long))
            self._due = done + SPACING
            self._thin(at)

    def _thin(self, now: Instant) -> None:
        """Drop the snapshots whose neighbours are near enough, in proportion to their age."""
        kept = self._snapshots
        for number in range(len(kept) - 2, 0, -1):
            if now - kept[number - 1].at <= RATIO * (now - kept[number + 1].at):
                del kept[number]
        del kept[: max(0, len(kept) - SNAPSHOTS)]
