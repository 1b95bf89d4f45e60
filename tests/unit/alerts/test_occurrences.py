"""What turns one set of occurrences into another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerts.occurrences import applied, difference
from devices.alarm import Alarm, ChangeKind, Priority


def occurrence(since: int, raised_at: int, cleared_at: int | None, rule: str = "r") -> Alarm:
    return Alarm(rule, "d", Priority.LOW, "m", since, raised_at, cleared_at, 1.0)


def kinds(before: list[Alarm], after: list[Alarm]) -> list[str]:
    return [change.kind.value for change in difference(before, after)]


def test_the_same_occurrence_is_no_change() -> None:
    assert kinds([occurrence(0, 5, 9)], [occurrence(0, 5, 9)]) == []


def test_each_difference_has_its_kind() -> None:
    assert kinds([], [occurrence(0, 5, None)]) == ["raised"]
    assert kinds([occurrence(0, 5, None)], [occurrence(0, 5, 9)]) == ["cleared"]
    assert kinds([occurrence(0, 5, 9)], [occurrence(0, 5, 7)]) == ["amended"]
    assert kinds([occurrence(0, 5, 9)], [occurrence(0, 5, None)]) == ["amended"]
    assert kinds([occurrence(0, 5, 9)], [occurrence(0, 3, 7)]) == ["amended"]
    assert kinds([occurrence(0, 5, 9)], []) == ["retracted"]
    assert kinds([occurrence(0, 5, 9)], [occurrence(20, 25, 29)]) == ["retracted", "raised"]


def test_one_that_falls_apart_is_amended_and_the_rest_raised() -> None:
    assert kinds([occurrence(0, 5, 40)], [occurrence(0, 5, 10), occurrence(20, 25, 40)]) == ["amended", "raised"]


def test_two_that_become_one_are_amended_and_retracted() -> None:
    changes = difference([occurrence(0, 5, 10), occurrence(20, 25, 40)], [occurrence(0, 4, 40)])
    assert [change.kind for change in changes] == [ChangeKind.RETRACTED, ChangeKind.AMENDED]


def test_rules_are_not_mixed() -> None:
    assert kinds([occurrence(0, 5, 9, "a")], [occurrence(0, 5, 9, "b")]) == ["retracted", "raised"]


@st.composite
def occurrences(draw: st.DrawFn) -> list[Alarm]:
    found = []
    for rule in ("a", "b"):
        at = 0
        for _ in range(draw(st.integers(0, 4))):
            since = at + draw(st.integers(0, 4))
            raised_at = since + draw(st.integers(0, 3))
            cleared_at = raised_at + draw(st.integers(1, 6))
            at = cleared_at + 1
            found.append(occurrence(since, raised_at, cleared_at, rule))
        if found and found[-1].rule == rule and draw(st.booleans()):
            last = found.pop()
            found.append(occurrence(last.since, last.raised_at, None, rule))
    return sorted(found, key=lambda alarm: (alarm.raised_at, alarm.rule))


@given(occurrences(), occurrences())
def test_applying_the_difference_gives_the_other_set(before: list[Alarm], after: list[Alarm]) -> None:
    changes = difference(before, after)
    assert applied(before, changes) == after
    for change in changes:
        assert change.before is None or change.before in before
        assert change.after is None or change.after in after


@given(occurrences(), occurrences())
def test_no_change_takes_the_time_of_an_occurrence_that_is_still_there(before: list[Alarm], after: list[Alarm]) -> None:
    held = {(alarm.rule, alarm.raised_at) for alarm in before}
    for change in difference(before, after):
        if change.before is not None:
            held.remove((change.before.rule, change.before.raised_at))
        if change.after is not None:
            assert (change.after.rule, change.after.raised_at) not in held
            held.add((change.after.rule, change.after.raised_at))
