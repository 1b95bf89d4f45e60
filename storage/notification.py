"""What the dispatcher keeps: cases, windows, explaining alarms and failed channels, and what came to the outbox for it.

Everything here runs in the caller's transaction. What is decided is in `alerts.dispatch`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from devices.alarm import Announcement, Priority
from devices.model import Instant, instant, moment
from storage import outbox
from storage.database import Connection

DISPATCH = "dispatch"
"""The channel of the outbox for what is not routed yet."""
_LOCK = 0x524F555445  # "ROUTE"
_CASE = (
    "route, rule, device, key, told, group_key, held, by_rule, by_device, due_at, is_over, channels, told_at, step,"
    " repeats, summary"
)


class CaseRow(NamedTuple):
    """A row of `notification_case`."""

    route: str
    rule: str
    device: str
    key: str
    told: dict[str, Any]
    group: str
    held: str
    by: tuple[str, str] | None
    due_at: Instant | None
    over: bool
    channels: tuple[str, ...]
    told_at: Instant | None
    step: int
    repeats: int
    summary: str


def lock(connection: Connection) -> bool:
    """Be the one dispatcher until the transaction ends."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()
    return bool(row and row[0])


def arrived(connection: Connection, limit: int) -> list[tuple[int, Announcement]]:
    """What waits to be routed, in the order in which it was announced."""
    rows: list[Any] = connection.execute(
        "SELECT announcement_id, key, event, priority, told FROM announcement"
        " WHERE channel = %s AND state = 'waiting' ORDER BY announcement_id LIMIT %s",
        (DISPATCH, limit),
    ).fetchall()
    return [
        (number, Announcement(key, event, told["rule"], told["device"]["identity"], Priority(priority), told))
        for number, key, event, priority, told in rows
    ]


def routed(connection: Connection, numbers: Sequence[int]) -> None:
    """These have found their channels."""
    connection.execute(
        "UPDATE announcement SET state = 'delivered', finished_at = now(), attempts = attempts + 1"
        " WHERE announcement_id = ANY(%s)",
        (list(numbers),),
    )


def cases_of(connection: Connection, subjects: Collection[tuple[str, str]]) -> list[CaseRow]:
    """The cases of these rules on devices, and those that they explain."""
    rules, devices = [rule for rule, _ in subjects], [device for _, device in subjects]
    rows = connection.execute(
        f"SELECT {_CASE} FROM notification_case WHERE (rule, device) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"  # noqa: S608
        f" UNION ALL SELECT {_CASE} FROM notification_case WHERE held = 'explained'"
        " AND (by_rule, by_device) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
        (rules, devices, rules, devices),
    ).fetchall()
    return [_row(row) for row in rows]


def due(connection: Connection, now: Instant) -> list[CaseRow]:
    """The cases for which it is time."""
    rows = connection.execute(
        f"SELECT {_CASE} FROM notification_case WHERE due_at <= %s ORDER BY due_at",  # noqa: S608
        (moment(now),),
    ).fetchall()
    return [_row(row) for row in rows]


def _row(row: Sequence[Any]) -> CaseRow:
    route, rule, device, key, told, group, held, by_rule, by_device, due_at, over, channels, told_at, *counts = row
    by = None if by_rule is None else (by_rule, by_device)
    times = (None if due_at is None else instant(due_at)), (None if told_at is None else instant(told_at))
    return CaseRow(route, rule, device, key, told, group, held, by, times[0], over, tuple(channels), times[1], *counts)


def keep(connection: Connection, cases: Iterable[CaseRow], gone: Iterable[tuple[str, str, str]]) -> None:
    """Write cases as they are now, and forget those that are gone (route, rule, device)."""
    cursor = connection.cursor()
    if lost := list(gone):
        cursor.execute(
            "DELETE FROM notification_case WHERE (route, rule, device) IN"
            " (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))",
            tuple([list(column) for column in zip(*lost, strict=True)]),
        )
    rows = [
        (
            *one[:4], Jsonb(one.told), one.group, one.held, *(one.by or (None, None)), _moment(one.due_at), one.over,
            list(one.channels), _moment(one.told_at), one.step, one.repeats, one.summary,
        )
        for one in cases
    ]  # fmt: skip
    if rows:
        cursor.executemany(
            f"INSERT INTO notification_case ({_CASE}) VALUES (%s{', %s' * 15})"  # noqa: S608
            " ON CONFLICT (route, rule, device) DO UPDATE SET"
            " (key, told, group_key, held, by_rule, by_device, due_at, is_over, channels, told_at, step, repeats,"
            " summary)"
            " = (excluded.key, excluded.told, excluded.group_key, excluded.held, excluded.by_rule, excluded.by_device,"
            " excluded.due_at, excluded.is_over, excluded.channels, excluded.told_at, excluded.step, excluded.repeats,"
            " excluded.summary)",
            rows,
        )


