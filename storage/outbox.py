"""Announcements on their way to people: written with the alarm's own transaction, delivered at least once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.types.json import Jsonb

from devices.alarm import Announcement, DueAnnouncement
from storage.database import Connection, unavailable

LEASE = timedelta(seconds=60)
"""How long one attempt may take at the most: after that the announcement is anybody's again."""


def put(connection: Connection, announcements: Sequence[Announcement], channels: Sequence[str]) -> None:
    """Add announcements for each channel, in the caller's transaction. One that is there already stays as it is."""
    rows = [
        (channel, entry.key, f"{entry.rule} {entry.device}", entry.event, entry.priority.value, Jsonb(dict(entry.told)))
        for entry in announcements
        for channel in channels
    ]
    if rows:
        connection.cursor().executemany(
            "INSERT INTO announcement (channel, key, subject, event, priority, told) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            rows,
        )


def claim(connection: Connection, channel: str, limit: int) -> list[DueAnnouncement]:
    """Take announcements that are due, high priority first; nobody else gets them while the lease lasts."""
    with unavailable():
        rows = connection.execute(
            "UPDATE announcement SET due_at = now() + %(lease)s, attempts = attempts + 1 WHERE announcement_id IN ("
            " SELECT announcement_id FROM announcement a WHERE channel = %(channel)s AND state = 'waiting'"
            " AND due_at <= now() AND NOT EXISTS (SELECT FROM announcement e WHERE e.channel = a.channel"
            "  AND e.state = 'waiting' AND e.subject = a.subject AND e.announcement_id < a.announcement_id)"
            " ORDER BY array_position(ARRAY['high', 'medium', 'low'], priority), announcement_id"
            " LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"
            " RETURNING announcement_id, key, told, attempts, priority",
            {"lease": LEASE, "channel": channel, "limit": limit},
        ).fetchall()
    found = [
        (str(priority), DueAnnouncement(int(str(number)), str(key), told, int(str(attempts))))  # type: ignore[arg-type]
        for number, key, told, attempts, priority in rows
    ]
    return [due for _, due in sorted(found, key=lambda entry: (_RANK[entry[0]], entry[1].number))]


_RANK = {"high": 0, "medium": 1, "low": 2}


def delivered(connection: Connection, number: int) -> None:
    """The receiver has it."""
    with unavailable():
        connection.execute(
            "UPDATE announcement SET state = 'delivered', finished_at = now() WHERE announcement_id = %s", (number,)
        )


def postpone(connection: Connection, number: int, seconds: float, why: str) -> None:
    """Try again later."""
    with unavailable():
        connection.execute(
            "UPDATE announcement SET due_at = now() + %s, last_error = %s WHERE announcement_id = %s",
            (timedelta(seconds=seconds), why, number),
        )


def give_up(connection: Connection, number: int, why: str) -> None:
    """A dead letter: it stays, and somebody has to look at it."""
    with unavailable():
        connection.execute(
            "UPDATE announcement SET state = 'dead', last_error = %s, finished_at = now() WHERE announcement_id = %s",
            (why, number),
        )


def strand(connection: Connection, known: Sequence[str]) -> int:
    """Make dead letters of what waits for channels that there are no more; returns how many."""
    with unavailable():
        done = connection.execute(
            "UPDATE announcement SET state = 'dead', last_error = 'there is no such channel', finished_at = now()"
            " WHERE state = 'waiting' AND channel <> ALL(%s)",
            (list(known),),
        )
    return done.rowcount


@dataclass(frozen=True, slots=True)
class Letter:
    """An announcement that could not be delivered."""

    number: int
    channel: str
    event: str
    title: str
    tag: str
    created_at: datetime
    attempts: int
    why: str


def dead(connection: Connection) -> list[Letter]:
    """The dead letters, oldest first."""
    with unavailable():
        rows = connection.execute(
            "SELECT announcement_id, channel, event, told->>'title', coalesce(nullif(told->'device'->>'tag', ''),"
            " told->'device'->>'identity', ''), created_at, attempts, coalesce(last_error, '')"
            " FROM announcement WHERE state = 'dead' ORDER BY announcement_id"
        ).fetchall()
    return [Letter(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def counts(connection: Connection) -> dict[str, int]:
    """How many wait and how many are dead."""
    with unavailable():
        rows = connection.execute(
            "SELECT state, count(*) FROM announcement WHERE state <> 'delivered' GROUP BY state"
        ).fetchall()
    return {"waiting": 0, "dead": 0} | {str(state): int(str(count)) for state, count in rows}


def revive(connection: Connection, numbers: Sequence[int] | None = None) -> int:
    """Try dead letters again, all of them if None; returns how many."""
    with unavailable():
        done = connection.execute(
            "UPDATE announcement SET state = 'waiting', due_at = now(), attempts = 0, finished_at = NULL"
            " WHERE state = 'dead' AND (%(all)s OR announcement_id = ANY(%(numbers)s))",
            {"all": numbers is None, "numbers": list(numbers or ())},
        )
    return done.rowcount


def sweep(connection: Connection, days: int = 30) -> int:
    """Forget what was delivered more than `days` ago; returns how many."""
    with unavailable():
        done = connection.execute(
            "DELETE FROM announcement WHERE state = 'delivered' AND finished_at < now() - %s", (timedelta(days=days),)
        )
    return done.rowcount
