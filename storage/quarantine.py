"""The quarantine: what could not be stored, as it came, with its reason; bounded, so that nobody can fill the disk.

`keep` writes inside the commit path's transaction; the rest is for `headworks quarantine`. What an uplink means is not
decided here (`ingest.translate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from devices.batch import QuarantineRecord
from devices.model import Codec, Instant, Reading, Reason, Transport, Uplink, instant, moment
from storage.database import Connection, unavailable


@dataclass(frozen=True, slots=True)
class Share:
    """How much one scope may hold."""

    rows: int
    bytes: int
    """Of payload."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the quarantine holds. Above it the newest records are counted and not kept: the first ones show how the
    trouble began, and a flood must not push out what others left."""

    device: Share = Share(1_000, 4 << 20)
    """Of each registered device: ten days of a device that reports every quarter of an hour."""
    source: Share = Share(1_000, 4 << 20)
    """Of each source that is not a registered device: a peer's address, a topic."""
    strangers: Share = Share(50_000, 128 << 20)
    """Of all sources together that are not registered devices."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Kept:
    """What `keep` did, in records."""

    kept: int = 0
    dropped: int = 0


_LEVELS = "SELECT scope, rows, bytes FROM quarantine_level WHERE scope = ANY(%s) ORDER BY scope FOR UPDATE"
# A share that holds nothing has no row to lock: it is made first, so that of two writers one waits for the other.
_ENSURE = """
INSERT INTO quarantine_level (scope, rows, bytes)
SELECT scope, 0, 0 FROM unnest(%s::text[]) AS s(scope) ORDER BY scope ON CONFLICT DO NOTHING
"""
_INSERT = """
INSERT INTO quarantine
    (received_at, reason, detail, identity, transport, source, content_format, codec, payload, scope,
     claimed, authenticated)
SELECT * FROM unnest(
    %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bytea[],
    %s::text[], %s::bool[], %s::text[])
"""
_DROP = """
INSERT INTO quarantine_dropped AS d (scope, reason, dropped, bytes, first_dropped_at, last_dropped_at)
SELECT scope, reason, count(*), sum(bytes), min(at), max(at)
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::timestamptz[]) AS i(scope, reason, bytes, at)
GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (scope, reason) DO UPDATE SET
    dropped = d.dropped + excluded.dropped, bytes = d.bytes + excluded.bytes,
    first_dropped_at = least(d.first_dropped_at, excluded.first_dropped_at),
    last_dropped_at = greatest(d.last_dropped_at, excluded.last_dropped_at)
"""
_STRANGERS = "strangers"


def keep(connection: Connection, records: Sequence[QuarantineRecord], limits: Limits = DEFAULT_LIMITS) -> Kept:
    """Put records into quarantine, in the transaction the caller has open; what is above the limits is counted.

    Costs five statements whatever the number of records, and nothing without any. Two writers at once take turns on
    the shares that both of them fill, so the limits hold exactly.
    """
    if not records:
        return Kept()
    identities = [None if record.identity is None else clean(record.identity) for record in records]
    registered = {
        str(identity)
        for (identity,) in connection.execute(
            "SELECT identity FROM device WHERE identity = ANY(%s)", (sorted({name for name in identities if name}),)
        )
    }
    scopes = [
        f"device:{identity}" if identity in registered else f"source:{_origin(record.uplink)}"
        for identity, record in zip(identities, records, strict=True)
    ]
    kept, dropped = _fit(connection, records, scopes, limits)
    if kept:
        taken = [records[index] for index in kept]
        connection.execute(
            _INSERT,
            (
                [moment(record.uplink.received_at) for record in taken],
                [record.reason.value for record in taken],
                [clean(record.detail) for record in taken],
                [identities[index] for index in kept],
                [record.uplink.transport.value for record in taken],
                [clean(record.uplink.source) for record in taken],
                [record.uplink.content_format for record in taken],
                [None if record.uplink.codec is None else record.uplink.codec.value for record in taken],
                [record.uplink.payload for record in taken],
                [scopes[index] for index in kept],
                [record.uplink.identity is None for record in taken],
                [record.uplink.authenticated for record in taken],
            ),
        )
    if dropped:
        lost = [records[index] for index in dropped]
        whose = [
            scopes[index]
            if scopes[index].startswith("device:")
            else f"{_STRANGERS}:{records[index].uplink.transport.value}"
            for index in dropped
        ]
        connection.execute(
            _DROP,
            (
                whose,
                [record.reason.value for record in lost],
                [len(record.uplink.payload) for record in lost],
                [moment(record.uplink.received_at) for record in lost],
            ),
        )
    return Kept(len(kept), len(dropped))


def _fit(
    connection: Connection, records: Sequence[QuarantineRecord], scopes: Sequence[str], limits: Limits
) -> tuple[list[int], list[int]]:
    """Which records still fit into their share, and which don't, by their places; locks the shares until the commit."""
    asked = sorted({*scopes, *(_STRANGERS for scope in scopes if scope.startswith("source:"))})
    connection.execute(_ENSURE, (asked,))
    levels = {
        str(scope): (int(str(rows)), int(str(size)))
        for scope, rows, size in connection.execute(_LEVELS, (asked,)).fetchall()
    }
    kept: list[int] = []
    dropped: list[int] = []
    for index, (record, scope) in enumerate(zip(records, scopes, strict=True)):
        size = len(record.uplink.payload)
        shares = (
            {scope: limits.device}
            if scope.startswith("device:")
            else {scope: limits.source, _STRANGERS: limits.strangers}
        )
        filled = {name: (levels[name][0] + 1, levels[name][1] + size) for name in shares}
        if all(filled[name][0] <= share.rows and filled[name][1] <= share.bytes for name, share in shares.items()):
            levels.update(filled)
            kept.append(index)
        else:
            dropped.append(index)
    empty = [scope for scope in asked if levels[scope][0] == 0]
    if empty:
        connection.execute("DELETE FROM quarantine_level WHERE scope = ANY(%s) AND rows = 0", (empty,))
    return kept, dropped


