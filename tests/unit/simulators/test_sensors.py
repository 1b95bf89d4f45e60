"""Instruments: what they make of a true value. Their faults are in `test_sites`, each with its signature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.model import MINUTE, SECOND
from devices.profile import shipped_profiles
from simulators.sensors import INSTRUMENTS, canonical, measure, respond

TIMES = np.arange(20_000, dtype=np.int64) * MINUTE


@pytest.mark.parametrize("metric", INSTRUMENTS)
def test_it_shows_whole_steps_of_its_resolution_in_the_unit_of_the_wire(metric: str) -> None:
    instrument = INSTRUMENTS[metric]
    shown = measure(1, "P", metric, np.linspace(0.3, 0.9, len(TIMES)), TIMES) * 10.0**instrument.decimals
    assert shown == pytest.approx(np.round(shown), abs=1e-6)


@pytest.mark.parametrize(("metric", "true"), [("pressure", 4.0), ("flow", 100.0), ("temperature", 20.0)])
def test_it_scatters_as_much_as_it_is_said_to(metric: str, true: float) -> None:
    instrument = INSTRUMENTS[metric]
    shown = canonical(metric, measure(1, "P", metric, np.full(len(TIMES), true), TIMES))
    step = 10.0**-instrument.decimals / instrument.factor
    rounding = step / np.sqrt(12.0)
    noise = np.hypot(instrument.noise, instrument.relative * true)
    assert np.std(shown) == pytest.approx(np.hypot(noise, rounding), rel=0.05)
    assert np.mean(shown) == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("metric", [name for name, one in INSTRUMENTS.items() if np.isfinite(one.span[0])])
def test_beyond_its_range_it_stands_at_the_end(metric: str) -> None:
    low, high = INSTRUMENTS[metric].span
    times = TIMES[:1]
    assert canonical(metric, measure(1, "P", metric, np.array([high * 3]), times)) == pytest.approx([high])
    assert canonical(metric, measure(1, "P", metric, np.array([low - 99_999]), times)) == pytest.approx([low])
    sensors = [p.metrics[metric].sensor for p in shipped_profiles().values() if metric in p.metrics]
    assert any(sensor is None or (sensor[0] <= low and high <= sensor[1]) for sensor in sensors), "or it is refused"


def test_a_flow_meter_shows_nothing_below_its_cut_off() -> None:
    assert measure(1, "P", "flow", np.array([0.1]), TIMES[:1]) == [0.0]


def test_it_follows_63_per_cent_of_a_step_in_its_response_time() -> None:
    true = np.concatenate([np.full(5, 10.0), np.full(600, 20.0)])
    seen = respond("temperature", true, SECOND)
    response = INSTRUMENTS["temperature"].response // SECOND
    assert np.array_equal(seen[:5], true[:5])
    assert seen[4 + response] == pytest.approx(10.0 + 10.0 * (1 - np.exp(-1)), rel=1e-3)
    assert seen[-1] == pytest.approx(20.0, abs=0.01)
    assert np.array_equal(respond("pressure", true, MINUTE), true), "a pressure transmitter is there within a minute"


@given(st.lists(st.floats(-50, 150), min_size=1, max_size=50))
def test_it_never_shows_more_than_there_was(values: list[float]) -> None:
    seen = respond("temperature", np.array(values), MINUTE)
    assert len(seen) == len(values)
    assert min(values) - 1e-9 <= seen.min()
    assert seen.max() <= max(values) + 1e-9
