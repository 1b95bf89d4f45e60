"""What the HTTP API asks about alarms: pages that stay right while the list changes, counts, what has changed.

What people do with alarms is in `storage.lifecycle`; the plant and its readings are in `storage.api_queries_plant`.
"""

# ruff: noqa: S608 - what is put together here are constants of our own; values travel as parameters
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from devices.alarm import AlarmState, Priority, SuppressionKind
from devices.model import Instant, moment
from storage.database import Connection, unavailable
from storage.lifecycle import COLUMNS, ListedAlarm, listed

_OPEN = "a.cleared_at IS NULL OR a.acked_at IS NULL OR (a.latching AND a.reset_at IS NULL)"
_STATE = (
    "array_position(ARRAY['unacknowledged', 'returned_unacknowledged', 'latched', 'acknowledged', 'normal'], a.state)"
)
_PRIORITY = "array_position(ARRAY['high', 'medium', 'low'], a.priority)"
# Whole numbers, so that the cursor says exactly where a page ended.
_WORK = f"({_STATE}, {_PRIORITY}, -(extract(epoch FROM a.raised_at) * 1000000)::bigint, -a.alarm_id)"
_NUMBER = "(0, 0, 0::bigint, -a.alarm_id)"

Cursor = tuple[int, int, int, int]
"""Where a page ended; the next one goes on behind it."""


@dataclass(frozen=True, slots=True)
class AlarmFilter:
    """Which occurrences are meant; what is empty or None means any. `device` is an identity or a tag, `text` a part of
    tag, message or title. `open_only` leaves out what is normal again, `suppressed` False what is shelved or
    suppressed or out of service, True everything else."""

    open_only: bool = True
    suppressed: bool | None = False
    states: Sequence[AlarmState] = field(default=())
    priorities: Sequence[Priority] = field(default=())
    site: str | None = None
    area: str | None = None
    device: str | None = None
    rule: str | None = None
    text: str | None = None
    since: Instant | None = None
    until: Instant | None = None


@dataclass(frozen=True, slots=True)
class AlarmPage:
    """A page of occurrences, and where it ended; None where nothing follows."""

    alarms: list[ListedAlarm]
    next: Cursor | None


def page(
    connection: Connection, selection: AlarmFilter, *, by_number: bool, after: Cursor | None, limit: int
) -> AlarmPage:
    """Occurrences in the order to work on them (unacknowledged first, then by priority, the newest first), or by
    number, the newest first. Going on from a cursor shows each one once that stays where it is in that order, whatever
    comes in meanwhile."""
    key = _NUMBER if by_number else _WORK
    where, parameters = _where(selection)
    if after is not None:
        where += f" AND {key} > (%(a)s, %(b)s, %(c)s::bigint, %(d)s::bigint)"
        parameters |= dict(zip("abcd", after, strict=True))
    with unavailable():
        rows = connection.execute(
            f"SELECT {key}, {COLUMNS} {where} ORDER BY 1 LIMIT %(limit)s".encode(),
            parameters | {"limit": limit + 1},
        ).fetchall()
    found = [listed(row[1:]) for row in rows[:limit]]
    last = rows[limit - 1][0] if len(rows) > limit else None
    assert last is None or isinstance(last, tuple)
    return AlarmPage(found, None if last is None else tuple(int(part) for part in last))  # type: ignore[arg-type]


def by_numbers(connection: Connection, numbers: Sequence[int]) -> list[ListedAlarm]:
    """These occurrences, as far as they are there and were not retracted."""
    with unavailable():
        rows = connection.execute(
            f"SELECT {COLUMNS} WHERE a.alarm_id = ANY(%s) AND NOT a.retracted ORDER BY a.alarm_id".encode(),
            (list(numbers),),
        ).fetchall()
    return [listed(row) for row in rows]


@dataclass(frozen=True, slots=True)
class AlarmCounts:
    """How many are open, by priority and state; `suppressed` are those that are kept from the list."""

    open: dict[tuple[str, str], int]
    suppressed: int


