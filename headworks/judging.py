"""What the live engine needs of the database, put together from the rooms that have it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import structlog

import alerts
import devices
from alerts import contact
from alerts.ports import KeepingPorts, Ports
from alerts.rules import Rule
from alerts.scopes import compose
from devices.alarm import Alarm, AlarmChange, AlarmDefinition, Announcement, ChangeKind
from devices.batch import Changed, Past
from devices.errors import UnavailableError
from devices.model import Device, Instant, Reading
from devices.profile import Profile
from headworks import clock, contacts
from headworks.session import Session
from storage import engine_memory, history, journal, lifecycle, registry
from storage.database import Connection

log = structlog.get_logger()


def definition(rule: Rule) -> AlarmDefinition:
    """What people are shown of a rule."""
    return AlarmDefinition(
        rule.rule,
        rule.title,
        rule.alarm_class.value,
        rule.priority,
        rule.severity,
        rule.latching,
        rule.guidance.time_to_respond,
        rule.guidance.cause,
        rule.guidance.consequence,
        rule.guidance.corrective_action,
    )


def version() -> str:
    """That of the code by which alarms are judged: what another release kept of devices is not gone on with."""
    sources = [path for room in (alerts, devices) for path in sorted(Path(str(room.__file__)).parent.rglob("*.py"))]
    return sha256(b"".join(path.read_bytes() for path in sources)).hexdigest() + sys.version


def _key(alarm: Alarm) -> tuple[str, str, Instant]:
    return alarm.rule, alarm.device, alarm.raised_at


class Journal:
    """The engine's side of the database, over one connection; whoever leads holds its lead by that connection."""

    def __init__(
        self,
        session: Session,
        rules: Sequence[Rule],
        channels: Sequence[str],
        profiles: Mapping[str, Profile],
        beside: Session | None = None,
    ) -> None:
        self._session = session
        # Who is heard of is judged in another thread, on a connection of its own.
        self._beside = beside or session
        self._profiles = profiles
        self._rules = rules
        self._channels = channels
        self._leading: Connection | None = None
        self._defined = False
        self._looked_with: Sequence[Rule] | None = None
        self._orphans: set[tuple[str, str, Instant]] = set()

    def replace(self, rules: Sequence[Rule]) -> None:
        """Show people other rules from now on."""
        self._rules, self._defined = rules, False

    def ports(self, devices: Callable[[Sequence[str]], Mapping[str, Device]]) -> Ports:
        """The ports of `alerts.live`."""
        return Ports(
            devices,
            self._past,
            self._history_since,
            self._occurrences,
            self._position,
            self._changed,
            self._record,
            self._lead,
            self._mates,
            self._contact,
            KeepingPorts(
                lambda: self._session.run(engine_memory.complete_until),
                lambda identities: self._session.run(partial(engine_memory.of_devices, identities=identities)),
                lambda site: self._session.run(partial(engine_memory.of_site, site=site)),
                lambda kept: self._as_leader(partial(engine_memory.keep, kept=kept)),
                lambda rules: self._as_leader(partial(engine_memory.limit, rules=rules)),
                lambda position: self._as_leader(partial(engine_memory.complete, position=position)),
                lambda: self._as_leader(engine_memory.discard),
            ),
        )

    def _as_leader(self, work: Callable[[Connection], None]) -> None:
        """Write over the connection that holds the lead."""

        def checked(connection: Connection) -> None:
            self._check_lead(connection)
            work(connection)

        self._session.run(checked)

    def _check_lead(self, connection: Connection) -> None:
        if connection is not self._leading:
            raise UnavailableError("the connection that held the lead was lost")

    def _past(self, since: Mapping[str, Instant | None], metrics: Collection[str] | None) -> Past:
        return self._session.run(lambda connection: history.past(connection, since, metrics))

    def _history_since(self, since: Mapping[str, Instant]) -> Sequence[Reading]:
        return self._session.run(lambda connection: history.readings_since(connection, since))

    def _occurrences(self, identities: Sequence[str]) -> Sequence[Alarm]:
        return self._session.run(lambda connection: journal.occurrences(connection, identities))

    def _position(self) -> int:
        return self._session.run(journal.position)

    def _changed(self, position: int, known: Iterable[int]) -> Changed:
        def work(connection: Connection) -> Changed:
            lifecycle.expire(connection)  # the leader is asked every second, and nobody else
            return history.changed(connection, position, known)

        return self._session.run(work)

    def _record(self, changes: Sequence[AlarmChange], position: int, announcements: Sequence[Announcement]) -> None:
        def work(connection: Connection) -> None:
            self._check_lead(connection)
            ended = [change.alarm for change in changes if _key(change.alarm) in self._orphans]
            with connection.transaction():
                journal.record(connection, changes, position, announcements=announcements, channels=self._channels)
                if ended:
                    journal.remark(connection, ended, "no rule in use judges this any more")
            self._orphans -= {_key(alarm) for alarm in ended}

        self._session.run(work)

    def _mates(self, site: str) -> Sequence[Device]:
        return [entry.device for entry in self._session.run(lambda connection: registry.all_devices(connection, site))]

    def _contact(self) -> Sequence[AlarmChange]:
        def work(connection: Connection) -> list[AlarmChange]:
            found = contacts.judge(connection, self._profiles, self._channels, clock.now())
            rules = self._rules
            if self._looked_with is not rules:
                found += self._withdrawn(connection, rules)
                self._looked_with = rules
            return found

        return self._beside.run(work)

    def _withdrawn(self, connection: Connection, rules: Sequence[Rule]) -> list[AlarmChange]:
        """The ends of alarms that would be on for ever, as nothing judges them after the rules were changed: their rule
        is gone, or it is not for their device any more. Should it come back, so does the alarm."""
        known = {rule.rule: rule for rule in rules}
        active = journal.active(connection, sorted(contact.RULES), others=True)
        devices = registry.find(connection, sorted({alarm.device for alarm in active}))
        groups: set[tuple[str, str]] = set()
        if any(alarm.rule in known and known[alarm.rule].group is not None for alarm in active):
            everyone = [entry.device for entry in registry.all_devices(connection)]
            groups = {scope.key for scope in compose(rules, everyone, self._profiles)[0]}
        now = clock.now()
        ended: list[AlarmChange] = []
        for alarm in active:
            rule, device = known.get(alarm.rule), devices[alarm.device].device
            if rule is None or not self._judges(rule, device, groups):
                log.info("alarm.orphaned", rule=alarm.rule, device=alarm.device, why="no rule in use judges it")
                ended.append(AlarmChange(ChangeKind.CLEARED, alarm, replace(alarm, cleared_at=now)))
        self._orphans = {_key(change.alarm) for change in ended}
        return ended

    def _judges(self, rule: Rule, device: Device, groups: Collection[tuple[str, str]]) -> bool:
        """Whether the engine judges this rule on this device; `groups` are those that there are for rules on groups. A
        profile that is not installed may be tomorrow: its alarms are left as they are."""
        if rule.group is not None:
            return (rule.rule, device.identity) in groups
        profile = self._profiles.get(device.profile)
        return profile is None or (rule.fits(device, profile) and rule.idle(profile.metrics, device.design) is None)

    def _lead(self) -> bool:
        def work(connection: Connection) -> bool:
            if connection is not self._leading:
                self._leading = connection if journal.lead(connection) else None
                self._defined, self._looked_with = False, None
            if self._leading is connection and not self._defined:
                lifecycle.define(connection, [definition(rule) for rule in self._rules] + contact.definitions())
                self._defined = True
            return self._leading is connection

        return self._session.run(work)
