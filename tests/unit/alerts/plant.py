"""Devices, rules and readings for the tests of the alarm engine, and a second, naive judge to compare with."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, linear_regression, stdev
from typing import Any

from alerts.closures import relaxed, strict
from alerts.engine import Engine, judge
from alerts.expression import Feature, Read, metric_of
from alerts.functions import COUNTERS
from alerts.groups import judge_group
from alerts.keeping import Keeping
from alerts.occurrences import applied, net
from alerts.ports import KeepingPorts
from alerts.rules import Rule
from alerts.scopes import compose
from alerts.window_kinds import STEPS
from alerts.windows import EARLY
from devices.alarm import Alarm, AlarmChange, Priority
from devices.batch import Kept
from devices.model import HOUR, MINUTE, SECOND, Device, Instant, Quality, Reading
from devices.profile import Profile, shipped_profiles

T0: Instant = 1_790_000_000 * 1_000_000
PROFILES = shipped_profiles()
PUMP = Device("urn:dev:imei:1", "centrifugal-pump", tag="P-101", site="east", design={"rated_power": 10.0})
VALVE = Device("urn:dev:imei:2", "control-valve", tag="FV-201", site="west", design={"kv": 100.0})
DEVICES = {device.identity: device for device in (PUMP, VALVE)}
VALIDITY = 10 * MINUTE
"""Two reporting intervals of the pump's profile."""


def rule(condition: str = "vibration > 5", **fields: Any) -> Rule:
    """A rule with little else than a condition."""
    defaults: dict[str, Any] = {
        "rule": "tested",
        "title": "Tested",
        "message": "at {value} {unit}",
        "priority": "medium",
        "guidance": {"cause": "c", "consequence": "q", "corrective_action": "a", "time_to_respond": "1h"},
    }
    return Rule.model_validate(defaults | {"condition": condition} | fields)


def series(
    metric: str, values: Sequence[float | None], start: Instant = T0, step: Instant = MINUTE, device: Device = PUMP
) -> list[Reading]:
    """Readings at regular times; None leaves one out."""
    return [
        Reading(device.identity, metric, start + number * step, float(value))
        for number, value in enumerate(values)
        if value is not None
    ]


def minutes(alarm: Alarm) -> tuple[float, float, float | None]:
    """since, raised_at and cleared_at in minutes from the start."""
    cleared = None if alarm.cleared_at is None else (alarm.cleared_at - T0) / MINUTE
    return (alarm.since - T0) / MINUTE, (alarm.raised_at - T0) / MINUTE, cleared


class House:
    """What surrounds an engine: all committed readings, and the journal that its changes are applied to."""

    def __init__(self, rules: Sequence[Rule], devices: Mapping[str, Device] = DEVICES) -> None:
        self.cut = False
        """Whether the history has lost its beginning."""
        self.rules = list(rules)
        self.devices = dict(devices)
        self.stored: dict[tuple[str, str, Instant], Reading] = {}
        self.alarms: list[Alarm] = []
        self.lookups = 0
        self.engine = Engine(self.rules, PROFILES)

    def commit(self, readings: Iterable[Reading]) -> None:
        """Store readings; what is stored already stays."""
        for reading in readings:
            self.stored.setdefault((reading.device, reading.metric, reading.measured_at), reading)

    def apply(self, readings: Iterable[Reading], *, crash: bool = False) -> list[AlarmChange]:
        """Hand readings to the engine; with `crash` what follows is lost before it is written, and the engine too."""
        changes = self._hand_in(readings)
        self._check(changes)
        if crash:
            self.restart()
        else:
            self.alarms = applied(self.alarms, changes)
        return changes

    def _hand_in(self, readings: Iterable[Reading]) -> list[AlarmChange]:
        return self.engine.apply(
            list(readings), self.devices, self.history, self.journal, lambda _: self.cut, self.mates
        )

    def _check(self, changes: Iterable[AlarmChange]) -> None:
        held = {(alarm.rule, alarm.device, alarm.raised_at): alarm for alarm in self.alarms}
        for change in changes:
            if change.before is not None:
                before = held.pop((change.before.rule, change.before.device, change.before.raised_at))
                assert before == change.before, "a change begins with what the journal holds"
            if change.after is not None:
                key = (change.after.rule, change.after.device, change.after.raised_at)
                assert key not in held, "the journal is told nothing that it holds already"
                held[key] = change.after

    def deliver(self, readings: Iterable[Reading]) -> list[AlarmChange]:
        """Commit and hand in."""
        batch = list(readings)
        self.commit(batch)
        return self.apply(batch)

    def finish(self) -> None:
        """Everything was delivered."""

    def restart(self) -> None:
        """A new engine that knows nothing."""
        self.engine = Engine(self.rules, PROFILES)

    def history(self, identity: str, since: Instant | None) -> list[Reading]:
        """A device's stored readings."""
        self.lookups += 1
        return [r for r in self.stored.values() if r.device == identity and (since is None or r.measured_at >= since)]

    def mates(self, site: str) -> list[Device]:
        """The devices of a site."""
        return [device for device in self.devices.values() if device.site == site]

    def journal(self, identity: str) -> list[Alarm]:
        """A device's occurrences."""
        return [alarm for alarm in self.alarms if alarm.device == identity]


