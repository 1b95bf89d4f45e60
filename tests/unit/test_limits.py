"""How often somebody may speak."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.limits import Rate


def test_a_burst_gets_through_and_then_the_rate() -> None:
    rate = Rate(2.0, 10)
    assert [rate.wait("a", 0.0) for _ in range(10)] == [0.0] * 10
    assert rate.wait("a", 0.0) == pytest.approx(0.5)
    assert rate.wait("b", 0.0) == 0.0, "each on its own"
    assert rate.wait("a", 0.5) == 0.0, "who waits as long as told is let through"
    assert rate.wait("a", 0.5) > 0


@given(st.lists(st.floats(0, 2), max_size=200), st.floats(0.1, 50), st.integers(1, 20))
def test_never_more_than_burst_and_rate(gaps: list[float], per_second: float, burst: int) -> None:
    rate = Rate(per_second, burst)
    now, passed = 0.0, []
    for gap in gaps:
        now += gap
        if not rate.wait("a", now):
            passed.append(now)
    for i, since in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= burst + (passed[j] - since) * per_second + 1e-6


@given(st.floats(0.1, 50), st.integers(1, 20), st.integers(1, 60))
def test_who_waits_as_told_gets_everything_through(per_second: float, burst: int, count: int) -> None:
    rate, now = Rate(per_second, burst), 0.0
    for _ in range(count):
        if wait := rate.wait("a", now):
            now += wait + 1e-6
            assert rate.wait("a", now) == 0.0


def test_invented_addresses_do_not_fill_the_memory() -> None:
    rate = Rate(1.0, 5, keys=1_000)
    for number in range(50_000):
        rate.wait(number, number / 1e5)
    assert len(rate) <= 1_000


def test_who_has_been_quiet_is_forgotten_first() -> None:
    rate = Rate(1.0, 2, keys=100)
    for number in range(99):
        rate.wait(number, 0.0)
    for _ in range(2):
        rate.wait("busy", 50.0)
    rate.wait("new", 50.0)
    assert len(rate) == 2
    assert rate.wait("busy", 50.0) > 0, "the busy one is still known"


@pytest.mark.parametrize(("per_second", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_a_rate_lets_something_through(per_second: float, burst: int) -> None:
    with pytest.raises(ValueError, match="let something through"):
        Rate(per_second, burst)
