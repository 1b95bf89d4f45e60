"""How readings get to the engine: who is met for the first time waits for a turn, and the journal is none the worse."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from alerts.engine import Engine
from alerts.feeding import Feeder
from alerts.occurrences import applied
from alerts.ports import Ports
from alerts.rules import Rule
from devices.alarm import Alarm, AlarmChange
from devices.batch import Changed, Past
from devices.errors import UnavailableError
from devices.model import MINUTE, Device, Instant, Reading
from tests.unit.alerts.plant import PROFILES, T0, House, Shelf, deliver_at_random, expected, rule
from tests.unit.alerts.test_groups import PLANT, grouped, some_group
from tests.unit.alerts.test_keeping import Fixed, balance

Since = Mapping[str, Instant]


class FedHouse(House):
    """One with all that is between the commits and the engine, but its threads: what was committed reaches the engine
    in memory or by the log, whoever waits is met now and then, and now and then it is written."""

    def __init__(self, rules: Sequence[Rule], chance: random.Random, devices: Mapping[str, Device] = PLANT) -> None:
        super().__init__(rules, devices)
        self.chance = chance
        self.shelf = Shelf(self.devices)
        self.sites: dict[str, list[Device]] = {}
        self.commits: list[list[Reading]] = []
        self.handed: set[Reading] = set()
        self.complete = 0
        self.pasts: list[dict[str, Instant | None]] = []
        self.waited = 0
        self.is_away = False
        self.feeder = self._begin()

    def _begin(self) -> Feeder:
        ports = Ports(
            self._known, self._past, self._history_since, self._journals, lambda: self.complete,
            lambda *_: Changed([], 0), lambda *_: None, lambda: True, mates=self.mates, keeping=self.shelf.ports(),
        )  # fmt: skip
        self.engine = Engine(self.rules, PROFILES)
        return Feeder(self.engine, ports, self._clock, 0.0)

    def commit(self, readings: Iterable[Reading]) -> None:
        batch = list(readings)
        super().commit(batch)
        self.commits.append(batch)

    def apply(self, readings: Iterable[Reading], *, crash: bool = False) -> list[AlarmChange]:
        batch = list(readings)
        if self.chance.random() < 0.5:
            self.feeder.judge(batch)
        else:
            self.feeder.judge_stored(self._first(batch))
        self.handed.update(batch)
        self.waited += len(self.feeder.waiting_groups)
        if self.chance.random() < 0.4:
            self.feeder.meet(many=self.chance.random() < 0.5)
        if crash:
            self.restart()
        elif self.chance.random() < 0.6:
            self.write()
        return []

    def write(self) -> None:
        """What was found reaches the journal, and what is known may be kept."""
        again, self.feeder.again = self.feeder.again, {}
        self.feeder.judge_stored(again)
        self.feeder.settle()
        self._check(self.feeder.unwritten)
        if not self.feeder.is_anybody_waiting:
            unhanded = (n for n, batch in enumerate(self.commits) if not self.handed.issuperset(batch))
            self.complete = next(unhanded, len(self.commits))
        self.feeder.keeping.before_writing(self.feeder.engine)
        self.alarms = applied(self.alarms, self.feeder.unwritten)
        self.feeder.written()
        if self.chance.random() < 0.5:
            self.feeder.keeping.go_on(self.feeder.engine, self.complete)

    def finish(self) -> None:
        """Everybody is met, and everything is written."""
        self.write()
        while self.feeder.is_anybody_waiting:
            self.feeder.meet(many=False)
        self.write()

    def restart(self) -> None:
        """Nothing of what was not written or kept is left."""
        self.feeder.close()
        self.feeder = self._begin()
        since = self._first(reading for batch in self.commits[self.feeder.begin() :] for reading in batch)
        self.feeder.unjudged.update(since)
        self.feeder.judge_stored(since)
        self.handed = {reading for batch in self.commits for reading in batch}

    def exchange(self, rules: Sequence[Rule]) -> None:
        """Other rules take over."""
        self.rules = list(rules)
        self.engine = Engine(self.rules, PROFILES)
        self.feeder.exchange(self.engine)

    def mates(self, site: str) -> list[Device]:
        # The same list as long as nobody has moved, as the feeder has it.
        return self.sites.setdefault(site, super().mates(site))

    def _known(self, identities: Sequence[str]) -> dict[str, Device]:
        return {device.identity: device for device in self.devices.values() if device.identity in identities}

    def _past(self, since: Mapping[str, Instant | None], metrics: Collection[str] | None) -> Past:
        if self.is_away:
            raise UnavailableError("away")
        self.pasts.append(dict(since))
        own = (reading for reading in self.stored.values() if reading.device in since)
        return Past([reading for reading in own if metrics is None or reading.metric in metrics], ())

    def _history_since(self, since: Since) -> list[Reading]:
        return [r for r in self.stored.values() if r.device in since and r.measured_at >= since[r.device]]

    def _journals(self, identities: Sequence[str]) -> list[Alarm]:
        return [alarm for alarm in self.alarms if alarm.device in identities]

    @staticmethod
    def _first(readings: Iterable[Reading]) -> dict[str, Instant]:
        found: dict[str, Instant] = {}
        for reading in readings:
            found[reading.device] = min(reading.measured_at, found.get(reading.device, reading.measured_at))
        return found

    def _clock(self) -> float:
        return 0.0


@pytest.mark.parametrize(("runs", "seed"), [(200, 1), pytest.param(5_000, 2, marks=pytest.mark.deliveries)])
def test_who_waits_to_be_met_is_judged_as_whoever_is_met_at_once(runs: int, seed: int) -> None:
    chance = random.Random(seed)
    waited = 0
    for _ in range(runs):
        tested, readings = some_group(chance)
        house = FedHouse([tested, rule("flow > 6", rule="own")], chance)
        play(house, readings, chance, None)
        waited += house.waited > 0
    assert waited > runs / 2


@pytest.mark.parametrize(("runs", "seed"), [(200, 1), pytest.param(5_000, 2, marks=pytest.mark.deliveries)])
def test_nor_do_other_rules_in_between_change_anything(runs: int, seed: int) -> None:
    chance = random.Random(seed)
    exchanged_while_waiting = 0
    for _ in range(runs):
        house = FedHouse([balance(chance), rule("flow > 6", rule="own")], chance)

        def reload(house: House) -> None:
            nonlocal exchanged_while_waiting
            if isinstance(house, FedHouse) and chance.random() < 0.1:
                exchanged_while_waiting += bool(house.feeder.waiting_groups)
                house.exchange([balance(chance), rule("flow > 6", rule="own")])

        play(house, some_group(chance)[1], chance, reload)
    assert exchanged_while_waiting > runs / 20


UNEVEN = grouped("inlet.flow - sum(outlet.flow) > 2", rule="uneven")
OWN = rule("flow > 6", rule="own")


def flows(first: int, **values: float) -> list[Reading]:
    """Ten minutes of flow from a minute on, of each device."""
    return [
        Reading(device.replace("_", "-"), "flow", T0 + (first + n) * MINUTE, value)
        for device, value in values.items()
        for n in range(10)
    ]


@pytest.fixture
def house() -> Iterator[FedHouse]:
    """Three devices in a group, of which one is met."""
    house = FedHouse([OWN], Fixed(0.0))
    house.deliver(flows(0, **{"in": 1}))
    house.finish()
    house.exchange([OWN, UNEVEN])
    house.pasts.clear()
    yield house
    house.feeder.close()


def test_an_alarm_does_not_wait_for_the_past_of_a_group(house: FedHouse) -> None:
    house.commit(hot := flows(10, **{"in": 9}))
    house.feeder.judge(hot)
    assert [change.alarm.rule for change in house.feeder.unwritten] == ["own"]
    assert house.pasts == []
    assert house.feeder.is_anybody_waiting
    house.feeder.meet(many=True)
    assert any(asked.keys() == PLANT.keys() for asked in house.pasts), "of all devices of a group with one question"
    house.finish()
    assert house.alarms == expected(house.rules, list(house.stored.values()), PLANT)


def test_it_is_read_as_far_back_as_the_earliest_of_its_readings_asks_for(house: FedHouse) -> None:
    for some in (flows(20, **{"in": 9}), flows(10, out_1=4), flows(10, **{"in": 9})):
        house.commit(some)
        house.feeder.judge(some)
    house.feeder.meet(many=True)
    assert {"in": T0 + 10 * MINUTE, "out-1": T0 + 10 * MINUTE, "out-2": None} in house.pasts


def test_other_rules_judge_what_a_group_waited_with(house: FedHouse) -> None:
    house.commit(some := flows(10, **{"in": 9, "out_1": 1, "out_2": 1}))
    house.feeder.judge(some)
    house.exchange([OWN, grouped("inlet.flow - sum(outlet.flow) > 3", rule="by-another-name")])
    house.finish()
    assert [alarm.rule for alarm in house.alarms] == ["by-another-name", "own"]


def test_who_no_longer_judges_keeps_nobody_waiting(house: FedHouse) -> None:
    house.feeder.judge(flows(10, **{"in": 9}))
    house.feeder.end()
    assert not house.feeder.is_anybody_waiting


def test_a_group_that_was_met_costs_no_past_after_a_restart(house: FedHouse) -> None:
    house.deliver(flows(10, out_1=4, out_2=4))
    house.finish()
    house.exchange([OWN, grouped("inlet.flow - sum(outlet.flow) > 3", rule="another")])
    house.commit(some := flows(20, **{"in": 9, "out_1": 1, "out_2": 1}))
    house.feeder.judge(some)
    house.handed.update(some)
    house.write()  # and what is known by now is kept
    assert house.feeder.is_anybody_waiting
    house.finish()
    house.restart()
    house.pasts.clear()
    house.deliver(flows(30, **{"in": 9, "out_1": 9, "out_2": 9}))
    house.finish()
    assert house.pasts == []
    assert house.alarms == expected(house.rules, list(house.stored.values()), PLANT)


def test_a_group_that_is_met_waits_for_nobody(house: FedHouse) -> None:
    house.deliver(flows(10, **{"in": 9, "out_1": 4, "out_2": 4}))
    house.finish()
    house.pasts.clear()
    house.commit(more := flows(20, **{"in": 9, "out_1": 1, "out_2": 1}))
    house.feeder.judge(more)
    assert [change.alarm.rule for change in house.feeder.unwritten] == ["uneven"]
    assert (house.pasts, house.feeder.is_anybody_waiting) == ([], False)


def test_what_does_not_concern_a_group_lets_nobody_wait(house: FedHouse) -> None:
    house.feeder.judge([Reading("in", "pressure", T0 + 20 * MINUTE, 4.0)])
    assert not house.feeder.waiting_groups


def test_a_group_waits_through_an_outage(house: FedHouse) -> None:
    house.commit(some := flows(10, **{"in": 9, "out_1": 1, "out_2": 1}))
    house.feeder.judge(some)
    house.is_away = True
    with pytest.raises(UnavailableError):
        house.feeder.meet(many=True)
    house.is_away = False
    house.finish()
    assert [alarm.rule for alarm in house.alarms] == ["own", "uneven"]


def test_a_defect_in_one_group_stops_no_other(house: FedHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    second = grouped("inlet.flow - sum(outlet.flow) > 2", rule="second")
    house.exchange([OWN, UNEVEN, second])
    whole = Engine.meet

    def meet(engine: Engine, key: tuple[str, str], *more: Any) -> list[AlarmChange]:
        if key[0] == "uneven":
            raise RuntimeError("a defect")
        return whole(engine, key, *more)

    monkeypatch.setattr(Engine, "meet", meet)
    house.deliver(flows(10, **{"in": 9, "out_1": 1, "out_2": 1}))
    house.finish()
    assert [alarm.rule for alarm in house.alarms] == ["own", "second"]
    monkeypatch.undo()
    house.deliver(flows(20, **{"in": 9, "out_1": 1, "out_2": 1}))
    house.finish()
    assert house.alarms == expected(house.rules, list(house.stored.values()), PLANT), "with what is heard next"


def play(
    house: FedHouse, readings: list[Reading], chance: random.Random, between: Callable[[House], None] | None
) -> None:
    try:
        deliver_at_random(house.rules, readings, chance, house.devices, house, between)
    finally:
        house.feeder.close()
