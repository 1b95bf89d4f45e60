"""What the HTTP API asks about the plant: sites, assets and how they are, trends, who is heard of, quarantine.

An asset is the pump, valve or meter that a device reports on: one row of the registry.
"""

# ruff: noqa: S608 - what is put together here are constants of our own; values travel as parameters
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from devices.model import SECOND, Instant, instant, moment
from storage.database import Connection, unavailable

_OPEN = "NOT a.retracted AND (a.cleared_at IS NULL OR a.acked_at IS NULL OR (a.latching AND a.reset_at IS NULL))"
# What a person has to look at: open alarms that nothing keeps quiet, by device.
_TROUBLE = f"""
SELECT a.device_id, count(*) AS open, count(*) FILTER (WHERE a.acked_at IS NULL) AS unacknowledged,
       (ARRAY['high', 'medium', 'low'])[min(array_position(ARRAY['high', 'medium', 'low'], a.priority))] AS priority
FROM alarm a WHERE {_OPEN}
  AND NOT EXISTS (SELECT FROM alarm_suppressed s
                  WHERE s.device_id = a.device_id AND (s.rule IS NULL OR s.rule = a.rule))
GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A site and how its active assets are; `priority` is the highest of an open alarm."""

    site: str
    time_zone: str | None
    assets: int
    alarmed: int
    unacknowledged: int
    priority: str | None
    not_heard: int


