"""One device on its way through time: its memory, and the snapshots it can go back to. Pure.

There is one unpacked `Memory` for all devices of a plan. A device that is being judged has it (`wake`); at rest it is a
few packed snapshots, as tens of thousands of devices rest at any moment.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import isnan, nan
from sys import byteorder
from typing import NamedTuple

from alerts.compiled import Failed, RuleState
from alerts.evaluation import NEVER, Given, Plan, given
from devices.alarm import Alarm
from devices.model import MINUTE, Device, Instant, Quality, Reading

SPACING: Instant = 15 * MINUTE
"""Sample time between the newest two snapshots, at least: about an uplink."""
RATIO = 8
"""Each older snapshot may be this many times as old as the next younger one: going back costs at most about that factor
more history than needed."""
SNAPSHOTS = 8
"""Snapshots kept: with the above, they reach back six days or more; what is later still has a device judged from its
beginning."""


class Snapshot(NamedTuple):
    """The memory after every sample up to and including `at`, packed: that instant and the values, 8 bytes each. How
    old each value was (NEVER for none) and the rules' normal state are shared by all devices of the plan. `windows`
    holds all of them, or only the long ones."""

    packed: bytes
    ages: bytes
    states: tuple[RuleState | None, ...]
    windows: bytes

    @property
    def at(self) -> Instant:
        """The newest sample that is in it, NEVER if none is."""
        return int.from_bytes(self.packed[:8], byteorder, signed=True)


class Rest(NamedTuple):
    """A track at rest, as plain data."""

    head: Snapshot
    tail: Snapshot
    tail_moved: tuple[Alarm, ...]
    snapshots: tuple[Snapshot, ...]


class Track:
    """The memory of one device with the way back."""

    __slots__ = (
        "_given",
        "_head",
        "_snapshots",
        "device",
        "digests",
        "memory",
        "plan",
        "resumed",
        "tail",
        "tail_moved",
    )

    def __init__(self, plan: Plan, device: Device) -> None:
        self.plan = plan
        self.memory = plan.memory
        self.tail: Snapshot | None = None
        """The memory just before the newest sample, and what that sample then raised or cleared."""
        self.tail_moved: tuple[Alarm, ...] = ()
        self.digests = b""
        """Of the last deliveries, 8 bytes each, the newest first."""
        self.device = device
        self.resumed = False
        """Whether it goes on from what was kept, which may be older than the journal."""
        self._given: Given = given(plan, device)
        self._head: Snapshot | None = None
        self._snapshots: tuple[Snapshot, ...] = ()

    @property
    def identity(self) -> str:
        """The device's."""
        return self.device.identity

    @property
    def newest(self) -> Instant | None:
        """The newest sample."""
        return None if self._head is None else self._head.at

    @property
    def rest(self) -> Rest | None:
        """What there is to keep; None if nothing is known."""
        if self._head is None or self.tail is None:
            return None
        return Rest(self._head, self.tail, self.tail_moved, self._snapshots)

    def resume(self, rest: Rest) -> None:
        """Go on from what another track with the same plan and device had."""
        share = self._shared
        self._head, self.tail = share(rest.head), share(rest.tail)
        self.tail_moved = rest.tail_moved
        self._snapshots = tuple([share(snapshot) for snapshot in rest.snapshots])
        self.resumed = True

    def wake(self) -> None:
        """Take the plan's memory; whoever had it is at rest."""
        self.memory.begin(self.identity, self._given)
        if self._head is not None:
            self._unpack(self._head)

    def advance(self, readings: Sequence[Reading], failed: Failed) -> list[Alarm]:
        """Judge relevant readings, sorted by time and all later than `newest`; what is raised or cleared comes back,
        an occurrence once in each of its states."""
        moved: list[Alarm] = []
        if not readings:
            return moved
        memory = self.memory
        times, values, plan = memory.times, memory.values, memory.plan
        slots, bits, plain, qualities = plan.metrics, plan.bits, plan.plain, plan.qualities
        last = readings[-1].measured_at
        at, sampled, told = readings[0].measured_at, 0, 0
        due = self._pause(NEVER if self._head is None else self._head.at, at, last)
        for _, metric, measured_at, value, quality in readings:
            if measured_at != at:
                memory.judge(at, sampled, moved, failed)
                if measured_at >= due or measured_at == last:
                    due = self._pause(at, measured_at, last)
                    told = len(moved)
                at, sampled = measured_at, 0
            if metric in qualities:
                slot = qualities[metric]
                times[slot] = at
                values[slot] = float(quality & 0xC0)
                sampled |= bits[slot]
                if quality < Quality.UNCERTAIN:
                    continue
            slot = slots[metric]
            if plain[slot]:
                times[slot] = at
                values[slot] = value
            else:
                memory.take(slot, at, value)
            sampled |= bits[slot]
        memory.judge(at, sampled, moved, failed)
        self._head = self._pack(last, memory.windows.tobytes())
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
                found.append(Reading(self.identity, name, newest, 0.0, quality))
            elif memory.times[slot] == newest and value is not None:
                found.append(Reading(self.identity, name, newest, value, quality))
        return found

    def before(self, at: Instant) -> Snapshot | None:
        """The newest snapshot from before an instant."""
        if self._head is not None and self._head.at < at:
            return self._head
        if self.tail is not None and NEVER < self.tail.at < at:
            return self.tail
        return next((snapshot for snapshot in reversed(self._snapshots) if snapshot.at < at), None)

    def lacks_windows(self, snapshot: Snapshot) -> bool:
        """Whether the short windows are to be filled again (`Memory.refill`) after going back to it."""
        return len(snapshot.windows) < len(self.memory.windows) * 8

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; later ones are void."""
        self._unpack(snapshot)
        self._snapshots = tuple(kept for kept in self._snapshots if kept.at <= snapshot.at)
        self._head = None if snapshot.at == NEVER else snapshot
        self.tail, self.tail_moved = None, ()

    def reset(self) -> None:
        """Go back to before the first reading."""
        self.memory.begin(self.identity, self._given)
        self._head, self._snapshots = None, ()
        self.tail, self.tail_moved = None, ()

    def commit(self) -> None:
        """Go on from the memory as it is now; there is no way back to before it."""
        if self._head is not None:
            self._head = self._pack(self._head.at, self.memory.windows.tobytes())
        self._snapshots, self.tail, self.tail_moved = (), None, ()

    def _pause(self, done: Instant, at: Instant, last: Instant) -> Instant:
        """Between the samples at `done` and `at`: take a snapshot where one is due, and always before the last one.
        Gives the instant from which on the next one is due."""
        due = self._snapshots[-1].at + SPACING if self._snapshots else NEVER
        if at < due and at != last:
            return due
        windows = self.memory.windows
        if at == last:
            head = self._head
            if head is not None and head.at == done and not self.lacks_windows(head):
                self.tail = head  # nothing has happened since it was packed
            else:
                # Before the first sample there is nothing in them: shared, as it is tens of kilobytes.
                self.tail = self._pack(done, self.plan.empty if done == NEVER else windows.tobytes())
        if at >= due and done != NEVER:
            self._snapshots = _thinned((*self._snapshots, self._pack(done, windows[self.plan.long :].tobytes())), at)
            due = done + SPACING
        return due

    def _pack(self, at: Instant, windows: bytes) -> Snapshot:
        memory, plan = self.memory, self.plan
        ages = array("q", [at - time if time != NEVER else NEVER for time in memory.times]).tobytes()
        values = array("d", [nan if value is None else value for value in memory.values[: plan.kept]]).tobytes()
        packed = at.to_bytes(8, byteorder, signed=True) + values
        states = tuple(memory.states)
        return Snapshot(packed, plan.sharing(ages), plan.normal if states == plan.normal else states, windows)

    def _shared(self, snapshot: Snapshot) -> Snapshot:
        """The same, with what it has in common with others held once."""
        plan = self.plan
        return Snapshot(
            snapshot.packed,
            plan.sharing(snapshot.ages),
            plan.normal if snapshot.states == plan.normal else snapshot.states,
            plan.empty if snapshot.windows == plan.empty else snapshot.windows,
        )

    def _unpack(self, snapshot: Snapshot) -> None:
        memory, at = self.memory, snapshot.at
        memory.times[:] = [NEVER if age == NEVER else at - age for age in array("q", snapshot.ages)]
        memory.values[: self.plan.kept] = [None if isnan(value) else value for value in array("d", snapshot.packed[8:])]
        memory.states[:] = snapshot.states
        held = array("d", snapshot.windows)
        missing = len(memory.windows) - len(held)
        memory.windows = array("d", [nan]) * missing + held if missing else held


def _thinned(kept: tuple[Snapshot, ...], now: Instant) -> tuple[Snapshot, ...]:
    """Without the snapshots whose neighbours are near enough, in proportion to their age."""
    found = list(kept)
    for number in range(len(found) - 2, 0, -1):
        if now - found[number - 1].at <= RATIO * (now - found[number + 1].at):
            del found[number]
    return tuple(found[max(0, len(found) - SNAPSHOTS) :])
