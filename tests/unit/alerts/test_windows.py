"""Windows in sample time: their values, their bounds, and that their memory is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.functions import LONGEST_WINDOW
from alerts.windows import KINDS, STEPS, State, Window
from devices.model import DAY, HOUR, MINUTE, SECOND, Instant
from tests.unit.alerts.plant import T0


def fed(
    kind: str, length: Instant, values: list[float], step: Instant = MINUTE
) -> tuple[Window, State | None, Instant]:
    window, state, at = Window(kind, length), None, T0
    for number, value in enumerate(values):
        at = T0 + number * step
        state = window.add(state, at, value)
    return window, state, at


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
    assert counting.value(None, T0) == 0


def test_a_counter_that_was_set_back_goes_on_from_zero() -> None:
    assert value("increase", HOUR, [100, 110, 5, 7], 6 * MINUTE) == pytest.approx(17 / 0.3)


@given(st.sampled_from(sorted(KINDS)), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), st.integers(1, 400))
def test_going_on_from_any_state_ends_in_the_same_bits(kind: str, values: list[float], seconds: int) -> None:
    window, state = Window(kind, 10 * MINUTE), None
    states: list[State | None] = [None]
    times = [T0 + number * seconds * SECOND for number in range(len(values))]
    for at, one in zip(times, values, strict=True):
        state = window.add(state, at, one)
        states.append(state)
    for begin, kept in enumerate(states):
        again = kept
        for at, one in zip(times[begin:], values[begin:], strict=True):
            again = window.add(again, at, one)
        assert again == state


def test_a_week_of_minutes_takes_no_more_memory_than_its_steps() -> None:
    for kind in KINDS:
        _, state, _ = fed(
            kind, LONGEST_WINDOW, [float(n % 7) for n in range(2 * 7 * DAY // (30 * MINUTE))], 30 * MINUTE
        )
        assert state is not None
        assert len(state.before) <= (STEPS - 1) * 8 * (1 + len(state.part))
