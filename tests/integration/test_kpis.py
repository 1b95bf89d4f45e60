"""The standard's KPIs on a real database, against numbers that were calculated by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import pytest

from devices.alarm import Alarm, AlarmChange, ChangeKind, Priority, Suppression, SuppressionKind
from devices.model import DAY, HOUR, MINUTE, SECOND, Device, Instant
from devices.profile import shipped_profiles
from headworks import clock
from storage import api_queries, journal, lifecycle
from storage.database import Connection, connect
from storage.registry import register
from tests.conftest import PUMP, VALVE

OTHER = Device("urn:dev:imei:867000000000033", "centrifugal-pump", tag="P-301", site="South")
PERIODS = 30 * 144
"""Of ten minutes each, in thirty days."""


@pytest.fixture
def connection(registered: str) -> Iterator[Connection]:
    with connect(registered) as connection:
        register(connection, [OTHER], shipped_profiles())
        connection.execute("UPDATE device SET created_at = now() - interval '1 year'")
        yield connection


def put(
    connection: Connection,
    at: Instant,
    rule: str = "r",
    *,
    device: Device = PUMP,
    priority: Priority = Priority.LOW,
    cleared: Instant | None = None,
) -> int:
    """An alarm that was raised at an instant, and told then, unless something keeps it from being told."""
    alarm = Alarm(rule, device.identity, priority, "m", at, at, cleared, 1.0)
    journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm)], None)
    row = connection.execute(
        "UPDATE alarm SET annunciated_at = CASE WHEN annunciated_at IS NOT NULL THEN raised_at END"
        " WHERE alarm_id = (SELECT max(alarm_id) FROM alarm) RETURNING alarm_id"
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def hour() -> Instant:
    """A full hour, three of them ago: ten minutes begin there."""
    return clock.now() // HOUR * HOUR - 3 * HOUR


def figure(connection: Connection, name: str, site: str = "North") -> Decimal:
    row = connection.execute(f"SELECT {name}::numeric FROM alarm_kpi WHERE site = %s", (site,)).fetchone()
    assert row is not None
    return Decimal(str(row[0]))


def chattering(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT rule, tag, bursts, activations FROM alarm_chattering JOIN device USING (device_id) ORDER BY 1, 2"
    ).fetchall()


@pytest.mark.parametrize(
    ("seconds", "bursts", "activations"),
    [
        ([0, 30, 60], 1, 3),
        ([0, 30, 61], 0, 0),
        ([0, 60], 0, 0),
        ([0, 40, 80, 120, 160], 0, 0),
        ([0, 10, 20, 30, 40], 1, 5),
        ([0, 10, 20, 55, 115], 1, 4),
        ([0, 10, 20, 600, 610, 620, 5000], 2, 6),
        ([0, 10, 20, 70, 75], 1, 5),
    ],
)  # fmt: skip
def test_three_activations_within_a_minute_are_chattering(
    connection: Connection, seconds: list[int], bursts: int, activations: int
) -> None:
    connection.execute("UPDATE device SET report_interval = interval '10 seconds'")
    begin = hour()
    for second in reversed(seconds):  # late ones count by when they were measured
        put(connection, begin + second * SECOND, cleared=begin + second * SECOND + 1)
    assert chattering(connection) == ([("r", "P-101", bursts, activations)] if bursts else [])
    assert figure(connection, "chattering") == bool(bursts)


@pytest.mark.parametrize(("last", "chatters"), [(60, True), (61, False)])
def test_a_device_that_speaks_every_quarter_of_an_hour_chatters_within_four_of_them(
    connection: Connection, last: int, chatters: bool
) -> None:
    connection.execute("UPDATE device SET report_interval = interval '15 minutes'")
    begin = hour()
    for minute in (0, 30, last):
        put(connection, begin + minute * MINUTE)
    assert bool(chattering(connection)) == chatters


def test_each_alarm_chatters_by_itself(connection: Connection) -> None:
    connection.execute("UPDATE device SET report_interval = interval '10 seconds'")
    begin = hour()
    for second, rule, device in ((0, "a", PUMP), (10, "a", VALVE), (20, "b", PUMP), (30, "a", PUMP), (40, "b", PUMP)):
        put(connection, begin + second * SECOND, rule, device=device)
    assert chattering(connection) == []
    assert figure(connection, "chattering") == 0


def test_what_was_never_an_alarm_does_not_chatter(connection: Connection) -> None:
    begin = hour()
    numbers = [put(connection, begin + second * SECOND) for second in (0, 10, 20)]
    assert len(chattering(connection)) == 1
    connection.execute("UPDATE alarm SET retracted = true WHERE alarm_id = %s", (numbers[1],))
    assert chattering(connection) == []


def test_what_is_shelved_is_not_told_but_chatters_all_the_same(connection: Connection) -> None:
    shelved = Suppression(SuppressionKind.SHELVED, "r", PUMP.identity, clock.now() + HOUR, "it chatters", "kim")
    assert lifecycle.suppress(connection, shelved)
    begin = hour()
    for second in (0, 10, 20):
        put(connection, begin + second * SECOND)
    assert figure(connection, "alarms") == 0, "nobody was told"
    assert chattering(connection) == [("r", "P-101", 1, 3)]
    [told] = api_queries.chattering(connection)
    assert (told.tag, told.bursts, told.activations, told.shelved) == ("P-101", 1, 3, True)
    assert figure(connection, "chattering") == 1
    assert len(lifecycle.alarms(connection)) == 3, "and each is in the list"


def test_alarms_an_operator_and_ten_minutes(connection: Connection) -> None:
    begin = hour()
    seconds = [*range(0, 550, 50), *range(600, 1200, 60), 1500]
    """Eleven in the first ten minutes, ten in the next (the first of them just begins it), one in the third."""
    assert len(seconds) == 11 + 10 + 1
    for number, second in enumerate(seconds):
        put(connection, begin + second * SECOND, f"r{number}")
    put(connection, begin, device=OTHER)
    put(connection, clock.now() - 31 * DAY, "old")
    rates = connection.execute(
        "SELECT site, alarms, flood FROM alarm_rate_10min ORDER BY site, bucket"
    ).fetchall()  # fmt: skip
    assert rates == [("North", 11, True), ("North", 10, False), ("North", 1, False), ("South", 1, False)]
    assert figure(connection, "alarms") == 22
    assert figure(connection, "alarms_per_10min") == pytest.approx(Decimal(22) / PERIODS)
    assert figure(connection, "most_per_10min") == 11
    assert figure(connection, "flood_share") == pytest.approx(Decimal(1) / PERIODS)
    assert figure(connection, "most_per_10min", "South") == 1
    assert figure(connection, "flood_share", "South") == 0


def test_a_young_site_is_measured_by_the_time_that_it_has_been_watched(connection: Connection) -> None:
    connection.execute("UPDATE device SET created_at = now() - interval '1 day' WHERE site = 'North'")
    begin = hour()
    for number in range(36):
        put(connection, begin + number * SECOND, f"r{number}", device=(PUMP, VALVE)[number % 2])
    put(connection, begin, device=OTHER)
    # A day is 144 times ten minutes, of which one was a flood.
    assert figure(connection, "alarms_per_10min") == pytest.approx(Decimal(36) / 144)
    assert figure(connection, "flood_share") == pytest.approx(Decimal(1) / 144)
    assert figure(connection, "alarms_per_10min", "South") == pytest.approx(Decimal(1) / PERIODS)
    rates = connection.execute("SELECT tag, alarms, alarms_per_10min FROM alarm_asset_rate ORDER BY 1").fetchall()
    assert [(tag, count) for tag, count, _ in rates] == [("FV-201", 18), ("P-101", 18), ("P-301", 1)]
    assert [float(str(rate)) for _, _, rate in rates] == pytest.approx([18 / 144, 18 / 144, 1 / PERIODS])


def test_the_share_of_the_ten_most_frequent(connection: Connection) -> None:
    begin = hour()
    for number in range(10):
        put(connection, begin + number * MINUTE, "often")
    for number in range(11):
        put(connection, begin + number * MINUTE, f"once-{number:02}", device=VALVE)
    put(connection, begin, device=OTHER)
    # 21 alarms: the first has 10 of them, nine of the others one each.
    assert figure(connection, "top10_share") == pytest.approx(Decimal(19) / 21)
    assert figure(connection, "top10_share", "South") == 1
    top = api_queries.most_frequent(connection)
    assert len(top) == 11, "ten of the one site, one of the other"
    assert (top[0].rule, top[0].tag, top[0].alarms) == ("often", "P-101", 10)
    assert top[0].share == pytest.approx(10 / 21)


def test_what_stands_for_more_than_a_day_is_stale(connection: Connection) -> None:
    now = clock.now()
    put(connection, now - 23 * HOUR, "young")
    put(connection, now - 30 * HOUR, "over", cleared=now - 2 * HOUR)
    gone = put(connection, now - 30 * HOUR, "never-was")
    connection.execute("UPDATE alarm SET retracted = true WHERE alarm_id = %s", (gone,))
    old = put(connection, now - 25 * HOUR, "old")
    lifecycle.acknowledge(connection, [old], "kim")
    lifecycle.suppress(
        connection, Suppression(SuppressionKind.OUT_OF_SERVICE, None, VALVE.identity, None, "overhaul", "kim")
    )
    put(connection, now - 40 * DAY, "out", device=VALVE)
    stale = connection.execute("SELECT rule, age > interval '24 hours' FROM alarm_stale ORDER BY 1").fetchall()
    assert stale == [("old", True), ("out", True)], "acknowledged or out of service: it stands"
    assert figure(connection, "stale") == 2


def test_the_priorities_shares_beside_their_targets(connection: Connection) -> None:
    begin = hour()
    told = [Priority.LOW] * 8 + [Priority.MEDIUM] * 3 + [Priority.HIGH]
    for number, priority in enumerate(told):
        put(connection, begin + number * MINUTE, f"r{number}", priority=priority)
    put(connection, begin, device=OTHER, priority=Priority.HIGH)
    found = connection.execute(
        "SELECT priority, alarms, share, target FROM alarm_priority_share WHERE site = 'North' ORDER BY target DESC"
    ).fetchall()
    assert [(name, count, target) for name, count, _, target in found] == [
        ("low", 8, Decimal("0.80")),
        ("medium", 3, Decimal("0.15")),
        ("high", 1, Decimal("0.05")),
    ]
    assert _shares(found) == pytest.approx([8 / 12, 3 / 12, 1 / 12])


def _shares(rows: Sequence[tuple[object, ...]]) -> list[float]:
    return [float(str(share)) for _, _, share, _ in rows]


def test_the_median_of_the_time_to_acknowledge(connection: Connection) -> None:
    begin = hour()
    numbers = [put(connection, begin + number * MINUTE, f"r{number}") for number in range(4)]
    for number, minutes in zip(numbers, (1, 2, 30), strict=False):
        connection.execute(
            "UPDATE alarm SET acked_at = annunciated_at + make_interval(mins => %s) WHERE alarm_id = %s",
            (minutes, number),
        )
    assert figure(connection, "median_seconds_to_acknowledge") == 120
    assert figure(connection, "unacknowledged") == 1


def test_a_quiet_site_has_a_row_of_nothing(connection: Connection) -> None:
    put(connection, hour())
    [south] = [kpi for kpi in api_queries.kpis(connection) if kpi.site == "South"]
    assert (south.alarms, south.most_per_10min, south.chattering, south.stale, south.unacknowledged) == (0, 0, 0, 0, 0)
    assert (south.flood_share, south.top10_share, south.shares) == (0, 0, {})
