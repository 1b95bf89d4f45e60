"""Who is heard of: a silence has a reason, and an outage blames no device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.contact import Contact, ContactState, Outage, changes, outages, state
from devices.alarm import ChangeKind
from devices.model import DAY, HOUR, MINUTE, SECOND

T0 = 1_790_000_000 * SECOND
PUMP = Contact("p", "coap", T0, 5 * MINUTE)
LOGGER = Contact("l", "coap", T0, 6 * HOUR, wakes=24 * HOUR)


def seen(contact: Contact, after: int) -> ContactState:
    return state(contact, T0 + after, 0, out=False)


@pytest.mark.parametrize(
    ("contact", "after", "expected"),
    [
        (PUMP, 10 * MINUTE - 1, ContactState.HEARD),
        (PUMP, 10 * MINUTE, ContactState.LATE),
        (PUMP, 20 * MINUTE - 1, ContactState.LATE),
        (PUMP, 20 * MINUTE, ContactState.SILENT),
        (LOGGER, 11 * HOUR, ContactState.ASLEEP),
        (LOGGER, 29 * HOUR, ContactState.LATE),  # beyond four intervals, but T3412 has not woken it for sure
        (LOGGER, 30 * HOUR, ContactState.SILENT),
        (replace(PUMP, rsrp=-131.0), HOUR, ContactState.OUT_OF_COVERAGE),
        (replace(PUMP, coverage_level=2.0), HOUR, ContactState.OUT_OF_COVERAGE),
        (replace(PUMP, battery=3.0, rsrp=-131.0), HOUR, ContactState.FLAT_BATTERY),
        (replace(PUMP, battery_low=True), HOUR, ContactState.FLAT_BATTERY),
        (replace(PUMP, battery=80.0, rsrp=-90.0, coverage_level=0.0), HOUR, ContactState.SILENT),
    ],
)
def test_a_silence_has_a_reason(contact: Contact, after: int, expected: ContactState) -> None:
    assert seen(contact, after) is expected


def test_the_alarm_has_the_times_of_the_silence_and_not_of_the_look() -> None:
    quick = changes(PUMP, [], T0 + 20 * MINUTE, 0, out=False)
    slow = changes(PUMP, [], T0 + 3 * HOUR, 0, out=False)
    assert quick == slow
    alarm = quick[0].alarm
    assert (alarm.rule, alarm.since, alarm.raised_at) == ("device-silent", T0, T0 + 20 * MINUTE)
    assert changes(PUMP, [alarm], T0 + 3 * HOUR, 0, out=False) == []
    back = changes(replace(PUMP, heard_at=T0 + 4 * HOUR), [alarm], T0 + 4 * HOUR, 0, out=False)
    assert [(c.kind, c.alarm.cleared_at) for c in back] == [(ChangeKind.CLEARED, T0 + 4 * HOUR)]
    spooled = changes(replace(PUMP, heard_at=T0 + 5 * MINUTE), [alarm], T0 + 6 * MINUTE, 0, out=False)
    assert [c.kind for c in spooled] == [ChangeKind.RETRACTED], "it had been heard in time"


def fleet(count: int) -> list[Contact]:
    return [replace(PUMP, device=f"p{i}", heard_at=T0 - i * SECOND) for i in range(count)]


def test_an_outage_is_one_and_blames_no_device() -> None:
    contacts = fleet(200)
    now = T0 + 2 * HOUR
    (outage,) = outages(contacts, [], now)
    assert (outage.path, outage.since, outage.devices) == ("coap", T0, 200)
    assert T0 + 5 * MINUTE < outage.raised_at < T0 + 10 * MINUTE
    assert outages(contacts, [outage], now + DAY) == [outage]
    assert not [c for contact in contacts for c in changes(contact, [], now, 0, out=True)]
    assert {state(contact, now, 0, out=True) for contact in contacts} == {ContactState.CUT_OFF}
    # It ends with the first who is heard, and everybody has his patience from then on.
    contacts[7] = replace(contacts[7], heard_at=now)
    (over,) = outages(contacts, [outage], now + SECOND)
    assert over == replace(outage, ended_at=now)
    assert not [c for contact in contacts for c in changes(contact, [], now + 19 * MINUTE, now, out=False)]
    left = [c for contact in contacts for c in changes(contact, [], now + 20 * MINUTE, now, out=False)]
    assert len(left) == 200
    assert {c.alarm.since for c in left} == {now}


def test_other_paths_are_not_out() -> None:
    lively = Contact("m", "mqtt", T0 + 2 * HOUR, 5 * MINUTE)
    assert [one.path for one in outages([*fleet(20), lively], [], T0 + 2 * HOUR)] == ["coap"]


def test_devices_that_fail_one_by_one_are_no_outage() -> None:
    dead = [replace(PUMP, device=f"d{i}", heard_at=T0 - i * HOUR) for i in range(50)]
    living = replace(PUMP, device="alive", heard_at=T0 + HOUR)
    assert outages([*dead, living], [], T0 + HOUR + MINUTE) == []


@given(
    heard=st.lists(st.integers(0, 600), min_size=1, max_size=30),
    looks=st.lists(st.integers(600, 2000), min_size=1, max_size=5),
)
def test_when_an_outage_began_does_not_depend_on_when_it_was_looked_for(heard: list[int], looks: list[int]) -> None:
    contacts = [replace(PUMP, device=f"d{i}", heard_at=T0 + at * SECOND) for i, at in enumerate(heard)]
    known: list[Outage] = []
    for look in sorted(looks):
        known = outages(contacts, known, T0 + look * SECOND)
    assert known == outages(contacts, [], T0 + max(looks) * SECOND)
