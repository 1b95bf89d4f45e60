"""What travels over the API. Times are ISO 8601 in UTC; values are in the metric's canonical unit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from alerts.bands import Band
from devices.alarm import AlarmState, Priority, SuppressionKind
from devices.model import Quality, moment
from storage.lifecycle import JournalLine, ListedAlarm
from storage.tokens import Role

Number = Annotated[int, Field(ge=1, lt=2**63)]
Numbers = Annotated[list[Number], Field(min_length=1, max_length=1000)]
_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"
Name = Annotated[str, StringConstraints(max_length=200, pattern=_NO_CONTROL)]
"""A site, a rule, an identity …: to look for, so it may be one that is not there."""
Comment = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]
Length = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,3}[mhd]$")]
"""A duration such as `30m`, `8h` or `2d`."""


class Body(BaseModel):
    """What clients send: no field that is not known, no guessing of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


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
    """Which suppression to end; without a rule it is the one of every rule."""

    kind: Literal["shelved", "suppressed", "out_of_service"]
    device: Name
    rule: Name | None = None


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


class Site(BaseModel):
    """`priority` is the highest of an open alarm; `not_heard` counts assets that are late, silent or cut off."""

    site: str
    time_zone: str
    assets: int
    alarmed: int
    unacknowledged: int
    priority: Priority | None
    not_heard: int


class Sites(BaseModel):
    """All sites."""

    items: list[Site]


class Asset(BaseModel):
    """A pump, valve or meter and how it is: open alarms that nothing suppresses, contact, its newest reading."""

    identity: str
    tag: str
    site: str
    area: str
    unit: str
    kind: str
    profile: str
    contact: str
    open: int
    unacknowledged: int
    priority: Priority | None
    newest: datetime | None
    out_of_service: bool


class AssetPage(BaseModel):
    """A page of assets."""

    items: list[Asset]
    next: str | None


class Metric(BaseModel):
    """A metric of the catalogue."""

    name: str
    unit: str
    description: str


class Calibration(BaseModel):
    """Values sampled from `since` on are gain × value + offset."""

    metric: str
    since: datetime
    gain: float
    offset: float


class Device(BaseModel):
    """A device's entry in the registry, and when it was last heard. `credentials` are kinds, never secrets; `number`
    is what Grafana's dashboards know it by (`var-asset`)."""

    number: int
    identity: str
    tag: str
    site: str
    area: str
    unit: str
    kind: str
    profile: str
    manufacturer: str
    model: str
    serial: str
    gateway: str
    status: str
    design: dict[str, float]
    calibrations: list[Calibration]
    metrics: list[Metric]
    time_zone: str
    report_interval_seconds: float
    registered_at: datetime
    contact: str
    contact_since: datetime | None
    heard_at: datetime | None
    transport: str | None
    credentials: list[str]
    quarantined: int


class Latest(BaseModel):
    """`quality` is the OPC DA byte; `status` one of good, uncertain, bad; `ne107` what NAMUR NE 107 calls it."""

    metric: str
    value: float
    unit: str
    quality: int
    status: Literal["good", "uncertain", "bad"]
    ne107: str
    measured_at: datetime


class LatestValues(BaseModel):
    """The newest reading of each metric."""

    device: str
    items: list[Latest]


def status(quality: Quality) -> Literal["good", "uncertain", "bad"]:
    """The class of a quality, in words."""
    match quality.status:
        case Quality.GOOD:
            return "good"
        case Quality.UNCERTAIN:
            return "uncertain"
        case _:
            return "bad"


class Series(BaseModel):
    """A trend as parallel lists. Where there are no more readings than points were asked for, they are the readings,
    with their quality; else buckets of `width_seconds` over good readings: the average, the least and the greatest."""

    device: str
    metric: str
    unit: str
    aggregated: bool
    width_seconds: float | None
    at: list[datetime]
    value: list[float]
    quality: list[int] | None
    least: list[float] | None
    greatest: list[float] | None
    readings: list[int] | None


class Limit(BaseModel):
    """Where a rule's limit lies on this device: `of` is what is compared with it, the metric or a window of it."""

    rule: str
    title: str
    priority: Priority
    metric: str
    of: str
    operator: str
    limit: float

    @classmethod
    def of_band(cls, band: Band) -> Limit:
        """What travels of a limit."""
        return cls(
            rule=band.rule,
            title=band.title,
            priority=band.priority,
            metric=band.metric,
            of=band.of,
            operator=band.operator,
            limit=band.limit,
        )


class Limits(BaseModel):
    """The limits on one device."""

    items: list[Limit]


class Contact(BaseModel):
    """Who is heard of: `heard_at` is the last uplink, `words` the newest values of battery and radio."""

    identity: str
    tag: str
    site: str
    area: str
    profile: str
    gateway: str
    state: str
    since: datetime | None
    heard_at: datetime | None
    transport: str | None
    report_interval_seconds: float
    words: dict[str, float]


