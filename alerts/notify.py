"""What is told about the journal's changes: composed here, carried by `alerts.courier` from the outbox, and logged.

What is announced at all, and how it reads, is in `alerts.announcement`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog
from prometheus_client import Counter

from alerts.announcement import Event, announce, idempotency_key, render
from alerts.rules import Rule
from devices.alarm import AlarmChange, Announcement, SuppressionKind
from devices.model import Device, Instant

log = structlog.get_logger()

ANNOUNCED = Counter("headworks_announcements", "Alarm events that people are told", ["event"])
KEPT_QUIET = Counter("headworks_announcements_suppressed", "Alarm events that nobody is told", ["how"])

Suppressed = Callable[[str, str], SuppressionKind | None]
"""Rule and device to what keeps the alarm quiet now."""


class Notifier:
    """Decides and words what people are told."""

    def __init__(self, rules: Sequence[Rule], clock: Callable[[], Instant], suppressed: Suppressed) -> None:
        self._rules = {rule.rule: rule for rule in rules}
        self._clock = clock
        self._suppressed = suppressed

    def replace(self, rules: Sequence[Rule]) -> None:
        """Word what is told by other rules from now on."""
        self._rules = {rule.rule: rule for rule in rules}

    def compose(self, change: AlarmChange, device: Device) -> Announcement | None:
        """The announcement of a change, if it is one to tell."""
        alarm = change.alarm
        rule = self._rules.get(alarm.rule)
        event, why = announce(change, also_over=rule is not None and rule.told_when_over)
        if event is None:
            log.debug("alarm.not_announced", rule=alarm.rule, device=alarm.device, kind=change.kind.value, why=why)
            return None
        quiet = self._suppressed(alarm.rule, alarm.device)
        if quiet is not None:
            KEPT_QUIET.labels(quiet.value).inc()
            log.info("alarm.suppressed", rule=alarm.rule, device=alarm.device, how=quiet.value)
            return None
        told = render(change, event, device, rule, self._clock())
        key = idempotency_key(change, event)
        return Announcement(key, event.value, alarm.rule, alarm.device, alarm.priority, told)

    @staticmethod
    def told(announcements: Iterable[Announcement]) -> None:
        """Log what is in the outbox now."""
        for entry in announcements:
            ANNOUNCED.labels(entry.event).inc()
            log_announcement(entry.told)


def log_announcement(told: dict[str, Any]) -> None:
    """Write an announcement to the log; a page is a warning, the rest is information."""
    write = log.warning if told["event"] == Event.RAISED else log.info
    write(
        f"alarm.{told['event']}",
        rule=told["rule"],
        tag=told["device"]["tag"] or told["device"]["identity"],
        site=told["device"]["site"],
        message=told["message"],
        priority=told["priority"],
        raised_at=told.get("raised_at"),
        cleared_at=told.get("cleared_at"),
    )