def _moment(at: Instant | None) -> object:
    return None if at is None else moment(at)


def windows(connection: Connection) -> dict[tuple[str, str], tuple[Instant, int]]:
    """When each group's window opened, and how many messages it has led to."""
    rows: list[Any] = connection.execute("SELECT route, group_key, opened_at, sent FROM notification_window").fetchall()
    return {(route, group): (instant(opened_at), sent) for route, group, opened_at, sent in rows}


def keep_windows(connection: Connection, windows: Mapping[tuple[str, str], tuple[Instant, int]], old: Instant) -> None:
    """Write windows as they are now, and forget those opened before `old`."""
    if windows:
        connection.cursor().executemany(
            "INSERT INTO notification_window (route, group_key, opened_at, sent) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (route, group_key) DO UPDATE SET (opened_at, sent) = (excluded.opened_at, excluded.sent)",
            [(*name, moment(opened_at), sent) for name, (opened_at, sent) in windows.items()],
        )
        connection.execute("DELETE FROM notification_window WHERE opened_at < %s", (moment(old),))


def explaining(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    """The alarms that are on and for which others are held back."""
    rows: list[Any] = connection.execute("SELECT rule, device, told FROM notification_explaining").fetchall()
    return {(rule, device): told for rule, device, told in rows}


def keep_explaining(
    connection: Connection, changed: Iterable[tuple[str, str]], on: Mapping[tuple[str, str], dict[str, Any]]
) -> None:
    """Write the changed ones of these alarms as they are in `on`, or as gone where they are not."""
    for rule, device in changed:
        connection.execute("DELETE FROM notification_explaining WHERE (rule, device) = (%s, %s)", (rule, device))
        if (rule, device) in on:
            connection.execute(
                "INSERT INTO notification_explaining VALUES (%s, %s, %s)", (rule, device, Jsonb(on[rule, device]))
            )


def summaries(connection: Connection, keys: Collection[str]) -> dict[str, tuple[dict[str, Any], int]]:
    """Of each summary what it told, and how many of its alarms are not over."""
    rows: list[Any] = connection.execute(
        "SELECT DISTINCT ON (a.key) a.key, a.told,"
        " (SELECT count(*) FROM notification_case c WHERE c.summary = a.key) FROM announcement a WHERE a.key = ANY(%s)",
        (list(keys),),
    ).fetchall()
    return {key: (told, remaining) for key, told, remaining in rows}


def unacknowledged(connection: Connection, subjects: Collection[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """Of each alarm of a device whether it is on, not acknowledged, not suppressed; without what is no device."""
    rows: list[Any] = connection.execute(
        "SELECT s.rule, s.device, EXISTS (SELECT FROM alarm_state a WHERE a.device_id = d.device_id AND a.rule = s.rule"
        "  AND NOT a.retracted AND a.cleared_at IS NULL AND a.acked_at IS NULL AND a.suppressions IS NULL)"
        " FROM unnest(%s::text[], %s::text[]) s (rule, device) JOIN device d ON d.identity = s.device",
        ([rule for rule, _ in subjects], [device for _, device in subjects]),
    ).fetchall()
    return {(rule, device): found for rule, device, found in rows}


def send(connection: Connection, announcements: Iterable[tuple[Announcement, Sequence[str]]]) -> None:
    """Put messages into the outbox, each for its channels."""
    for announcement, channels in announcements:
        outbox.put(connection, [announcement], channels)


class Failing(NamedTuple):
    """A channel with dead letters, or of whose dead letters people were told."""

    channel: str
    dead: int
    raised_at: Instant | None
    """Since when people know."""


def failing(connection: Connection) -> list[Failing]:
    """The channels with dead letters, and those of which it is told that they had. What told of a failure does
    not count: one failure would lead to the next."""
    rows: list[Any] = connection.execute(
        "SELECT coalesce(d.channel, f.channel), coalesce(d.dead, 0), f.raised_at FROM"
        " (SELECT channel, count(*) AS dead FROM announcement WHERE state = 'dead'"
        "  AND told->>'rule' <> 'channel-failed' GROUP BY channel) d"
        " FULL JOIN notification_failure f ON f.channel = d.channel"
    ).fetchall()
    return [Failing(channel, dead, None if at is None else instant(at)) for channel, dead, at in rows]


def keep_failure(connection: Connection, channel: str, raised_at: Instant | None) -> None:
    """People know of a channel's failure since a moment; None: that it is over."""
    connection.execute("DELETE FROM notification_failure WHERE channel = %s", (channel,))
    if raised_at is not None:
        connection.execute("INSERT INTO notification_failure VALUES (%s, %s)", (channel, moment(raised_at)))