def expected(
    rules: Sequence[Rule], readings: Sequence[Reading], devices: Mapping[str, Device] = DEVICES
) -> list[Alarm]:
    """The journal that a set of readings has, by definition."""
    alarms = [
        alarm
        for device in devices.values()
        for one in rules
        for alarm in judge(one, device, PROFILES[device.profile], readings)
    ]
    scopes, _ = compose(rules, devices.values(), PROFILES)
    alarms += [alarm for scope in scopes for alarm in judge_group(scope, readings)]
    return sorted(alarms, key=lambda alarm: (alarm.raised_at, alarm.rule, alarm.device))


class Shelf:
    """Where an engine keeps what it knows, as the database does."""

    def __init__(self, devices: Mapping[str, Device]) -> None:
        self._devices = devices
        self.kept: dict[tuple[str, str], Kept] = {}
        self.position: int | None = None
        self.asked: list[str] = []

    def ports(self) -> KeepingPorts:
        """What the engine is handed."""
        return KeepingPorts(
            lambda: self.position,
            self._of_devices,
            lambda site: [row for row in self.kept.values() if row.rule and self._devices[row.device].site == site],
            self._keep,
            self._limit,
            self._complete,
            self._discard,
        )

    def _of_devices(self, identities: Sequence[str]) -> list[Kept]:
        self.asked += identities
        return [self.kept[one, ""] for one in identities if (one, "") in self.kept]

    def _keep(self, rows: Sequence[Kept]) -> None:
        for row in rows:
            if row.memory is None:
                self.kept.pop((row.device, row.rule), None)
            else:
                self.kept[row.device, row.rule] = row

    def _limit(self, rules: Collection[str]) -> None:
        self.kept = {(device, rule): row for (device, rule), row in self.kept.items() if not rule or rule in rules}

    def _complete(self, position: int) -> None:
        self.position = position

    def _discard(self) -> None:
        self.position = None
        self.kept.clear()


