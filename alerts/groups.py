"""Rules on groups of devices: who belongs together, and when a moment may be judged. Pure.

A scope is one group with the rule that watches it. Its devices' readings are put together as those of one device with
the metrics `<role>.<metric>`, and that is judged by the same code as any device (`alerts.engine`). What a group has in
addition is that its devices are late by different times, so that a value may be missing only because it has not come
yet. So a moment is judged when every device of the scope is known at it, or when the scope has been heard of for so
long after it (the patience) that waiting is over; what is missing then is unknown. `judged_until` is a function of the
set of readings and never goes back when readings are added, so that a scope's journal does not depend on the order of
arrival either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from alerts.evaluation import NEVER, Plan, sample_time
from alerts.expression import (
    Arithmetic,
    Call,
    Comparison,
    Condition,
    Feature,
    Junction,
    Negative,
    Not,
    Number,
    Numeric,
    Operand,
    Truth,
    operands,
)
from alerts.functions import AGGREGATES
from alerts.rules import Rule
from alerts.selection import Group
from alerts.track import Track
from devices.alarm import Alarm, AlarmChange
from devices.model import Device, DeviceStatus, Instant, Reading
from devices.profile import Profile

MOST = 200
"""Devices of one scope, at most: each of their samples is a sample of all of them."""

VALID_INTERVALS = 2
"""How many of the longest reporting intervals a value stands, and a moment waits: one uplink may be lost."""

Mates = Callable[[str], Sequence[Device]]
"""The devices of a site. The same list object as long as nothing has changed spares composing the groups again."""


@dataclass(frozen=True)
class Scope:
    """A rule on one group: `members` are its devices under the names by which the condition is told them apart."""

    rule: Rule
    about: Device
    members: tuple[tuple[str, Device, Profile], ...]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from other scopes, as it does their alarms."""
        return self.rule.rule, self.about.identity

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """Its devices, each once."""
        return tuple(dict.fromkeys(device.identity for _, device, _ in self.members))

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """What each device is called."""
        found: dict[str, tuple[str, ...]] = {}
        for name, device, _ in self.members:
            found[device.identity] = (*found.get(device.identity, ()), name)
        return found

    @property
    def interval(self) -> Instant:
        """The longest reporting interval."""
        return max(profile.reporting.interval for _, _, profile in self.members)

    @property
    def patience(self) -> Instant:
        """How long a moment waits for those that are not known at it."""
        group = self.rule.group
        assert group is not None
        return group.patience or VALID_INTERVALS * self.interval

    @cached_property
    def instance(self) -> Rule:
        """The rule with its roles of several devices written out."""
        return _instance(self.rule, self._counts)

    @cached_property
    def device(self) -> Device:
        """Its devices as one: the one that the alarm is about, with the nameplates of all."""
        design = dict(self.about.design)
        for name, device, _ in self.members:
            design.update({f"{name}.{entry}": value for entry, value in device.design.items()})
        return replace(self.about, design=design)

    @property
    def idle(self) -> str | None:
        """Why the rule can never call on it."""
        metrics = {f"{name}.{metric}" for name, _, profile in self.members for metric in profile.metrics}
        return self.instance.idle(metrics, self.device.design)

    @property
    def like(self) -> tuple[object, ...]:
        """Scopes that have this in common are judged by one plan."""
        return (self.rule.rule, self.interval, tuple(self._counts.items()), tuple(self._rollovers.items()))

    def plan(self) -> Plan:
        """What judges it."""
        return Plan([self.instance], VALID_INTERVALS * self.interval, self._rollovers)

    def take(self, readings: Iterable[Reading]) -> list[Reading]:
        """The readings that count here, as those of one device."""
        metrics, names, about = self._metrics, self.names, self.about.identity
        return [
            Reading(about, f"{name}.{metric}", at, value, quality)
            for device, metric, at, value, quality in readings
            for name in names.get(device, ())
            if f"{name}.{metric}" in metrics
        ]

    def watched(self, readings: Iterable[Reading]) -> dict[str, Instant]:
        """By name of those that the readings know: up to when."""
        found: dict[str, Instant] = {}
        for _, metric, at, _, _ in readings:
            name = metric.rpartition(".")[0]
            if at > found.get(name, NEVER):
                found[name] = at
        return found

    @cached_property
    def _metrics(self) -> frozenset[str]:
        return frozenset(self.instance.parsed.metrics)

    @cached_property
    def _counts(self) -> dict[str, int]:
        group = self.rule.group
        assert group is not None
        of_role = [name.partition("[")[0] for name, _, _ in self.members]
        return {role: of_role.count(role) for role, several in group.severals.items() if several}

    @property
    def _rollovers(self) -> dict[str, float]:
        return {
            f"{name}.{metric}": limit
            for name, _, profile in self.members
            for metric, limit in sorted(profile.rollovers.items())
        }


