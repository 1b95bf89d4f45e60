"""What people did with alarms: acknowledgements, resets, suppressions, each with who, when and why in the journal.

Which step is possible is decided in `alerts.lifecycle`; the wiring brings both together. What the engine writes is in
`storage.journal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.types.json import Jsonb

from devices.alarm import AlarmDefinition, AlarmState, Priority, Suppression, SuppressionKind
from devices.model import Instant, instant, moment
from storage.database import Connection, unavailable

_BEGIN = {"shelved": "shelved", "suppressed": "suppressed", "out_of_service": "out_of_service"}
_END = {"shelved": "unshelved", "suppressed": "unsuppressed", "out_of_service": "in_service"}


@dataclass(frozen=True, slots=True)
class ListedAlarm:
    """An occurrence as a list shows it. `suppressions` are those in force now."""

    number: int
    rule: str
    device: str
    tag: str
    site: str
    area: str
    priority: Priority
    message: str
    state: AlarmState
    since: Instant
    raised_at: Instant
    cleared_at: Instant | None
    recorded_at: Instant
    acknowledged_by: str | None
    suppressions: tuple[SuppressionKind, ...]
    title: str
    guidance: dict[str, str]


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One transition: `at` is the sample time (or when a person acted), `recorded_at` when it was written."""

    kind: str
    at: datetime
    recorded_at: datetime
    actor: str
    detail: dict[str, object]


COLUMNS = """
       a.alarm_id, a.rule, d.identity, d.tag, d.site, d.area, a.priority, a.message, a.state, a.since, a.raised_at,
       a.cleared_at, a.recorded_at, a.acked_by, a.suppressions, coalesce(r.title, a.rule), coalesce(r.guidance, '{}')
FROM alarm_state a JOIN device d USING (device_id) LEFT JOIN alarm_rule r USING (rule)
"""
"""What `listed` reads, and where from."""
_LIST = f"""
SELECT {COLUMNS}
WHERE NOT a.retracted
  AND (%(number)s::bigint IS NULL OR a.alarm_id = %(number)s)
  AND (NOT %(open)s OR a.state <> 'normal')
  AND (%(suppressed)s OR a.suppressions IS NULL)
  AND (%(site)s::text IS NULL OR d.site = %(site)s)
  AND (%(device)s::text IS NULL OR d.identity = %(device)s OR d.tag = %(device)s)
  AND (%(rule)s::text IS NULL OR a.rule = %(rule)s)
  AND (%(priority)s::text IS NULL OR a.priority = %(priority)s)
  AND (%(since)s::timestamptz IS NULL OR a.raised_at >= %(since)s)
  AND (%(before)s::bigint IS NULL OR a.alarm_id < %(before)s)
"""
# Unacknowledged first, then by priority and age: the order in which to work. A page goes by number: it stays right
# while new alarms come in.
_WORK = """
ORDER BY array_position(
             ARRAY['unacknowledged', 'returned_unacknowledged', 'latched', 'acknowledged', 'normal'], a.state),
         array_position(ARRAY['high', 'medium', 'low'], a.priority), a.raised_at DESC, a.alarm_id DESC LIMIT %(limit)s
"""
_PAGE = "ORDER BY a.alarm_id DESC LIMIT %(limit)s"


def define(connection: Connection, rules: Sequence[AlarmDefinition]) -> None:
    """Make the rules known that the engine has loaded; what is no longer among them is marked as not in use."""
    with unavailable(), connection.transaction():
        connection.cursor().executemany(
            "INSERT INTO alarm_rule (rule, title, alarm_class, priority, severity, latching, time_to_respond, guidance)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (rule) DO UPDATE SET"
            " (title, alarm_class, priority, severity, latching, time_to_respond, guidance, in_use, updated_at) ="
            " (excluded.title, excluded.alarm_class, excluded.priority, excluded.severity, excluded.latching,"
            " excluded.time_to_respond, excluded.guidance, true, now())",
            [
                (
                    rule.rule,
                    rule.title,
                    rule.alarm_class,
                    rule.priority.value,
                    rule.severity,
                    rule.latching,
                    timedelta(microseconds=rule.time_to_respond),
                    Jsonb(
                        {
                            "cause": rule.cause,
                            "consequence": rule.consequence,
                            "corrective_action": rule.corrective_action,
                        }
                    ),
                )
                for rule in rules
            ],
        )
        connection.execute(
            "UPDATE alarm_rule SET in_use = false WHERE in_use AND rule <> ALL(%s)", ([rule.rule for rule in rules],)
        )


