"""What the live engine needs of the database, put together from the rooms that have it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from alerts import contact
from alerts.ports import Ports
from alerts.rules import Rule
from devices.alarm import Alarm, AlarmChange, AlarmDefinition, Announcement
from devices.batch import Changed
from devices.errors import UnavailableError
from devices.model import Device, Instant, Reading
from devices.profile import Profile
from headworks import clock, contacts
from headworks.session import Session
from storage import history, journal, lifecycle, registry
from storage.database import Connection


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

    def replace(self, rules: Sequence[Rule]) -> None:
        """Show people other rules from now on."""
        self._rules, self._defined = rules, False

    def ports(self, devices: Callable[[Sequence[str]], Mapping[str, Device]]) -> Ports:
        """The ports of `alerts.live`."""
        return Ports(
            devices,
            self._past,
            self._cut,
            self._history_since,
            self._occurrences,
            self._position,
            self._changed,
            self._record,
            self._lead,
            self._mates,
            self._contact,
        )

    def _past(self, since: Mapping[str, Instant | None]) -> Sequence[Reading]:
        return self._session.run(lambda connection: history.past(connection, since))

    def _cut(self, since: Mapping[str, Instant | None]) -> Collection[str]:
        return self._session.run(lambda connection: history.cut(connection, since))

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
            if connection is not self._leading:
                raise UnavailableError("the connection that held the lead was lost")
            journal.record(connection, changes, position, announcements=announcements, channels=self._channels)

        self._session.run(work)

    def _mates(self, site: str) -> Sequence[Device]:
        return [entry.device for entry in self._session.run(lambda connection: registry.all_devices(connection, site))]

    def _contact(self) -> Sequence[AlarmChange]:
        return self._beside.run(lambda one: contacts.judge(one, self._profiles, self._channels, clock.now()))

    def _lead(self) -> bool:
        def work(connection: Connection) -> bool:
            if connection is not self._leading:
                self._leading = connection if journal.lead(connection) else None
                self._defined = False
            if self._leading is connection and not self._defined:
                lifecycle.define(connection, [definition(rule) for rule in self._rules] + contact.definitions())
                self._defined = True
            return self._leading is connection

        return self._session.run(work)
