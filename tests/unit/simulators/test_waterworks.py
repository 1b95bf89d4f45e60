"""The simulated plant: repeatable, independent of the range asked for, and plausible while it is healthy."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.inventory import check_device
from devices.model import DAY, HOUR, MINUTE, ContentFormat, Transport, instant
from devices.profile import shipped_profiles
from simulators.actuator import TICK, follow
from simulators.demand import demand_factor
from simulators.device import manner
from simulators.fleet import luhn_digit
from simulators.hydraulics import Disturbances, solve
from simulators.machine import BEARING_LAG, lagged
from simulators.observation import Observation, observe, sample_times, states
from simulators.plant import build
from simulators.sensors import canonical

START = instant(datetime(2026, 3, 2, 20, tzinfo=UTC))  # a Tuesday, 4 in the morning at the plant
PLANT = build(7, 4, 4)


def day(seed: int = 7) -> Observation:
    return observe(build(seed, 4, 4).works, [], START, START + DAY)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    one, same, other = day(), day(), day(8)
    for tag, metrics in one.values.items():
        for metric, values in metrics.items():
            assert values.tobytes() == same.values[tag][metric].tobytes(), (tag, metric)
    assert one.values["P-101"]["flow"].tobytes() != other.values["P-101"]["flow"].tobytes()


@settings(max_examples=6)
@given(begin=st.integers(0, 40 * 60), minutes=st.integers(1, 300))
def test_a_sample_is_the_same_whatever_range_it_is_asked_for_in(begin: int, minutes: int) -> None:
    works = build(7, 2, 2, sites=1).works
    whole = observe(works, [], START, START + 2 * DAY)
    part = observe(works, [], START + begin * MINUTE, START + (begin + minutes) * MINUTE)
    at = np.searchsorted(whole.times, part.times)
    for tag, metrics in part.values.items():
        for metric, values in metrics.items():
            assert np.array_equal(values, whole.values[tag][metric][at]), (tag, metric)


def test_samples_are_taken_on_whole_minutes_and_only_within_the_range() -> None:
    times = sample_times(START + 1, START + 3 * MINUTE)
    assert times.tolist() == [START + MINUTE, START + 2 * MINUTE]
    with pytest.raises(ValueError, match="a minute at least"):
        observe(PLANT.works, [], START + 1, START + 2)


@pytest.mark.parametrize("size", [(1, 0), (0, 1), (3, 5), (40, 7)])
def test_a_plant_of_any_size_is_built_and_shows_finite_values(size: tuple[int, int]) -> None:
    plant = build(3, *size)
    assert [asset.is_pump for asset in plant.assets] == [True] * size[0] + [False] * size[1]
    shown = observe(plant.works, [], START, START + 2 * HOUR)
    assert set(shown.values) == {asset.tag for asset in plant.assets}
    assert all(np.isfinite(values).all() for metrics in shown.values.values() for values in metrics.values())


def test_a_plant_without_assets_is_refused() -> None:
    with pytest.raises(ValueError, match="name at least one"):
        build(1, 0, 0)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_identities_are_distinct_imeis_with_a_valid_check_digit(seed: int) -> None:
    profiles = shipped_profiles()
    assets = build(seed, 5, 5).assets
    assert len({asset.device.identity for asset in assets}) == 10
    for asset in assets:
        check_device(asset.device, profiles)
        digits = asset.device.identity.removeprefix("urn:dev:imei:")
        assert len(digits) == 15
        # The sum of all digits, every second one from the right doubled and its digits added, ends in 0.
        assert sum(sum(divmod(int(d) * (1 + i % 2), 10)) for i, d in enumerate(reversed(digits))) % 10 == 0


def test_the_check_digit_is_that_of_the_published_example() -> None:
    assert luhn_digit("7992739871") == 3


def test_half_of_the_fleet_speaks_coap_and_half_cbor() -> None:
    ways = [manner(asset) for asset in build(1).assets]
    assert sum(way.transport is Transport.COAP for way in ways) == 12
    assert sum(way.content_format is ContentFormat.SENML_CBOR for way in ways) == 12
    assert {(way.transport, way.content_format) for way in ways} == {
        (transport, form) for transport in Transport for form in (ContentFormat.SENML_JSON, ContentFormat.SENML_CBOR)
    }
    assert any(way.at_root for way in ways if way.transport is Transport.COAP)


def test_demand_has_its_trough_at_night_and_its_mornings_late_on_sundays() -> None:
    zone = 8 * HOUR
    tuesday = START - 4 * HOUR + np.arange(0, DAY, 10 * MINUTE, dtype=np.int64)
    workday = demand_factor(tuesday, zone)
    assert workday.mean() == pytest.approx(1.0, abs=0.01)
    assert 2.5 <= np.argmin(workday) / 6 <= 4.5
    sunday = demand_factor(tuesday + 5 * DAY, zone)
    morning = slice(5 * 6, 11 * 6)
    assert np.argmax(sunday[morning]) > np.argmax(workday[morning]) + 6
    assert np.array_equal(demand_factor(tuesday + 7 * DAY, zone), workday)


def test_water_is_neither_made_nor_lost_and_the_header_is_held() -> None:
    for state in states(PLANT.works, [], sample_times(START, START + DAY)):
        site, flows = state.site, state.flows
        assert np.allclose(flows.header, site.header_pressure)
        delivered = flows.pump_flow.sum(axis=0)
        unmetered = (delivered - flows.valve_flow.sum(axis=0)) / delivered
        assert (unmetered > 0.05).all()
        assert (unmetered < 0.35).all()
        assert (flows.pump_flow[~flows.running] == 0.0).all()
        assert (flows.running.sum(axis=0) >= 1).all()


def test_valves_pass_what_their_kv_and_drop_say() -> None:
    for state in states(PLANT.works, [], sample_times(START, START + 4 * HOUR)):
        for k, valve in enumerate(state.site.valves):
            drop = state.flows.inlet[k] - state.flows.outlet[k]
            # Kv/Kvs = 50^(h-1) above the seat, straight below it; written out here once more.
            h = state.position[k] / 100.0
            factor = np.where(h < 0.05, 50.0 ** (0.05 - 1.0) * h / 0.05, 50.0 ** (h - 1.0))
            shown = state.flows.valve_flow[k]
            assert np.allclose(shown, valve.kvs * factor * np.sqrt(drop), rtol=1e-6, atol=1e-6)
            assert (shown[h == 0.0] < 1e-6).all()


def test_a_healthy_day_stays_far_from_every_limit() -> None:
    shown = day()
    for tag, metrics in shown.values.items():
        value = {metric: canonical(metric, values) for metric, values in metrics.items()}
        if tag.startswith("P-"):
            assert value["vibration"].max() < 4.5
            assert value["bearing_temperature"].max() < 71.0
            running = value["running"] > 0.5
            assert (value["flow"][running] > 40.0).all()
            assert (value["current"][~running] == 0.0).all()
            assert (value["speed"][~running] == 0.0).all()
        else:
            assert value["pressure"].min() > 3.0
            away = np.abs(value["position"] - value["position_command"]) > 5.0
            assert not (away[1:] & away[:-1]).any(), f"{tag} is away from its command in two samples in a row"
        assert value["battery"].min() > 30.0
        assert value["enclosure_open"].max() == 0.0


def test_stems_follow_at_their_stroke_rate_and_stick_as_told() -> None:
    command = np.concatenate([np.full(6, 20.0), np.full(30, 60.0), np.full(30, 62.0)])[None, :]
    stroke = np.array([60.0])
    free = follow(command, np.zeros_like(command), stroke, np.array([20.0]))[0]
    assert np.diff(free).max() == pytest.approx(100.0 * (TICK / 1e6) / 60.0)
    assert free[35] == pytest.approx(60.0)
    assert free[-1] == pytest.approx(62.0)
    sticky = follow(command, np.full_like(command, 5.0), stroke, np.array([20.0]))[0]
    assert abs(sticky[35] - 60.0) <= 2.0
    assert sticky[-1] == sticky[35], "a step within the dead band moves nothing"
    stuck = follow(command, np.full_like(command, 100.0), stroke, np.array([20.0]))[0]
    assert (stuck == 20.0).all()


def test_a_bearing_warms_by_two_thirds_in_one_time_constant() -> None:
    target = np.concatenate([[20.0], np.full(200, 60.0)])
    warm = lagged(target, MINUTE, BEARING_LAG)
    assert warm[0] == 20.0
    assert warm[BEARING_LAG // MINUTE] == pytest.approx(20.0 + 40.0 * (1.0 - np.exp(-1.0)))
    assert warm[-1] == pytest.approx(60.0, abs=0.01)


def test_a_station_at_its_end_gives_way_with_its_pressure() -> None:
    site = PLANT.works.sites[0]
    times = sample_times(START, START + HOUR)
    wrong = Disturbances.healthy(site, len(times))
    wrong.delivery[1:] = 0.0
    positions = np.full((len(site.valves), len(times)), 100.0)
    flows = solve(PLANT.works, site, times, positions, wrong)
    assert flows.running.all()
    assert np.allclose(flows.speed, 1.0)
    assert (flows.pump_flow[1:] == 0.0).all()
    assert (flows.header < site.header_pressure - 0.5).all()
    rated = site.pumps[0]
    # At full speed the pump stands on its curve: discharge = suction + ρ·g·H.
    head = 1.25 * rated.rated_head - 0.25 * rated.rated_head * (flows.pump_flow[0] / rated.rated_flow) ** 2
    assert np.allclose(flows.suction[0] + 998.2 * 9.80665 / 1e5 * head, flows.header, atol=1e-3)
