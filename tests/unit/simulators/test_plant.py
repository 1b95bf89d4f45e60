"""The plant: physics that holds, values that repeat, faults that show where they should and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from alerts.engine import Engine
from alerts.rules import shipped_rules
from devices.alarm import Alarm
from devices.model import DAY, MINUTE, SECOND, Reading
from devices.profile import shipped_profiles
from simulators.faults import KINDS, Fault, schedule
from simulators.noise import normal, uniform
from simulators.plant import RHO, Asset, G, Plant, build, demand, signals

START = 1_790_000_000 * SECOND // DAY * DAY
TIMES = np.arange(START, START + DAY, MINUTE, dtype=np.int64)
PROFILES = shipped_profiles()


def day(plant: Plant, asset: Asset, faults: list[Fault] | None = None) -> dict[str, np.ndarray]:
    own = [fault for fault in faults or [] if fault.device == asset.device.identity]
    return signals(plant, asset, TIMES, {fault.kind.name: fault.intensity(TIMES) for fault in own})


def readings(asset: Asset, values: dict[str, np.ndarray]) -> list[Reading]:
    return [
        Reading(asset.device.identity, metric, at, value)
        for metric, series in values.items()
        for at, value in zip(TIMES.tolist(), series.tolist(), strict=True)
    ]


def luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def test_the_same_seed_gives_the_same_plant_and_the_same_values() -> None:
    one, two, other = build(7), build(7), build(8)
    assert one == two
    assert one != other
    for a, b in zip(one.assets, two.assets, strict=True):
        assert all(np.array_equal(day(one, a)[name], day(two, b)[name]) for name in day(one, a))


def test_noise_is_the_same_however_a_day_is_cut() -> None:
    whole = normal(3, "x", TIMES)
    assert np.array_equal(np.concatenate([normal(3, "x", TIMES[:700]), normal(3, "x", TIMES[700:])]), whole)
    assert abs(float(whole.mean())) < 0.1
    assert float(whole.std()) == pytest.approx(1, abs=0.1)
    assert 0 < float(uniform(3, "y", TIMES).min()) < float(uniform(3, "y", TIMES).max()) < 1


def test_identities_are_imeis_with_a_right_check_digit() -> None:
    identities = [asset.device.identity for asset in build(3).assets]
    assert len(set(identities)) == len(identities)
    assert all(luhn(identity.removeprefix("urn:dev:imei:")) for identity in identities)
    assert all(len(identity.removeprefix("urn:dev:imei:")) == 15 for identity in identities)


def test_demand_has_a_night_valley_and_two_peaks() -> None:
    local = (TIMES % DAY) / (60 * MINUTE) + 8
    curve = demand(1, "Oubei", TIMES)

    def mean(begin: float, end: float) -> float:
        return float(curve[(local % 24 >= begin) & (local % 24 < end)].mean())

    assert mean(2, 4) < mean(10, 11) < mean(7, 8)
    assert mean(14, 16) < mean(19, 20)


@pytest.mark.parametrize("number", range(12))
def test_a_pump_obeys_energy_balance_and_affinity(number: int) -> None:
    plant = build(5)
    asset = plant.assets[number]
    values = day(plant, asset)
    on = values["running"] == 1
    head = (values["pressure"] - values["suction_pressure"])[on] * 1e5 / (RHO * G)
    hydraulic = RHO * G * values["flow"][on] / 3600 * head / 1000
    efficiency = hydraulic / values["power"][on]
    assert float(efficiency.max()) < 0.80, "more power cannot come out than goes in"
    assert float(np.median(efficiency)) > 0.4
    # Affinity: scaled to rated speed, every operating point lies on the pump's one curve.
    ratio = values["speed"][on] / 1480
    design = asset.device.design
    scaled_flow, scaled_head = values["flow"][on] / ratio, head / ratio**2
    curve = design["rated_head"] * (1.25 - 0.25 * (scaled_flow / design["rated_flow"]) ** 2)
    assert np.allclose(scaled_head, curve, rtol=0.04)
    off = ~on
    assert not off.any() or float(values["power"][off].max()) == 0.0


@pytest.mark.parametrize("number", range(12, 24))
def test_a_valve_obeys_the_flow_equation(number: int) -> None:
    plant = build(5)
    values = day(plant, plant.assets[number])
    pressure_drop = np.clip(values["pressure"] - values["outlet_pressure"], 0, None)
    open_ = values["position"] > 5
    kv = values["flow"][open_] / np.sqrt(pressure_drop[open_])
    trim = plant.assets[number].device.design["kv"] * 50.0 ** (values["position"][open_] / 100 - 1)
    assert np.allclose(kv, trim, rtol=0.12, atol=0.3)
    assert float(values["flow"][values["position"] == 0].max(initial=0)) == 0.0


def alarms_of(asset: Asset, values: dict[str, np.ndarray]) -> list[Alarm]:
    """What the shipped rules make of a day."""
    data = readings(asset, values)
    changes = Engine(shipped_rules(), PROFILES).apply(
        data, {asset.device.identity: asset.device}, lambda *_: data, lambda _: []
    )
    return [change.alarm for change in changes]


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_healthy_day_raises_no_alarm(seed: int) -> None:
    plant = build(seed)
    assert [alarm for asset in plant.assets for alarm in alarms_of(asset, day(plant, asset))] == []


@pytest.mark.parametrize("seed", range(101, 105))
def test_every_scheduled_fault_is_alarmed_and_nothing_else(seed: int) -> None:
    plant = build(seed)
    faults = schedule(plant, START, START + DAY)
    assert {fault.kind.name for fault in faults} == {kind.name for kind in KINDS}
    assert len({fault.device for fault in faults}) == len(faults)
    for asset in plant.assets:
        fault = next((fault for fault in faults if fault.device == asset.device.identity), None)
        alarms = alarms_of(asset, day(plant, asset, faults))
        if fault is None:
            assert alarms == []
            continue
        assert {alarm.rule for alarm in alarms} <= set(fault.kind.explains)
        assert alarms, f"{fault.kind.name} was not noticed"
        assert all(fault.begins <= alarm.raised_at < fault.ends for alarm in alarms)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_fault_acts_while_it_lasts_and_grows_as_it_says(kind: object) -> None:
    found = next(entry for entry in KINDS if entry is kind)
    fault = Fault(found, "d", START + 60 * MINUTE, START + 60 * MINUTE + found.duration, 0.9)
    strength = fault.intensity(TIMES)
    assert float(strength[:60].max()) == 0.0
    assert float(strength.max()) == pytest.approx(0.9)
    assert float(strength[fault.ends <= TIMES].max()) == 0.0
    grown = strength[(fault.begins <= TIMES) & (fault.begins + found.growth > TIMES)]
    assert np.all(np.diff(grown) >= 0)