def judged_until(scope: Scope, known: Mapping[str, Instant]) -> Instant:
    """Up to which moment a scope is judged whose members are known until these moments (NEVER if up to none)."""
    newest = max(known.values(), default=NEVER)
    if newest == NEVER:
        return NEVER
    return max(newest - scope.patience, min(known.get(name, NEVER) for name, _, _ in scope.members))


def compose(
    rules: Iterable[Rule], devices: Iterable[Device], profiles: Mapping[str, Profile]
) -> tuple[list[Scope], dict[str, dict[str, str]]]:
    """The scopes among these devices; and by rule why it has none where it was meant to, each reason with the first
    device that it concerns."""
    active = [d for d in devices if d.status is not DeviceStatus.RETIRED and d.profile in profiles]
    active.sort(key=lambda device: (device.tag, device.identity))
    scopes: list[Scope] = []
    without: dict[str, dict[str, str]] = {}
    for rule in rules:
        group = rule.group
        if group is None:
            continue
        places: dict[tuple[str, ...], dict[str, list[Device]]] = {}
        for device in active:
            roles = group.roles_of(device, profiles[device.profile].kind)
            place = group.by.of(device) if roles else None
            if place is not None:
                cast = places.setdefault(place, {name: [] for name in group.roles})
                for role in roles:
                    cast[role].append(device)
        for cast in places.values():
            for scope, why in _scopes(rule, group, cast, profiles):
                problem = why or scope.idle
                if problem is None:
                    scopes.append(scope)
                else:
                    without.setdefault(rule.rule, {}).setdefault(problem, scope.about.identity)
    return scopes, without


def _scopes(
    rule: Rule, group: Group, cast: Mapping[str, Sequence[Device]], profiles: Mapping[str, Profile]
) -> Iterable[tuple[Scope, str | None]]:
    """The scopes of one place; with a reason those that are none."""
    leading = next(iter(group.roles))
    abouts = cast[leading][:1] if group.roles[leading].several else cast[leading]
    for about in abouts:
        members: list[tuple[str, Device, Profile]] = []
        why: str | None = None
        for role, several in group.severals.items():
            found = [about] if role == leading and not several else list(cast[role])
            if role != leading:
                found = [device for device in found if device is not about]
            if not found:
                why = f"no device of its {group.by} is its ‘{role}’"
            elif not several and len(found) > 1:
                why = f"several devices of its {group.by} could be its ‘{role}’; it takes one"
            for number, device in enumerate(found, 1):
                members.append((f"{role}[{number}]" if several else role, device, profiles[device.profile]))
        if len(members) > MOST:
            why = f"the group has {len(members)} devices, more than {MOST}"
        yield Scope(rule, about, tuple(members)), why


class Watch:
    """One scope on its way through time."""

    def __init__(self, scope: Scope, plan: Plan) -> None:
        self.scope = scope
        self._plan = plan
        self.forget()

    def forget(self) -> None:
        """Drop what is known; it is built again from history and journal."""
        self.track = Track(self._plan, self.scope.device)
        self._known: dict[str, Instant] | None = None
        self._waiting: list[Reading] = []

    def ready(self, readings: Sequence[Reading], whole: Callable[[], Sequence[Reading]]) -> list[Reading]:
        """Take readings in (`Scope.take`) and give those that may be judged now. At the first time the whole history
        is asked for."""
        if self._known is None:
            readings = whole()
            self._known = {}
        self._known = _latest(self._known, self.scope.watched(readings))
        until = judged_until(self.scope, self._known)
        held = [*self._waiting, *readings]
        self._waiting = [reading for reading in held if reading.measured_at > until]
        return [reading for reading in held if reading.measured_at <= until]

    @property
    def until(self) -> Instant:
        """Up to when it is judged."""
        return judged_until(self.scope, self._known or {})


