"""A process that announces alarms and has them delivered, for the tests that kill it: `python -m
tests.acceptance.announcing DATABASE_URL ROUTING_FILE FIRST LAST`. Writes the number of each alarm once it is committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import structlog

from alerts.announcement import Event, idempotency_key, render
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind, Priority
from devices.model import SECOND
from headworks.settings import Settings
from headworks.telling import Telling
from storage import journal
from storage.database import connect
from tests.conftest import PUMP

T0 = 1_790_000_000 * SECOND


def change(number: int) -> AlarmChange:
    at = T0 + number * SECOND
    return AlarmChange(ChangeKind.RAISED, None, Alarm(f"rule-{number}", PUMP.identity, Priority.HIGH, "hot", at, at))


def main(url: str, routing: str, first: str, last: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    telling = Telling(Settings(routing=Path(routing)), url, [])
    telling.start()
    with connect(url) as connection:
        for number in range(int(first), int(last)):
            one = change(number)
            told = render(one, Event.RAISED, PUMP, None, one.alarm.raised_at)
            key = idempotency_key(one, Event.RAISED)
            announced = Announcement(key, "raised", one.alarm.rule, PUMP.identity, Priority.HIGH, told)
            journal.record(connection, [one], None, announcements=[announced], channels=telling.channels)
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            telling.told([announced])
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