def counts(connection: Connection, site: str | None = None) -> AlarmCounts:
    """Open occurrences by (priority, state)."""
    with unavailable():
        rows = connection.execute(
            "SELECT a.priority, a.state, a.suppressions IS NOT NULL, count(*) FROM alarm_state a"
            f" JOIN device d USING (device_id) WHERE NOT a.retracted AND ({_OPEN})"
            " AND (%(site)s::text IS NULL OR d.site = %(site)s) GROUP BY 1, 2, 3",
            {"site": site},
        ).fetchall()
    found: dict[tuple[str, str], int] = {}
    suppressed = 0
    for priority, state, hidden, number in rows:
        if hidden:
            suppressed += int(str(number))
        else:
            found[str(priority), str(state)] = int(str(number))
    return AlarmCounts(found, suppressed)


@dataclass(frozen=True, slots=True)
class Change:
    """A line that was added to the alarm journal lately; without a number it is about a rule on a device."""

    line: int
    number: int | None
    kind: str
    device: str


def newest_line(connection: Connection) -> int:
    """The number of the journal's newest line; 0 where there is none."""
    with unavailable():
        row = connection.execute("SELECT coalesce(max(alarm_event_id), 0) FROM alarm_event").fetchone()
    assert row is not None
    return int(str(row[0]))