def alarms(
    connection: Connection,
    *,
    number: int | None = None,
    only_open: bool = False,
    suppressed: bool = True,
    site: str | None = None,
    device: str | None = None,
    rule: str | None = None,
    priority: Priority | None = None,
    since: Instant | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[ListedAlarm]:
    """Occurrences by these filters: in working order, or (with `before`, the last number of the page before) newest
    number first. `device` is an identity or a tag."""
    with unavailable():
        rows = connection.execute(
            (_LIST + (_WORK if before is None else _PAGE)).encode(),
            {
                "number": number,
                "open": only_open,
                "suppressed": suppressed,
                "site": site,
                "device": device,
                "rule": rule,
                "priority": None if priority is None else priority.value,
                "since": None if since is None else moment(since),
                "before": before,
                "limit": limit,
            },
        ).fetchall()
    return [listed(row) for row in rows]


def lines(connection: Connection, number: int) -> list[JournalLine]:
    """Every transition of an occurrence, and the suppressions of its rule on its device since then, oldest first."""
    with unavailable():
        rows = connection.execute(
            "SELECT e.kind, e.at, e.recorded_at, e.actor, e.detail FROM alarm_event e, alarm a WHERE a.alarm_id = %s"
            " AND (e.alarm_id = a.alarm_id OR (e.alarm_id IS NULL AND e.device_id = a.device_id"
            "      AND (e.rule IS NULL OR e.rule = a.rule) AND e.at >= a.since))"
            " ORDER BY e.alarm_event_id",
            (number,),
        ).fetchall()
    return [JournalLine(*row) for row in rows]  # type: ignore[arg-type]  # the columns' types


def sequence(connection: Connection, number: int) -> tuple[int, int, ListedAlarm] | None:
    """What called one after another in the unit of an alarm (the view `alarm_sequence`): its place from 1, how many
    there are, and the first one; None for an alarm that stands alone."""
    with unavailable():
        row = connection.execute(
            "SELECT place, alarms, first_out FROM alarm_sequence WHERE alarm_id = %s AND alarms > 1", (number,)
        ).fetchone()
    if row is None:
        return None
    place, count, first = (int(str(value)) for value in row)
    return place, count, alarms(connection, number=first)[0]


def acknowledge(connection: Connection, numbers: Sequence[int], by: str, comment: str = "") -> list[int]:
    """Acknowledge occurrences; returns those that this call acknowledged (not the ones that were already, or are
    unknown, or were retracted)."""
    with unavailable(), connection.transaction():
        rows = connection.execute(
            "UPDATE alarm SET acked_at = now(), acked_by = %s"
            " WHERE alarm_id = ANY(%s) AND acked_at IS NULL AND NOT retracted RETURNING alarm_id",
            (by, list(numbers)),
        ).fetchall()
        done = sorted(int(str(number)) for (number,) in rows)
        _note(connection, done, "acknowledged", by, comment)
    return done


def reset(connection: Connection, number: int, by: str, comment: str = "") -> bool:
    """Release a latched alarm; False where it is not latched (any more)."""
    with unavailable(), connection.transaction():
        done = connection.execute(
            "UPDATE alarm SET reset_at = now(), reset_by = %s WHERE alarm_id = %s AND latching AND reset_at IS NULL"
            " AND cleared_at IS NOT NULL AND acked_at IS NOT NULL AND NOT retracted",
            (by, number),
        ).rowcount
        if done:
            _note(connection, [number], "reset", by, comment)
    return bool(done)


def comment(connection: Connection, number: int, by: str, text: str) -> bool:
    """Add a remark to an occurrence; False where there is none of that number."""
    with unavailable(), connection.transaction():
        known = connection.execute("SELECT FROM alarm WHERE alarm_id = %s", (number,)).fetchone()
        if known is not None:
            _note(connection, [number], "commented", by, text)
    return known is not None


def suppress(connection: Connection, suppression: Suppression) -> bool:
    """Begin to suppress; False where the device is unknown. What is suppressed already gets the new end and reason."""
    with unavailable(), connection.transaction():
        found = connection.execute("SELECT device_id FROM device WHERE identity = %s", (suppression.device,)).fetchone()
        if found is None:
            return False
        expire(connection)
        parameters = {
            "kind": suppression.kind.value,
            "rule": suppression.rule,
            "device": found[0],
            "one_shot": suppression.one_shot,
            "until": None if suppression.until is None else moment(suppression.until),
            "by": suppression.by,
            "reason": suppression.reason,
        }
        changed = connection.execute(
            "UPDATE alarm_suppression SET until_at = %(until)s, reason = %(reason)s, one_shot = %(one_shot)s,"
            " began_by = %(by)s WHERE device_id = %(device)s AND kind = %(kind)s AND rule IS NOT DISTINCT FROM %(rule)s"
            " AND ended_at IS NULL",
            parameters,
        ).rowcount
        if not changed:  # where somebody else is faster, theirs stands
            connection.execute(
                "INSERT INTO alarm_suppression"
                " (kind, rule, device_id, one_shot, began_at, until_at, began_by, reason)"
                " VALUES (%(kind)s, %(rule)s, %(device)s, %(one_shot)s, now(), %(until)s, %(by)s, %(reason)s)"
                " ON CONFLICT DO NOTHING",
                parameters,
            )
        detail = {"until": None if suppression.until is None else moment(suppression.until).isoformat()}
        detail |= {"reason": suppression.reason}
        _about(connection, _BEGIN[suppression.kind.value], suppression.by, suppression.rule, found[0], detail)
    return True


def release(connection: Connection, kind: SuppressionKind, rule: str | None, device: str, by: str, reason: str) -> bool:
    """End a suppression before its time; False where there is none."""
    with unavailable(), connection.transaction():
        row = connection.execute(
            "UPDATE alarm_suppression s SET ended_at = now(), ended_by = %s FROM device d"
            " WHERE d.device_id = s.device_id AND d.identity = %s AND s.kind = %s AND s.rule IS NOT DISTINCT FROM %s"
            " AND s.ended_at IS NULL RETURNING s.device_id",
            (by, device, kind.value, rule),
        ).fetchone()
        if row is not None:
            _about(connection, _END[kind.value], by, rule, row[0], {"reason": reason})
    return row is not None


def expire(connection: Connection) -> int:
    """Write down the end of what is over by time; returns how many. It counted for nothing from its end on already."""
    with unavailable(), connection.transaction():
        rows = connection.execute(
            "UPDATE alarm_suppression SET ended_at = until_at, ended_by = 'expiry'"
            " WHERE ended_at IS NULL AND until_at <= now() RETURNING kind, rule, device_id"
        ).fetchall()
        for kind, rule, device_id in rows:
            _about(connection, _END[str(kind)], "expiry", None if rule is None else str(rule), device_id, {})
    return len(rows)


def suppressions(connection: Connection) -> list[Suppression]:
    """What is suppressed now."""
    with unavailable():
        rows = connection.execute(
            "SELECT s.kind, s.rule, d.identity, s.until_at, s.reason, s.began_by, s.one_shot"
            " FROM alarm_suppressed s JOIN device d USING (device_id) ORDER BY d.tag, d.identity, s.rule"
        ).fetchall()
    return [
        Suppression(
            SuppressionKind(str(kind)),
            None if rule is None else str(rule),
            str(device),
            instant(until) if isinstance(until, datetime) else None,
            str(reason),
            str(by),
            bool(one_shot),
        )
        for kind, rule, device, until, reason, by, one_shot in rows
    ]


def _note(connection: Connection, numbers: Sequence[int], kind: str, by: str, text: str) -> None:
    connection.execute(
        "INSERT INTO alarm_event (alarm_id, kind, at, actor, detail)"
        " SELECT n, %s, now(), %s, %s FROM unnest(%s::bigint[]) n",
        (kind, by, Jsonb({"comment": text} if text else {}), list(numbers)),
    )


def _about(
    connection: Connection, kind: str, by: str, rule: str | None, device_id: object, detail: dict[str, str | None]
) -> None:
    connection.execute(
        "INSERT INTO alarm_event (kind, at, actor, rule, device_id, detail) VALUES (%s, now(), %s, %s, %s, %s)",
        (kind, by, rule, device_id, Jsonb(detail)),
    )


def listed(row: tuple[object, ...]) -> ListedAlarm:
    """A row of the columns that `COLUMNS` names."""
    number, rule, device, tag, site, area, priority, message, state, since, raised, cleared, recorded, *rest = row
    acknowledged_by, suppressed, title, guidance = rest
    assert isinstance(guidance, dict)
    assert isinstance(suppressed, list | None)
    return ListedAlarm(
        number=int(str(number)),
        rule=str(rule),
        device=str(device),
        tag=str(tag),
        site=str(site),
        area=str(area),
        priority=Priority(str(priority)),
        message=str(message),
        state=AlarmState(str(state)),
        since=_at(since),
        raised_at=_at(raised),
        cleared_at=None if cleared is None else _at(cleared),
        recorded_at=_at(recorded),
        acknowledged_by=None if acknowledged_by is None else str(acknowledged_by),
        suppressions=tuple(SuppressionKind(str(kind)) for kind in suppressed or ()),
        title=str(title),
        guidance={str(key): str(value) for key, value in guidance.items()},
    )


def _at(value: object) -> Instant:
    assert isinstance(value, datetime)
    return instant(value)
