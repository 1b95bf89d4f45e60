"""The alarm journal: applies the engine's changes, and gives back what it holds.

Changes and the engine's position commit together, so that a crash never leaves one without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg.types.json import Jsonb

from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind, Priority
from devices.model import Instant, instant, moment
from storage import outbox
from storage.database import Connection, unavailable

_OCCURRENCE = "rule, device.identity, alarm.priority, message, since, raised_at, cleared_at, value"


# What keeps an alarm quiet when it is recorded, the most lasting first.
_QUIET = """
(SELECT s.kind FROM alarm_suppressed s
 WHERE s.device_id = d.device_id AND (s.rule IS NULL OR s.rule = %(rule)s)
 ORDER BY array_position(ARRAY['out_of_service', 'suppressed', 'shelved'], s.kind) LIMIT 1)
"""
# As `Rule.told_when_over` has it.
_TOLD_WHEN_OVER = "coalesce(r.latching OR r.alarm_class = 'safety', false)"
_RAISE = f"""
INSERT INTO alarm (rule, device_id, priority, message, since, raised_at, cleared_at, value, latching, severity,
                   alarm_class, suppressed_by, annunciated_at)
SELECT %(rule)s, d.device_id, %(priority)s, %(message)s, %(since)s, %(raised_at)s, %(cleared_at)s, %(value)s,
       coalesce(r.latching, false), r.severity, r.alarm_class, q.kind,
       CASE WHEN q.kind IS NULL AND (%(cleared_at)s::timestamptz IS NULL OR {_TOLD_WHEN_OVER}) THEN now() END
FROM device d LEFT JOIN alarm_rule r ON r.rule = %(rule)s CROSS JOIN LATERAL (SELECT {_QUIET} AS kind) q
WHERE d.identity = %(device)s
ON CONFLICT (rule, device_id, raised_at) WHERE NOT retracted DO NOTHING RETURNING alarm_id
"""  # noqa: S608 - a constant of this module
_AMEND = f"""
UPDATE alarm a SET since = %(since)s, raised_at = %(raised_at)s, cleared_at = %(cleared_at)s, value = %(value)s,
       message = %(message)s, retracted = false,
       annunciated_at = coalesce(annunciated_at, CASE WHEN %(cleared_at)s::timestamptz IS NULL AND {_QUIET} IS NULL
                                                 THEN now() END)
FROM device d WHERE d.device_id = a.device_id AND a.alarm_id = %(number)s
"""  # noqa: S608
_END_ONE_SHOT = """
UPDATE alarm_suppression s SET ended_at = now(), ended_by = 'engine' FROM device d
WHERE s.one_shot AND s.ended_at IS NULL AND s.device_id = d.device_id AND d.identity = %(device)s AND s.rule = %(rule)s
RETURNING s.device_id
"""


_LEAD = 0x4C454144  # "LEAD"


def lead(connection: Connection) -> bool:
    """Ask to be the one engine that writes the journal of this database; held until the connection ends."""
    with unavailable():
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LEAD,)).fetchone()
    return bool(row and row[0])


def occurrences(connection: Connection, identities: Sequence[str]) -> list[Alarm]:
    """Every occurrence of these devices that was not retracted, oldest first."""
    with unavailable():
        rows = connection.execute(
            f"SELECT {_OCCURRENCE} FROM alarm JOIN device USING (device_id)"  # noqa: S608 - a constant
            " WHERE device.identity = ANY(%s) AND NOT retracted ORDER BY raised_at, rule",
            (list(identities),),
        ).fetchall()
    return [_alarm(row) for row in rows]


def active(connection: Connection, rules: Sequence[str], *, others: bool = False) -> list[Alarm]:
    """The occurrences of these rules that are on; of all `others` than these."""
    with unavailable():
        rows = connection.execute(
            f"SELECT {_OCCURRENCE} FROM alarm JOIN device USING (device_id)"  # noqa: S608 - a constant
            " WHERE (rule = ANY(%s)) <> %s AND cleared_at IS NULL AND NOT retracted ORDER BY raised_at, rule",
            (list(rules), others),
        ).fetchall()
    return [_alarm(row) for row in rows]


def record(
    connection: Connection,
    changes: Sequence[AlarmChange],
    position: int | None,
    consumer: str = "live",
    *,
    announcements: Sequence[Announcement] = (),
    channels: Sequence[str] = (),
) -> None:
    """Write changes to the journal, their announcements to the outbox, and the engine's position, in one transaction.

    Applying a change that the journal holds already is not an error: after a crash the engine may judge again what it
    had judged.
    """
    with unavailable(), connection.transaction():
        displaced: dict[_Key, int] = {}
        for change in changes:
            _apply(connection, change, displaced)
        for (_, _, raised_at), number in displaced.items():  # the engine knows it no longer: keep that visible
            _event(connection, number, ChangeKind.RETRACTED, moment(raised_at), {"why": "displaced"})
        outbox.put(connection, announcements, channels)
        if position is not None:
            connection.execute(
                "INSERT INTO engine_position (consumer, xid) VALUES (%s, %s::text::xid8)"
                " ON CONFLICT (consumer) DO UPDATE SET xid = excluded.xid, updated_at = now()"
                " WHERE engine_position.xid < excluded.xid",
                (consumer, position),
            )


def remark(connection: Connection, alarms: Sequence[Alarm], text: str) -> None:
    """Add a remark of the engine's to occurrences."""
    with unavailable():
        connection.cursor().executemany(
            "INSERT INTO alarm_event (alarm_id, kind, at, detail)"
            " SELECT alarm_id, 'commented', now(), %s FROM alarm JOIN device USING (device_id)"
            " WHERE rule = %s AND identity = %s AND raised_at = %s AND NOT retracted",
            [(Jsonb({"comment": text}), alarm.rule, alarm.device, moment(alarm.raised_at)) for alarm in alarms],
        )