class ContactPage(BaseModel):
    """A page of devices."""

    items: list[Contact]
    next: str | None


class Outage(BaseModel):
    """A gateway or transport on which nobody was heard after `since`."""

    path: str
    since: datetime
    raised_at: datetime
    devices: int
    ended_at: datetime | None


class Fleet(BaseModel):
    """How many devices are in each state of contact, and outages of whole paths."""

    counts: dict[str, int]
    outages: list[Outage]


class Quarantined(BaseModel):
    """A record in quarantine without its payload."""

    number: int
    received_at: datetime
    reason: str
    detail: str
    identity: str | None
    transport: str
    source: str
    content_format: int | None
    bytes: int


class QuarantinePage(BaseModel):
    """A page of the quarantine."""

    items: list[Quarantined]
    next: str | None


class QuarantinedInFull(BaseModel):
    """A record in quarantine with its payload as it came."""

    number: int
    received_at: datetime
    reason: str
    detail: str
    identity: str | None
    transport: str
    source: str
    content_format: int | None
    payload_hex: str


class IdleRule(BaseModel):
    """Why a rule can never call on some of the devices that it is for, and the first such device that was heard of."""

    why: str
    device: str


class RuleEntry(BaseModel):
    """A rule in use. `failing` says why it cannot be calculated; null where it can. `idle` says on which profiles it
    lacks a metric or a nameplate entry."""

    rule: str
    title: str
    priority: Priority
    severity: int
    alarm_class: str
    condition: str
    metric: str
    unit: str
    on_delay_seconds: float
    off_delay_seconds: float
    time_to_respond_seconds: float
    latching: bool
    guidance: Guidance
    failing: str | None
    idle: list[IdleRule]
    open: int
    last_30_days: int


class Rules(BaseModel):
    """The rules in use."""

    items: list[RuleEntry]


class Health(BaseModel):
    """The state of each part of the platform."""

    status: Literal["ok", "degraded"]
    parts: dict[str, str]


class PlatformAlarm(BaseModel):
    """Something that is wrong with the platform itself: `channel` has dead letters, nobody is heard by `path`, a `rule`
    cannot be calculated, a `part` of it is not well. `count` is of letters or devices; `since` null: not known."""

    kind: Literal["channel", "path", "rule", "part"]
    name: str
    priority: Priority
    message: str
    count: int | None
    since: datetime | None


class PlatformAlarms(BaseModel):
    """What is wrong with the platform itself now, the gravest first."""

    items: list[PlatformAlarm]


class SiteKpi(BaseModel):
    """Alarm performance over the last 30 days for each operator position, a site (ISA-18.2); shares are 0 to 1."""

    site: str
    alarms: int
    alarms_per_10min: float
    most_per_10min: int
    flood_share: float
    top10_share: float
    chattering: int
    stale: int
    seconds_to_acknowledge: float | None
    unacknowledged: int
    priority_shares: dict[Priority, float]


class FrequentAlarm(BaseModel):
    """One of a site's most frequent alarms; `share` is of all of the site's."""

    site: str
    rule: str
    title: str
    device: str
    tag: str
    alarms: int
    share: float


class Kpis(BaseModel):
    """The figures of each site."""

    sites: list[SiteKpi]
    most_frequent: list[FrequentAlarm]


class Login(Body):
    """A token, to begin a session with."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_CONTROL)]


class LoginWays(BaseModel):
    """How one can log in beside a token: `oidc` is the OpenID Connect provider's name, for `/oidc/begin`."""

    oidc: str | None


class Session(BaseModel):
    """Who you are. `csrf` goes into the header X-CSRF-Token of whatever changes something; null with a token."""

    name: str
    role: Role
    csrf: str | None
    time_zone: str
    grafana_url: str | None
    version: str


class NewToken(Body):
    """Who is to have a token, and what they may do."""

    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x20\x7f]{1,80}$")]
    role: Literal["viewer", "operator", "engineer", "admin"]
    length: Length | None = Field(default=None, description="How long it is valid; for ever if not given")


class MadeToken(BaseModel):
    """`token` is shown this once and kept nowhere."""

    name: str
    role: Role
    token: str


class TokenEntry(BaseModel):
    """A token without its secret."""

    name: str
    role: Role
    made_at: datetime
    made_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class Tokens(BaseModel):
    """Tokens by name."""

    items: list[TokenEntry]


class AuditLine(BaseModel):
    """One write that was asked for."""

    number: int
    at: datetime
    actor: str
    role: str
    source: str
    action: str
    target: str
    detail: dict[str, object]
    outcome: Literal["done", "refused", "denied"]


class AuditPage(BaseModel):
    """A page of the audit trail."""

    items: list[AuditLine]
    next: str | None
