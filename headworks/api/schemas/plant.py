"""`/sites`, `/assets`, `/devices` and `/contact`: what there is, how it is, what it measured, who is heard of."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from alerts.bands import Band
from devices.alarm import Priority
from devices.model import Quality


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
