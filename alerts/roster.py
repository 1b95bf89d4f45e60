"""Who is on duty, and when it is quiet: hours of days in a zone, holidays, shifts. Pure; time is an argument.

Hours are what the clock on the wall shows. Where the clocks are put forward, an hour that does not exist begins at the
change; where they are put back, an hour that is there twice begins the first time. So shifts that follow each other on
the wall follow each other in time, without a gap and without an overlap, on every day of the year.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from devices.document import DocumentModel, suggest
from devices.model import Instant, instant, moment

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOLIDAY = "holiday"
_WALL = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@lru_cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> str:
    if name not in _zones():
        raise ValueError(f"‘{name}’ is no time zone of the IANA database{suggest(name, sorted(_zones()))}")
    return name


def _wall(value: object) -> object:
    if isinstance(value, time):
        return value
    if value == "24:00":
        return time(0)
    found = _WALL.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('write a time of day as "06:00"')
    return time(int(found[1]), int(found[2]))


def _day(value: str) -> str:
    if value not in (*DAYS, HOLIDAY):
        raise ValueError(f"‘{value}’ is no day{suggest(value, (*DAYS, HOLIDAY))}; write mon … sun, or holiday")
    return value


def _date(value: object) -> object:
    return date.fromisoformat(value) if isinstance(value, str) else value


Zone = Annotated[str, AfterValidator(_zone)]
Wall = Annotated[time, BeforeValidator(_wall, json_schema_input_type=str)]
Day = Annotated[str, AfterValidator(_day), Field(json_schema_extra={"enum": [*DAYS, HOLIDAY]})]
Holiday = Annotated[date, BeforeValidator(_date, json_schema_input_type=str)]


class Hours(DocumentModel):
    """Hours of some days: from a time on the wall to another, past midnight where that is not later."""

    model_config = ConfigDict(populate_by_name=True)

    days: tuple[Day, ...] | None = Field(
        default=None,
        min_length=1,
        description="On which days they begin; every day if absent. A holiday is no weekday, only `holiday`",
    )
    begin: Wall = Field(alias="from", description='When they begin, as "22:00" in local time')
    end: Wall = Field(alias="to", description="When they end; the same as `from` is a whole day")

    def on(self, day: date, holidays: Collection[date]) -> bool:
        """Whether they begin on this day."""
        return self.days is None or (HOLIDAY if day in holidays else DAYS[day.weekday()]) in self.days


class Shift(Hours):
    """Hours in which somebody is on duty."""

    to_whom: tuple[str, ...] = Field(alias="receivers", min_length=1, description="Receivers or channels")


class Roster(DocumentModel):
    """Shifts in one zone."""

    zone: Zone | None = Field(default=None, description="The shifts' time zone; the file's if absent")
    holidays: tuple[Holiday, ...] = Field(default=(), description="Holidays beside those of the file")
    shifts: tuple[Shift, ...] = Field(min_length=1)
    otherwise: tuple[str, ...] = Field(min_length=1, description="Who is told in hours that no shift covers")


def at_wall(day: date, wall: time, zone: ZoneInfo) -> Instant:
    """The instant at which the clocks of a zone come to a time of day; of an hour that is left out, its change."""
    local = datetime.combine(day, wall, zone)
    first = instant(local)
    if moment(first).astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return first
    # In the gap: the change lies between what the offset after and the one before make of it.
    low, high = instant(local.replace(fold=1)), first
    after = moment(high).astimezone(zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if moment(middle).astimezone(zone).utcoffset() == after:
            high = middle
        else:
            low = middle
    return high


def until(hours: Hours, at: Instant, zone: str, holidays: Collection[date] = ()) -> Instant | None:
    """When these hours end, if they run at this instant; else None."""
    place = ZoneInfo(zone)
    today = moment(at).astimezone(place).date()
    for ago in (0, 1, 2):  # a day that a zone leaves out altogether makes it two
        day = today - timedelta(days=ago)
        if not hours.on(day, holidays):
            continue
        last = day if hours.begin < hours.end else day + timedelta(days=1)
        begin, end = at_wall(day, hours.begin, place), at_wall(last, hours.end, place)
        if begin <= at < end:
            return end
    return None


def on_duty(roster: Roster, at: Instant, zone: str, holidays: Collection[date] = ()) -> tuple[tuple[str, ...], str]:
    """Who is on duty at an instant (names, each once), and why. `zone` and `holidays` are the file's."""
    zone = roster.zone or zone
    days = {*holidays, *roster.holidays}
    running = [shift for shift in roster.shifts if until(shift, at, zone, days) is not None]
    if not running:
        return roster.otherwise, "no shift has these hours"
    names: dict[str, Any] = dict.fromkeys(name for shift in running for name in shift.to_whom)
    why = ", ".join(f"{shift.begin:%H:%M}–{shift.end:%H:%M} {zone}" for shift in running)
    return tuple(names), f"on duty {why}"