def _origin(uplink: Uplink) -> str:
    """Where a stranger's uplink came from: for CoAP the host without its port, which changes with every NAT binding."""
    source = clean(uplink.source)
    if uplink.transport is Transport.COAP:
        host, colon, port = source.rpartition(":")
        if colon and port.isdigit() and (":" not in host or host.startswith("[")):
            source = host
    return f"{uplink.transport.value} {source}"[:200]


def clean(text: str) -> str:
    """A text that came from outside as PostgreSQL can store it: no NUL, no lone surrogates, bounded."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:1000]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are meant; None means any. `since` is included, `until` is not; both are times of receipt."""

    identity: str | None = None
    reason: Reason | None = None
    since: Instant | None = None
    until: Instant | None = None


_WHERE = """
WHERE (%(identity)s::text IS NULL OR identity = %(identity)s) AND (%(reason)s::text IS NULL OR reason = %(reason)s)
  AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
"""


def _parameters(selection: Selection) -> dict[str, object]:
    return {
        "identity": selection.identity,
        "reason": None if selection.reason is None else selection.reason.value,
        "since": None if selection.since is None else moment(selection.since),
        "until": None if selection.until is None else moment(selection.until),
    }


@dataclass(frozen=True, slots=True)
class Stored:
    """One record in quarantine."""

    number: int
    reason: Reason
    detail: str
    identity: str | None
    uplink: Uplink


@dataclass(frozen=True, slots=True)
class Group:
    """Records of one identity and reason."""

    reason: str
    identity: str | None
    records: int
    bytes: int
    first: datetime
    last: datetime


def summary(connection: Connection, selection: Selection, limit: int) -> list[Group]:
    """The records by identity and reason, the most numerous first."""
    return [
        Group(*row)  # type: ignore[arg-type]
        for row in _ask(
            connection,
            "SELECT reason, identity, count(*), sum(octet_length(payload))::bigint,"  # noqa: S608 - our own constants
            f" min(received_at), max(received_at) FROM quarantine {_WHERE}"
            " GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT %(limit)s",
            _parameters(selection) | {"limit": limit},
        )
    ]


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was counted and not kept, of one scope and reason."""

    scope: str
    reason: str
    records: int
    bytes: int
    first: datetime
    last: datetime


def dropped(connection: Connection) -> list[Dropped]:
    """Everything that came when its share was full."""
    return [
        Dropped(*row)  # type: ignore[arg-type]
        for row in _ask(
            connection,
            "SELECT scope, reason, dropped, bytes, first_dropped_at, last_dropped_at FROM quarantine_dropped"
            " ORDER BY dropped DESC, scope, reason",
            {},
        )
    ]


_RECORD = """
SELECT quarantine_id, reason, detail, identity, claimed, transport, source, content_format, codec, payload, received_at,
       authenticated
