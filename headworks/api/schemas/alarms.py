"""`/alarms` and `/suppressions`: occurrences, their journal, and the steps that people take."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from devices.alarm import AlarmState, Priority, SuppressionKind
from devices.model import moment
from headworks.api.schemas.fields import Body, Comment, Length, Name, Numbers, Reason
from storage.lifecycle import JournalLine, ListedAlarm


class Comments(Body):
    """A remark, which may be empty."""

    comment: Comment = ""


class Remark(Body):
    """A remark."""

    comment: Reason


class Shelving(Body):
    """Keep an alarm quiet for a time, and why."""

    reason: Reason
    length: Length = Field(default="8h", description="At most 12 hours")
    one_shot: bool = Field(default=False, description="End with the next return to normal")


class Acknowledging(Comments):
    """Which alarms somebody has seen."""

    alarms: Numbers


class Remarks(Remark):
    """A remark on several alarms."""

    alarms: Numbers


class ShelvingMany(Shelving):
    """Keep several alarms quiet for a time."""

    alarms: Numbers


class Resetting(Comments):
    """Which latched alarms to release."""

    alarms: Numbers


class Suppressing(Body):
    """Shelve (needs a rule and a length), suppress by design, or take out of service (every rule, without an end)."""

    kind: Literal["shelved", "suppressed", "out_of_service"]
    device: Name
    rule: Name | None = None
    reason: Reason
    length: Length | None = None
    one_shot: bool = False


class Releasing(Body):
    """Which suppression to end, and why; without a rule it is the one of every rule."""

    kind: Literal["shelved", "suppressed", "out_of_service"]
    device: Name
    rule: Name | None = None
    reason: Reason


class Guidance(BaseModel):
    """What the operator needs to act."""

    cause: str
    consequence: str
    corrective_action: str


class Alarm(BaseModel):
    """One occurrence of one rule on one device. `since`, `raised_at` and `cleared_at` are sample times; `recorded_at`
    is when we learned of it."""

    number: int
    rule: str
    title: str
    priority: Priority
    state: AlarmState
    message: str
    device: str
    tag: str
    site: str
    area: str
    since: datetime
    raised_at: datetime
    cleared_at: datetime | None
    recorded_at: datetime
    acknowledged_by: str | None
    suppressions: list[SuppressionKind]
    guidance: Guidance

    @classmethod
    def of(cls, alarm: ListedAlarm) -> Alarm:
        """What travels of an occurrence."""
        return cls(
            number=alarm.number,
            rule=alarm.rule,
            title=alarm.title,
            priority=alarm.priority,
            state=alarm.state,
            message=alarm.message,
            device=alarm.device,
            tag=alarm.tag,
            site=alarm.site,
            area=alarm.area,
            since=moment(alarm.since),
            raised_at=moment(alarm.raised_at),
            cleared_at=None if alarm.cleared_at is None else moment(alarm.cleared_at),
            recorded_at=moment(alarm.recorded_at),
            acknowledged_by=alarm.acknowledged_by,
            suppressions=list(alarm.suppressions),
            guidance=Guidance(
                **{name: alarm.guidance.get(name, "") for name in ("cause", "consequence", "corrective_action")}
            ),
        )


class AlarmPage(BaseModel):
    """A page of alarms."""

    items: list[Alarm]
    next: str | None = Field(description="The cursor of the next page; null where nothing follows")


class AlarmSummary(BaseModel):
    """How many alarms are open and not suppressed: by priority, and of them unacknowledged."""

    open: dict[Priority, int]
    unacknowledged: dict[Priority, int]
    suppressed: int


class Line(BaseModel):
    """A line of the alarm journal: `at` is the sample time (or when a person acted)."""

    kind: str
    at: datetime
    recorded_at: datetime
    actor: str
    detail: dict[str, object]

    @classmethod
    def of(cls, line: JournalLine) -> Line:
        """What travels of a line."""
        return cls(kind=line.kind, at=line.at, recorded_at=line.recorded_at, actor=line.actor, detail=line.detail)


class AlarmInFull(BaseModel):
    """An alarm with its journal, the oldest line first."""

    alarm: Alarm
    journal: list[Line]


class Refusal(BaseModel):
    """An alarm that was not changed, and why."""

    alarm: int
    why: str


class Outcome(BaseModel):
    """What became of each alarm: those that this call changed, and those it did not, with the reason."""

    done: list[int]
    refused: list[Refusal]


class Suppression(BaseModel):
    """What keeps a rule of a device quiet now."""

    kind: SuppressionKind
    rule: str | None = Field(description="Null: every rule of the device")
    title: str | None
    device: str
    tag: str
    site: str
    one_shot: bool
    began_at: datetime
    until: datetime | None
    by: str
    reason: str


class Suppressions(BaseModel):
    """What is suppressed now."""

    items: list[Suppression]
