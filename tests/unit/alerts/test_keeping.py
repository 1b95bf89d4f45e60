"""What the engine keeps over a restart: it goes on to the journal that it would have come to without one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from alerts.engine import Engine
from alerts.rules import Rule
from devices.batch import Kept
from devices.model import MINUTE, Reading
from tests.unit.alerts.plant import (
    DEVICES,
    PROFILES,
    PUMP,
    T0,
    VALVE,
    House,
    KeepingHouse,
    deliver_at_random,
    expected,
    rule,
    series,
)
from tests.unit.alerts.test_engine import some_readings, some_rules
from tests.unit.alerts.test_groups import PLANT, grouped, some_group


@pytest.mark.parametrize(("runs", "seed"), [(300, 1), pytest.param(5_000, 2, marks=pytest.mark.deliveries)])
def test_restarts_in_between_change_nothing(monkeypatch: pytest.MonkeyPatch, runs: int, seed: int) -> None:
    chance = random.Random(seed)
    resumed = 0
    for _ in range(runs):
        monkeypatch.setattr("alerts.keeping._AT_ONCE", chance.choice((1, 20)))
        monkeypatch.setattr("alerts.track.SPACING", chance.choice((0, 5 * MINUTE, 15 * MINUTE)))
        house = KeepingHouse(some_rules(chance), chance)
        deliver_at_random(house.rules, some_readings(chance), chance, house=house)
        resumed += house.resumed
    assert resumed > runs / 3


@pytest.mark.parametrize(("runs", "seed"), [(300, 1), pytest.param(5_000, 2, marks=pytest.mark.deliveries)])
def test_nor_do_they_of_rules_on_groups(monkeypatch: pytest.MonkeyPatch, runs: int, seed: int) -> None:
    chance = random.Random(seed)
    resumed = 0
    for _ in range(runs):
        monkeypatch.setattr("alerts.keeping._AT_ONCE", chance.choice((1, 20)))
        tested, readings = some_group(chance)
        house = KeepingHouse([tested, rule("flow > 6", rule="own")], chance, PLANT)
        deliver_at_random(house.rules, readings, chance, PLANT, house)
        resumed += house.resumed
    assert resumed > runs / 10


def kept(rules: list[Rule], readings: list[Reading]) -> list[Kept]:
    """What an engine with these rules keeps of the pump."""
    house = KeepingHouse(rules, random.Random(0))
    house.deliver(readings)
    return house.engine.keep(PUMP.identity, set())


def high(device: str, value: float) -> dict[str, object]:
    """A set-point of one device's own."""
    return {"devices": [device], "valid_from": "2000-01-01T00:00:00Z", "setpoints": {"high": value}, "reason": "r"}


def limited(chance: random.Random) -> Rule:
    """The same rule with one or another delay, and a set-point that is now everybody's and now somebody's own."""
    own = high(PUMP.identity, 7)
    return rule(
        "vibration > setpoint.high and avg(flow, '20m') > 3",
        rule="r0",
        setpoints={"high": 5},
        overrides=[own] if chance.random() < 0.6 else [],
        on_delay=chance.choice(["1m", "1m", "3m"]),
    )


def balance(chance: random.Random) -> Rule:
    """The same rule on groups with one or another delay."""
    return grouped(on_delay=chance.choice(["1m", "1m", "3m"]))


@pytest.mark.parametrize(("runs", "seed"), [(300, 1), pytest.param(5_000, 2, marks=pytest.mark.deliveries)])
def test_nor_do_other_rules_and_the_old_ones_again(monkeypatch: pytest.MonkeyPatch, runs: int, seed: int) -> None:
    chance = random.Random(seed)
    staying: list[int] = []
    for _ in range(runs):
        monkeypatch.setattr("alerts.keeping._AT_ONCE", chance.choice((1, 20)))
        of_groups = chance.random() < 0.5
        make = balance if of_groups else limited

        def reload(house: House, make: Callable[[random.Random], Rule] = make) -> None:
            if isinstance(house, KeepingHouse) and chance.random() < 0.1:
                house.exchange([make(chance), rule("flow > 6", rule="own")])
                staying.append(len(house.met))

        devices = PLANT if of_groups else DEVICES
        readings = some_group(chance)[1] if of_groups else some_readings(chance)
        house = KeepingHouse([make(chance), rule("flow > 6", rule="own")], chance, devices)
        deliver_at_random(house.rules, readings, chance, devices, house, reload)
    assert {0, 1, 2} <= set(staying)


def test_another_set_point_of_one_device_costs_nobody_else_a_past() -> None:
    second = replace(PUMP, identity="urn:dev:imei:3")
    limit = {"setpoints": {"high": 5}}
    house = KeepingHouse(
        [rule("vibration > setpoint.high", **limit)], Fixed(0.0), {d.identity: d for d in (PUMP, second)}
    )
    for device in (PUMP, second):
        house.deliver(series("vibration", [1, 6], device=device))
    own = high(PUMP.identity, 7)
    house.exchange([rule("vibration > setpoint.high", overrides=[own], title="Told otherwise", **limit)])
    asked = house.lookups
    house.deliver(series("vibration", [6], start=T0 + 2 * MINUTE, device=second))
    assert house.lookups == asked
    house.deliver(series("vibration", [6], start=T0 + 2 * MINUTE))
    assert house.lookups > asked
    assert [alarm.device for alarm in house.alarms] == [second.identity]


