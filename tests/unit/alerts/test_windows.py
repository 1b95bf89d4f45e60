"""Windows in sample time: their values, their bounds, and that their memory is bounded."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.window_code import feeding
from alerts.window_columns import KINDS_IN_COLUMNS, windowed
from alerts.window_kinds import KINDS, Room
from alerts.windows import Window, empty_room, lay_out
from devices.model import HOUR, MINUTE, SECOND, Instant
from tests.unit.alerts.plant import T0


def fed(kind: str, length: Instant, values: list[float], step: Instant = MINUTE) -> tuple[Window, Room, Instant]:
    window, at = Window(kind, length), T0
    room, feed = empty_room([window]), feeding([window])
    for number, value in enumerate(values):
        at = T0 + number * step
        feed(room, at, value)
    return window, room, at


def value(kind: str, length: Instant, values: list[float], step: Instant = MINUTE) -> float | None:
    window, state, at = fed(kind, length, values, step)
    return window.value(state, at)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("avg", [100, 1, 2, 3], 2),
        ("min", [0, 1, 2, 3], 1),
        ("max", [9, 3, 2, 1], 3),
        ("count", [1, 1, 1, 1], 3),
        ("stdev", [100, 1, 2, 3], 1),
        ("rate", [0, 1, 5, 2], 30),
        ("slope", [50, 1, 2, 3], 60),
        ("increase", [9, 5, 2, 4], 120),
        ("span", [100, 1, 2, 3], 120),
        ("stdev", [1], None),
        ("rate", [1], None),
        ("slope", [1], None),
    ],
)
def test_three_minutes_hold_three_samples_a_minute_apart(
    kind: str, values: list[float], expected: float | None
) -> None:
    assert value(kind, 3 * MINUTE, values) == (expected if expected is None else pytest.approx(expected))


def test_what_is_older_than_the_window_is_out_also_while_nothing_comes() -> None:
    window, state, at = fed("max", 10 * MINUTE, [9, 1, 1])
    assert window.value(state, at + 7 * MINUTE) == 9
    assert window.value(state, at + 8 * MINUTE) == 1
    assert window.value(state, at + 10 * MINUTE) is None
    counting, counted, at = fed("count", 10 * MINUTE, [9, 1, 1])
    assert counting.value(counted, at + 9 * MINUTE) == 1
    assert counting.value(counted, at + 10 * MINUTE) == 0
    assert counting.value(empty_room([counting]), T0) == 0


def test_a_counter_that_was_set_back_goes_on_from_zero() -> None:
    assert value("increase", HOUR, [100, 110, 5, 7], 6 * MINUTE) == pytest.approx(17 / 0.3)


@given(st.lists(st.floats(0, 40), min_size=2, max_size=10), st.floats(0, 99))
def test_a_counter_that_rolls_over_has_counted_all_the_same(steps: list[float], begin: float) -> None:
    window = Window("increase", HOUR, rollover=100.0)
    room = empty_room([window])
    shown = [math.fmod(total, 100.0) for total in itertools.accumulate([begin, *steps])]
    for number, count in enumerate(shown):
        feeding([window])(room, T0 + number * 6 * MINUTE, count)
    rate = window.value(room, T0 + (len(shown) - 1) * 6 * MINUTE)
    inside = steps[-9:]  # the window holds ten readings
    assert rate == pytest.approx(sum(inside) / (len(inside) * 0.1), abs=1e-6)


def test_a_counter_that_falls_by_less_was_set_back() -> None:
    window = Window("increase", HOUR, rollover=100.0)
    room = empty_room([window])
    for number, count in enumerate([40.0, 3.0]):
        feeding([window])(room, T0 + number * 6 * MINUTE, count)
    assert window.value(room, T0 + 6 * MINUTE) == pytest.approx(3 / 0.1)


@given(st.sampled_from(sorted(KINDS)), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.integers(1, 400))
def test_going_on_from_any_state_ends_in_the_same_bits(kind: str, values: list[float], seconds: int) -> None:
    window = Window(kind, 10 * MINUTE)
    feed = feeding([window])
    times = [T0 + number * seconds * SECOND for number in range(len(values))]
    rooms = [empty_room([window])]
    for at, one in zip(times, values, strict=True):
        rooms.append(rooms[-1][:])
        feed(rooms[-1], at, one)
    for begin, kept in enumerate(rooms):
        for at, one in zip(times[begin:], values[begin:], strict=True):
            feed(kept, at, one)
        assert kept.tobytes() == rooms[-1].tobytes()


@given(st.sampled_from(sorted(KINDS)), st.lists(st.integers(0, 90), min_size=1, max_size=60), st.integers(0, 700))
def test_only_what_is_inside_counts(kind: str, gaps: list[int], after: int) -> None:
    """A window is the same, bit for bit, if it never saw what lies before it."""
    window = Window(kind, 10 * MINUTE)
    times, at = [], T0
    for gap in gaps:
        at += (gap + 1) * SECOND
        times.append(at)
    end = at + after * SECOND
    whole, late, feed = empty_room([window]), empty_room([window]), feeding([window])
    for number, time in enumerate(times):
        feed(whole, time, float(number % 7))
        if time > at - window.reach:
            feed(late, time, float(number % 7))
    assert whole.tobytes() == late.tobytes()
    assert window.value(whole, end) == window.value(late, end)


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.start or kind.total])
@given(
    readings=st.lists(
        st.tuples(st.floats(-1e9, 1e9), st.integers(1, 90) | st.integers(60, 700)), min_size=2, max_size=40
    )
)
def test_the_fast_ways_are_the_plain_ones(kind: str, readings: list[tuple[float, int]]) -> None:
    fast = Window(kind, 10 * MINUTE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, kind, KINDS[kind]._replace(grow="", both="", start="", total=None))
        plain = Window(kind, 10 * MINUTE)
    quick, slow = feeding([fast]), feeding([plain])
    one, other = empty_room([fast]), empty_room([plain])
    at = T0
    for value, gap in readings:
        at += gap * SECOND
        quick(one, at, value)
        slow(other, at, value)
        assert one.tobytes() == other.tobytes()
        assert fast.value(one, at) == plain.value(other, at)


@given(
    st.sampled_from(sorted(KINDS_IN_COLUMNS)),
    st.lists(st.tuples(st.integers(1, 400), st.floats(-1e9, 1e9)), max_size=40),
    st.lists(st.integers(0, 9_000), max_size=10),
)
def test_in_columns_they_have_the_same_bits(kind: str, readings: list[tuple[int, float]], between: list[int]) -> None:
    gaps = [0, *(gap for gap, _ in readings)]
    times = [T0 + sum(gaps[: number + 1]) * SECOND for number in range(1, len(gaps))]
    values = [value for _, value in readings]
    moments = sorted({*times, *(T0 + after * SECOND for after in between)})
    window = Window(kind, 10 * MINUTE)
    room, feed, told, left = empty_room([window]), feeding([window]), [], list(zip(times, values, strict=True))
    for moment in moments:
        while left and left[0][0] <= moment:
            feed(room, *left.pop(0))
        told.append(window.value(room, moment))
    with np.errstate(all="ignore"):
        found = windowed(kind, 10 * MINUTE, np.array(times, np.int64), np.array(values), np.array(moments, np.int64))
    assert [None if math.isnan(one) else one for one in found.tolist()] == told


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.sampled_from([MINUTE, 10 * MINUTE, HOUR])), min_size=1),
    st.lists(st.tuples(st.integers(1, 900), st.floats(-1e9, 1e9)), min_size=1, max_size=40),
)
def test_windows_of_one_metric_keep_out_of_each_others_way(
    kinds: list[tuple[str, Instant]], readings: list[tuple[int, float]]
) -> None:
    windows = lay_out([(kind, length, None) for kind, length in kinds])
    alone = [lay_out([(kind, length, None)])[0] for kind, length in kinds]
    room, rooms = empty_room(windows), [empty_room([single]) for single in alone]
    feed, feeds = feeding(windows), [feeding([single]) for single in alone]
    at = T0
    for gap, value in readings:
        at += gap * SECOND
        feed(room, at, value)
        for feed_one, own in zip(feeds, rooms, strict=True):
            feed_one(own, at, value)
    assert room.tobytes() == b"".join(own.tobytes() for own in rooms)
    for window, single, own in zip(windows, alone, rooms, strict=True):
        assert window.value(room, at + MINUTE) == single.value(own, at + MINUTE)


def test_what_is_not_finite_is_unknown() -> None:
    assert value("avg", HOUR, [1e308, 1e308, 1e308]) is None
    assert value("slope", HOUR, [-1e308, 1e308], 6 * MINUTE) is None