class KeepingHouse(House):
    """One whose engine keeps what it knows: a restart goes on from that, and is handed again what came since."""

    def __init__(self, rules: Sequence[Rule], chance: random.Random, devices: Mapping[str, Device] = DEVICES) -> None:
        super().__init__(rules, devices)
        self.chance = chance
        self.log: list[list[Reading]] = []
        """What was handed in and written, in this order."""
        self.shelf = Shelf(self.devices)
        self.resumed = 0
        self._now = 0.0
        self.met: set[str] = set()
        self.keeping = Keeping(self.shelf.ports(), self._clock)
        self.keeping.begin()

    def apply(self, readings: Iterable[Reading], *, crash: bool = False) -> list[AlarmChange]:
        """Hand in, as the live engine does."""
        batch = list(readings)
        self.keeping.touch({reading.device for reading in batch})
        self._recall(batch)
        changes = super().apply(batch, crash=crash)
        if not crash:
            self.log.append(batch)
            self.keeping.before_writing(self.engine)
            if self.chance.random() < 0.5:
                self.keeping.go_on(self.engine, len(self.log))
        return changes

    def restart(self) -> None:
        """A new engine, which goes on from what was kept."""
        self.met.clear()
        super().restart()
        position = self.keeping.begin()
        if position is None:
            return
        self.resumed += 1
        self.engine.catching_up = True
        since = [reading for batch in self.log[position:] for reading in batch]
        if self.chance.random() < 0.7:  # and what was committed and not judged yet
            judged = {reading for batch in self.log for reading in batch}
            self.log.append([reading for reading in self.stored.values() if reading not in judged])
            since += self.log[-1]
            since.sort(key=lambda reading: reading.measured_at)
        by_device = [[r for r in since if r.device == identity] for identity in self.devices]
        again = [by_device, [since], [[reading] for reading in since]][self.chance.randrange(3)]
        before = self.alarms
        changes: list[AlarmChange] = []
        for batch in self.chance.sample(again, len(again)):
            self._recall(batch)
            self.keeping.touch({reading.device for reading in batch})
            changes += self._hand_in(batch)
            self.alarms = applied(before, changes)
        self.engine.catching_up = False
        self.keeping.before_writing(self.engine)
        self.alarms = before
        self._check(net(before, changes))
        self.alarms = applied(before, net(before, changes))

    def exchange(self, rules: Sequence[Rule]) -> None:
        """Other rules take over."""
        self.rules = list(rules)
        engine = Engine(self.rules, PROFILES)
        staying, groups = engine.take_over(self.engine)
        self.keeping.exchange(self.met - staying, groups)
        self.engine = engine
        self.met &= staying

    def mates(self, site: str) -> list[Device]:
        """The devices of a site, of whose groups something may be kept."""
        found = super().mates(site)
        self.keeping.recall_site(self.engine, site, found)
        return found

    def _recall(self, readings: Iterable[Reading]) -> None:
        unmet = {reading.device for reading in readings} - self.met
        self.keeping.recall(self.engine, unmet, lambda asked: {one: self.devices[one] for one in asked}, self.met)

    def _clock(self) -> float:
        self._now += 10_000
        return self._now


def deliver_at_random(
    rules: Sequence[Rule],
    readings: list[Reading],
    chance: random.Random,
    devices: Mapping[str, Device] = DEVICES,
    house: House | None = None,
    between: Callable[[House], None] | None = None,
) -> House:
    """Commit and hand in the readings in uplinks of a few samples, some late, some repeated, some handed in after
    others that were committed later, with crashes; then compare the journal with perfect delivery. `between` happens
    before each uplink."""
    house = house or House(rules, devices)
    pending = list(readings)
    if chance.random() < 0.3:
        chance.shuffle(pending)
    uplinks = []
    while pending:
        size = chance.choice((1, 1, 3, 8, 20))
        uplinks.append(pending[:size])
        pending = pending[size:]
    lateness = chance.choice((0, 0, 2, 5, 50))
    uplinks = [u for _, u in sorted(enumerate(uplinks), key=lambda pair: pair[0] + lateness * chance.random())]
    waiting: list[list[Reading]] = []
    unwritten: list[Reading] = []
    for uplink in uplinks:
        if between is not None:
            between(house)
        house.commit(uplink)
        waiting.append(uplink)
        while waiting and chance.random() < 0.8:
            batch = waiting.pop(chance.randrange(len(waiting)))
            if chance.random() < 0.15:
                batch = batch + chance.sample(batch, 1)
            if chance.random() < 0.04:
                house.apply(batch, crash=True)
                unwritten += batch
            else:
                house.apply(batch)
        if chance.random() < 0.1:
            house.apply(uplink)
            waiting = [u for u in waiting if u is not uplink]
        if chance.random() < 0.03:
            house.restart()
    house.apply([r for u in waiting for r in u] + unwritten)
    if between is not None:
        house.apply(readings)
    house.finish()
    assert house.alarms == expected(house.rules, readings, devices)
    assert all(why.startswith("division by zero") for why in house.engine.failing.values())
    return house


Own = Mapping[tuple[str, Instant], tuple[float, Quality]]
"""A device's readings by metric and time."""


