"""What people are told, and how it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.announcement import Event, announce, idempotency_key, render
from devices.alarm import Alarm, AlarmChange, ChangeKind, Priority
from devices.model import MINUTE, SECOND, Device
from tests.unit.alerts.plant import PUMP, T0, rule

ON = Alarm("tested", PUMP.identity, Priority.MEDIUM, "at 6 mm/s", T0, T0 + MINUTE, None, 6.0)
OVER = replace(ON, cleared_at=T0 + 5 * MINUTE)
EARLIER = replace(ON, since=T0 - MINUTE, raised_at=T0)


@pytest.mark.parametrize(
    ("kind", "before", "after", "event"),
    [
        (ChangeKind.RAISED, None, ON, Event.RAISED),
        (ChangeKind.RAISED, None, OVER, None),
        (ChangeKind.CLEARED, ON, OVER, Event.RETURNED),
        (ChangeKind.AMENDED, ON, EARLIER, None),
        (ChangeKind.AMENDED, ON, replace(EARLIER, cleared_at=T0 + MINUTE), Event.RETURNED),
        (ChangeKind.AMENDED, OVER, ON, Event.RAISED),
        (ChangeKind.AMENDED, OVER, replace(OVER, cleared_at=T0 + 2 * MINUTE), None),
        (ChangeKind.RETRACTED, ON, None, Event.WITHDRAWN),
        (ChangeKind.RETRACTED, OVER, None, None),
    ],
)
def test_people_are_told_when_the_alarm_comes_on_or_goes_off_as_they_know_it(
    kind: ChangeKind, before: Alarm | None, after: Alarm | None, event: Event | None
) -> None:
    decision = announce(AlarmChange(kind, before, after))
    assert decision.event is event
    assert decision.why


@pytest.mark.parametrize(
    ("kind", "before", "after", "event"),
    [
        (ChangeKind.RAISED, None, ON, Event.RAISED),
        (ChangeKind.RAISED, None, OVER, Event.RAISED),
        (ChangeKind.CLEARED, ON, OVER, Event.RETURNED),
        (ChangeKind.AMENDED, OVER, replace(OVER, cleared_at=T0 + 2 * MINUTE), None),
        (ChangeKind.RETRACTED, OVER, None, Event.WITHDRAWN),
    ],
)
def test_what_has_to_be_acknowledged_is_told_also_when_it_is_over(
    kind: ChangeKind, before: Alarm | None, after: Alarm | None, event: Event | None
) -> None:
    assert announce(AlarmChange(kind, before, after), also_over=True).event is event
    assert rule(latching=True).told_when_over
    assert rule(alarm_class="safety").told_when_over
    assert not rule().told_when_over


def test_what_is_over_says_so() -> None:
    change = AlarmChange(ChangeKind.RAISED, None, OVER)
    told = render(change, Event.RAISED, PUMP, rule(latching=True), T0 + 9 * MINUTE)
    assert (told["notice"], told["cleared_at"]) == ("over", "2026-09-21T14:18:20Z")
    assert "notice" not in render(AlarmChange(ChangeKind.RAISED, None, ON), Event.RAISED, PUMP, rule(), T0)


def test_the_key_is_the_same_for_a_repeat_and_another_for_everything_else() -> None:
    raised = AlarmChange(ChangeKind.RAISED, None, ON)
    others = [
        idempotency_key(AlarmChange(ChangeKind.RAISED, None, replace(ON, device="other")), Event.RAISED),
        idempotency_key(AlarmChange(ChangeKind.RAISED, None, replace(ON, raised_at=T0)), Event.RAISED),
        idempotency_key(AlarmChange(ChangeKind.CLEARED, ON, OVER), Event.RETURNED),
        idempotency_key(AlarmChange(ChangeKind.AMENDED, OVER, ON), Event.RAISED),
        idempotency_key(AlarmChange(ChangeKind.RETRACTED, ON, None), Event.WITHDRAWN),
    ]
    key = idempotency_key(raised, Event.RAISED)
    assert key == idempotency_key(AlarmChange(ChangeKind.RAISED, None, replace(ON)), Event.RAISED)
    assert len({key, *others}) == len(others) + 1


def test_an_announcement_says_where_what_when_how_late_and_what_to_do() -> None:
    device = Device(PUMP.identity, PUMP.profile, tag="P-101", site="east", area="wells", unit="station 1")
    told = render(AlarmChange(ChangeKind.RAISED, None, ON), Event.RAISED, device, rule(), T0 + 90 * SECOND)
    assert told["device"] == {
        "identity": PUMP.identity,
        "tag": "P-101",
        "site": "east",
        "area": "wells",
        "unit": "station 1",
    }
    assert (told["event"], told["priority"], told["severity"]) == ("raised", "medium", 500)
    assert (told["message"], told["value"], told["unit"]) == ("at 6 mm/s", 6.0, "mm/s")
    assert (told["since"], told["raised_at"]) == ("2026-09-21T14:13:20Z", "2026-09-21T14:14:20Z")
    assert told["cleared_at"] is None
    assert told["seconds_late"] == 30
    assert told["guidance"]["time_to_respond"] == "1h"
    assert told["metric"] == "vibration"
    assert told["limit"] == {"operator": ">", "value": 5.0}


def test_a_rule_that_is_gone_still_reads() -> None:
    told = render(AlarmChange(ChangeKind.CLEARED, ON, OVER), Event.RETURNED, PUMP, None, T0 + HOURS)
    assert (told["title"], told["cleared_at"]) == ("tested", "2026-09-21T14:18:20Z")
    assert "guidance" not in told


HOURS = 60 * MINUTE
