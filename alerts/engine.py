"""The alarm engine: readings in, in any order and as often as they come; changes to the journal out.

`judge` says what the journal of one rule on one device is for a set of readings. `Engine` comes to the same journal
piece by piece: readings later than all before go straight through the rules; for a late one the device's memory goes
back to a snapshot from before it, runs forward again over the history, and what differs from the journal is written as
amendments. Live evaluation, catch-up, replay and backtest all run this code; time is the sample's, never the clock's.

Pure: history and journal are functions handed in. What a rule does with one sample is in `alerts.evaluation`.
Measured on one core with the whole library and five rules more (`tests/benchmarks/bench_engine.py`): 151,000
readings/s in order, 129,000 sample by sample, 93,000 with every 20th uplink late. A device takes 1.9 kB with ten rules
without windows, 28 kB with the library, of which windows are nine tenths.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from alerts.compiled import CompiledRule, RuleState, active
from alerts.evaluation import Plan, sample_time
from alerts.groups import VALID_INTERVALS, Groups, Mates, judge_watch
from alerts.occurrences import difference
from alerts.rules import Rule
from alerts.track import Track
from devices.alarm import Alarm, AlarmChange
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

    `validity` (µs) replaces the profiles' own for rules that name none. What is kept for a device is bounded:
    its last known values, its windows, the state of its rules, and a few snapshots of them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        profiles: Mapping[str, Profile],
        validity: Instant | None = None,
    ) -> None:
        if len({rule.rule for rule in rules}) != len(rules):
            raise ValueError("a rule's name stands twice; the journal could not tell their alarms apart")
        self._rules = tuple(rules)
        self._profiles = profiles
        self._validity = validity
        self._plans: dict[tuple[str, tuple[str, ...]], Plan] = {}
        self._places: dict[tuple[object, ...], Plan] = {}
        self._by_tag = any(rule.applies_to.tag is not None for rule in rules)
        self._groups = Groups(rules, profiles)
        self._needed = sorted({o.name.removeprefix("design.") for rule in rules for o in rule.given})
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

    def forget(self, identity: str) -> None:
        """Drop what is known of a device; it is built again from history and journal when it is heard of next."""
        self._tracks.pop(identity, None)
        self._groups.forget(identity)

    def apply(
        self,
        readings: Iterable[Reading],
        devices: Mapping[str, Device],
        history: History,
        journal: Journal,
        cut: Cut = lambda _: False,
        mates: Mates = lambda _: (),
    ) -> list[AlarmChange]:
        """Judge readings that were committed, and return what has to change in the journal.

        Any order, any repetition and any partition into calls ends in the same journal, once everything that was
        committed has been handed in at least once. `history` and `journal` are asked only for a device that is new here
        and for late readings. Where one of them raises, the error passes through, nothing of this call is returned, and
        its devices are forgotten: hand the same readings in again later. `mates` gives the devices of a site, for rules
        on groups of them.
        """
        groups: dict[str, list[Reading]] = {}
        for reading in readings:
            group = groups.get(reading[0])
            if group is None:
                groups[reading[0]] = [reading]
            else:
                group.append(reading)
        changes: list[AlarmChange] = []
        try:
            for identity, group in groups.items():
                track = self._track(identity, devices.get(identity))
                if track is not None:
                    changes += self._judge(track, group, history, journal, cut)
            if self._groups:
                for watch in self._groups.of(groups, devices, mates):
                    own = [one for identity in watch.scope.identities for one in groups.get(identity, ())]
                    changes += judge_watch(watch, own, self._judge, history, journal, cut)
        except BaseException:
            for identity in groups:
                self.forget(identity)
            raise
        return changes

    def _judge(
        self, track: Track, group: list[Reading], history: History, journal: Journal, cut: Cut
    ) -> list[AlarmChange]:
        readings = track.plan.relevant(group)
        if not readings:
            return []
        # Retransmissions are everyday life on this radio; an exact one is told by its digest and costs no rewind.
        digest = hash(tuple([(r[1], r[2], r[3]) for r in readings]))
        if digest in array("q", track.digests):
            return []
        self._failed_now.clear()
        track.wake()
        first, newest = readings[0].measured_at, track.newest
        if newest is None:
            changes = self._rebuild(track, history, journal, cut)
        elif first > newest:
            changes = self._forward(track, readings)
        elif first == newest:
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
            return self._rebuild(track, history, journal, cut)
        # What was committed beyond this delivery is left for its own turn, which then is no late one.
        assert track.newest is not None
        limit = max(last, track.newest)
        refill = track.plan.refill if track.lacks_windows(snapshot) else 0
        past = [r for r in track.plan.relevant(history(track.identity, snapshot.at + 1 - refill)) if r[2] <= limit]
        begin = bisect_left(past, snapshot.at + 1, key=sample_time)
        replay = past[begin:]
        if not replay or replay[0].measured_at > first:
            # Retention has dropped what was handed in, so perhaps more: judge only what is still there.
            return self._rebuild(track, history, journal, cut)
        known = [
            alarm
            for alarm in journal(track.identity)
            if alarm.rule in track.plan.names and (alarm.cleared_at is None or alarm.cleared_at > snapshot.at)
        ]
        track.restore(snapshot)
        track.memory.refill(past[:begin])
        moved = track.advance(replay, self._failed)
        return self._changes(known, _occurrences(snapshot.states, moved))

    def _rebuild(self, track: Track, history: History, journal: Journal, cut: Cut) -> list[AlarmChange]:
        """Judge everything the history has. What the journal holds from before its beginning (retention) is taken as
        given, as no reading is left to decide it."""
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
        if cut(track.identity):
            return self._rebuild_cut(track, replay, known)
        _take_as_given(track, track.plan.rules, known, begin)
        states = tuple(track.memory.states)
        moved = track.advance(replay, self._failed)
        return self._changes(known, _occurrences(states, moved))

    def _rebuild_cut(self, track: Track, replay: list[Reading], known: list[Alarm]) -> list[AlarmChange]:
        """Judge a history whose beginning is cut off: what a window would have held there is not known. So until its
        windows are full again, the journal is taken as given for a rule that has any."""
        begin = replay[0].measured_at
        full = begin + max((window.reach for window in track.plan.windows), default=0)
        plain = [compiled for compiled in track.plan.rules if not compiled.windows]
        windowed = [compiled for compiled in track.plan.rules if compiled.windows]
        # What had begun to count towards a delay is known once every delay could have passed.
        settled = full + max((max(one.on_delay, one.off_delay) for one in windowed), default=0)
        names = {compiled.rule.rule for compiled in windowed}
        _take_as_given(track, plain, known, begin)
        states = tuple(track.memory.states)
        moved: list[Alarm] = []
        done = 0
        for until in (full, settled):
            end = bisect_left(replay, until, key=sample_time)
            moved += [a for a in track.advance(replay[done:end], self._failed) if a.rule not in names]
            _take_as_given(track, windowed, known, until)
            track.commit()
            done = end
        given = [state for compiled in windowed if (state := track.memory.states[compiled.index]) is not None]
        moved += track.advance(replay[done:], self._failed)
        before = [a for a in known if a.rule not in names or a.cleared_at is None or a.cleared_at >= settled]
        return self._changes(before, _occurrences((*states, *given), moved))

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
        by_design = tuple(device.design.get(name) for name in self._by_design)
        return (by_tag, by_design, tuple(name in device.design for name in self._needed))

    def _can_call(self, rule: Rule, device: Device, profile: Profile) -> bool:
        why = rule.idle(profile.metrics, device.design)
        if why is not None:
            self._idle.setdefault(rule.rule, {}).setdefault(f"{profile.profile}: {why}", device.identity)
        return why is None


def _alike(one: Device, other: Device) -> bool:
    """Whether two entries of a device give the same judgement."""
    return (one.profile, one.site, one.tag, one.design) == (other.profile, other.site, other.tag, other.design)


def _take_as_given(track: Track, rules: Iterable[CompiledRule], known: Iterable[Alarm], begin: Instant) -> None:
    """Let the rules go on from what the journal says to be active at an instant."""
    states = track.memory.states
    for compiled in rules:
        told = [
            alarm
            for alarm in known
            if alarm.rule == compiled.rule.rule
            and alarm.raised_at < begin
            and (alarm.cleared_at is None or alarm.cleared_at >= begin)
        ]
        state = states[compiled.index]
        if not told:
            states[compiled.index] = None if state is None or state.alarm is not None else state
            continue
        alarm = replace(told[-1], cleared_at=None)
        if state is None or state.alarm is None:
            states[compiled.index] = RuleState(alarm, None, 0, begin, known=True)
        else:
            states[compiled.index] = state._replace(alarm=alarm)


def _occurrences(states: Iterable[RuleState | None], moved: Iterable[Alarm]) -> list[Alarm]:
    """What was active in these states, as it stands after what moved."""
    found = {(alarm.rule, alarm.raised_at): alarm for alarm in active(states)}
    for alarm in moved:
        found[alarm.rule, alarm.raised_at] = alarm
    return list(found.values())
