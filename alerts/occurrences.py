"""Occurrences as sets: what the difference of two judgements is, and what a journal holds after it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter

from devices.alarm import Alarm, AlarmChange, ChangeKind

FOREVER = 2**62
"""Later than every sample: where an occurrence that is still active ends."""

_by_time = attrgetter("raised_at")
_ORDER = {ChangeKind.RETRACTED: 0, ChangeKind.AMENDED: 1, ChangeKind.CLEARED: 2, ChangeKind.RAISED: 3}


def difference(before: Iterable[Alarm], after: Iterable[Alarm]) -> list[AlarmChange]:
    """What turns a journal that holds `before` into one that holds `after`.

    An occurrence that is in both under other times is amended: the same one has the same `raised_at`, or else it is the
    first that overlaps (from `since` to `cleared_at`). What only `before` has is retracted, what only `after` has is
    raised. Ordered so that no change takes the time of another occurrence that is still there.
    """
    groups: dict[tuple[str, str], tuple[list[Alarm], list[Alarm]]] = defaultdict(lambda: ([], []))
    for side, alarms in enumerate((before, after)):
        for alarm in alarms:
            groups[alarm.rule, alarm.device][side].append(alarm)
    changes = [change for old, new in groups.values() for change in _of_one_rule(old, new)]
    changes.sort(key=lambda change: (_ORDER[change.kind], change.alarm.raised_at, change.alarm.rule))
    return changes


def applied(journal: Iterable[Alarm], changes: Sequence[AlarmChange]) -> list[Alarm]:
    """What a journal of these occurrences holds after the changes, oldest first.

    As in the stored journal, raising what it holds already changes nothing.
    """
    held = {(alarm.rule, alarm.device, alarm.raised_at): alarm for alarm in journal}
    for change in changes:
        if change.before is not None:
            held.pop((change.before.rule, change.before.device, change.before.raised_at), None)
        if change.after is not None:
            held[change.after.rule, change.after.device, change.after.raised_at] = change.after
    return sorted(held.values(), key=lambda alarm: (alarm.raised_at, alarm.rule, alarm.device))


def net(journal: Iterable[Alarm], changes: Sequence[AlarmChange]) -> list[AlarmChange]:
    """What changes come to together in a journal of these occurrences, without what one of them does and another
    undoes."""
    before = list(journal)
    return difference(before, applied(before, changes))


def _of_one_rule(old: list[Alarm], new: list[Alarm]) -> list[AlarmChange]:
    same = {alarm.raised_at for alarm in old} & {alarm.raised_at for alarm in new}
    pairs = [
        (a, b)
        for a, b in zip(
            sorted((a for a in old if a.raised_at in same), key=_by_time),
            sorted((b for b in new if b.raised_at in same), key=_by_time),
            strict=True,
        )
    ]
    gone = sorted((a for a in old if a.raised_at not in same), key=_by_time)
    come = sorted((b for b in new if b.raised_at not in same), key=_by_time)
    changes = [change for a, b in pairs if (change := _change(a, b)) is not None]
    while gone and come:
        a, b = gone[0], come[0]
        if _end(a) < b.since:
            changes.append(AlarmChange(ChangeKind.RETRACTED, gone.pop(0), None))
        elif _end(b) < a.since:
            changes.append(AlarmChange(ChangeKind.RAISED, None, come.pop(0)))
        else:
            changes.append(AlarmChange(ChangeKind.AMENDED, gone.pop(0), come.pop(0)))
    changes += [AlarmChange(ChangeKind.RETRACTED, a, None) for a in gone]
    changes += [AlarmChange(ChangeKind.RAISED, None, b) for b in come]
    return changes


def _change(before: Alarm, after: Alarm) -> AlarmChange | None:
    """The change between two occurrences with one `raised_at`; the priority stays what it was when raised."""
    if (before.since, before.value, before.message) != (after.since, after.value, after.message):
        return AlarmChange(ChangeKind.AMENDED, before, after)
    if before.cleared_at == after.cleared_at:
        return None
    kind = ChangeKind.CLEARED if before.cleared_at is None else ChangeKind.AMENDED
    return AlarmChange(kind, before, after)


def _end(alarm: Alarm) -> int:
    return FOREVER if alarm.cleared_at is None else alarm.cleared_at
