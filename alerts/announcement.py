"""What of the journal's changes people are told, and how it reads. Pure; delivery is in `alerts.notify`.

People follow one thing: whether the alarm is on, as they last heard. So what counts is the edge between the journal
before and after a change, not the kind of the change: nobody is called for what was over before it was known (but for
what has to be acknowledged all the same), an alarm that late readings bring back is told again, and one that is
withdrawn after it was told is taken back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from alerts.bands import band_of
from alerts.rules import Rule
from devices.alarm import AlarmChange, ChangeKind
from devices.duration import format_duration
from devices.model import SECOND, Device, Instant, moment


class Event(StrEnum):
    """What people are told."""

    RAISED = "raised"
    """The alarm is on: someone should act. The only event that is a page."""
    RETURNED = "returned"
    """The condition is back to normal (ISA-18.2: return to normal)."""
    WITHDRAWN = "withdrawn"
    """Late readings showed that an alarm which was told never was."""


class Decision(NamedTuple):
    """Whether to tell, and why (or why not)."""

    event: Event | None
    why: str


def announce(change: AlarmChange, *, also_over: bool = False) -> Decision:
    """Decide whether a change of the journal is told to people; `also_over` is `Rule.told_when_over`."""
    was_on = change.before is not None and change.before.cleared_at is None
    is_on = change.after is not None and change.after.cleared_at is None
    if is_on and not was_on:
        if change.before is None:
            return Decision(Event.RAISED, "the alarm is on")
        return Decision(Event.RAISED, "late readings show that the alarm is not over")
    if was_on and not is_on:
        if change.after is None:
            return Decision(Event.WITHDRAWN, "late readings show that the alarm never was")
        return Decision(Event.RETURNED, "the condition is back to normal")
    if is_on:
        return Decision(None, "the alarm was told; only its details changed")
    if also_over and change.before is None:
        return Decision(Event.RAISED, "it is over, and to be acknowledged all the same")
    if also_over and change.after is None:
        return Decision(Event.WITHDRAWN, "late readings show that the alarm never was")
    if change.kind is ChangeKind.RAISED:
        return Decision(None, "it was over before it was known")
    return Decision(None, "it was over, and still is")


def idempotency_key(change: AlarmChange, event: Event) -> str:
    """The same for the same announcement, whenever and by whomever it is made again; receivers drop repeats by it.

    An alarm that is told a second time, as it was not over after all, is another announcement.
    """
    alarm = change.alarm
    reopened = change.before.cleared_at if change.before is not None and event is Event.RAISED else None
    parts = (alarm.rule, alarm.device, alarm.raised_at, event.value, alarm.cleared_at, reopened)
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def render(change: AlarmChange, event: Event, device: Device, rule: Rule | None, now: Instant) -> dict[str, Any]:
    """An announcement as JSON data: times in ISO 8601 (UTC), durations in seconds. `rule` gives unit and guidance; None
    where the rule is not installed any more."""
    alarm = change.alarm
    told: dict[str, Any] = {
        "event": event.value,
        "rule": alarm.rule,
        "title": rule.title if rule else alarm.rule,
        "message": alarm.message,
        "priority": alarm.priority.value,
        "severity": rule.severity if rule else None,
        "class": rule.alarm_class.value if rule else "system",
        "device": {
            "identity": device.identity,
            "tag": device.tag,
            "site": device.site,
            "area": device.area,
            "unit": device.unit,
        },
        "since": _iso(alarm.since),
        "raised_at": _iso(alarm.raised_at),
        "cleared_at": None if alarm.cleared_at is None else _iso(alarm.cleared_at),
        "announced_at": _iso(now),
        "seconds_late": max(0, now - _at(change, event)) // SECOND,
        "value": alarm.value,
        "unit": (rule.shown_unit or "1") if rule else None,
    }
    if event is Event.RAISED and alarm.cleared_at is not None:
        told["notice"] = "over"
    if rule is not None:
        told["guidance"] = _guidance(rule)
        told["seconds_to_respond"] = rule.guidance.time_to_respond // SECOND
        told["metric"] = rule.shown_metric
        told["limit"] = _limit(rule, device, alarm.raised_at)
    return told


def _limit(rule: Rule, device: Device, at: Instant) -> Mapping[str, Any] | None:
    """The limit that the value stands against, in the unit of the value; None where the rule compares something else
    than it shows."""
    band = None if rule.group is not None else band_of(rule, device, at)
    if band is None or band.metric != rule.shown_metric:
        return None
    return {"operator": band.operator, "value": band.limit}


def _guidance(rule: Rule) -> Mapping[str, str]:
    guidance = rule.guidance
    return {
        "cause": guidance.cause,
        "consequence": guidance.consequence,
        "corrective_action": guidance.corrective_action,
        "time_to_respond": format_duration(guidance.time_to_respond),
    }


def _at(change: AlarmChange, event: Event) -> Instant:
    alarm = change.alarm
    return alarm.cleared_at if event is Event.RETURNED and alarm.cleared_at is not None else alarm.raised_at


def _iso(at: Instant) -> str:
    return moment(at).isoformat().replace("+00:00", "Z")