def sites(connection: Connection) -> list[SiteRow]:
    """Every site that has an active device."""
    with unavailable():
        rows = connection.execute(
            f"WITH trouble AS ({_TROUBLE})"
            " SELECT d.site, s.time_zone, count(*), count(t.device_id), coalesce(sum(t.unacknowledged), 0)::bigint,"
            " (ARRAY['high', 'medium', 'low'])[min(array_position(ARRAY['high', 'medium', 'low'], t.priority))],"
            " count(*) FILTER (WHERE c.state IS NOT NULL AND c.state NOT IN ('heard', 'asleep'))"
            " FROM device d LEFT JOIN site s USING (site) LEFT JOIN contact c USING (device_id)"
            " LEFT JOIN trouble t USING (device_id) WHERE d.status = 'active' GROUP BY 1, 2 ORDER BY 1"
        ).fetchall()
    return [SiteRow(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def set_time_zone(connection: Connection, site: str, time_zone: str | None) -> None:
    """Say where a site's clock stands (a name of the IANA database); None takes it back."""
    with unavailable():
        connection.execute(
            "INSERT INTO site (site, time_zone) VALUES (%s, %s)"
            " ON CONFLICT (site) DO UPDATE SET time_zone = excluded.time_zone",
            (site, time_zone),
        )


def time_zones(connection: Connection) -> dict[str, str]:
    """The time zone of each site that has one."""
    with unavailable():
        rows = connection.execute("SELECT site, time_zone FROM site WHERE time_zone IS NOT NULL").fetchall()
    return {str(site): str(zone) for site, zone in rows}


@dataclass(frozen=True, slots=True)
class AssetRow:
    """An active device and how it is. `contact` is its state in `contact_state`."""

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
    priority: str | None
    newest: datetime | None
    out_of_service: bool


AssetCursor = tuple[str, str, str, str]


def assets(
    connection: Connection,
    *,
    site: str | None = None,
    area: str | None = None,
    text: str | None = None,
    after: AssetCursor | None = None,
    limit: int = 1000,
) -> tuple[list[AssetRow], AssetCursor | None]:
    """Active devices by site, area, tag and identity; `text` is a part of tag, identity or profile."""
    a, b, c, d = after or ("", "", "", "")
    with unavailable():
        rows = connection.execute(
            f"WITH trouble AS ({_TROUBLE})"
            " SELECT d.identity, d.tag, d.site, d.area, d.unit, d.kind, d.profile, c.state,"
            " coalesce(t.open, 0), coalesce(t.unacknowledged, 0), t.priority, p.newest,"
            " EXISTS (SELECT FROM alarm_suppressed s WHERE s.device_id = d.device_id AND s.kind = 'out_of_service')"
            " FROM device d JOIN contact_state c USING (device_id) LEFT JOIN trouble t USING (device_id)"
            " LEFT JOIN latest_pack p USING (device_id) WHERE d.status = 'active'"
            " AND (%(site)s::text IS NULL OR d.site = %(site)s) AND (%(area)s::text IS NULL OR d.area = %(area)s)"
            " AND (%(text)s::text IS NULL"
            "      OR strpos(lower(concat_ws(' ', d.tag, d.identity, d.profile)), lower(%(text)s)) > 0)"
            " AND (NOT %(more)s OR (d.site, d.area, d.tag, d.identity) > (%(a)s, %(b)s, %(c)s, %(d)s))"
            " ORDER BY d.site, d.area, d.tag, d.identity LIMIT %(limit)s",
            {
                "site": site, "area": area, "text": text, "more": after is not None,
                "a": a, "b": b, "c": c, "d": d, "limit": limit + 1,
            },
        ).fetchall()  # fmt: skip
    found = [AssetRow(*row) for row in rows[:limit]]  # type: ignore[arg-type]
    last = found[-1] if len(rows) > limit else None
    return found, None if last is None else (last.site, last.area, last.tag, last.identity)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What is known of a device beside the registry: when it was last heard, and what it proves itself with."""

    kind: str
    report_interval: timedelta
    registered_at: datetime
    contact: str
    contact_since: datetime | None
    heard_at: datetime | None
    transport: str | None
    credentials: list[str]
    quarantined: int


def facts(connection: Connection, device_id: int, identity: str) -> DeviceFacts:
    """Of a registered device."""
    with unavailable():
        row = connection.execute(
            "SELECT d.kind, d.report_interval, d.created_at, c.state, c.since, u.received_at, u.transport,"
            " ARRAY(SELECT kind FROM credential WHERE device_id = d.device_id ORDER BY 1),"
            " (SELECT coalesce(sum(rows), 0)::bigint FROM quarantine_level WHERE scope = 'device:' || %s)"
            " FROM device d JOIN contact_state c USING (device_id)"
            " LEFT JOIN LATERAL (SELECT received_at, transport FROM uplink WHERE device_id = d.device_id"
            "  AND transport <> 'import' ORDER BY received_at DESC LIMIT 1) u ON true WHERE d.device_id = %s",
            (identity, device_id),
        ).fetchone()
    assert row is not None
    return DeviceFacts(*row)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Point:
    """A reading, or a bucket of good readings."""

    at: datetime
    value: float
    quality: int | None = None
    least: float | None = None
    greatest: float | None = None
    readings: int = 1


@dataclass(frozen=True, slots=True)
class Series:
    """Points by time; `width` is the buckets' in µs, None where they are the readings themselves."""

    width: Instant | None
    points: list[Point]


_WIDTHS = tuple(
    seconds * SECOND
    for seconds in (
        *(1, 2, 5, 10, 15, 30),
        *(minutes * 60 for minutes in (1, 2, 5, 10, 15, 30)),
        *(hours * 3600 for hours in (1, 2, 3, 6, 12)),
        *(days * 86_400 for days in (1, 2, 7, 14, 28, 91, 364)),
    )
)
_HOUR, _DAY = 3600 * SECOND, 86_400 * SECOND
_ORIGIN = instant(datetime(2000, 1, 3, tzinfo=UTC))
"""Where time_bucket counts from, on every edition."""


def bucket_width(since: Instant, until: Instant, points: int) -> Instant:
    """The least width in µs, one that people count in, that gives no more than `points` buckets (at least 2)."""
    for width in _WIDTHS:
        if (until - _ORIGIN) // width - (since - _ORIGIN) // width < points:
            return width
    days = -(-(until - since) // _DAY)
    return (days // (points - 1) + 1) * _DAY


def series(connection: Connection, device_id: int, metric: str, since: Instant, until: Instant, points: int) -> Series:
    """A metric of a device from `since` to `until` (not included): its readings where there are no more than `points`
    of them, else buckets of its good readings. Buckets of an hour or more come from the stored aggregates."""
    parameters: dict[str, Any] = {
        "device": device_id, "metric": metric, "since": moment(since), "until": moment(until), "limit": points + 1,
    }  # fmt: skip
    where = (
        "WHERE device_id = %(device)s AND metric_id = (SELECT metric_id FROM metric WHERE name = %(metric)s)"
        " AND {at} >= %(since)s AND {at} < %(until)s"
    )
    with unavailable():
        rows = connection.execute(
            f"SELECT measured_at, value, quality FROM reading {where.format(at='measured_at')}"
            " ORDER BY measured_at LIMIT %(limit)s".encode(),
            parameters,
        ).fetchall()
        if len(rows) <= points:
            return Series(None, [Point(*row) for row in rows])  # type: ignore[arg-type]
        width = bucket_width(since, until, points)
        parameters["width"] = timedelta(microseconds=width)
        if width < _HOUR:
            query = (
                "SELECT time_bucket(%(width)s, measured_at), avg(value), NULL, min(value), max(value), count(*)"
                f" FROM reading {where.format(at='measured_at')} AND quality = 192 GROUP BY 1 ORDER BY 1"
            )
        else:
            view = "reading_hourly" if width % _DAY else "reading_daily"
            # The bucket that `since` lies in belongs to the answer as a whole.
            least = timedelta(hours=1) if width % _DAY else timedelta(days=1)
            parameters["since"] = moment(since) - least
            query = (
                "SELECT time_bucket(%(width)s, bucket), sum(avg_value * readings) / sum(readings), NULL,"
                f" min(min_value), max(max_value), sum(readings)::bigint FROM {view}"
                f" {where.format(at='bucket').replace('>= %(since)s', '> %(since)s')} GROUP BY 1 ORDER BY 1"
            )
        rows = connection.execute(query.encode(), parameters).fetchall()
    return Series(width, [Point(*row) for row in rows])  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ContactLine:
    """A device's contact; `words` are its newest values of battery and radio, `heard_at` its last uplink."""

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
    report_interval: timedelta
    words: dict[str, float]


CONTACT_STATES = (
    "cut_off", "silent", "flat_battery", "out_of_coverage", "late", "never_heard", "asleep", "heard",
)  # fmt: skip
_STATE = "array_position(%(order)s::text[], c.state)"
ContactCursor = tuple[int, str, str, str]


def contacts(
    connection: Connection,
    *,
    states: Sequence[str] = CONTACT_STATES,
    site: str | None = None,
    after: ContactCursor | None = None,
    limit: int = 200,
) -> tuple[list[ContactLine], ContactCursor | None]:
    """Active devices of these states, the gravest first, then by site and tag."""
    a, b, c, d = after or (0, "", "", "")
    with unavailable():
        rows = connection.execute(
            "WITH chosen AS (SELECT d.device_id, d.identity, d.tag, d.site, d.area, d.profile, d.gateway,"
            f"  c.state, c.since, d.report_interval, {_STATE} AS rank"
            "  FROM device d JOIN contact_state c USING (device_id)"
            "  WHERE d.status = 'active' AND c.state = ANY(%(states)s)"
            "  AND (%(site)s::text IS NULL OR d.site = %(site)s)"
            f"  AND (NOT %(more)s OR ({_STATE}, d.site, d.tag, d.identity) > (%(a)s, %(b)s, %(c)s, %(d)s))"
            "  ORDER BY rank, d.site, d.tag, d.identity LIMIT %(limit)s)"
            " SELECT x.identity, x.tag, x.site, x.area, x.profile, x.gateway, x.state, x.since, u.received_at,"
            " u.transport, x.report_interval, coalesce((SELECT jsonb_object_agg(m.name, l.value) FROM latest l"
            "  JOIN metric m USING (metric_id) WHERE l.device_id = x.device_id"
            "  AND m.name IN ('battery', 'battery_low', 'rsrp', 'coverage_level')), '{}')"
            " FROM chosen x LEFT JOIN LATERAL (SELECT received_at, transport FROM uplink"
            "  WHERE device_id = x.device_id AND transport <> 'import' ORDER BY received_at DESC LIMIT 1) u ON true"
            " ORDER BY x.rank, x.site, x.tag, x.identity",
            {
                "order": list(CONTACT_STATES), "states": list(states), "site": site, "more": after is not None,
                "a": a, "b": b, "c": c, "d": d, "limit": limit + 1,
            },
        ).fetchall()  # fmt: skip
    found = [ContactLine(*row) for row in rows[:limit]]  # type: ignore[arg-type]
    last = found[-1] if len(rows) > limit else None
    if last is None:
        return found, None
    return found, (CONTACT_STATES.index(last.state) + 1, last.site, last.tag, last.identity)


def contact_counts(connection: Connection, site: str | None = None) -> dict[str, int]:
    """How many active devices are in each state."""
    with unavailable():
        rows = connection.execute(
            "SELECT state, count(*) FROM device_contact WHERE %(site)s::text IS NULL OR site = %(site)s GROUP BY 1",
            {"site": site},
        ).fetchall()
    return {str(state): int(str(number)) for state, number in rows}


@dataclass(frozen=True, slots=True)
class OutageRow:
    """A path on which nobody was heard after `since`."""

    path: str
    since: datetime
    raised_at: datetime
    devices: int
    ended_at: datetime | None


def outages(connection: Connection, limit: int = 20) -> list[OutageRow]:
    """Those that are not over, and the last ones, the newest first."""
    with unavailable():
        rows = connection.execute(
            "SELECT path, since, raised_at, devices, ended_at FROM outage"
            " ORDER BY ended_at IS NOT NULL, raised_at DESC LIMIT %s",
            (limit,),
        ).fetchall()
    return [OutageRow(*row) for row in rows]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class QuarantineRow:
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


def quarantine(
    connection: Connection,
    *,
    identity: str | None = None,
    reason: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> tuple[list[QuarantineRow], int | None]:
    """Records by number, the newest first; `before` is the last number of the page before."""
    with unavailable():
        rows = connection.execute(
            "SELECT quarantine_id, received_at, reason, detail, identity, transport, source, content_format,"
            " octet_length(payload) FROM quarantine"
            " WHERE (%(identity)s::text IS NULL OR identity = %(identity)s)"
            " AND (%(reason)s::text IS NULL OR reason = %(reason)s)"
            " AND (%(before)s::bigint IS NULL OR quarantine_id < %(before)s)"
            " ORDER BY quarantine_id DESC LIMIT %(limit)s",
            {"identity": identity, "reason": reason, "before": before, "limit": limit + 1},
        ).fetchall()
    found = [QuarantineRow(*row) for row in rows[:limit]]  # type: ignore[arg-type]
    return found, found[-1].number if len(rows) > limit else None


def newest_readings(connection: Connection, identities: Sequence[str]) -> dict[str, datetime]:
    """The newest sample time of each of these devices that has one."""
    with unavailable():
        rows = connection.execute(
            "SELECT d.identity, p.newest FROM latest_pack p JOIN device d USING (device_id) WHERE d.identity = ANY(%s)",
            (list(identities),),
        ).fetchall()
    return {str(identity): newest for identity, newest in rows}  # type: ignore[misc]