def position(connection: Connection, consumer: str = "live") -> int:
    """Up to which transaction everything has been judged; 0 at first."""
    with unavailable():
        row = connection.execute("SELECT xid::text FROM engine_position WHERE consumer = %s", (consumer,)).fetchone()
    return int(str(row[0])) if row else 0


_Key = tuple[str, str, Instant]
"""(rule, device, raised_at): what identifies an occurrence that is not retracted."""


def _set_aside(connection: Connection, key: _Key) -> int | None:
    """Take an occurrence out of the journal's present view; returns its number, None if there is none."""
    rule, identity, raised_at = key
    row = connection.execute(
        "UPDATE alarm SET retracted = true FROM device WHERE device.device_id = alarm.device_id"
        " AND rule = %s AND identity = %s AND raised_at = %s AND NOT retracted RETURNING alarm_id",
        (rule, identity, moment(raised_at)),
    ).fetchone()
    return int(str(row[0])) if row else None


def _apply(connection: Connection, change: AlarmChange, displaced: dict[_Key, int]) -> None:
    """Apply one change. An amended occurrence may take the time of another that a later change moves away: that one is
    set aside in `displaced` until its turn comes."""
    alarm = change.alarm
    number: int | None = None
    if change.before is not None:
        key = _key(change.before)
        number = displaced.pop(key, None) or _set_aside(connection, key)
        if number is None:
            return  # not in the journal: nothing to change
    if change.after is not None:
        parameters = {
            "number": number,
            "rule": alarm.rule,
            "device": alarm.device,
            "priority": alarm.priority.value,
            "message": alarm.message,
            "since": moment(alarm.since),
            "raised_at": moment(alarm.raised_at),
            "cleared_at": None if alarm.cleared_at is None else moment(alarm.cleared_at),
            "value": alarm.value,
        }
        if number is None:
            row = connection.execute(_RAISE, parameters).fetchone()
            if row is None:
                return  # the journal holds it already: judged again after a crash
            number = int(str(row[0]))
        else:
            occupant = _set_aside(connection, _key(alarm))
            if occupant is not None:
                displaced[_key(alarm)] = occupant
            connection.execute(_AMEND, parameters)
    assert number is not None
    _event(connection, number, change.kind, moment(_event_time(change)), _detail(change))
    if alarm.cleared_at is not None and change.kind in (ChangeKind.RAISED, ChangeKind.CLEARED):
        for (device,) in connection.execute(_END_ONE_SHOT, {"device": alarm.device, "rule": alarm.rule}).fetchall():
            connection.execute(
                "INSERT INTO alarm_event (kind, at, rule, device_id, detail) VALUES ('unshelved', now(), %s, %s, %s)",
                (alarm.rule, device, Jsonb({"why": "returned to normal"})),
            )
    if change.kind is ChangeKind.RAISED and alarm.cleared_at is not None:
        # Over by the time we learned of it: the journal still has both transitions.
        _event(connection, number, ChangeKind.CLEARED, moment(alarm.cleared_at), _detail(change))


def _event(connection: Connection, number: int, kind: ChangeKind, at: datetime, detail: dict[str, object]) -> None:
    connection.execute(
        "INSERT INTO alarm_event (alarm_id, kind, at, detail) VALUES (%s, %s, %s, %s)",
        (number, kind.value, at, Jsonb(detail)),
    )


def _key(alarm: Alarm) -> _Key:
    return (alarm.rule, alarm.device, alarm.raised_at)


def _event_time(change: AlarmChange) -> Instant:
    alarm = change.alarm
    if change.kind is ChangeKind.CLEARED and alarm.cleared_at is not None:
        return alarm.cleared_at
    return alarm.raised_at


def _detail(change: AlarmChange) -> dict[str, object]:
    """What an event keeps of the occurrence before the change: the history of an amended alarm."""
    detail: dict[str, object] = {"value": change.alarm.value}
    if change.kind in (ChangeKind.AMENDED, ChangeKind.RETRACTED) and change.before is not None:
        detail["before"] = {
            "since": moment(change.before.since).isoformat(),
            "raised_at": moment(change.before.raised_at).isoformat(),
            "cleared_at": None if change.before.cleared_at is None else moment(change.before.cleared_at).isoformat(),
        }
    if change.after is not None:
        detail["since"] = moment(change.after.since).isoformat()
        detail["cleared_at"] = None if change.after.cleared_at is None else moment(change.after.cleared_at).isoformat()
    return detail


def _alarm(row: tuple[object, ...]) -> Alarm:
    rule, device, priority, message, since, raised_at, cleared_at, value = row
    return Alarm(
        rule=str(rule),
        device=str(device),
        priority=Priority(str(priority)),
        message=str(message),
        since=instant(since),  # type: ignore[arg-type]
        raised_at=instant(raised_at),  # type: ignore[arg-type]
        cleared_at=None if cleared_at is None else instant(cleared_at),  # type: ignore[arg-type]
        value=None if value is None else float(str(value)),
    )


def all_occurrences(connection: Connection) -> list[Alarm]:
    """The whole journal without what was retracted, oldest first."""
    with unavailable():
        rows = connection.execute(
            f"SELECT {_OCCURRENCE} FROM alarm JOIN device USING (device_id)"  # noqa: S608 - a constant
            " WHERE NOT retracted ORDER BY raised_at, rule"
        ).fetchall()
    return [_alarm(row) for row in rows]