JudgeTrack = Callable[
    [
        Track,
        list[Reading],
        Callable[[str, Instant | None], Sequence[Reading]],
        Callable[[str], Sequence[Alarm]],
        Callable[[str], bool],
    ],
    list[AlarmChange],
]
"""`Engine`'s judgement of one track."""


class Groups:
    """The scopes of all sites, as far as their devices have been heard of."""

    def __init__(self, rules: Iterable[Rule], profiles: Mapping[str, Profile]) -> None:
        self._rules = [rule for rule in rules if rule.group is not None]
        self._profiles = profiles
        self._sites: dict[str, tuple[Sequence[Device], dict[tuple[str, str], Watch]]] = {}
        self._watches: dict[str, list[Watch]] = {}
        self._cast: dict[str, tuple[Device, bool]] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}
        self.idle: dict[str, dict[str, str]] = {}
        """By rule why it can never call where it was meant to."""

    def __bool__(self) -> bool:
        return bool(self._rules)

    def forget(self, identity: str) -> None:
        """Drop what is known of the scopes of a device; they are built again when one of theirs is heard of."""
        for watch in self._watches.get(identity, ()):
            watch.forget()

    def of(self, identities: Iterable[str], devices: Mapping[str, Device], mates: Mates) -> list[Watch]:
        """The scopes that some devices belong to, each once."""
        found: dict[int, Watch] = {}
        for identity in identities:
            device = devices.get(identity)
            if device is not None and self._is_cast(device):
                self._compose(device.site, mates(device.site))
                for watch in self._watches.get(identity, ()):
                    found[id(watch)] = watch
        return list(found.values())

    def _is_cast(self, device: Device) -> bool:
        """Whether a device may play any role, remembered; most devices of a large site play none."""
        known = self._cast.get(device.identity)
        if known is None or known[0] is not device:
            profile = self._profiles.get(device.profile)
            groups = (rule.group for rule in self._rules if rule.group is not None)
            plays = profile is not None and any(group.roles_of(device, profile.kind) for group in groups)
            known = self._cast[device.identity] = (device, plays)
        return known[1]

    def _compose(self, site: str, devices: Sequence[Device]) -> None:
        listed, watches = self._sites.get(site, ((), {}))
        if listed is devices:
            return
        scopes, idle = compose(self._rules, devices, self._profiles)
        for rule, reasons in idle.items():
            for why, device in reasons.items():
                self.idle.setdefault(rule, {}).setdefault(why, device)
        kept: dict[tuple[str, str], Watch] = {}
        for scope in scopes:
            old = watches.get(scope.key)
            if old is not None and old.scope == scope:
                kept[scope.key] = old
                continue
            plan = self._plans.get(scope.like)
            if plan is None:
                plan = self._plans[scope.like] = scope.plan()
            kept[scope.key] = Watch(scope, plan)
        for identity in {one for watch in watches.values() for one in watch.scope.identities}:
            self._watches.pop(identity, None)
        for watch in kept.values():
            for identity in watch.scope.identities:
                self._watches.setdefault(identity, []).append(watch)
        self._sites[site] = (devices, kept)


def judge_watch(
    watch: Watch,
    readings: Sequence[Reading],
    judge: JudgeTrack,
    history: Callable[[str, Instant | None], Sequence[Reading]],
    journal: Callable[[str], Sequence[Alarm]],
    cut: Callable[[str], bool],
) -> list[AlarmChange]:
    """Judge one scope with readings of its devices that were committed; the rest of the arguments is that of
    `alerts.engine.Engine.apply`."""
    scope = watch.scope
    mine = scope.take(readings)
    if not mine:
        return []
    wholes: list[Reading] = []

    def whole() -> Sequence[Reading]:
        for identity in scope.identities:
            wholes.extend(scope.take(history(identity, None)))
        return wholes

    ready = watch.ready(mine, whole)
    if not ready:
        return []

    def past(_: str, since: Instant | None) -> Sequence[Reading]:
        if since is None and not wholes:
            whole()
        found = (
            wholes
            if since is None
            else [one for identity in scope.identities for one in scope.take(history(identity, since))]
        )
        return [reading for reading in found if reading.measured_at <= watch.until]

    return judge(watch.track, ready, past, journal, lambda _: any(map(cut, scope.identities)))


