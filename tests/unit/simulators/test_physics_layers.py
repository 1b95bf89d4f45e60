"""Cavitation, water hammer, vibration, motor and stem, against an independent library and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from fluids.control_valve import size_control_valve_l
from fluids.fittings import Kv_to_K
from hypothesis import given
from hypothesis import strategies as st

from simulators.actuator import stem_torque
from simulators.cavitation import (
    ATMOSPHERE,
    cavitation_index,
    choked_drop,
    head_left,
    npsh_available,
    npsh_required,
    vapour_pressure,
)
from simulators.curves import loss_coefficient
from simulators.machine import VOLTAGE, electrical_power, motor_current
from simulators.vibration import outer_race, rms, spectrum
from simulators.water_hammer import DUCTILE_IRON, PVC, STEEL, surge, surge_of_closure, wave_speed


@pytest.mark.parametrize(
    ("celsius", "bar"), [(10, 0.012282), (20, 0.023393), (50, 0.12352), (80, 0.47414), (100, 1.01418), (140, 3.6154)]
)
def test_water_boils_where_the_steam_tables_say(celsius: float, bar: float) -> None:
    assert float(vapour_pressure(celsius)) == pytest.approx(bar, rel=0.01)


@given(
    inlet=st.floats(2.0, 14.0), share=st.floats(0.1, 0.98), celsius=st.floats(5.0, 95.0), recovery=st.floats(0.6, 0.95)
)
def test_a_choked_valve_passes_what_iec_60534_says(inlet: float, share: float, celsius: float, recovery: float) -> None:
    outlet = inlet * (1.0 - share)
    most = float(choked_drop(inlet, celsius, recovery))
    flow = 100.0 * np.sqrt(min(inlet - outlet, most))  # our Q for Kv 100
    vapour = float(vapour_pressure(celsius)) * 1e5
    # The library sizes a valve for a flow; at the viscosity of water and without fittings it must find 100 again.
    found = size_control_valve_l(
        rho=999.1, Psat=vapour, Pc=22064000.0, mu=3e-4, P1=(inlet + ATMOSPHERE) * 1e5, P2=(outlet + ATMOSPHERE) * 1e5,
        Q=flow / 3600.0, FL=recovery, Fd=1.0, full_output=False,
    )  # fmt: skip
    assert found == pytest.approx(100.0, rel=2e-3)


@given(kv=st.floats(0.1, 3000.0), diameter=st.floats(15.0, 600.0))
def test_a_loss_coefficient_is_that_of_kv(kv: float, diameter: float) -> None:
    assert float(loss_coefficient(kv, diameter)) == pytest.approx(Kv_to_K(kv, diameter / 1e3), rel=2e-3)


def test_cavitation_begins_where_the_index_falls() -> None:
    assert float(cavitation_index(9.0, 3.0, 20.0)) == pytest.approx((9.0 + 1.01325 - 0.0234) / 6.0, rel=1e-3)
    assert np.isinf(cavitation_index(3.0, 4.0, 20.0))


def test_a_flooded_suction_has_ten_metres_and_boiling_water_none() -> None:
    assert float(npsh_available(0.0, 20.0)) == pytest.approx(10.11, abs=0.03)
    assert float(npsh_available(0.0, 100.0)) == pytest.approx(0.0, abs=0.1)


@given(speed=st.floats(0.3, 1.0), share=st.floats(0.1, 1.3))
def test_npsh_follows_the_square_of_speed(speed: float, share: float) -> None:
    at_rated = float(npsh_required(100.0 * share, 1.0, 100.0, 3.0))
    assert float(npsh_required(100.0 * share * speed, speed, 100.0, 3.0)) == pytest.approx(at_rated * speed**2)


def test_three_per_cent_of_head_are_lost_at_npsh3() -> None:
    assert float(head_left(1.0)) == pytest.approx(0.97)
    assert np.all(np.diff(head_left(np.linspace(0.3, 2.0, 50))) >= 0.0)


def test_stopping_a_metre_a_second_gives_ten_to_fourteen_bar_in_steel() -> None:
    steel = wave_speed(200.0, 6.0, STEEL)
    assert 1000.0 < float(steel) < 1400.0
    assert 10.0 < float(surge(1.0, steel)) < 14.0
    assert float(wave_speed(200.0, 6.0, PVC)) < 0.4 * float(wave_speed(200.0, 6.0, DUCTILE_IRON))


@given(seconds=st.floats(0.01, 100.0))
def test_no_stop_is_worse_than_a_sudden_one(seconds: float) -> None:
    found = float(surge_of_closure(1.0, 1200.0, 600.0, seconds))
    assert found <= float(surge(1.0, 1200.0)) + 1e-9
    if seconds <= 1.0:  # 2·L/a
        assert found == pytest.approx(float(surge(1.0, 1200.0)))
    else:
        assert found == pytest.approx(2.0 * 998.2 * 600.0 / seconds / 1e5)


def test_a_healthy_spectrum_has_its_balance_and_each_fault_its_line() -> None:
    one, none = np.ones(1), np.zeros(1)
    shaft = 24.0 * one
    healthy = rms(spectrum(shaft, one, 1.5 * one, none, none, none, none))
    assert healthy == pytest.approx(1.5)
    assert rms(spectrum(shaft, one, 1.5 * one, none, none, one, none)) == pytest.approx(np.hypot(1.5, 9.0))
    assert outer_race(24.0) == pytest.approx(86.4)
    misaligned = spectrum(shaft, one, 1.5 * one, none, one, none, none)
    assert max(misaligned, key=lambda line: float(line.amplitude[0])).frequency == pytest.approx(48.0)


@given(severity=st.floats(0.0, 1.0), speed=st.floats(0.5, 1.0))
def test_the_rms_of_a_spectrum_is_that_of_its_time_signal(severity: float, speed: float) -> None:
    """Parseval: a second of the signal, sampled, has the same RMS (whole frequencies, so that it is periodic)."""
    one = np.ones(1)
    lines = spectrum(24.0 * one, speed * one, 2.0 * one, 0.2 * one, severity * one, 0.0 * one, severity * one)
    t = np.arange(4096) / 4096.0
    signal = sum(
        float(line.amplitude[0]) * np.sin(2 * np.pi * float(line.frequency[0]) * t + i) for i, line in enumerate(lines)
    )
    assert float(rms(lines)[0]) == pytest.approx(float(np.sqrt(np.mean(np.square(signal)))), rel=1e-6)


def test_a_motors_current_is_active_and_magnetising_at_right_angles() -> None:
    rated = 55.0
    volts = np.full(3, VOLTAGE)
    power = electrical_power(np.array([0.0, rated / 2, rated]), rated)
    assert power[0] > 0, "iron and friction losses stay"
    idle, half, full = motor_current(power, volts, rated)
    nameplate = rated * 1e3 / (np.sqrt(3.0) * VOLTAGE * 0.86 * 0.94)
    assert full == pytest.approx(nameplate, rel=0.1)
    assert 0.3 * nameplate < idle < 0.4 * nameplate, "what a motor without load still draws"
    assert half > full / 2, "the magnetising part does not halve"
    active = power * 1e3 / (np.sqrt(3.0) * VOLTAGE)
    assert np.sqrt(np.array([idle, half, full]) ** 2 - active**2) == pytest.approx(
        np.full(3, 0.35 * nameplate), rel=0.01
    )


def test_a_stem_that_does_not_follow_is_pressed_and_a_tight_packing_rubs() -> None:
    def torque(position: float, drop: float, friction: float) -> float:
        each = (np.array([[value]]) for value in (position, 50.0, drop, 100.0, friction))
        return float(stem_torque(*each)[0, 0])

    free = torque(50.0, 0.0, 1.0)
    assert torque(50.0, 5.0, 1.0) > free, "the drop pushes the plug"
    assert torque(50.0, 0.0, 2.0) == pytest.approx(2 * free)
    stuck = [torque(50.0 - behind, 0.0, 2.0) for behind in (0.0, 2.5, 5.0, 20.0)]
    assert stuck[0] < stuck[1] < stuck[2] == stuck[3], "up to what the actuator has"
