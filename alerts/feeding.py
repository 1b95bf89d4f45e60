"""The live engine's pure part with all that it asks for: readings come in, changes to the journal gather.

Who is met for the first time costs what was kept of it (`alerts.keeping`) or its past (`alerts.pasts`). Whatever is
interrupted is judged again from the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType

import structlog
from prometheus_client import Counter, Gauge

from alerts.engine import Engine
from alerts.keeping import Keeping
from alerts.occurrences import applied, net
from alerts.pasts import Pasts
from alerts.ports import Ports
from alerts.scopes import Scope
from devices.alarm import Alarm, AlarmChange
from devices.errors import UnavailableError
from devices.model import Device, Instant, Reading

log = structlog.get_logger()

JUDGED = Counter("headworks_readings_judged", "Readings that met the rules")
WAITING = Gauge("headworks_engine_waiting_devices", "Devices whose past is still to be read before they are judged")
WAITING_GROUPS = Gauge("headworks_engine_waiting_groups", "Groups the pasts of whose devices are still to be read")
DEVICE_FAILURES = Counter("headworks_engine_device_failures", "Times that a device could not be judged by a defect")

DEVICES_SECONDS = 30.0
"""How old the engine's copy of a device's registry entry may be."""
_PORTIONS_AT_ONCE = 8
"""Portions that are judged in one go where nothing goes wrong, so that each but the first is read ahead."""
MATES_SHARE = 50
"""At most one part in so many of the time is spent on reading who belongs to a group."""

_NONE: Mapping[str, list[Reading]] = MappingProxyType({})


class Feeder:
    """Judges readings by an engine. Used in one thread alone."""

    def __init__(
        self, engine: Engine, ports: Ports, monotonic: Callable[[], float], keep_every: float | None = None
    ) -> None:
        self.engine = engine
        self._ports = ports
        self._monotonic = monotonic
        self.keeping = Keeping(ports.keeping, monotonic, keep_every)
        self._pasts = Pasts(ports)
        self.unwritten: list[AlarmChange] = []
        self.waiting: dict[str, Instant] = {}
        """Devices that are to be met, with the earliest sample that is not judged yet, in the order of their turn: so
        that nobody who is met already waits for their pasts."""
        self.waiting_groups: dict[tuple[str, str], dict[str, Instant]] = {}
        """The same of rules on groups: by scope, and of its devices by each."""
        self.again: dict[str, Instant] = {}
        """Devices whose judgement was interrupted, with the earliest sample time to judge again from."""
        self.unjudged: dict[str, Instant] = {}
        """What the log said at the start: from when on a device's readings were not judged. Until that is written."""
        self._catching_up = False
        # Devices that the engine has met; the first meeting needs their past, which is read for many at once.
        self._met: set[str] = set()
        self._groups_turn = False
        # Of the call at hand: the earliest sample of each device that is not judged yet.
        self._first: dict[str, Instant] = {}
        self._devices: dict[str, Device] = {}
        self._mates: dict[str, Sequence[Device]] = {}
        self._mates_until = 0.0

    def begin(self) -> int:
        """Begin to judge: gives the position from which on. What follows what was kept is compared with the journal,
        which may have it."""
        position = self._ports.position()
        kept = self.keeping.begin()
        self._catching_up = self.engine.catching_up = kept is not None
        return position if kept is None else min(position, kept)

    def end(self) -> None:
        """Judge no more, as another process does: forget everything."""
        for identity in self._met:
            self.engine.forget(identity)
        self.keeping.reset()
        for held in (
            self._met, self.unwritten, self.waiting, self.waiting_groups, self.again, self._devices, self.unjudged,
        ):  # fmt: skip
            held.clear()

    def close(self) -> None:
        """Read nothing any more."""
        self._pasts.close()

    def refresh(self) -> None:
        """Ask the registry again of whoever is judged next."""
        self._devices.clear()

    def settle(self) -> None:
        """Everything that was handed in is judged: make of the changes what they come to together, where only that is
        right."""
        if self._catching_up:
            touched = sorted({change.alarm.device for change in self.unwritten})
            self.unwritten = net(self._ports.journal(touched), self.unwritten)
            self._catching_up = self.engine.catching_up = False

    def written(self) -> None:
        """The changes are durable."""
        self.unwritten = []
        self.unjudged.clear()

    def about(self, changes: Sequence[AlarmChange]) -> Mapping[str, Device]:
        """The registry's entries of the devices of these changes, as far as there are any."""
        missing = {change.alarm.device for change in changes} - self._devices.keys()
        if missing:
            self._entries(sorted(missing))
        return self._devices

    def judge(self, readings: Sequence[Reading]) -> None:
        """Judge readings that were committed: of who is met already now, of others when it is their turn (`meet`)."""
        groups: dict[str, list[Reading]] = {}
        for reading in readings:
            groups.setdefault(reading.device, []).append(reading)
        since = {identity: min(r.measured_at for r in group) for identity, group in groups.items()}
        try:
            self._recall(since)
        except BaseException:
            self._remember(since)
            raise
        unmet = {identity: groups.pop(identity) for identity in since if identity not in self._met}
        if groups:
            self._judge_met({identity: since[identity] for identity in groups}, groups)
        if unmet:
            self._put_off({identity: since[identity] for identity in unmet}, unmet)

    def judge_stored(self, since: Mapping[str, Instant]) -> None:
        """Judge what is stored of devices, of each from a moment on: many devices with one question, and one by one
        where that meets a defect, so that it keeps no other device from being judged."""
        left = dict(since)
        try:
            self._recall(since)
            unmet = {identity: first for identity, first in since.items() if identity not in self._met}
            self._know(unmet)
            # Whoever is met for the first time has its past read anyway, and so has a group; this is part of it. Only
            # groups that are met do not wait.
            waiting: list[str] = []
            for identity, first in unmet.items():
                scopes = self.engine.still_to_meet(identity, self._devices, self._of_site)
                if scopes is not None:
                    waiting.append(identity)
                    for scope in scopes:
                        self._wait_for(scope, identity, first)
        except BaseException:
            self._remember(left)
            raise
        self._put_off({identity: left.pop(identity) for identity in waiting}, _NONE)
        identities = list(left)
        while identities:
            some = {identity: since[identity] for identity in identities[: self._pasts.size]}
            del identities[: len(some)]
            try:
                self._judge_later(some)
            except UnavailableError:
                self._remember(left)
                raise
            except Exception:
                for identity in some:
                    self.again.pop(identity, None)
                self._one_by_one(some, left)
            for identity in some:
                left.pop(identity, None)

    @property
    def is_anybody_waiting(self) -> bool:
        """Whether there is somebody to `meet`."""
        return bool(self.waiting or self.waiting_groups)

    def meet(self, *, many: bool) -> None:
        """Judge the pasts of a few devices that are met for the first time, or of a group; of `many` where nobody else
        waits."""
        self._groups_turn = not self._groups_turn
        at_once = _PORTIONS_AT_ONCE if many else 1
        if many or self._groups_turn or not self.waiting_groups:
            self._meet_devices(at_once)
        if many or not self._groups_turn or not self.waiting:
            for key in list(islice(self.waiting_groups, at_once)):
                self._meet_group(key)
        WAITING.set(len(self.waiting))
        WAITING_GROUPS.set(len(self.waiting_groups))

    def _meet_devices(self, portions: int) -> None:
        identities = list(islice(self.waiting, portions * self._pasts.size))
        some = {identity: self.waiting.pop(identity) for identity in identities}
        if not some:
            return
        try:
            self._judge_unmet(some)
        except UnavailableError:
            raise
        except Exception:
            for identity, first in some.items():
                self.again.pop(identity, None)
                if identity not in self._met:
                    self._alone(identity, partial(self._judge_unmet, {identity: first}))

    def _meet_group(self, key: tuple[str, str]) -> None:
        """Its devices are read with one question, and only what counts of them."""
        since, (rule, about) = self.waiting_groups[key], key
        try:
            self.keeping.touch(since)
            scope = self.engine.scope(key)
            if scope is not None:
                self._pasts.hold_all(scope.identities, since, scope.metrics)
            self.unwritten += self.engine.meet(key, since, self._history, self._journal, self._is_cut)
        except UnavailableError:
            raise
        except Exception:
            log.exception("engine.group_failed", rule=rule, device=about)
            DEVICE_FAILURES.inc()
        finally:
            self._pasts.forget()
        del self.waiting_groups[key]

    def _wait(self, scope: Scope, readings: Sequence[Reading]) -> None:
        for reading in readings:
            self._wait_for(scope, reading.device, reading.measured_at)

    def _wait_for(self, scope: Scope, identity: str, first: Instant) -> None:
        since = self.waiting_groups.setdefault(scope.key, {})
        since[identity] = min(first, since.get(identity, first))

    def _judge_later(self, since: Mapping[str, Instant]) -> None:
        if not self.engine.catching_up:
            found = self._ports.history_since(since)
            self._pasts.adapt(len(since), len(found))
            self.judge(found)
            return
        # All of them go back a little: with one question for many, as at a start they are many.
        needed = {identity: self.engine.needed_from(identity, first) for identity, first in since.items()}
        found = self._ports.history_since(needed)
        self._pasts.adapt(len(since), len(found))
        self._pasts.hold(needed, found, self._ports.journal(list(since)))
        self.judge([reading for reading in found if reading[2] >= since[reading[0]]])

    def _recall(self, identities: Iterable[str]) -> None:
        """Devices are about to be judged: go on from what was kept of those that are met for the first time."""
        self.keeping.touch(identities)
        unmet = [identity for identity in identities if identity not in self._met]
        self.keeping.recall(self.engine, unmet, self._entries, self._met)

    def _know(self, identities: Iterable[str]) -> None:
        unknown = [identity for identity in identities if identity not in self._devices]
        if unknown:
            self._entries(unknown)

    def _entries(self, identities: Sequence[str]) -> Mapping[str, Device]:
        found = self._ports.devices(identities)
        self._devices.update(found)
        return found

    def _one_by_one(self, since: Mapping[str, Instant], left: dict[str, Instant]) -> None:
        for identity, first in since.items():
            try:
                self._alone(identity, partial(self._judge_later, {identity: first}))
            except UnavailableError:
                self._remember(left)
                raise
            left.pop(identity, None)

    def _alone(self, identity: str, judge: Callable[[], None]) -> None:
        """Judge one device; with a defect it is built again from its history with its next uplink."""
        try:
            judge()
        except UnavailableError:
            raise
        except Exception:
            log.exception("engine.device_failed", device=identity)
            DEVICE_FAILURES.inc()
            self.again.pop(identity, None)

    def _put_off(self, since: Mapping[str, Instant], groups: Mapping[str, list[Reading]]) -> None:
        """These devices wait until it is their turn to be met; the rules on groups that are met do not."""
        try:
            if groups:
                self._know(groups)
                self._first.update(since)
                readings = [reading for group in groups.values() for reading in group]
                self.unwritten += self.engine.apply_to_groups(
                    readings, self._devices, self._history, self._journal, self._is_cut, self._of_site, self._wait
                )
        except BaseException:
            self._remember(since)
            raise
        finally:
            self._pasts.forget()
            self._first.clear()
        for identity, first in since.items():
            self.waiting[identity] = min(first, self.waiting.get(identity, first))

    def _judge_met(self, since: Mapping[str, Instant], groups: Mapping[str, list[Reading]]) -> None:
        """Run the engine with the readings of devices. Where this is interrupted, they are judged again from the
        database."""
        try:
            self._know(groups)
            for identity, first in since.items():
                self._first[identity] = min(first, self.unjudged.get(identity, first))
            readings = [reading for group in groups.values() for reading in group]
            changes = self.engine.apply(
                readings, self._devices, self._history, self._journal, self._is_cut, self._of_site, self._wait
            )
        except BaseException:
            self._met -= since.keys()  # the engine has forgotten these devices
            self._remember(since)
            raise
        finally:
            self._pasts.forget()
            self._first.clear()
        JUDGED.inc(len(readings))
        self.unwritten += changes

    def _judge_unmet(self, since: Mapping[str, Instant]) -> None:
        """Run the engine with the pasts of devices, of which those from a moment on were not judged yet: as many at a
        time as they are a bounded number of readings. Each portion is read with one question, while the one before is
        judged; after a start this is most of the work."""
        left = dict(since)
        self.keeping.touch(since)
        try:
            for identity, first in since.items():
                self._first[identity] = min(first, self.unjudged.get(identity, first))
            for identities, devices in self._pasts.portions(list(since), self._first, self._devices):
                self._devices.update(devices)
                self._met.update(identities)
                readings = [
                    reading
                    for identity in identities
                    for reading in self._pasts.readings[identity]
                    if reading[2] >= since[identity]
                ]
                self.unwritten += self.engine.apply(readings, self._devices, self._history, self._journal, self._is_cut)
                JUDGED.inc(len(readings))
                for identity in identities:
                    del left[identity]
        except BaseException:
            self._met -= left.keys()
            self._remember(left)
            raise
        finally:
            self._pasts.forget()
            self._first.clear()

    def _history(self, identity: str, since: Instant | None) -> Sequence[Reading]:
        if since is not None:
            held = self._pasts.later(identity, since)
            return self._ports.history_since({identity: since}) if held is None else held
        if identity in self._pasts.readings:
            return self._pasts.readings[identity]
        # Of a late reading: as far before it as is needed to judge it.
        asked = {identity: self._first.get(identity)}
        past = self._ports.past(asked, None)
        self._pasts.cut.discard(identity)
        self._pasts.cut.update(past.cut)
        return past.readings

    def _is_cut(self, identity: str) -> bool:
        return identity in self._pasts.cut

    def _of_site(self, site: str) -> Sequence[Device]:
        """The devices of a site, as they were a short while ago; the larger the plant, the longer."""
        now = self._monotonic()
        if now >= self._mates_until:
            self._mates.clear()
            self._mates_until = now + DEVICES_SECONDS
        found = self._mates.get(site)
        if found is None:
            found = self._ports.mates(site)
            self.keeping.recall_site(self.engine, site, found)
            self._mates[site] = found
            self._mates_until = max(self._mates_until, now + MATES_SHARE * (self._monotonic() - now))
        return found

    def _journal(self, identity: str) -> Sequence[Alarm]:
        """What the journal holds, with what is judged and not yet written."""
        mine = [change for change in self.unwritten if change.alarm.device == identity]
        held = self._pasts.journals.get(identity)
        return applied(self._ports.journal([identity]) if held is None else held, mine)

    def exchange(self, engine: Engine) -> None:
        """Judge by another engine (other rules) from now on. With devices whose rules are the same it goes on; of the
        others it judges the past anew when it next hears of them."""
        staying, groups = engine.take_over(self.engine)
        self.keeping.exchange(self._met - staying, groups)
        self.engine = engine
        self._met &= staying
        # Who waits together may be others by these rules.
        for since in self.waiting_groups.values():
            self._remember(since)
        self.waiting_groups.clear()

    def _remember(self, since: Mapping[str, Instant]) -> None:
        for identity, first in since.items():
            self.again[identity] = min(first, self.again.get(identity, first))