def lines_after(connection: Connection, line: int, limit: int) -> list[Change]:
    """Lines with greater numbers. A line of a slow transaction may still come with a smaller one than others that are
    there already, so whoever follows asks for some of the last ones again."""
    with unavailable():
        rows = connection.execute(
            "SELECT e.alarm_event_id, e.alarm_id, e.kind, d.identity FROM alarm_event e"
            " LEFT JOIN alarm a USING (alarm_id) JOIN device d ON d.device_id = coalesce(e.device_id, a.device_id)"
            " WHERE e.alarm_event_id > %s ORDER BY e.alarm_event_id LIMIT %s",
            (line, limit),
        ).fetchall()
    return [Change(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


@dataclass(frozen=True, slots=True)
class Kpi:
    """A site's alarm performance over the last 30 days (ISA-18.2); shares are 0 to 1."""

    site: str
    alarms: int
    per_10min: float
    most_per_10min: int
    flood_share: float
    top10_share: float
    chattering: int
    stale: int
    seconds_to_acknowledge: float | None
    unacknowledged: int
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class Frequent:
    """One of a site's most frequent alarms of the last 30 days."""

    site: str
    rule: str
    title: str
    device: str
    tag: str
    alarms: int
    share: float


@dataclass(frozen=True, slots=True)
class Chattering:
    """An alarm that came again and again in a short time: how often that happened in the last 30 days, how many
    activations it was in all, and the last one. `shelved`: it is kept from people now, by whichever suppression."""

    site: str
    rule: str
    title: str
    device: str
    tag: str
    bursts: int
    activations: int
    last_raised_at: datetime
    shelved: bool


def kpis(connection: Connection) -> list[Kpi]:
    """The figures of each site; all of them are told at the time that they were."""
    with unavailable():
        rows = connection.execute(
            "SELECT site, alarms, alarms_per_10min::float8, most_per_10min, flood_share::float8, top10_share::float8,"
            " chattering, stale, median_seconds_to_acknowledge, unacknowledged,"
            " (SELECT jsonb_object_agg(p.priority, p.share) FROM alarm_priority_share p WHERE p.site = k.site)"
            " FROM alarm_kpi k ORDER BY site"
        ).fetchall()
    return [Kpi(*figures, shares or {}) for *figures, shares in rows]  # type: ignore[arg-type, call-arg]


def most_frequent(connection: Connection, places: int = 10) -> list[Frequent]:
    """The most frequent alarms of each site."""
    with unavailable():
        rows = connection.execute(
            "SELECT t.site, t.rule, coalesce(r.title, t.rule), d.identity, d.tag, t.alarms, t.share::float8"
            " FROM alarm_top t JOIN device d USING (device_id) LEFT JOIN alarm_rule r USING (rule)"
            " WHERE t.place <= %s ORDER BY t.site, t.place",
            (places,),
        ).fetchall()
    return [Frequent(*row) for row in rows]  # type: ignore[arg-type]


def chattering(connection: Connection) -> list[Chattering]:
    """Every alarm that chatters, also where nobody is told of it, the worst first."""
    with unavailable():
        rows = connection.execute(
            "SELECT c.site, c.rule, coalesce(r.title, c.rule), d.identity, d.tag, c.bursts, c.activations,"
            " c.last_raised_at, EXISTS (SELECT FROM alarm_suppressed s WHERE s.device_id = c.device_id"
            " AND (s.rule IS NULL OR s.rule = c.rule)) FROM alarm_chattering c JOIN device d USING (device_id)"
            " LEFT JOIN alarm_rule r USING (rule) ORDER BY c.activations DESC, d.identity, c.rule LIMIT 200"
        ).fetchall()
    return [Chattering(*row) for row in rows]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class SuppressionRow:
    """What is shelved, suppressed or out of service now; without a rule it is every rule of the device."""

    number: int
    kind: SuppressionKind
    rule: str | None
    title: str | None
    device: str
    tag: str
    site: str
    one_shot: bool
    began_at: datetime
    until: datetime | None
    by: str
    reason: str


def suppressions(connection: Connection, site: str | None = None) -> list[SuppressionRow]:
    """All of them, those that end first at the head."""
    with unavailable():
        rows = connection.execute(
            "SELECT s.suppression_id, s.kind, s.rule, r.title, d.identity, d.tag, d.site, s.one_shot, s.began_at,"
            " s.until_at, s.began_by, s.reason FROM alarm_suppressed s JOIN device d USING (device_id)"
            " LEFT JOIN alarm_rule r USING (rule) WHERE %(site)s::text IS NULL OR d.site = %(site)s"
            " ORDER BY s.until_at, s.suppression_id",
            {"site": site},
        ).fetchall()
    return [SuppressionRow(number, SuppressionKind(str(kind)), *rest) for number, kind, *rest in rows]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class FailingChannel:
    """A channel with dead letters: how many, and since when there are some."""

    channel: str
    letters: int
    since: datetime


def failing_channels(connection: Connection) -> list[FailingChannel]:
    """The channels by which something could not be delivered, the longest failing first."""
    with unavailable():
        rows = connection.execute(
            "SELECT channel, count(*), min(coalesce(finished_at, created_at)) FROM announcement WHERE state = 'dead'"
            " GROUP BY channel ORDER BY 3, 1"
        ).fetchall()
    return [FailingChannel(*row) for row in rows]  # type: ignore[arg-type]


def rule_counts(connection: Connection) -> dict[str, tuple[int, int]]:
    """By rule: how many occurrences are open, and how many people were told of in the last 30 days."""
    with unavailable():
        rows = connection.execute(
            f"SELECT rule, count(*) FILTER (WHERE NOT a.retracted AND ({_OPEN})),"
            " count(*) FILTER (WHERE a.annunciated_at > now() - interval '30 days') FROM alarm a"
            f" WHERE NOT a.retracted AND (({_OPEN}) OR a.annunciated_at > now() - interval '30 days') GROUP BY 1"
        ).fetchall()
    return {str(rule): (int(str(now)), int(str(lately))) for rule, now, lately in rows}


def _where(selection: AlarmFilter) -> tuple[str, dict[str, object]]:
    parts = ["WHERE NOT a.retracted"]
    if selection.open_only:
        parts.append(f"({_OPEN})")
    if selection.suppressed is not None:
        parts.append(f"a.suppressions IS {'NOT ' if selection.suppressed else ''}NULL")
    parameters: dict[str, object] = {}
    for name, value, test in (
        ("states", [state.value for state in selection.states] or None, "a.state = ANY(%(states)s)"),
        ("priorities", [one.value for one in selection.priorities] or None, "a.priority = ANY(%(priorities)s)"),
        ("site", selection.site, "d.site = %(site)s"),
        ("area", selection.area, "d.area = %(area)s"),
        ("device", selection.device, "(d.identity = %(device)s OR d.tag = %(device)s)"),
        ("rule", selection.rule, "a.rule = %(rule)s"),
        ("since", _moment(selection.since), "a.raised_at >= %(since)s"),
        ("until", _moment(selection.until), "a.raised_at < %(until)s"),
        (
            "text",
            selection.text,
            "strpos(lower(concat_ws(' ', d.tag, d.identity, a.message, r.title)), lower(%(text)s)) > 0",
        ),
    ):
        if value is not None:
            parts.append(test)
            parameters[name] = value
    return " AND ".join(parts), parameters


def _moment(at: Instant | None) -> datetime | None:
    return None if at is None else moment(at)
