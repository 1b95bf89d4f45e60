"""Rules on groups of devices: when a moment may be judged, and what is known of each scope. Pure.

Who belongs together is in `alerts.scopes`. A scope's devices are judged as one, by the same code as any device
(`alerts.engine`). What a group has in addition is that its devices are late by different times, so that a value may be
missing only because it has not come yet. So a moment is judged when every device of the scope is known at it, or when
the scope has been heard of for so long after it (the patience) that waiting is over; what is missing then is unknown.
`judged_until` is a function of the set of readings and never goes back when readings are added, so that a scope's
journal does not depend on the order of arrival either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from alerts.evaluation import NEVER, Plan, sample_time
from alerts.kept import Addresses, WatchRest, pack, unpack_watch
from alerts.rules import Rule
from alerts.scopes import Scope, casting_of, compose, judged_until
from alerts.track import Track
from devices.alarm import Alarm, AlarmChange
from devices.batch import Kept
from devices.model import Device, Instant, Reading
from devices.profile import Profile

Mates = Callable[[str], Sequence[Device]]
"""The devices of a site. The same list object as long as nothing has changed spares composing the groups again."""


class Watch:
    """One scope on its way through time."""

    def __init__(self, scope: Scope, plan: Plan) -> None:
        self.scope = scope
        self._plan = plan
        self.track: Track
        self._known: dict[str, Instant] | None
        self._waiting: list[Reading]
        self.until: Instant
        """Up to when it is judged."""
        self.forget()

    @property
    def rest(self) -> WatchRest | None:
        """What there is to keep; None if nothing is known."""
        return None if self._known is None else WatchRest(self.track.rest, self._known, self._waiting, self.until)

    @property
    def met(self) -> bool:
        """Whether it knows its devices' past."""
        return self._known is not None

    def resume(self, rest: WatchRest) -> None:
        """Go on from what another watch of the same scope had."""
        if rest.track is not None:
            self.track.resume(rest.track)
        self._known, self._waiting, self.until = rest.known, rest.waiting, rest.until

    def forget(self) -> None:
        """Drop what is known; it is built again from history and journal."""
        self.track = Track(self._plan, self.scope.device)
        self._known, self._waiting, self.until = None, [], NEVER

    def ready(self, readings: Sequence[Reading], whole: Callable[[], Sequence[Reading]]) -> list[Reading]:
        """Take readings in (`Scope.take`) and give those that may be judged now. At the first time the whole history
        is asked for."""
        if self._known is None:
            readings = whole()
            self._known = {}
        known = self._known
        for name, at in self.scope.watched(readings).items():
            if at > known.get(name, NEVER):
                known[name] = at
        until, before = judged_until(self.scope, known), self.until
        if until == before:  # the usual case in a large group: those that wait go on waiting
            self._waiting += [reading for reading in readings if reading.measured_at > until]
            return [reading for reading in readings if reading.measured_at <= until]
        self.until = until
        held = [*self._waiting, *readings]
        self._waiting = [reading for reading in held if reading.measured_at > until]
        return [reading for reading in held if reading.measured_at <= until]


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

    def __init__(
        self,
        rules: Iterable[Rule],
        profiles: Mapping[str, Profile],
        addresses: Addresses,
        void: set[tuple[str, str]],
    ) -> None:
        self._addresses = addresses
        # What was kept of scopes that are not composed yet: by the device that they are about, and rule.
        self._held: dict[str, dict[str, bytes]] = {}
        self._void = void
        self._rules = [rule for rule in rules if rule.group is not None]
        self.names = frozenset(rule.rule for rule in self._rules)
        self._profiles = profiles
        self._sites: dict[str, tuple[Sequence[Device], dict[tuple[str, str], Watch]]] = {}
        self._watches: dict[str, list[Watch]] = {}
        self._casting = casting_of(self._rules, profiles)
        self._plans: dict[tuple[object, ...], Plan] = {}
        self.idle: dict[str, dict[str, str]] = {}
        """By rule why it can never call where it was meant to."""

    def __bool__(self) -> bool:
        return bool(self._rules)

    def forget(self, identity: str) -> None:
        """Drop what is known of the scopes of a device; they are built again when one of theirs is heard of."""
        for watch in self._watches.get(identity, ()):
            watch.forget()

    def hold(self, kept: Kept) -> None:
        """What was kept of a scope, for when it is composed."""
        if kept.memory is not None:
            self._held.setdefault(kept.device, {})[kept.rule] = kept.memory

    def keep(self, identity: str, told: set[tuple[str, str]]) -> list[Kept]:
        """What is to be kept of the scopes of a device that are not among those `told`, which get them."""
        found = [Kept(identity, rule, held) for rule, held in self._held.get(identity, {}).items()]
        for watch in self._watches.get(identity, ()):
            if watch.scope.key not in told:
                told.add(watch.scope.key)
                found.append(self._kept(watch))
        return found

    def take_over(self, other: Groups) -> list[str]:
        """Hold what another one knows; the devices that it is about. What was kept of it is void: a scope that is no
        more must not be found when there is one like it again."""
        known = [other._kept(watch) for _, watches in other._sites.values() for watch in watches.values()]
        known += [Kept(about, rule, held) for about, rules in other._held.items() for rule, held in rules.items()]
        for kept in known:
            self._void.add((kept.rule, kept.device))
            if kept.rule in self.names:
                self.hold(kept)
        return list(self._held)

    def _kept(self, watch: Watch) -> Kept:
        rest, (rule, about) = watch.rest, watch.scope.key
        return Kept(about, rule, None if rest is None else pack(self._address(watch.scope), rest))

    def _address(self, scope: Scope) -> bytes:
        return self._addresses.of([scope.rule], scope.about, [(name, device) for name, device, _ in scope.members])

    def _resume(self, watch: Watch) -> None:
        """Go on from what is held of a scope, if that is for this one."""
        rule, about = watch.scope.key
        held = self._held.get(about, {}).pop(rule, None)
        rest = None if held is None else unpack_watch(self._address(watch.scope), held)
        if rest is not None:
            watch.resume(rest)
        elif held is not None:
            self._void.add(watch.scope.key)

    def find(self, key: tuple[str, str]) -> Watch | None:
        """The scope of this key, if it is composed."""
        return next((watch for watch in self._watches.get(key[1], ()) if watch.scope.key == key), None)

    def ask_for(self, device: Device) -> bool:
        """Whether a device plays a role in any of these rules."""
        return any(self._casting.roles(device))

    def of(self, identities: Iterable[str], devices: Mapping[str, Device], mates: Mates) -> list[Watch]:
        """The scopes that some devices belong to, each once."""
        found: dict[int, Watch] = {}
        for identity in identities:
            device = devices.get(identity)
            # Most devices of a large site play no role; for them nobody reads who else is there.
            if device is not None and self.ask_for(device):
                self._compose(device.site, mates(device.site))
                for watch in self._watches.get(identity, ()):
                    found[id(watch)] = watch
        return list(found.values())

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
            watch = kept[scope.key] = Watch(scope, plan)
            self._resume(watch)
        self._void |= watches.keys() - kept.keys()
        for one in devices:  # scopes that there were, and are no more
            self._void |= {(rule, one.identity) for rule in self._held.pop(one.identity, ())}
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
