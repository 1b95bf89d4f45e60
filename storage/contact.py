"""When devices were last heard and what their last words were; what was judged of that (`alerts.contact` judges)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from devices.alarm import Announcement
from devices.model import Instant, instant, moment
from storage import outbox
from storage.database import Connection, unavailable

_WORDS = ("battery", "battery_low", "rsrp", "coverage_level")


@dataclass(frozen=True, slots=True)
class Heard:
    """When a device was last heard, by which path, and its newest values of the radio and the battery. `state` is what
    was last judged of it, None at first."""

    device: str
    profile: str
    path: str
    heard_at: Instant
    words: Mapping[str, float]
    state: str | None


def heard(connection: Connection, now: Instant, look_back: Instant) -> list[Heard]:
    """Every active device that was heard in the last `look_back` µs. Imports are nobody's word."""
    with unavailable():
        rows = connection.execute(
            "SELECT d.identity, d.profile, CASE WHEN d.gateway <> '' THEN d.gateway ELSE u.transport END,"
            " u.received_at, c.state, (SELECT jsonb_object_agg(m.name, l.value) FROM latest l"
            "  JOIN metric m USING (metric_id) WHERE l.device_id = d.device_id AND l.quality >= 64"
            "  AND m.name = ANY(%(words)s))"
            " FROM device d LEFT JOIN contact c USING (device_id)"
            " CROSS JOIN LATERAL (SELECT received_at, transport FROM uplink WHERE device_id = d.device_id"
            "  AND transport <> 'import' AND received_at > %(since)s AND received_at <= %(now)s"
            "  ORDER BY received_at DESC LIMIT 1) u WHERE d.status = 'active'",
            {
                "words": list(_WORDS),
                "since": moment(now) - timedelta(microseconds=look_back),
                "now": moment(now),
            },
        ).fetchall()
    found = []
    for identity, profile, path, at, state, words in rows:
        assert isinstance(at, datetime)
        assert isinstance(words, dict | None)
        found.append(
            Heard(
                str(identity), str(profile), str(path), instant(at), words or {}, None if state is None else str(state)
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class ContactRow:
    """A line of the view `device_contact`; `since` is None before the first judgement."""

    identity: str
    tag: str
    site: str
    state: str
    since: datetime | None


def states(connection: Connection, site: str | None = None) -> list[ContactRow]:
    """What was last judged of each active device, by site and tag."""
    with unavailable():
        rows = connection.execute(
            "SELECT identity, tag, site, state, since FROM device_contact"
            " WHERE %(site)s::text IS NULL OR site = %(site)s"
            " ORDER BY site, tag, identity",
            {"site": site},
        ).fetchall()
    return [ContactRow(*row) for row in rows]  # type: ignore[arg-type]


def tick(connection: Connection, now: Instant, gap: Instant) -> Instant:
    """Note that contact is judged now; returns since when that was done without a gap longer than `gap` (µs)."""
    with unavailable():
        row = connection.execute(
            "INSERT INTO contact_tick (began_at, ticked_at) VALUES (%(now)s, %(now)s) ON CONFLICT (only_one) DO UPDATE"
            " SET began_at = CASE WHEN contact_tick.ticked_at < %(oldest)s THEN excluded.began_at"
            "  ELSE contact_tick.began_at END, ticked_at = greatest(contact_tick.ticked_at, excluded.ticked_at)"
            " RETURNING began_at",
            {"now": moment(now), "oldest": moment(now - gap)},
        ).fetchone()
    assert row is not None
    assert isinstance(row[0], datetime)
    return instant(row[0])


def keep_states(connection: Connection, states: Mapping[str, str], now: Instant) -> None:
    """Write what has become of devices, by identity; `since` stays where the state does."""
    with unavailable():
        connection.execute(
            "INSERT INTO contact (device_id, state, since) SELECT d.device_id, s.state, %(now)s"
            " FROM unnest(%(identities)s::text[], %(states)s::text[]) AS s(identity, state)"
            " JOIN device d USING (identity)"
            " ON CONFLICT (device_id) DO UPDATE SET state = excluded.state, since = excluded.since"
            " WHERE contact.state <> excluded.state",
            {"identities": list(states), "states": list(states.values()), "now": moment(now)},
        )


def ongoing(connection: Connection) -> list[tuple[str, Instant, Instant, int]]:
    """Path, since, raised_at and devices of each outage that is not over."""
    with unavailable():
        rows = connection.execute(
            "SELECT path, since, raised_at, devices FROM outage WHERE ended_at IS NULL"
        ).fetchall()
    return [
        (str(path), instant(since), instant(raised), int(str(devices)))  # type: ignore[arg-type]
        for path, since, raised, devices in rows
    ]


def last_ends(connection: Connection) -> dict[str, Instant]:
    """When the last outage of each path was over."""
    with unavailable():
        rows = connection.execute(
            "SELECT path, max(ended_at) FROM outage WHERE ended_at IS NOT NULL GROUP BY 1"
        ).fetchall()
    return {str(path): instant(ended) for path, ended in rows}  # type: ignore[arg-type]


def keep_outage(
    connection: Connection,
    path: str,
    since: Instant,
    raised_at: Instant,
    devices: int,
    ended_at: Instant | None,
    announcements: Sequence[Announcement] = (),
    channels: Sequence[str] = (),
) -> None:
    """Write an outage as it stands, and what people are told of it, in one transaction."""
    with unavailable(), connection.transaction():
        connection.execute(
            "INSERT INTO outage (path, since, raised_at, devices, ended_at) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (path, since) DO UPDATE SET ended_at = excluded.ended_at",
            (path, moment(since), moment(raised_at), devices, None if ended_at is None else moment(ended_at)),
        )
        outbox.put(connection, announcements, channels)


class OutageSeen(NamedTuple):
    """An outage of a path as people work on it; `ended_at` before `raised_at` says that it was none."""

    path: str
    since: Instant
    raised_at: Instant
    devices: int
    ended_at: Instant | None
    acked_at: Instant | None
    acked_by: str | None
    comment: str | None


def outages(connection: Connection, *, ended: bool = False, limit: int = 100) -> list[OutageSeen]:
    """Outages that are on or not acknowledged, or with `ended` all of them; the newest first."""
    with unavailable():
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT path, since, raised_at, devices, ended_at, acked_at, acked_by, ack_comment FROM outage"
            " WHERE %s OR ended_at IS NULL OR (acked_at IS NULL AND ended_at >= raised_at)"
            " ORDER BY since DESC, path LIMIT %s",
            (ended, limit),
        ).fetchall()
    return [
        OutageSeen(
            path,
            instant(since),
            instant(raised_at),
            devices,
            None if ended_at is None else instant(ended_at),
            None if acked_at is None else instant(acked_at),
            by,
            comment,
        )
        for path, since, raised_at, devices, ended_at, acked_at, by, comment in rows
    ]


def acknowledge_outages(connection: Connection, path: str, by: str, comment: str) -> int:
    """Say that somebody knows of the outages of a path that nobody had acknowledged; how many those were."""
    with unavailable():
        return connection.execute(
            "UPDATE outage SET acked_at = now(), acked_by = %s, ack_comment = nullif(%s, '')"
            " WHERE path = %s AND acked_at IS NULL",
            (by, comment, path),
        ).rowcount