FROM quarantine
"""


def records(connection: Connection, selection: Selection, limit: int) -> list[Stored]:
    """The newest records, newest first."""
    return [
        _stored(row)
        for row in _ask(
            connection,
            f"{_RECORD} {_WHERE} ORDER BY received_at DESC, quarantine_id DESC LIMIT %(limit)s",
            _parameters(selection) | {"limit": limit},
        )
    ]


def one(connection: Connection, number: int) -> Stored | None:
    """A record by its number."""
    rows = _ask(connection, f"{_RECORD} WHERE quarantine_id = %(number)s", {"number": number})
    return _stored(rows[0]) if rows else None


def page(connection: Connection, selection: Selection, size: int) -> list[Stored]:
    """The oldest records, at least `size` where there are so many: those of one uplink are never parted."""
    return [
        _stored(row)
        for row in _ask(
            connection,
            f"{_RECORD} {_WHERE} ORDER BY received_at FETCH FIRST %(size)s ROWS WITH TIES",
            _parameters(selection) | {"size": size},
        )
    ]


def count(connection: Connection, selection: Selection) -> int:
    """How many records are meant."""
    rows = _ask(connection, f"SELECT count(*) FROM quarantine {_WHERE}", _parameters(selection))  # noqa: S608
    return int(str(rows[0][0]))


def purge(connection: Connection, selection: Selection) -> int:
    """Delete records; returns how many there were."""
    with unavailable():
        query = f"DELETE FROM quarantine {_WHERE}"  # noqa: S608
        return connection.execute(query.encode(), _parameters(selection)).rowcount


@dataclass(slots=True)
class Verdicts:
    """What becomes of records after they were decoded again."""

    released: list[int] = field(default_factory=list)
    """Numbers of those that are stored now."""
    changed: list[tuple[int, Reason, str]] = field(default_factory=list)
    """Numbers of those that stay with another reason or detail."""


def settle(connection: Connection, verdicts: Verdicts) -> None:
    """Apply verdicts in one transaction."""
    with unavailable(), connection.transaction():
        connection.execute("DELETE FROM quarantine WHERE quarantine_id = ANY(%s)", (verdicts.released,))
        connection.execute(
            "UPDATE quarantine q SET reason = i.reason, detail = i.detail"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS i(number, reason, detail)"
            " WHERE q.quarantine_id = i.number",
            (
                [number for number, _, _ in verdicts.changed],
                [reason.value for _, reason, _ in verdicts.changed],
                [clean(detail) for _, _, detail in verdicts.changed],
            ),
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """A set of readings beside what is stored already."""

    fresh: list[Reading]
    known: list[Reading]
    """Stored with the same value."""
    differing: list[Reading]
    """Stored with another value."""


_COMPARE = """
SELECT i.ord, r.value = i.value
FROM unnest(%(devices)s::text[], %(metrics)s::text[], %(times)s::timestamptz[], %(values)s::float8[])
    WITH ORDINALITY AS i(device, metric, measured_at, value, ord)
JOIN device d ON d.identity = i.device JOIN metric m ON m.name = i.metric
JOIN reading r ON r.device_id = d.device_id AND r.metric_id = m.metric_id AND r.measured_at = i.measured_at
WHERE r.measured_at BETWEEN %(since)s AND %(until)s
"""


def compare(connection: Connection, readings: Sequence[Reading]) -> Compared:
    """Which readings are stored already. A reading of an unknown device or metric is fresh."""
    result = Compared([], [], [])
    if not readings:
        return result
    times = [moment(reading.measured_at) for reading in readings]
    rows = _ask(
        connection,
        _COMPARE,
        {
            "devices": [reading.device for reading in readings],
            "metrics": [reading.metric for reading in readings],
            "times": times,
            "values": [reading.value for reading in readings],
            "since": min(times),
            "until": max(times),
        },
    )
    equal = {int(str(number)) - 1: bool(same) for number, same in rows}
    for index, reading in enumerate(readings):
        place = result.fresh if index not in equal else result.known if equal[index] else result.differing
        place.append(reading)
    return result


def _ask(connection: Connection, query: str, parameters: dict[str, object]) -> list[tuple[object, ...]]:
    with unavailable():
        return connection.execute(query.encode(), parameters).fetchall()


def _stored(row: tuple[object, ...]) -> Stored:
    (
        number,
        reason,
        detail,
        identity,
        claimed,
        transport,
        source,
        content_format,
        codec,
        payload,
        received_at,
        authenticated,
    ) = row
    assert isinstance(number, int)
    assert isinstance(payload, bytes)
    assert isinstance(received_at, datetime)
    uplink = Uplink(
        Transport(str(transport)),
        payload,
        instant(received_at),
        None if identity is None or claimed else str(identity),
        None if content_format is None else int(str(content_format)),
        str(source),
        None if codec is None else Codec(str(codec)),
        None if authenticated is None else str(authenticated),
    )
    return Stored(number, Reason(str(reason)), str(detail), None if identity is None else str(identity), uplink)
