"""`/quarantine`, `/rules`, `/health` and `/kpis`: how the platform and the alarm system themselves fare."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from devices.alarm import Priority
from headworks.api.schemas.alarms import Guidance


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


class ChatteringAlarm(BaseModel):
    """An alarm that was raised three times or more within a minute, or within four reporting intervals: how often that
    happened, and how many activations it was in all. `shelved`: people are kept from hearing of it now."""

    site: str
    rule: str
    title: str
    device: str
    tag: str
    bursts: int
    activations: int
    last_raised_at: datetime
    shelved: bool


class Kpis(BaseModel):
    """The figures of each site."""

    sites: list[SiteKpi]
    most_frequent: list[FrequentAlarm]
    chattering: list[ChatteringAlarm]
