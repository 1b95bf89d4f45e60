"""What rules would have said about the past, and how two sets of rules differ. Pure.

The occurrences come from the very engine that judges live (`alerts.engine`), or, for rules with thresholds alone, from
array operations that come to the same (`alerts.columns`); so what a backtest says is what live would have done on the
same readings. Reading the past is the caller's business, as is printing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alerts.columns import Column, fits
from alerts.columns import occurrences as by_columns
from alerts.engine import Engine
from alerts.evaluation import Plan
from alerts.occurrences import FOREVER
from alerts.rules import Rule
from alerts.scopes import VALID_INTERVALS
from alerts.screening import Range, can_call
from devices.alarm import Alarm, Priority
from devices.model import DAY, MINUTE, Device, Instant, Quality, Reading
from devices.profile import Profile

_QUALITIES = {int(quality): quality for quality in Quality}
PERIOD: Instant = 10 * MINUTE
"""The period by which ISA-18.2 counts alarms."""
FLOOD = 10
"""More alarms than this in one period are a flood (ISA-18.2)."""


def occurrences(
    rules: Sequence[Rule], device: Device, profiles: Mapping[str, Profile], readings: Sequence[Reading]
) -> list[Alarm]:
    """Every occurrence of the rules on a device for the complete set of its readings (in any order), oldest first."""
    return _by_engine(Engine(rules, profiles), device, readings)


def _by_engine(engine: Engine, device: Device, readings: Sequence[Reading]) -> list[Alarm]:
    # A device that the engine meets for the first time is judged over its whole history; one good reading of each
    # metric is enough to meet it.
    first = {reading.metric: reading for reading in readings if reading.quality >= Quality.UNCERTAIN}
    changes = engine.apply(first.values(), {device.identity: device}, lambda *_: readings, lambda _: ())
    engine.forget(device.identity)
    return [change.alarm for change in changes]


class Backtest:
    """One set of rules over the past of many devices, of each in columns."""

    def __init__(self, rules: Sequence[Rule], profiles: Mapping[str, Profile]) -> None:
        self._rules = [rule for rule in rules if rule.group is None]
        self._profiles = profiles
        self._plans: dict[tuple[str, str], Plan] = {}
        self._engines: dict[tuple[str, ...], Engine] = {}

    def rules_for(self, device: Device) -> list[Rule]:
        """Those that can call on a device, whatever its values are."""
        profile = self._profiles.get(device.profile)
        if profile is None:
            return []
        fitting = [rule for rule in self._rules if rule.fits(device, profile)]
        return [rule for rule in fitting if rule.idle(profile.metrics, device.design) is None]

    def occurrences(self, rules: Sequence[Rule], device: Device, columns: Mapping[str, Column]) -> list[Alarm]:
        """Every occurrence of some of its rules on a device whose past is in these columns, oldest first."""
        found: list[Alarm] = []
        others: list[Rule] = []
        for rule in rules:
            if fits(rule.parsed.root):
                plan = self._plan(rule, device.profile)
                found += by_columns(plan, plan.rules[0], device, columns)
            else:
                others.append(rule)
        if others:
            found += _by_engine(self._engine(others), device, _readings(others, device, columns))
        return sorted(found, key=lambda alarm: (alarm.raised_at, alarm.rule))

    def _plan(self, rule: Rule, profile: str) -> Plan:
        key = (rule.rule, profile)
        if key not in self._plans:
            self._plans[key] = Plan([rule], VALID_INTERVALS * self._profiles[profile].reporting.interval)
        return self._plans[key]

    def _engine(self, rules: Sequence[Rule]) -> Engine:
        key = tuple(rule.rule for rule in rules)
        if key not in self._engines:
            self._engines[key] = Engine(rules, self._profiles)
        return self._engines[key]


def _readings(rules: Sequence[Rule], device: Device, columns: Mapping[str, Column]) -> list[Reading]:
    """Those that the rules ask for, one by one."""
    metrics = {metric for rule in rules for metric in rule.parsed.metrics}
    return [
        Reading(device.identity, metric, at, value, _QUALITIES[quality])
        for metric in sorted(metrics & columns.keys())
        for at, value, quality in zip(*(column.tolist() for column in columns[metric]), strict=True)
    ]


def worth_judging(
    rules: Sequence[Rule], device: Device, profiles: Mapping[str, Profile], ranges: Mapping[str, Range]
) -> list[Rule]:
    """The rules that could call on a device whose values are of these ranges: judging these finds what judging all
    would find."""
    profile = profiles.get(device.profile)
    if profile is None:
        return []
    return [rule for rule in rules if rule.fits(device, profile) and can_call(rule, device, ranges)]


def ranges_of(readings: Iterable[Reading]) -> dict[str, Range]:
    """The least and the greatest value of each metric that are not bad, for `alerts.screening`."""
    found: dict[str, Range] = {}
    for _, metric, _, value, quality in readings:
        if quality >= Quality.UNCERTAIN:
            low, high = found.get(metric, (value, value))
            found[metric] = (min(low, value), max(high, value))
    return found


def ranges_in(columns: Mapping[str, Column]) -> dict[str, Range]:
    """The same of columns."""
    found: dict[str, Range] = {}
    for metric, (_, value, quality) in columns.items():
        told = value[quality >= Quality.UNCERTAIN]
        if len(told):
            found[metric] = (float(told.min()), float(told.max()))
    return found


@dataclass(frozen=True, slots=True)
class Shifted:
    """One occurrence that both sets of rules find, at different times."""

    current: Alarm
    candidate: Alarm


@dataclass(slots=True)
class Kpis:
    """Alarm performance of one set of rules over the whole stretch (ISA-18.2)."""

    alarms: int = 0
    per_period: float = 0.0
    """Alarms in ten minutes, on average for each site (a site counts as an operator position)."""
    most: int = 0
    flood_share: float = 0.0
    """Share of the periods (times sites) that are floods."""
    top10_share: float = 0.0
    hours_active: float = 0.0
    by_priority: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Comparison:
    """What changes if the candidate rules take the place of the current ones."""

    gained: list[Alarm] = field(default_factory=list)
    lost: list[Alarm] = field(default_factory=list)
    shifted: list[Shifted] = field(default_factory=list)
    unchanged: int = 0
    before: Kpis = field(default_factory=Kpis)
    after: Kpis = field(default_factory=Kpis)


def within(alarms: Iterable[Alarm], since: Instant, until: Instant) -> list[Alarm]:
    """The occurrences that were active at some time in [since, until)."""
    return [a for a in alarms if a.raised_at < until and (FOREVER if a.cleared_at is None else a.cleared_at) >= since]


def compare(
    current: Sequence[Alarm], candidate: Sequence[Alarm], since: Instant, until: Instant, sites: Mapping[str, str]
) -> Comparison:
    """The difference between two sets of occurrences in [since, until); `sites` names each device's site.

    An occurrence of the same rule on the same device is the same one if both overlap (as `alerts.occurrences` pairs
    them); with other times it is shifted.
    """
    found = Comparison(before=kpis(current, since, until, sites), after=kpis(candidate, since, until, sites))
    groups: dict[tuple[str, str], tuple[list[Alarm], list[Alarm]]] = defaultdict(lambda: ([], []))
    for side, alarms in enumerate((current, candidate)):
        for alarm in within(alarms, since, until):
            groups[alarm.rule, alarm.device][side].append(alarm)
    for old, new in groups.values():
        _pair(sorted(old, key=_raised), sorted(new, key=_raised), found)
    for listed in (found.gained, found.lost):
        listed.sort(key=lambda alarm: (alarm.raised_at, alarm.rule, alarm.device))
    found.shifted.sort(key=lambda pair: (pair.candidate.raised_at, pair.candidate.rule, pair.candidate.device))
    return found


def _pair(old: list[Alarm], new: list[Alarm], found: Comparison) -> None:
    while old and new:
        a, b = old[0], new[0]
        if _end(a) < b.raised_at:
            found.lost.append(old.pop(0))
        elif _end(b) < a.raised_at:
            found.gained.append(new.pop(0))
        else:
            old.pop(0)
            new.pop(0)
            if (a.raised_at, a.cleared_at) == (b.raised_at, b.cleared_at):
                found.unchanged += 1
            else:
                found.shifted.append(Shifted(a, b))
    found.lost += old
    found.gained += new


def kpis(alarms: Iterable[Alarm], since: Instant, until: Instant, sites: Mapping[str, str]) -> Kpis:
    """The KPIs of the occurrences that were raised in [since, until)."""
    listed = [alarm for alarm in alarms if since <= alarm.raised_at < until]
    periods = max(1, -(-(until - since) // PERIOD)) * max(1, len(set(sites.values())))
    rate = Counter((sites.get(alarm.device, ""), (alarm.raised_at - since) // PERIOD) for alarm in listed)
    frequent = Counter((alarm.rule, alarm.device) for alarm in listed)
    active = sum(min(until, _end(alarm)) - alarm.raised_at for alarm in listed)
    return Kpis(
        alarms=len(listed),
        per_period=len(listed) / periods,
        most=max(rate.values(), default=0),
        flood_share=sum(1 for count in rate.values() if count > FLOOD) / periods,
        top10_share=sum(count for _, count in frequent.most_common(10)) / len(listed) if listed else 0.0,
        hours_active=active / (DAY / 24),
        by_priority={p.value: sum(1 for alarm in listed if alarm.priority is p) for p in Priority},
    )


def _raised(alarm: Alarm) -> Instant:
    return alarm.raised_at


def _end(alarm: Alarm) -> Instant:
    return FOREVER if alarm.cleared_at is None else alarm.cleared_at
