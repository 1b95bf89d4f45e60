"""Who is on duty: shifts by the clock on the wall, through every change of the clocks."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.roster import Hours, Roster, at_wall, on_duty, until
from devices.document import DocumentError, load_document
from devices.model import Instant, instant, moment

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Shanghai",
    "America/St_Johns",
    "Pacific/Apia",
)


def at(text: str) -> Instant:
    return instant(datetime.fromisoformat(text))


def hours(begin: str, end: str, *days: str) -> Hours:
    return Hours.model_validate({"from": begin, "to": end} | ({"days": days} if days else {}))


ROSTER = """
zone: Europe/Berlin
holidays: [2026-12-25]
shifts:
  - {days: [mon, tue, wed, thu, fri], from: "06:00", to: "14:00", receivers: [early]}
  - {days: [mon, tue, wed, thu, fri], from: "22:00", to: "06:00", receivers: [night, foreman]}
  - {days: [holiday], from: "08:00", to: "12:00", receivers: [duty]}
otherwise: [control-room]
"""


@pytest.mark.parametrize(
    ("when", "who"),
    [
        ("2026-11-23T06:00+01:00", ("early",)),
        ("2026-11-23T13:59:59.999999+01:00", ("early",)),
        ("2026-11-23T14:00+01:00", ("control-room",)),
        ("2026-11-28T05:59+01:00", ("night", "foreman")),  # Saturday: the shift began on Friday
        ("2026-11-29T05:59+01:00", ("control-room",)),
        ("2026-12-25T07:00+01:00", ("control-room",)),  # a holiday is no Friday
        ("2026-12-25T08:00+01:00", ("duty",)),
        ("2026-12-25T05:00+01:00", ("night", "foreman")),  # but Thursday's night lasts into it
    ],
)
def test_the_shift_of_the_hour_is_on_duty(when: str, who: tuple[str, ...]) -> None:
    roster = load_document(ROSTER, "r.yaml", Roster)
    assert on_duty(roster, at(when), "UTC")[0] == who


def test_holidays_of_the_site_count_too() -> None:
    roster = load_document(ROSTER, "r.yaml", Roster)
    assert on_duty(roster, at("2026-11-23T09:00+01:00"), "UTC", [date(2026, 11, 23)])[0] == ("duty",)


@given(
    st.sampled_from(ZONES),
    st.integers(1_104_537_600, 2_051_222_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.lists(st.times().map(lambda one: one.replace(second=0, microsecond=0)), min_size=1, max_size=6, unique=True),
)
def test_shifts_that_divide_the_day_leave_no_instant_without_and_none_with_two(
    zone: str, when: datetime, walls: list[time]
) -> None:
    walls = sorted(walls)
    shifts = [hours(f"{a:%H:%M}", f"{b:%H:%M}") for a, b in zip(walls, [*walls[1:], walls[0]], strict=True)]
    ends = [end for one in shifts if (end := until(one, instant(when), zone)) is not None]
    assert len(ends) == 1
    assert ends[0] > instant(when)


@given(
    st.sampled_from(ZONES),
    st.sampled_from([(2026, 3, 29), (2026, 10, 25), (2026, 3, 8), (2026, 11, 1), (2026, 4, 5), (2026, 10, 4)]),
    st.integers(-36 * 60, 36 * 60),
    st.lists(st.times().map(lambda one: one.replace(second=0, microsecond=0)), min_size=2, max_size=6, unique=True),
)
def test_so_around_each_change_of_the_clocks(
    zone: str, day: tuple[int, int, int], minutes: int, walls: list[time]
) -> None:
    walls = sorted(walls)
    now = instant(datetime(*day, 2, tzinfo=ZoneInfo(zone))) + minutes * 60_000_000
    shifts = [hours(f"{a:%H:%M}", f"{b:%H:%M}") for a, b in zip(walls, [*walls[1:], walls[0]], strict=True)]
    assert sum(until(one, now, zone) is not None for one in shifts) == 1


def test_an_hour_that_does_not_exist_begins_at_the_change_and_one_that_is_twice_the_first_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert moment(at_wall(date(2026, 3, 29), time(2, 30), berlin)).isoformat() == "2026-03-29T01:00:00+00:00"
    assert moment(at_wall(date(2026, 10, 25), time(2, 30), berlin)).isoformat() == "2026-10-25T00:30:00+00:00"


@given(st.sampled_from(ZONES), st.dates(date(2005, 1, 1), date(2035, 1, 1)), st.times(), st.times())
def test_a_later_time_on_the_wall_is_never_earlier(zone: str, day: date, one: time, other: time) -> None:
    first, second = sorted((one, other))
    assert at_wall(day, first, ZoneInfo(zone)) <= at_wall(day, second, ZoneInfo(zone))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("zone: Europe/Berlim", "did you mean ‘Europe/Berlin’"),
        ("shifts: [{from: 6am, to: '14:00', receivers: [a]}]", 'write a time of day as "06:00"'),
        ("shifts: [{from: '06:00', to: '14:00', days: [mondey], receivers: [a]}]", "‘mondey’ is no day"),
        ("holidays: [someday]", "Invalid isoformat string"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(wrong: str, said: str) -> None:
    document = (
        wrong + "\notherwise: [a]\n" + ("" if "shifts" in wrong else "shifts: [{from: '1', to: '2', receivers: [a]}]")
    )
    with pytest.raises(DocumentError) as caught:
        load_document(document, "r.yaml", Roster)
    assert any(said in problem and problem.startswith("r.yaml:1:") for problem in caught.value.problems)