def feature(one: Feature, at: Instant, own: Own) -> float | None:  # noqa: C901 - one branch a function
    """What the past of a metric amounts to, from all its readings up to a moment."""
    said = {t: value for (metric, t), (value, _) in sorted(own.items()) if metric == one.metric and t <= at}
    told = sorted(t for t in said if own[one.metric, t][1] >= Quality.UNCERTAIN)
    match one.function:
        case "age":
            return (at - told[-1]) / SECOND if told else None
        case "previous":
            return said[told[-2]] if len(told) > 1 else None
        case "quality":
            return float(own[one.metric, max(said)][1].status) if said else None
    step = -(-one.window // STEPS)
    inside = [t for t in told if t // step > at // step - STEPS]
    values = [said[t] for t in inside]
    if one.function == "count":
        return float(len(values))
    if not values:
        return None
    simple: dict[str, Callable[[list[float]], float]] = {"min": min, "max": max, "avg": fmean}
    if one.function in simple:
        return simple[one.function](values)
    if one.function == "early":
        first = inside[0] // step
        return fmean(value for t, value in zip(inside, values, strict=True) if t // step < first + EARLY)
    if one.function == "span":
        return (inside[-1] - inside[0]) / SECOND
    if len(values) < 2:
        return None
    if one.function == "stdev":
        return stdev(values)
    hours = [(t - inside[0]) / HOUR for t in inside]
    if one.function == "slope":
        return linear_regression(hours, values).slope
    if one.metric in COUNTERS:
        return sum(b - a if b >= a else b for a, b in pairwise(values)) / hours[-1]
    return (values[-1] - values[0]) / hours[-1]


def measured(read: Read, at: Instant, own: Own, validity: Instant) -> float | None:
    """The value of an operand at a moment, as long as it stands."""
    if isinstance(read, Feature) and (read.window or read.function == "age"):
        return feature(read, at, own)
    known = {
        t: v for (metric, t), (v, q) in own.items() if metric == metric_of(read) and t <= at and q >= Quality.UNCERTAIN
    }
    newest = list(known)
    if isinstance(read, Feature) and read.function == "quality":
        newest = [t for metric, t in own if metric == read.metric and t <= at]
    if not newest or max(newest) < at - validity:
        return None
    return feature(read, at, own) if isinstance(read, Feature) else known[max(known)]


def naive(rule: Rule, device: Device, profile: Profile, readings: Iterable[Reading]) -> list[Alarm]:
    """The definition, spelt out without state: at each sample of the rule everything is worked out from the readings up
    to it, and from the verdicts since the last transition. Priority, message and value are left out."""
    asked = {one.metric for one in rule.parsed.features if one.function == "quality"}
    own = {
        (r.metric, r.measured_at): (r.value, r.quality)
        for r in readings
        if r.device == device.identity and (r.quality >= Quality.UNCERTAIN or r.metric in asked)
    }
    if not rule.fits(device, profile) or rule.idle(profile.metrics, device.design) is not None:
        return []
    names = [operand.name for operand in rule.parsed.operands]
    slots = {name: number for number, name in enumerate(names)}
    raising, keeping = strict(rule.parsed, slots), relaxed(rule.parsed, slots, rule.deadbands)
    validity = rule.validity or 2 * profile.reporting.interval
    times = sorted({at for metric, at in own if metric in rule.parsed.metrics})

    def value(read: Read, at: Instant) -> float | None:
        if read.is_given:
            return device.design.get(read.name.removeprefix("design."))
        return measured(read, at, own, validity)

    found: list[Alarm] = []
    run: list[tuple[Instant, bool | None]] = []  # the samples that count towards the next transition
    for at in times:
        is_active = bool(found) and found[-1].cleared_at is None
        verdict = (keeping if is_active else raising)([value(read, at) for read in rule.parsed.operands])
        if verdict is is_active:
            run = []
            continue
        if verdict is None and not run:
            continue
        run.append((at, verdict))
        if verdict is None:
            continue
        known = sum(min(later - earlier, validity) for (earlier, said), (later, _) in pairwise(run) if said is not None)
        if known >= (rule.off_delay if is_active else rule.on_delay):
            if is_active:
                found[-1] = replace(found[-1], cleared_at=at)
            else:
                found.append(Alarm(rule.rule, device.identity, Priority.LOW, "", run[0][0], at))
            run = []
    return found


def bare(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Occurrences reduced to their times."""
    return [replace(alarm, priority=Priority.LOW, message="", value=None) for alarm in alarms]
