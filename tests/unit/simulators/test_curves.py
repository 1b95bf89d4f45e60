"""Pumps and valves obey their laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.curves import (
    DENSITY,
    GRAVITY,
    in_series,
    opening_factor,
    opening_for,
    pump_efficiency,
    pump_head,
    pump_speed,
    shaft_power,
    valve_flow,
)

FLOW, HEAD, BEST = 150.0, 60.0, 0.78
flows = st.floats(1.0, 220.0)
speeds = st.floats(0.5, 1.0)


def test_at_rated_speed_the_best_efficiency_point_is_the_rated_one() -> None:
    assert float(pump_head(FLOW, 1.0, FLOW, HEAD)) == pytest.approx(HEAD)
    assert float(pump_efficiency(FLOW, 1.0, FLOW, BEST)) == pytest.approx(BEST)
    around = pump_efficiency(np.array([0.8, 0.9, 1.1, 1.2]) * FLOW, 1.0, FLOW, BEST)
    assert (around < BEST).all()


@given(flow=flows, speed=speeds, ratio=st.floats(0.6, 1.5))
def test_the_affinity_laws_hold(flow: float, speed: float, ratio: float) -> None:
    head = float(pump_head(flow, speed, FLOW, HEAD))
    scaled = float(pump_head(ratio * flow, ratio * speed, FLOW, HEAD))
    assert scaled == pytest.approx(ratio**2 * head, rel=1e-9, abs=1e-9)
    power = float(shaft_power(flow, head, speed, FLOW, BEST))
    assert float(shaft_power(ratio * flow, scaled, ratio * speed, FLOW, BEST)) == pytest.approx(
        ratio**3 * power, rel=1e-9, abs=1e-9
    )


@given(flow=flows, speed=speeds)
def test_power_at_the_shaft_is_hydraulic_power_over_efficiency(flow: float, speed: float) -> None:
    if flow > 1.7 * FLOW * speed:
        return  # beyond the end of the curve
    head = float(pump_head(flow, speed, FLOW, HEAD))
    hydraulic = DENSITY * GRAVITY * flow / 3600.0 * head / 1000.0
    efficiency = float(pump_efficiency(flow, speed, FLOW, BEST))
    assert float(shaft_power(flow, head, speed, FLOW, BEST)) * efficiency == pytest.approx(hydraulic, rel=1e-9)


def test_a_pump_against_a_shut_valve_still_draws_power() -> None:
    shut_off = float(shaft_power(0.0, float(pump_head(0.0, 1.0, FLOW, HEAD)), 1.0, FLOW, BEST))
    rated = float(shaft_power(FLOW, HEAD, 1.0, FLOW, BEST))
    assert 0.3 * rated < shut_off < rated


@given(flow=flows, speed=speeds)
def test_the_speed_for_a_head_gives_that_head(flow: float, speed: float) -> None:
    head = pump_head(flow, speed, FLOW, HEAD)
    assert float(pump_speed(flow, head, FLOW, HEAD)) == pytest.approx(speed)


def test_kv_is_the_flow_at_one_bar_and_flow_goes_with_the_root_of_the_drop() -> None:
    assert float(valve_flow(63.0, 1.0)) == pytest.approx(63.0)
    assert float(valve_flow(63.0, 4.0)) == pytest.approx(126.0)
    assert float(valve_flow(63.0, -1.0)) == 0.0


@given(position=st.floats(0.0, 100.0))
def test_the_opening_for_a_factor_gives_that_factor(position: float) -> None:
    assert float(opening_for(opening_factor(position))) == pytest.approx(position, abs=1e-6)


def test_the_characteristic_is_equal_percentage_and_shuts() -> None:
    assert float(opening_factor(0.0)) == 0.0
    assert float(opening_factor(100.0)) == pytest.approx(1.0)
    steps = opening_factor(np.array([30.0, 40.0, 50.0, 60.0]))
    assert np.allclose(steps[1:] / steps[:-1], math.exp(0.1 * math.log(50.0)))


@given(one=st.floats(1.0, 500.0), other=st.floats(1.0, 500.0), drop=st.floats(0.01, 10.0))
def test_throttles_in_series_share_the_drop(one: float, other: float, drop: float) -> None:
    flow = float(valve_flow(in_series(one, other), drop))
    assert (flow / one) ** 2 + (flow / other) ** 2 == pytest.approx(drop)