class Fixed(random.Random):
    """Chance that always falls the same way."""

    def __init__(self, number: float) -> None:
        super().__init__(0)
        self._number = number

    def random(self) -> float:
        return self._number


def test_what_the_journal_has_and_what_nobody_judged_are_put_together() -> None:
    """The alarm was found after the last round; a late reading takes it back that was committed and not judged."""
    rules = [rule(on_delay="3m")]
    house = KeepingHouse(rules, Fixed(0.0))
    house.deliver(series("vibration", [1] * 10))
    house.chance = Fixed(0.9)  # no more rounds
    house.deliver(series("vibration", [6, None, 6, 6], start=T0 + 20 * MINUTE))
    assert len(house.alarms) == 1
    house.commit(series("vibration", [1], start=T0 + 21 * MINUTE))
    house.chance = Fixed(0.0)
    house.restart()
    assert house.resumed == 1
    assert house.alarms == expected(rules, list(house.stored.values())) == []


def test_a_device_costs_no_past_after_a_restart() -> None:
    house = KeepingHouse([rule("avg(vibration, '1d') > 5", on_delay="3m")], random.Random(1))
    for number in range(50):
        house.deliver(series("vibration", [number % 11], start=T0 + number * MINUTE))
    house.restart()
    assert house.resumed == 1
    asked = house.lookups
    house.deliver(series("vibration", [3], start=T0 + 50 * MINUTE))
    assert house.lookups == asked


@pytest.mark.parametrize(
    ("rules", "device", "version"),
    [
        ([rule("vibration > 6")], PUMP, "1"),
        ([rule(), rule(rule="other")], PUMP, "1"),
        ([rule(on_delay="1m")], PUMP, "1"),
        ([rule()], replace(PUMP, design={"rated_power": 11.0}), "1"),
        ([rule()], replace(PUMP, site="north"), "1"),
        ([rule()], replace(PUMP, profile=VALVE.profile), "1"),
        ([rule()], replace(PUMP, identity="urn:dev:imei:9"), "1"),
        ([rule()], PUMP, "2"),
    ],
)
def test_what_was_kept_for_another_engine_or_another_device_is_not_gone_on_with(
    rules: list[Rule], device: object, version: str
) -> None:
    engine = Engine([rule()], PROFILES, version="1")
    readings = series("vibration", [1, 6, 6])
    engine.apply(readings, DEVICES, lambda _, __: readings, lambda _: ())
    (one,) = engine.keep(PUMP.identity, set())
    assert one.memory is not None
    assert Engine([rule()], PROFILES, version="1").resume(one, PUMP)
    assert not Engine(rules, PROFILES, version=version).resume(one, device)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", [b"", b"\0", b"x" * 40])
def test_what_is_damaged_is_as_good_as_nothing(damage: bytes) -> None:
    (one,) = kept([rule()], series("vibration", [1, 6, 6]))
    assert one.memory is not None
    engine = Engine([rule()], PROFILES)
    for memory in (damage, one.memory[:16] + damage, one.memory[:30] + damage, one.memory[:-3] + damage):
        assert not engine.resume(one._replace(memory=memory), PUMP)


def test_of_who_is_not_known_nothing_is_kept() -> None:
    assert Engine([rule()], PROFILES).keep(PUMP.identity, set()) == [Kept(PUMP.identity, "", None)]


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("of_groups", [False, True])
def test_what_other_rules_made_of_the_past_does_not_outlive_them(of_groups: bool, resumed: bool) -> None:
    """They were in use for a while in which no round was completed; the old ones do not go on from before that."""

    def make(limit: int) -> Rule:
        if of_groups:
            return grouped(f"inlet.flow > {limit} and max(outlet.flow) < 9")
        return rule(f"flow > {limit}")

    pump = PLANT["in"]
    house = KeepingHouse([make(7)], Fixed(0.0), PLANT if of_groups else {pump.identity: pump})
    for device in house.devices:
        house.deliver([Reading(device, "flow", T0 + n * MINUTE, value) for n, value in enumerate([6, 6, 1, 1])])
    if resumed:
        house.restart()
    assert len(house.shelf.kept) == 1
    house.chance = Fixed(0.9)  # no more rounds
    for number, limit in enumerate([5, 7], 4):
        house.exchange([make(limit)])
        if limit == 5:
            house.deliver([Reading(device, "flow", T0 + number * MINUTE, 1.0) for device in house.devices])
            assert len(house.alarms) == 1
    house.restart()
    house.deliver([Reading(device, "flow", T0 + 9 * MINUTE, 1.0) for device in house.devices])
    assert house.alarms == []


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("gone", ["the rule", "the group"])
def test_what_came_while_a_group_was_not_judged_is_not_missing_afterwards(gone: str, restarts: bool) -> None:
    rules = [grouped("inlet.flow > 5 and max(outlet.flow) < 9", on_delay="3m")]
    house = KeepingHouse(rules, Fixed(0.0), PLANT)

    def hear(first: int, *values: float) -> None:
        for device in PLANT:
            house.deliver([Reading(device, "flow", T0 + (first + n) * MINUTE, value) for n, value in enumerate(values)])
        if restarts:
            house.restart()

    hear(0, 6, 6)
    if gone == "the rule":
        house.exchange([])
    else:
        house.devices["in"] = replace(PLANT["in"], unit="elsewhere")
    hear(2, 1, 1)
    house.devices["in"] = PLANT["in"]
    house.exchange(rules)
    hear(4, 6, 6)
    assert house.alarms == expected(rules, list(house.stored.values()), PLANT) == []
