"""Who belongs together, for rules on groups: the scopes among devices. Pure.

A scope is one group with the rule that watches it. Its devices' readings are put together as those of one device with
the metrics `<role>.<metric>`. How it is judged is in `alerts.groups`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from alerts.evaluation import NEVER, Plan
from alerts.instances import instance, plays
from alerts.rules import Rule
from alerts.selection import Casting, Group, Place
from devices.model import Device, DeviceStatus, Instant, Reading
from devices.profile import Profile

MOST = 200
"""Devices of one scope, at most: each of their samples is a sample of all of them."""

VALID_INTERVALS = 2
"""How many of the longest reporting intervals a value stands, and a moment waits: one uplink may be lost."""


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
    def metrics(self) -> frozenset[str]:
        """What counts of them."""
        return frozenset(metric for _, metric in self._written)

    @cached_property
    def interval(self) -> Instant:
        """The longest reporting interval."""
        return max(profile.reporting.interval for _, _, profile in self.members)

    @cached_property
    def patience(self) -> Instant:
        """How long a moment waits for those that are not known at it."""
        group = self.rule.group
        assert group is not None
        return group.patience or VALID_INTERVALS * self.interval

    @cached_property
    def instance(self) -> Rule:
        """The rule with its roles of several devices written out."""
        return instance(self.rule, self._counts)

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
        written, about = self._written, self.about.identity
        return [
            Reading(about, name, at, value, quality)
            for device, metric, at, value, quality in readings
            for name in written.get((device, metric), ())
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
    def _written(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """What the condition calls a metric of a device."""
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        asked = frozenset(self.instance.parsed.metrics)
        for name, device, profile in self.members:
            for metric in profile.metrics:
                if (written := f"{name}.{metric}") in asked:
                    key = (device.identity, metric)
                    found[key] = (*found.get(key, ()), written)
        return found

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
    """Up to which moment a scope is judged of whose members some are known, until these moments (NEVER if none is)."""
    if not known:
        return NEVER
    oldest = min(known.values()) if len(known) == len(scope.members) else NEVER
    return max(max(known.values()) - scope.patience, oldest)


def compose(
    rules: Iterable[Rule], devices: Iterable[Device], profiles: Mapping[str, Profile]
) -> tuple[list[Scope], dict[str, dict[str, str]]]:
    """The scopes among these devices; and by rule why it has none where it was meant to, each reason with the first
    device that it concerns."""
    active = [d for d in devices if d.status is not DeviceStatus.RETIRED and d.profile in profiles]
    active.sort(key=lambda device: (device.tag, device.identity))
    watching = [(rule, rule.group) for rule in rules if rule.group is not None]
    casting = casting_of((rule for rule, _ in watching), profiles)
    casts = [(device, casting.roles(device)) for device in active]
    scopes: list[Scope] = []
    without: dict[str, dict[str, str]] = {}
    for number, (rule, group) in enumerate(watching):
        places: dict[tuple[str, ...], dict[str, list[Device]]] = {}
        for device, by_group in casts:
            roles = by_group[number]
            place = group.by.of(device) if roles else None
            if place is not None:
                cast = places.setdefault(place, {name: [] for name in group.roles})
                for role in roles:
                    if not group.roles[role].several or plays(rule, role, profiles[device.profile].metrics):
                        cast[role].append(device)
        for cast in places.values():
            for scope, why in _scopes(rule, group, cast, profiles):
                problem = why or scope.idle
                if problem is None:
                    scopes.append(scope)
                else:
                    without.setdefault(rule.rule, {}).setdefault(problem, scope.about.identity)
    return scopes, without


def casting_of(rules: Iterable[Rule], profiles: Mapping[str, Profile]) -> Casting:
    """Who plays what in the groups of these rules."""
    kinds = {name: profile.kind for name, profile in profiles.items()}
    return Casting((rule.group for rule in rules if rule.group is not None), kinds)


def _scopes(
    rule: Rule, group: Group, cast: Mapping[str, Sequence[Device]], profiles: Mapping[str, Profile]
) -> Iterable[tuple[Scope, str | None]]:
    """The scopes of one place; with a reason those that are none."""
    leading = next(iter(group.roles))
    if group.by is Place.NEIGHBOURHOOD and list(group.roles) == [leading] and len(cast[leading]) > MOST:
        # Too many to be neighbours: each by itself, so that nobody goes without the rule.
        for device in cast[leading]:
            yield Scope(rule, device, ((f"{leading}[1]", device, profiles[device.profile]),)), None
        return
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
