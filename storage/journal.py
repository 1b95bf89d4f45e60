"""The alarm journal: applies the engine's changes, and gives back what it holds.

Changes and the engine's position commit together, so that a crash never leaves one without the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from devices.alarm import Alarm, AlarmChange, ChangeKind, Priority
from devices.model import Instant, instant, moment
from storage.database import Connection, unavailable

_OCCURRENCE = "rule, device.identity, alarm.priority, message, since, raised_at, cleared_at, value"


_RAISE = """
INSERT INTO alarm (rule, device_id, priority, message, since, raised_at, cleared_at, value)
SELECT %(rule)s, device_id, %(priority)s, %(message)s, %(since)s, %(raised_at)s, %(cleared_at)s, %(value)s
FROM device WHERE identity = %(device)s
ON CONFLICT (rule, device_id, raised_at) WHERE NOT retracted DO NOTHING RETURNING alarm_id
"""
_AMEND = """
UPDATE alarm SET since = %(since)s, raised_at = %(raised_at)s, cleared_at = %(cleared_at)s, value = %(value)s,
       message = %(message)s, retracted = false
WHERE alarm_id = %(number)s
"""


def occurrences(connection: Connection, identity: str) -> list[Alarm]:
    """Every occurrence of a device that was not retracted, oldest first."""
    with unavailable():
        rows = connection.execute(
            f"SELECT {_OCCURRENCE} FROM alarm JOIN device USING (device_id)"  # noqa: S608 - a constant
            " WHERE device.identity = %s AND NOT retracted ORDER BY raised_at, rule",
            (identity,),
        ).fetchall()
    return [_alarm(row) for row in rows]


def record(
    connection: Connection, changes: Sequence[AlarmChange], position: int | None, consumer: str = "live"
) -> None:
    """Write changes to the journal and move the engine's position, in one transaction.

    Applying a change that the journal holds already is not an error: after a crash the engine may judge again what it
    had judged.
    """
    with unavailable(), connection.transaction():
        # Two passes: an amended occurrence may take the time that another had before it was amended itself.
        numbers = [_set_aside(connection, change) for change in changes]
        for change, number in zip(changes, numbers, strict=True):
            _apply(connection, change, number)
        if position is not None:
            connection.execute(
                "INSERT INTO engine_position (consumer, xid) VALUES (%s, %s::text::xid8)"
                " ON CONFLICT (consumer) DO UPDATE SET xid = excluded.xid, updated_at = now()"
                " WHERE engine_position.xid < excluded.xid",
                (consumer, position),
            )


def position(connection: Connection, consumer: str = "live") -> int:
    """Up to which transaction everything has been judged; 0 at first."""
    with unavailable():
        row = connection.execute("SELECT xid::text FROM engine_position WHERE consumer = %s", (consumer,)).fetchone()
    return int(str(row[0])) if row else 0


def _set_aside(connection: Connection, change: AlarmChange) -> int | None:
    """Take the occurrence as it was out of the journal's present view; returns its number, None for a new one."""
    if change.before is None:
        return None
    row = connection.execute(
        "UPDATE alarm SET retracted = true FROM device WHERE device.device_id = alarm.device_id"
        " AND identity = %s AND rule = %s AND raised_at = %s AND NOT retracted RETURNING alarm_id",
        (change.before.device, change.before.rule, moment(change.before.raised_at)),
    ).fetchone()
    return int(str(row[0])) if row else None


def _apply(connection: Connection, change: AlarmChange, number: int | None) -> None:
    alarm = change.alarm
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
    if change.before is None:
        row = connection.execute(_RAISE, parameters).fetchone()
        if row is None:
            return  # the journal holds it already: judged again after a crash
        number = int(str(row[0]))
    elif number is None:
        return
    elif change.after is not None:
        connection.execute(_AMEND, parameters)
    connection.execute(
        "INSERT INTO alarm_event (alarm_id, kind, at, detail) VALUES (%s, %s, %s, %s)",
        (number, change.kind.value, moment(_event_time(change)), Jsonb(_detail(change))),
    )


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
