"""The physics helpers against the tables and worked examples of their sources."""

from __future__ import annotations

import pytest

from alerts import physics


@pytest.mark.parametrize(("kelvin", "mpa"), [(300, 0.353658941e-2), (500, 0.263889776e1), (600, 0.123443146e2)])
def test_vapour_pressure_is_that_of_the_verification_table_of_if97(kelvin: float, mpa: float) -> None:
    assert physics.vapour_pressure(kelvin - 273.15) == pytest.approx(mpa * 10, rel=1e-8)


@pytest.mark.parametrize(("celsius", "density"), [(4, 999.972), (20, 998.204), (50, 988.035), (95, 961.89)])
def test_density_of_water(celsius: float, density: float) -> None:
    assert physics.density(celsius) == pytest.approx(density, abs=0.02)


def test_ten_metres_of_water_are_about_a_bar() -> None:
    assert physics.head(1.0) == pytest.approx(10.215, abs=0.001)
    assert physics.npsh_available(0.0, 20.0) == pytest.approx(10.11, abs=0.01)
    assert physics.npsh_available(-0.9, 60.0) < 0


def test_hydraulic_power_of_36_cubic_metres_an_hour_against_one_bar_is_a_kilowatt() -> None:
    assert physics.hydraulic_power(36, 1) == 1


def test_a_pump_curve_runs_through_shut_off_and_rated_point_and_follows_the_affinity_laws() -> None:
    assert physics.pump_head(0, 100, 40, 50) == 50
    assert physics.pump_head(100, 100, 40, 50) == 40
    # At half speed the points of the curve stand at half the flow and a quarter of the head.
    assert physics.pump_head(50, 100, 40, 50, 0.5) == pytest.approx(physics.affinity_head(40, 0.5))
    assert physics.affinity_flow(100, 0.5) == 50
    assert physics.affinity_power(8, 0.5) == 1


def test_flow_through_a_valve_and_where_it_chokes() -> None:
    assert physics.kv_flow(100, 1) == 100
    assert physics.kv_flow(100, 4) == 200
    # FF is 0.957 for water of 20 degC.
    assert physics.choked_drop(10 - physics.ATMOSPHERE, 20, 0.9) == pytest.approx(
        0.81 * (10 - 0.957 * 0.02339), rel=1e-4
    )
    assert physics.cavitation_index(4, 2, 20) == pytest.approx((4 + 1.01325 - 0.02339) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("velocity", "power", "category", "zone"),
    [(2.5, 100, 1, 1), (2.6, 100, 1, 2), (5.2, 200, 2, 3), (9.6, 201, 2, 4), (8.6, 200, 2, 4), (8.5, 200, 2, 3)],
)
def test_vibration_zones(velocity: float, power: float, category: int, zone: int) -> None:
    assert physics.vibration_zone(velocity, power, category) == zone


@pytest.mark.parametrize(
    "call",
    [
        lambda: physics.vapour_pressure(-1),
        lambda: physics.density(200),
        lambda: physics.pump_head(1, 0, 1, 1),
        lambda: physics.kv_flow(1, -1),
        lambda: physics.cavitation_index(1, 2, 20),
        lambda: physics.vibration_limit(1, 3, 1),
        lambda: physics.vibration_limit(1, 1.5, 1),
        lambda: physics.vibration_zone(1, 1, 0),
    ],
)
def test_what_has_no_meaning_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"\w"):
        call()
