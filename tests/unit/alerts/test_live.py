"""The live loop: what was committed is judged and written once, however it reaches the engine."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from alerts import live
from alerts.engine import Engine, judge
from alerts.live import LiveEngine
from alerts.occurrences import applied
from alerts.ports import Ports
from alerts.rulefiles import shipped_rules
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind
from devices.batch import Changed, LoggedUplink
from devices.errors import UnavailableError
from devices.model import MINUTE, SECOND, Device, Instant, Reading
from devices.profile import shipped_profiles
from tests.unit.alerts.plant import rule

T0 = 1_790_000_000 * SECOND
DEVICE = Device("urn:dev:imei:1", "centrifugal-pump")
PROFILES = shipped_profiles()
RULE = next(rule for rule in shipped_rules() if rule.rule == "bearing-temperature-high")


class Database:
    """What the ports reach: readings with the transactions that wrote them, a journal, a position."""

    def __init__(self) -> None:
        self.commits: list[tuple[int, list[Reading]]] = []
        self.journal: list[Alarm] = []
        self.changes: list[AlarmChange] = []
        self.position = 0
        self.available = True
        self.lead = True
        self.outbox: list[Announcement] = []
        self.announcer = Announcer()
        self.broken: set[str] = set()
        self.read: Counter[str] = Counter()
        self.pasts = 0
        self.away_at: int | None = None
        self._lock = threading.Lock()

    def commit(self, readings: list[Reading]) -> int:
        with self._lock:
            number = len(self.commits) + 1
            self.commits.append((number, readings))
        return number

    def ports(self) -> Ports:
        return Ports(
            self._devices,
            self._past,
            self._cut,
            self._history_since,
            self._journal,
            lambda: self.position,
            self._changed,
            self._record,
            lambda: self.lead,
        )

    def _check(self) -> None:
        if not self.available:
            raise UnavailableError("away")

    def _devices(self, identities: Sequence[str]) -> dict[str, Device]:
        self._check()
        return {identity: replace(DEVICE, identity=identity) for identity in identities}

    def _past(self, since: Mapping[str, Instant | None]) -> list[Reading]:
        self.pasts += 1
        if self.pasts == self.away_at:
            raise UnavailableError("away for a moment")
        return self._history_since(dict.fromkeys(since, -(10**18)))

    def _cut(self, _: Mapping[str, Instant | None]) -> set[str]:
        return set()

    def _history_since(self, since: Mapping[str, Instant]) -> list[Reading]:
        self._check()
        if self.broken & since.keys():
            raise RuntimeError("a defect that this device meets")
        self.read.update(list(since))
        with self._lock:
            stored = [reading for _, batch in self.commits for reading in batch]
        return [r for r in stored if r.device in since and r.measured_at >= since[r.device]]

    def _journal(self, identities: Sequence[str]) -> list[Alarm]:
        self._check()
        return [alarm for alarm in self.journal if alarm.device in identities]

    def _changed(self, position: int, known: Iterable[int]) -> Changed:
        self._check()
        with self._lock:
            found = [
                LoggedUplink(number, batch[0].device, min(r.measured_at for r in batch))
                for number, batch in self.commits
                if number >= position and number not in set(known)
            ]
            return Changed(found, len(self.commits) + 1)

    def _record(self, changes: Sequence[AlarmChange], position: int, announcements: Sequence[Announcement]) -> None:
        self._check()
        self.changes += changes
        self.outbox += announcements
        self.journal = applied(self.journal, list(changes))
        self.position = position


class Announcer:
    """Tells everything, and keeps what it was told to be durable."""

    def __init__(self) -> None:
        self.durable: list[Announcement] = []

    def compose(self, change: AlarmChange, device: Device) -> Announcement | None:
        alarm = change.alarm
        return Announcement(change.kind.value, "e", alarm.rule, device.identity, alarm.priority, {})

    def told(self, announcements: Sequence[Announcement]) -> None:
        self.durable += announcements


Start = Callable[[], LiveEngine]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def start(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(live, "SCAN_SECONDS", 0.05)
    running: list[LiveEngine] = []

    def begin() -> LiveEngine:
        engine = LiveEngine(Engine([RULE], PROFILES), database.ports(), database.announcer, time.monotonic)
        engine.start()
        running.append(engine)
        return engine

    yield begin
    for engine in running:
        engine.close(5)


def temperatures(first: int, *values: float) -> list[Reading]:
    return [Reading(DEVICE.identity, "bearing_temperature", T0 + (first + i) * MINUTE, v) for i, v in enumerate(values)]


def expected(database: Database) -> list[Alarm]:
    everything = [reading for _, batch in database.commits for reading in batch]
    return judge(RULE, DEVICE, PROFILES[DEVICE.profile], everything)


HOT, COOL = [95.0] * 15, [40.0] * 15


def test_what_is_handed_over_is_judged_and_written(database: Database, start: Start) -> None:
    engine = start()
    for number, values in enumerate((COOL, HOT, COOL)):
        batch = temperatures(15 * number, *values)
        engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(10)
    assert database.journal == expected(database)
    assert [alarm.cleared_at is not None for alarm in database.journal] == [True]
    assert [announcement.key for announcement in database.outbox] == [c.kind.value for c in database.changes]
    assert database.announcer.durable == database.outbox
    assert database.position == 4


def test_other_rules_take_over_while_it_runs(database: Database, start: Start) -> None:
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(10)
    assert [alarm.rule for alarm in database.journal] == [RULE.rule]
    milder = RULE.model_copy(update={"rule": "milder"})
    taken = threading.Event()
    engine.exchange(Engine([RULE, milder], PROFILES), taken.set)
    assert taken.wait(10)
    batch = temperatures(15, *COOL)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(10)
    # The new rule has judged the past as well, and the old one's alarm is the same as before.
    assert sorted(alarm.rule for alarm in database.journal) == [RULE.rule, "milder"]
    assert [alarm for alarm in database.journal if alarm.rule == RULE.rule] == expected(database)


def test_what_was_committed_and_never_handed_over_is_found_in_the_log(database: Database, start: Start) -> None:
    engine = start()
    assert engine.wait_idle(10)
    database.commit(temperatures(0, *HOT))  # by another gateway
    assert engine.wait_idle(10)
    assert database.journal == expected(database)
    assert len(database.journal) == 1


def test_a_start_catches_up_with_what_came_before_it(database: Database, start: Start) -> None:
    database.commit(temperatures(0, *COOL))
    database.commit(temperatures(15, *HOT))
    assert start().wait_idle(10)
    assert database.journal == expected(database)


FLEET = [f"urn:dev:imei:{number}" for number in range(40)]


def of_each(values: Sequence[float]) -> list[list[Reading]]:
    return [[reading._replace(device=one) for reading in temperatures(0, *values)] for one in FLEET]


def test_a_start_reads_the_past_of_each_device_once(database: Database, start: Start) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    assert start().wait_idle(10)
    assert [alarm.device for alarm in sorted(database.journal, key=lambda a: FLEET.index(a.device))] == FLEET
    assert database.read == Counter(FLEET)
    assert database.pasts > 3, "or nothing was read ahead"


@pytest.mark.parametrize("portion", [1, 2, 4])
def test_an_outage_while_the_next_past_is_read_loses_nothing(database: Database, start: Start, portion: int) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    database.away_at = portion
    assert start().wait_idle(10)
    assert sorted(alarm.device for alarm in database.journal) == sorted(FLEET)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED] * len(FLEET)


def test_a_defect_in_a_portion_that_was_read_ahead_stops_nobody_else(database: Database, start: Start) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    database.broken.add(FLEET[20])
    assert start().wait_idle(10)
    assert sorted(alarm.device for alarm in database.journal) == sorted({*FLEET} - {FLEET[20]})


def test_who_does_not_lead_neither_judges_nor_writes_until_the_lead_is_free(database: Database, start: Start) -> None:
    database.lead = False
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert not engine.wait_idle(0.3)
    assert database.changes == []
    database.lead = True
    assert engine.wait_idle(10)
    assert database.journal == expected(database)
    assert len(database.journal) == 1


def test_who_loses_the_lead_begins_anew_when_it_comes_back(database: Database, start: Start) -> None:
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(10)
    database.lead = False
    assert not engine.wait_idle(0.3)
    # Meanwhile another process leads and finds that it is over; what it writes must not be contradicted.
    late = temperatures(15, *COOL)
    database.commit(late)
    database.journal = expected(database)
    before = list(database.changes)
    database.lead = True
    assert engine.wait_idle(10)
    assert database.journal == expected(database)
    assert database.changes == before


def test_a_restart_judges_again_and_changes_nothing(database: Database, start: Start) -> None:
    first = start()
    batch = temperatures(0, *HOT)
    first.hand_over(database.commit(batch), batch)
    assert first.wait_idle(10)
    first.close(5)
    before = list(database.changes)
    database.position = 0  # as if the position had been lost: everything is new again
    second = start()
    assert second.wait_idle(10)
    assert database.changes == before
    late = temperatures(15, *COOL)
    second.hand_over(database.commit(late), late)
    assert second.wait_idle(10)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED, ChangeKind.CLEARED]


def test_a_backlog_beyond_the_limit_is_left_to_the_log(
    database: Database, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BACKLOG_LIMIT", 5)
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(10)
    assert database.journal == expected(database)


def test_an_outage_delays_the_journal_and_loses_nothing(database: Database, start: Start) -> None:
    engine = start()
    assert engine.wait_idle(10)
    database.available = False
    for number, values in enumerate((COOL, HOT)):
        batch = temperatures(15 * number, *values)
        engine.hand_over(database.commit(batch), batch)
    assert not engine.wait_idle(0.3)
    assert database.journal == []
    database.available = True
    assert engine.wait_idle(10)
    assert database.journal == expected(database)


def test_late_readings_amend_what_was_written(database: Database, start: Start) -> None:
    engine = start()
    for batch in (temperatures(0, *COOL), temperatures(30, *HOT), temperatures(15, *HOT)):
        engine.hand_over(database.commit(batch), batch)
        assert engine.wait_idle(10)
    assert database.journal == expected(database)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED, ChangeKind.AMENDED]


def test_a_defect_that_one_device_meets_does_not_stop_the_others(database: Database, start: Start) -> None:
    database.broken.add("urn:dev:imei:2")
    engine = start()
    batch = temperatures(0, *HOT)
    both = [*batch, *(reading._replace(device="urn:dev:imei:2") for reading in batch)]
    engine.hand_over(database.commit(both), both)
    assert engine.wait_idle(10)
    assert [alarm.device for alarm in database.journal] == [DEVICE.identity]
    database.broken.clear()
    more = [reading._replace(device="urn:dev:imei:2") for reading in temperatures(15, *HOT)]
    engine.hand_over(database.commit(more), more)
    assert engine.wait_idle(10)
    assert {alarm.device for alarm in database.journal} == {DEVICE.identity, "urn:dev:imei:2"}


def test_closing_judges_what_was_handed_over(database: Database, start: Start) -> None:
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    engine.close(10)
    assert database.journal == expected(database)


def test_a_rule_that_lacks_something_on_a_device_is_named(database: Database) -> None:
    engine = LiveEngine(
        Engine([RULE, rule("flow > design.rated_flow", rule="lacking")], PROFILES),
        database.ports(),
        database.announcer,
        time.monotonic,
    )
    database.commits.append((1, temperatures(0, *COOL)))
    engine.start()
    assert engine.wait_idle(5)
    engine.close(5)
    ((name, reasons),) = engine.idle.items()
    assert name == "lacking"
    assert list(reasons) == ["centrifugal-pump: there is no design.rated_flow"]
