"""The words of alarms (ISA-18.2 / IEC 62682) shared by the engine that decides and the journal that keeps.

How alarms come about is in `alerts`; how the journal is stored is in `storage.journal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from devices.model import Instant


class Priority(StrEnum):
    """Alarm priority; the share of each should be near 80/15/5 (ISA-18.2)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One occurrence of one rule on one device, as the readings known so far say it was.

    All times are sample times: `since` is the first sample of the run that fulfilled the condition, `raised_at` the
    sample at which the on-delay was over, `cleared_at` the one at which the off-delay was over (None while active).
    `value` is what the condition's leading metric read at `raised_at`.
    (rule, device, raised_at) identifies an occurrence.
    """

    rule: str
    device: str
    priority: Priority
    message: str
    since: Instant
    raised_at: Instant
    cleared_at: Instant | None = None
    value: float | None = None


class AlarmState(StrEnum):
    """The states of ISA-18.2 that an occurrence can be in (derived: `alerts.lifecycle.state`)."""

    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED_UNACKNOWLEDGED = "returned_unacknowledged"
    LATCHED = "latched"
    NORMAL = "normal"


class SuppressionKind(StrEnum):
    """The three ways in which an alarm is kept from being announced, from the shortest to the most lasting."""

    SHELVED = "shelved"
    """By an operator, for a time."""
    SUPPRESSED = "suppressed"
    """By design: the plant's logic says that it means nothing now."""
    OUT_OF_SERVICE = "out_of_service"
    """For maintenance."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """One suppression of a rule (or of every rule, if None) on a device, until a moment or until it is ended."""

    kind: SuppressionKind
    rule: str | None
    device: str
    until: Instant | None
    reason: str
    by: str
    one_shot: bool = False

    def covers(self, rule: str, device: str, now: Instant) -> bool:
        """Whether it keeps this alarm quiet now."""
        return self.device == device and self.rule in (None, rule) and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class AlarmDefinition:
    """What people are shown of a rule; durations in microseconds."""

    rule: str
    title: str
    alarm_class: str
    priority: Priority
    severity: int
    latching: bool
    time_to_respond: Instant
    cause: str
    consequence: str
    corrective_action: str


class ChangeKind(StrEnum):
    """What happened to an occurrence."""

    RAISED = "raised"
    CLEARED = "cleared"
    AMENDED = "amended"
    """Late readings changed its times: it began earlier, ended earlier, or is not over after all."""
    RETRACTED = "retracted"
    """Late readings showed that it never was."""


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """One line for the journal: `before` is what the journal holds (None for a new occurrence), `after` what it should
    hold from now on (None for a retracted one). At least one of them is not None."""

    kind: ChangeKind
    before: Alarm | None
    after: Alarm | None

    @property
    def alarm(self) -> Alarm:
        """The occurrence as it stands after the change, or stood before it was retracted."""
        alarm = self.after or self.before
        assert alarm is not None
        return alarm


@dataclass(frozen=True, slots=True)
class Announcement:
    """What people are told of one change: `told` is JSON data, `key` the same for the same announcement whenever it is
    made again."""

    key: str
    event: str
    rule: str
    device: str
    priority: Priority
    told: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DueAnnouncement:
    """An announcement to be delivered now, for the `attempts`-th time."""

    number: int
    key: str
    told: dict[str, Any]
    attempts: int
