"""The alarm engine: readings in, in any order and as often as they come; changes to the journal out.

`judge` says what the journal of one rule on one device is for a set of readings. `Engine` comes to the same journal
piece by piece: readings later than all before go straight through the rules; for a late one the device's memory goes
back to a snapshot from before it, runs forward again over the history, and what differs from the journal is written as
amendments. Live evaluation, catch-up, replay and backtest all run this code; time is the sample's, never the clock's.

Pure: history and journal are functions handed in. What a rule does with one sample is in `alerts.evaluation`.
Measured on one core with the whole library and five rules more (`tests/benchmarks/bench_engine.py`): 215,000
readings/s in order, 170,000 sample by sample, 158,000 with every 20th uplink late, 142,000 of valves that rules on
their area judge together. A device takes 1.9 kB with ten rules without windows, 31 kB with the library, of which
windows are nine tenths.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType

from alerts.beginnings import settle
from alerts.compiled import RuleState, active
from alerts.evaluation import Plan, sample_time
from alerts.groups import Groups, Mates, judge_watch
from alerts.kept import Addresses, pack, unpack_track
from alerts.occurrences import difference
from alerts.rules import Rule
from alerts.scopes import VALID_INTERVALS, Scope
from alerts.track import Track
from devices.alarm import Alarm, AlarmChange
from devices.batch import Kept
from devices.model import Device, Instant, Reading
from devices.profile import Profile

History = Callable[[str, Instant | None], Sequence[Reading]]
"""A device's committed readings from an instant on (from the beginning if None), in any order. It holds at least
everything that was handed to `apply` up to now; it may hold more."""

Cut = Callable[[str], bool]
"""Whether what `history` has just given of a device from the beginning leaves out readings shortly before it, so that
windows would have held something there (`alerts.functions.LONGEST_WINDOW`)."""

Journal = Callable[[str], Sequence[Alarm]]
"""A device's occurrences that were not retracted, with every change that `apply` has returned so far."""

Wait = Callable[[Scope, Sequence[Reading]], None]
"""Called instead of judging a scope from its devices' whole past, with what was handed in of them: see `meet`."""

_TOLD = itemgetter(1, 2, 3)
"""What a reading says: metric, time and value."""
_DIGESTS = 4
"""How many of a device's last deliveries are recognised when they are repeated."""


def judge(rule: Rule, device: Device, profile: Profile, readings: Iterable[Reading]) -> list[Alarm]:
    """The occurrences of a rule on a device, oldest first, by the complete set of its readings (in any order).

    Readings of other devices are ignored; a rule that is not for this device, or that can never call on it, has no
    occurrences.
    """
    if not rule.fits(device, profile) or rule.idle(profile.metrics, device.design) is not None:
        return []
    plan = Plan([rule], VALID_INTERVALS * profile.reporting.interval, profile.rollovers)
    own = plan.relevant(reading for reading in readings if reading.device == device.identity)
    found: dict[Instant, Alarm] = {}
    track = Track(plan, device)
    track.wake()
    for alarm in track.advance(own, _raise):
        found[alarm.raised_at] = alarm
    return list(found.values())


def _raise(_: str, error: Exception | str) -> None:
    if isinstance(error, Exception):
        raise error