def judge_group(scope: Scope, readings: Iterable[Reading]) -> list[Alarm]:
    """The occurrences of a scope, oldest first, by the complete set of its devices' readings (in any order): what the
    engine comes to, by definition."""
    mine = scope.take(readings)
    until = judged_until(scope, scope.watched(mine))
    plan = scope.plan()
    own = plan.relevant(sorted((one for one in mine if one.measured_at <= until), key=sample_time))
    track = Track(plan, scope.device)
    track.wake()
    found = {alarm.raised_at: alarm for alarm in track.advance(own, _raise)}
    return list(found.values())


def _raise(_: str, error: Exception | str) -> None:
    if isinstance(error, Exception):
        raise error


def _latest(known: Mapping[str, Instant], newer: Mapping[str, Instant]) -> dict[str, Instant]:
    return {**known, **{name: max(at, known.get(name, NEVER)) for name, at in newer.items()}}


def _instance(rule: Rule, counts: Mapping[str, int]) -> Rule:
    """The rule for a group in which each role of several devices has so many."""
    condition = rule.parsed
    written = Condition(condition.text, _truth(condition.root, counts))
    widths: dict[str, float] = {}
    for subject, width in rule.deadbands.items():
        own = [_numbered(o, role, n).subject for o in condition.operands if not o.is_given and o.subject == subject
               for role, count in counts.items() if _is_of(o, role) for n in range(1, count + 1)]  # fmt: skip
        widths |= dict.fromkeys(own or [subject], width)
    found = rule.model_copy()
    # Where a model keeps what it has worked out of its fields: the copy has worked out something else.
    found.__dict__.update(parsed=written, deadbands=widths)
    found.__dict__.pop("given", None)
    found.__dict__.pop("shown", None)
    return found


def _truth(node: Truth, counts: Mapping[str, int]) -> Truth:
    match node:
        case Comparison():
            return replace(node, left=_number(node.left, counts), right=_number(node.right, counts))
        case Not():
            return Not(_truth(node.operand, counts))
        case Junction():
            return Junction(node.operator, tuple(_truth(part, counts) for part in node.parts))


def _number(node: Numeric, counts: Mapping[str, int]) -> Numeric:
    match node:
        case Number() | Operand() | Feature():
            return node
        case Negative():
            return Negative(_number(node.operand, counts))
        case Arithmetic():
            return replace(node, left=_number(node.left, counts), right=_number(node.right, counts))
        case Call():
            (only, *more) = node.arguments
            if more or node.function not in AGGREGATES:
                return replace(node, arguments=tuple(_number(argument, counts) for argument in node.arguments))
            (role,) = {role for role in counts for o in operands(only) if _is_of(o, role)}
            each = tuple(_of(only, role, number) for number in range(1, counts[role] + 1))
            return each[0] if len(each) == 1 else replace(node, arguments=each)


def _of(node: Numeric, role: str, number: int) -> Numeric:
    """A number of one of the devices of a role."""
    match node:
        case Operand() | Feature():
            return _numbered(node, role, number) if _is_of(node, role) else node
        case Negative():
            return Negative(_of(node.operand, role, number))
        case Arithmetic():
            return replace(node, left=_of(node.left, role, number), right=_of(node.right, role, number))
        case Call():
            return replace(node, arguments=tuple(_of(argument, role, number) for argument in node.arguments))
    return node


def _is_of(read: Operand | Feature, role: str) -> bool:
    name = read.metric if isinstance(read, Feature) else read.name
    return name.removeprefix("design.").startswith(f"{role}.")


def _numbered(read: Operand | Feature, role: str, number: int) -> Operand | Feature:
    if isinstance(read, Feature):
        return replace(read, metric=read.metric.replace(f"{role}.", f"{role}[{number}].", 1))
    return replace(read, name=read.name.replace(f"{role}.", f"{role}[{number}].", 1))