class Engine:
    """Keeps one journal up to date for many devices. Not safe for several threads at once.

    `validity` (µs) replaces the profiles' own for rules that name none. What is held of a device is bounded:
    its last known values, its windows, the state of its rules, and a few snapshots of them. `version` is that of the
    code, for what is kept over a restart.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        profiles: Mapping[str, Profile],
        validity: Instant | None = None,
        version: str = "",
    ) -> None:
        if len({rule.rule for rule in rules}) != len(rules):
            raise ValueError("a rule's name stands twice; the journal could not tell their alarms apart")
        self._rules = tuple(rules)
        self._profiles = profiles
        self._validity = validity
        self._plans: dict[tuple[str, tuple[str, ...]], Plan] = {}
        self._places: dict[tuple[object, ...], Plan] = {}
        self._by_tag = any(rule.applies_to.tag is not None for rule in rules)
        self._addresses = Addresses(version, validity, profiles)
        self.void: set[tuple[str, str]] = set()
        """Rule (empty for the device itself) and device of what is kept and of no use, until it is struck out."""
        self.catching_up = False
        """Whether the journal may know more than what was kept of a device, until all that was committed since then
        has been handed in again. The changes on the way to there are only right together (`occurrences.net`)."""
        self._groups = Groups(rules, profiles, self._addresses, self.void)
        self._needed = frozenset(o.name.removeprefix("design.") for rule in rules for o in rule.given)
        self._idle: dict[str, dict[str, str]] = {}
        self._by_design = sorted({name for rule in rules for name in rule.applies_to.design_names})
        self._tracks: dict[str, Track] = {}
        self._failing: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._failed_now: set[str] = set()
        self._skipped: dict[str, str] = {}

    @property
    def failing(self) -> Mapping[str, str]:
        """Rules that met an error (a division by zero, a defect), with the last one, until the next start."""
        return MappingProxyType(self._failing)

    @property
    def failures(self) -> Mapping[str, int]:
        """How many samples each failing rule could not judge."""
        return MappingProxyType(self._failures)

    @property
    def idle(self) -> Mapping[str, Mapping[str, str]]:
        """Rules that can never call on some of the devices that they are for, as a metric or a nameplate entry is
        missing: the reasons, each with the first such device that was heard of."""
        return MappingProxyType({**self._idle, **self._groups.idle})

    @property
    def skipped(self) -> Mapping[str, str]:
        """Devices whose readings met no rule, with the reason: not among the devices, or of an unknown profile."""
        return MappingProxyType(self._skipped)

    @property
    def group_rules(self) -> frozenset[str]:
        """The names of its rules on groups."""
        return self._groups.names

    def forget(self, identity: str) -> None:
        """Drop what is known of a device; it is built again from history and journal when it is heard of next."""
        self._tracks.pop(identity, None)
        self._groups.forget(identity)

    def keep(self, identity: str, told: set[tuple[str, str]]) -> list[Kept]:
        """What is to be kept of a device, and of its groups that are not among those `told`, which get them."""
        track = self._tracks.get(identity)
        rest = None if track is None else track.rest
        found = [Kept(identity, "", None if track is None or rest is None else pack(self._address(track), rest))]
        return found + self._groups.keep(identity, told)

    def resume(self, kept: Kept, device: Device) -> bool:
        """Go on from what was kept of a device; False where that is for another engine, or for another entry of the
        device. What was kept of groups waits until their devices are heard of."""
        if kept.rule:
            self._groups.hold(kept)
            return True
        plan = self._plan(device)
        if plan is not None and kept.memory is not None:
            track = Track(plan, device)
            rest = unpack_track(self._address(track), kept.memory)
            if rest is not None:
                track.resume(rest)
                self._tracks[device.identity] = track
                return True
        self.void.add(("", device.identity))
        return False

    def take_over(self, other: Engine) -> tuple[set[str], list[str]]:
        """Go on from what another engine knows of the devices for which this one has the same rules: those devices, and
        those that groups are about of which something is held until they are composed."""
        found: set[str] = set()
        for identity, theirs in other._tracks.items():
            plan, rest = self._plan(theirs.device), theirs.rest
            if plan is None or rest is None:
                continue
            track = Track(plan, theirs.device)
            if self._address(track) == other._address(theirs):
                track.resume(rest)
                track.resumed = theirs.resumed
                self._tracks[identity] = track
                found.add(identity)
        groups = self._groups.take_over(other._groups)
        self.void |= other.void | {("", identity) for identity in other._tracks.keys() - found}
        self.catching_up = other.catching_up
        return found, groups

    def _address(self, track: Track) -> bytes:
        rules = [compiled.rule for compiled in track.plan.rules]
        return self._addresses.of(rules, track.device, [("", track.device)])

    def needed_from(self, identity: str, first: Instant) -> Instant:
        """From when on a device's readings are read, at the most, to judge those from `first` on again."""
        track = self._tracks.get(identity)
        snapshot = None if track is None else track.before(first)
        return first if snapshot is None or track is None else min(first, snapshot.at + 1 - track.plan.refill)

    def apply(
        self,
        readings: Iterable[Reading],
        devices: Mapping[str, Device],
        history: History,
        journal: Journal,
        cut: Cut = lambda _: False,
        mates: Mates | None = None,
        wait: Wait | None = None,
    ) -> list[AlarmChange]:
        """Judge readings that were committed, and return what has to change in the journal.

        Any order, any repetition and any partition into calls ends in the same journal, once everything that was
        committed has been handed in at least once. `history` and `journal` are asked only for a device that is new here
        and for late readings. Where one of them raises, the error passes through, nothing of this call is returned, and
        its devices are forgotten: hand the same readings in again later. `mates` gives the devices of a site, for rules
        on groups of them; None leaves those rules to `apply_to_groups`. `wait`, if given, is told of groups that are
        met for the first time, which then are for `meet`.
        """
        groups = _by_device(readings)
        changes: list[AlarmChange] = []
        try:
            for identity, group in groups.items():
                track = self._track(identity, devices.get(identity))
                if track is not None:
                    changes += self._judge(track, group, history, journal, cut)
            if mates is not None:
                changes += self._judge_groups(groups, devices, history, journal, cut, mates, wait)
        except BaseException:
            for identity in groups:
                self.forget(identity)
            raise
        return changes

    def apply_to_groups(
        self,
        readings: Iterable[Reading],
        devices: Mapping[str, Device],
        history: History,
        journal: Journal,
        cut: Cut,
        mates: Mates,
        wait: Wait | None = None,
    ) -> list[AlarmChange]:
        """The same for rules on groups alone: of devices that are not judged by themselves yet."""
        groups = _by_device(readings)
        try:
            return self._judge_groups(groups, devices, history, journal, cut, mates, wait)
        except BaseException:
            for identity in groups:
                self.forget(identity)
            raise

    def meet(
        self, key: tuple[str, str], since: Mapping[str, Instant], history: History, journal: Journal, cut: Cut
    ) -> list[AlarmChange]:
        """Judge a scope (rule, and the device that it is about) from the past of its devices; of those in `since` the
        readings from a moment on may not be judged yet. Nothing where there is no such scope any more."""
        watch = self._groups.find(key)
        if watch is None:
            return []
        new = [one for identity, first in since.items() for one in history(identity, None) if one.measured_at >= first]
        try:
            return judge_watch(watch, new, self._judge, history, journal, cut)
        except BaseException:
            watch.forget()
            raise

    def scope(self, key: tuple[str, str]) -> Scope | None:
        """The scope of this key; None where there is no such one any more."""
        watch = self._groups.find(key)
        return None if watch is None else watch.scope

    def still_to_meet(self, identity: str, devices: Mapping[str, Device], mates: Mates) -> list[Scope] | None:
        """The scopes of a device, if all of them are still to be met; None if one is met."""
        watches = self._groups.of([identity], devices, mates)
        return None if any(watch.met for watch in watches) else [watch.scope for watch in watches]

    def _judge_groups(
        self,
        groups: Mapping[str, list[Reading]],
        devices: Mapping[str, Device],
        history: History,
        journal: Journal,
        cut: Cut,
        mates: Mates,
        wait: Wait | None,
    ) -> list[AlarmChange]:
        changes: list[AlarmChange] = []
        if self._groups:
            for watch in self._groups.of(groups, devices, mates):
                own = [one for identity in watch.scope.identities for one in groups.get(identity, ())]
                if wait is not None and not watch.met and watch.scope.take(own):
                    wait(watch.scope, own)
                    continue
                changes += judge_watch(watch, own, self._judge, history, journal, cut)
        return changes

    def _judge(
        self, track: Track, group: list[Reading], history: History, journal: Journal, cut: Cut
    ) -> list[AlarmChange]:
        readings = track.plan.relevant(group)
        if not readings:
            return []
        # Retransmissions are everyday life on this radio; an exact one is told by its digest and costs no rewind.
        digest = hash(tuple(map(_TOLD, readings)))
        if digest in array("q", track.digests):
            return []
        self._failed_now.clear()
        first, newest = readings[0].measured_at, track.newest
        behind = self.catching_up and track.resumed
        if newest is not None:
            track.wake()
        if newest is None:
            changes = self._rebuild(track, first, history, journal, cut)
        elif first > newest and not behind:
            changes = self._forward(track, readings)
        elif first == newest and not behind:
            changes = self._complete(track, readings)
        else:
            changes = self._rewind(track, readings, history, journal, cut)
        if track.newest is not None:
            track.digests = array("q", [digest]).tobytes() + track.digests[: 8 * (_DIGESTS - 1)]
        return changes

    def _forward(self, track: Track, readings: Sequence[Reading]) -> list[AlarmChange]:
        """Readings later than all before: the everyday case."""
        states = tuple(track.memory.states)
        moved = track.advance(readings, self._failed)
        return self._changes(active(states), _occurrences(states, moved), moved) if moved else []

    def _complete(self, track: Track, readings: Sequence[Reading]) -> list[AlarmChange]:
        """More of the newest sample: it is judged again, from the state before it, with all its values."""
        tail, told = track.tail, track.tail_moved
        assert tail is not None
        sample = track.newest_sample()
        track.restore(tail)
        moved = track.advance(sorted([*sample, *readings], key=lambda r: r.measured_at), self._failed)
        return self._changes(_occurrences(tail.states, told), _occurrences(tail.states, moved), (*told, *moved))

    def _rewind(
        self, track: Track, readings: Sequence[Reading], history: History, journal: Journal, cut: Cut
    ) -> list[AlarmChange]:
        """Late readings: go back to before the first one and run forward again."""
        first, last = readings[0].measured_at, readings[-1].measured_at
        snapshot = track.before(first)
        if snapshot is None:
            return self._rebuild(track, first, history, journal, cut)
        # What was committed beyond this delivery is left for its own turn, which then is no late one.
        assert track.newest is not None
        limit = max(last, track.newest)
        refill = track.plan.refill if track.lacks_windows(snapshot) else 0
        past = [r for r in track.plan.relevant(history(track.identity, snapshot.at + 1 - refill)) if r[2] <= limit]
        begin = bisect_left(past, snapshot.at + 1, key=sample_time)
        replay = past[begin:]
        if not replay or replay[0].measured_at > first:
            # Retention has dropped what was handed in, so perhaps more: judge only what is still there.
            return self._rebuild(track, first, history, journal, cut)
        known = [
            alarm
            for alarm in journal(track.identity)
            if alarm.rule in track.plan.names and (alarm.cleared_at is None or alarm.cleared_at > snapshot.at)
        ]
        track.restore(snapshot)
        if begin:
            track.memory.refill(past[:begin])
        moved = track.advance(replay, self._failed)
        return self._changes(known, _occurrences(snapshot.states, moved))

    def _rebuild(self, track: Track, first: Instant, history: History, journal: Journal, cut: Cut) -> list[AlarmChange]:
        """Judge everything the history has. What the journal holds from before its beginning (retention) is taken as
        given, as no reading is left to decide it. `first`: the earliest reading that may not be judged yet."""
        replay = track.plan.relevant(history(track.identity, None))
        if not replay:
            return []
        begin = replay[0].measured_at
        known = [
            alarm
            for alarm in journal(track.identity)
            if alarm.rule in track.plan.names and (alarm.cleared_at is None or alarm.cleared_at >= begin)
        ]
        track.reset()
        if cut(track.identity) or any(alarm.since < begin for alarm in known):
            before, after = settle(track, replay, known, first, self._failed)
            return self._changes(before, _occurrences((), after))
        moved = track.advance(replay, self._failed)
        return self._changes(known, _occurrences((), moved))

    def _changes(
        self, before: Iterable[Alarm], after: Iterable[Alarm], touched: Iterable[Alarm] | None = None
    ) -> list[AlarmChange]:
        """The difference, for the rules of `touched` if given; a rule that failed on the way has no say about what the
        journal holds."""
        if self._failed_now:
            before = [alarm for alarm in before if alarm.rule not in self._failed_now]
            after = [alarm for alarm in after if alarm.rule not in self._failed_now]
        if touched is not None:
            rules = {alarm.rule for alarm in touched}
            before = [alarm for alarm in before if alarm.rule in rules]
            after = [alarm for alarm in after if alarm.rule in rules]
        return difference(before, after)

    def _failed(self, rule: str, error: Exception | str) -> None:
        """A defect leaves the journal as it is; what cannot be calculated is unknown, and so judged."""
        self._failures[rule] += 1
        if isinstance(error, str):
            self._failing[rule] = error
        else:
            self._failing[rule] = f"{type(error).__name__}: {error}"
            self._failed_now.add(rule)

    def _track(self, identity: str, device: Device | None) -> Track | None:
        known = self._tracks.get(identity)
        if known is not None and (known.device is device or (device is not None and _alike(known.device, device))):
            return known
        if device is None:
            self._skipped[identity] = "it is not registered"
            return None
        plan = self._plan(device)
        if plan is None:
            self._skipped[identity] = f"its profile ‘{device.profile}’ is not installed"
            return None
        self._skipped.pop(identity, None)
        # A device that is new here, or whose nameplate or place has changed, is judged from its beginning.
        track = Track(plan, device)
        self._tracks[identity] = track
        return track

    def _plan(self, device: Device) -> Plan | None:
        place = (device.profile, device.site, *self._chosen_by(device))
        plan = self._places.get(place)
        if plan is None:
            profile = self._profiles.get(device.profile)
            if profile is None:
                return None
            fitting = [rule for rule in self._rules if rule.fits(device, profile)]
            rules = [rule for rule in fitting if self._can_call(rule, device, profile)]
            key = (device.profile, tuple(rule.rule for rule in rules))
            if key not in self._plans:
                self._plans[key] = Plan(
                    rules, self._validity or VALID_INTERVALS * profile.reporting.interval, profile.rollovers
                )
            plan = self._places[place] = self._plans[key]
        return plan

    def _chosen_by(self, device: Device) -> tuple[object, ...]:
        """What rules choose this device by, beside its profile and site."""
        by_tag = device.tag if self._by_tag else ""
        by_design = tuple([device.design.get(name) for name in self._by_design])
        return (by_tag, by_design, self._needed.intersection(device.design))

    def _can_call(self, rule: Rule, device: Device, profile: Profile) -> bool:
        why = rule.idle(profile.metrics, device.design)
        if why is not None:
            self._idle.setdefault(rule.rule, {}).setdefault(f"{profile.profile}: {why}", device.identity)
        return why is None


def _by_device(readings: Iterable[Reading]) -> dict[str, list[Reading]]:
    groups: dict[str, list[Reading]] = {}
    for reading in readings:
        group = groups.get(reading[0])
        if group is None:
            groups[reading[0]] = [reading]
        else:
            group.append(reading)
    return groups


def _alike(one: Device, other: Device) -> bool:
    """Whether two entries of a device give the same judgement."""
    return (one.profile, one.site, one.tag, one.design) == (other.profile, other.site, other.tag, other.design)


def _occurrences(states: Iterable[RuleState | None], moved: Iterable[Alarm]) -> list[Alarm]:
    """What was active in these states, as it stands after what moved."""
    found = {(alarm.rule, alarm.raised_at): alarm for alarm in active(states)}
    for alarm in moved:
        found[alarm.rule, alarm.raised_at] = alarm
    return list(found.values())
