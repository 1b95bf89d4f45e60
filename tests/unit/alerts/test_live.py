"""The live loop: what was committed is judged and written once, however it reaches the engine."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from alerts import keeping, live
from alerts.engine import Engine, judge
from alerts.live import LiveEngine
from alerts.occurrences import applied
from alerts.ports import NOTHING_KEPT, Ports
from alerts.rulefiles import shipped_rules
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind
from devices.batch import Changed, LoggedUplink, Past
from devices.errors import UnavailableError
from devices.model import HOUR, MINUTE, SECOND, Device, Instant, Reading
from devices.profile import shipped_profiles
from tests.unit.alerts.plant import Shelf, rule

T0 = 1_790_000_000 * SECOND
DEVICE = Device("urn:dev:imei:1", "centrifugal-pump")
PROFILES = shipped_profiles()
FAILURES = "headworks_engine_device_failures_total"
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
        self.overtaken: int | None = None
        """A transaction that began before the last one and is still running when that one is seen."""
        self.done: list[tuple[str, set[str]]] = []
        """What was read of whose past, and of whom was written, in this order."""
        self.shelf = Shelf({})
        self.keeps = False
        self.lock = threading.RLock()
        self.gate = threading.Event()
        self.held_at: int | None = None
        """Which question for pasts, counted from one, has to wait at the gate."""
        self.processes = 0

    def commit(self, readings: list[Reading]) -> int:
        with self.lock:
            number = len(self.commits) + 1
            self.commits.append((number, readings))
        return number

    def ports(self) -> Ports:
        process = self.processes

        def lead() -> bool:
            self._check()
            if process != self.processes:
                raise UnavailableError("this process has ended")
            return self.lead

        def record(changes: Sequence[AlarmChange], position: int, announcements: Sequence[Announcement]) -> None:
            with self.lock:
                lead()
                self._record(changes, position, announcements)

        return Ports(
            self._devices,
            self._past,
            self._history_since,
            self._journal,
            lambda: self.position,
            self._changed,
            record,
            lead,
            keeping=self.shelf.ports() if self.keeps else NOTHING_KEPT,
        )

    def end_processes(self) -> None:
        """Nothing reaches it any more of engines that were started until now, as when their connections are closed."""
        with self.lock:
            self.processes += 1

    def _check(self) -> None:
        if not self.available:
            raise UnavailableError("away")

    def _devices(self, identities: Sequence[str]) -> dict[str, Device]:
        self._check()
        return {identity: replace(DEVICE, identity=identity) for identity in identities}

    def _past(self, since: Mapping[str, Instant | None], _: Collection[str] | None) -> Past:
        self.pasts += 1
        if self.pasts == self.held_at:
            self.gate.wait(60)
        self.done.append(("past", set(since)))
        if self.pasts == self.away_at:
            raise UnavailableError("away for a moment")
        return Past(self._history_since(dict.fromkeys(since, -(10**18))), ())

    def _history_since(self, since: Mapping[str, Instant]) -> list[Reading]:
        self._check()
        if self.broken & since.keys():
            raise RuntimeError("a defect that this device meets")
        self.read.update(list(since))
        with self.lock:
            stored = [reading for _, batch in self.commits for reading in batch]
        return [r for r in stored if r.device in since and r.measured_at >= since[r.device]]

    def _journal(self, identities: Sequence[str]) -> list[Alarm]:
        self._check()
        return [alarm for alarm in self.journal if alarm.device in identities]

    def _changed(self, position: int, known: Iterable[int]) -> Changed:
        self._check()
        with self.lock:
            found = [
                LoggedUplink(number, batch[0].device, min(r.measured_at for r in batch))
                for number, batch in self.commits
                if number >= position and number not in set(known) and number != self.overtaken
            ]
            watermark = self.overtaken or len(self.commits) + 1
            if any(uplink.transaction > watermark for uplink in found):
                self.overtaken = None
            return Changed(found, watermark)

    def _record(self, changes: Sequence[AlarmChange], position: int, announcements: Sequence[Announcement]) -> None:
        self._check()
        self.done.append(("written", {change.alarm.device for change in changes}))
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


@pytest.fixture(params=[False, True], ids=["", "keeping"])
def database(request: pytest.FixtureRequest) -> Database:
    """One whose engine keeps what it knows over a restart, and one whose engine does not."""
    database = Database()
    database.keeps = request.param
    return database


@pytest.fixture
def start(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(live, "SCAN_SECONDS", 0.05)
    monkeypatch.setattr(keeping, "ROUND_SECONDS", 0.0)
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


def wait_for(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


HOT, COOL = [95.0] * 15, [40.0] * 15


def test_what_is_handed_over_is_judged_and_written(database: Database, start: Start) -> None:
    engine = start()
    for number, values in enumerate((COOL, HOT, COOL)):
        batch = temperatures(15 * number, *values)
        engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    assert database.journal == expected(database)
    assert [alarm.cleared_at is not None for alarm in database.journal] == [True]
    assert [announcement.key for announcement in database.outbox] == [c.kind.value for c in database.changes]
    assert database.announcer.durable == database.outbox
    assert database.position == 4


def test_other_rules_take_over_while_it_runs(database: Database, start: Start) -> None:
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    assert [alarm.rule for alarm in database.journal] == [RULE.rule]
    milder = RULE.model_copy(update={"rule": "milder"})
    taken = threading.Event()
    engine.exchange(Engine([RULE, milder], PROFILES), taken.set)
    assert taken.wait(60)
    batch = temperatures(15, *COOL)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    # The new rule has judged the past as well, and the old one's alarm is the same as before.
    assert sorted(alarm.rule for alarm in database.journal) == [RULE.rule, "milder"]
    assert [alarm for alarm in database.journal if alarm.rule == RULE.rule] == expected(database)


def test_what_was_committed_and_never_handed_over_is_found_in_the_log(database: Database, start: Start) -> None:
    engine = start()
    assert engine.wait_idle(60)
    database.commit(temperatures(0, *HOT))  # by another gateway
    assert engine.wait_idle(60)
    assert database.journal == expected(database)
    assert len(database.journal) == 1


def test_what_another_process_committed_is_judged_once_though_others_overtook_it(
    database: Database, start: Start
) -> None:
    engine = start()
    for batch in of_each(COOL)[:2]:
        engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    database.read.clear()
    with database.lock:
        for batch in of_each(COOL)[:2]:
            later = [reading._replace(measured_at=reading.measured_at + HOUR) for reading in batch]
            database.commit(later)
        database.overtaken = len(database.commits) - 1
    wait_for(lambda: database.position > len(database.commits))
    assert database.read == Counter(FLEET[:2])


def test_a_start_catches_up_with_what_came_before_it(database: Database, start: Start) -> None:
    database.commit(temperatures(0, *COOL))
    database.commit(temperatures(15, *HOT))
    assert start().wait_idle(60)
    assert database.journal == expected(database)


FLEET = [f"urn:dev:imei:{number}" for number in range(40)]


def of_each(values: Sequence[float]) -> list[list[Reading]]:
    return [[reading._replace(device=one) for reading in temperatures(0, *values)] for one in FLEET]


def test_a_start_reads_the_past_of_each_device_once(database: Database, start: Start) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    assert start().wait_idle(60)
    assert [alarm.device for alarm in sorted(database.journal, key=lambda a: FLEET.index(a.device))] == FLEET
    assert database.read == Counter(FLEET)
    assert database.pasts > 3, "or nothing was read ahead"


@pytest.mark.parametrize("portion", [1, 2, 4])
def test_an_outage_while_the_next_past_is_read_loses_nothing(database: Database, start: Start, portion: int) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    database.away_at = portion
    assert start().wait_idle(60)
    assert sorted(alarm.device for alarm in database.journal) == sorted(FLEET)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED] * len(FLEET)


def test_a_defect_in_a_portion_that_was_read_ahead_stops_nobody_else(database: Database, start: Start) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    database.broken.add(FLEET[20])
    assert start().wait_idle(60)
    assert sorted(alarm.device for alarm in database.journal) == sorted({*FLEET} - {FLEET[20]})


def test_whoever_is_met_does_not_wait_for_the_pasts_of_others(database: Database, start: Start) -> None:
    engine = start()
    batch = temperatures(0, *COOL)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    others = [one for one in of_each(HOT) if one[0].device != DEVICE.identity]
    everybody = [reading for one in others for reading in one] + temperatures(15, *HOT)
    for one in others:
        database.commit(one)
    database.done.clear()
    engine.hand_over(database.commit(everybody[-15:]), everybody)
    assert engine.wait_idle(60)
    assert sorted(alarm.device for alarm in database.journal) == sorted(FLEET)
    told = next(n for n, (what, whom) in enumerate(database.done) if what == "written" and DEVICE.identity in whom)
    last_past = max(n for n, (what, _) in enumerate(database.done) if what == "past")
    assert told < last_past


def test_a_stop_while_devices_wait_to_be_met_loses_nothing(database: Database, start: Start) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    engine = start()
    wait_for(lambda: bool(database.journal))
    engine.close(0.001)
    database.end_processes()
    assert start().wait_idle(60)
    assert sorted(alarm.device for alarm in database.journal) == sorted(FLEET)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED] * len(FLEET)


def test_a_stop_that_runs_out_of_time_takes_nobody_for_judged(database: Database, start: Start) -> None:
    for batch in of_each(HOT):
        database.commit(batch)
    failures = REGISTRY.get_sample_value(FAILURES)
    database.held_at = 2
    engine = start()
    wait_for(lambda: database.pasts == 2)
    engine.close(0.001)
    database.gate.set()
    wait_for(lambda: all(thread.name != "engine" for thread in threading.enumerate()))
    assert REGISTRY.get_sample_value(FAILURES) == failures
    assert database.pasts == 2
    assert len(database.journal) < len(FLEET)
    assert database.position == 0
    database.end_processes()
    assert start().wait_idle(60)
    assert sorted(alarm.device for alarm in database.journal) == sorted(FLEET)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED] * len(FLEET)


def test_after_a_clean_stop_nobody_costs_a_past(database: Database, start: Start) -> None:
    for batch in of_each(COOL):
        database.commit(batch)
    first = start()
    assert first.wait_idle(60)
    first.close(5)
    if not database.keeps:
        return
    database.pasts = 0
    second = start()
    assert second.wait_idle(60)
    for batch in of_each(HOT):
        later = [reading._replace(measured_at=reading.measured_at + HOUR) for reading in batch]
        second.hand_over(database.commit(later), later)
    assert second.wait_idle(60)
    assert [alarm.device for alarm in database.journal] == sorted(FLEET)
    assert database.pasts == 0


def test_after_a_crash_what_came_since_the_last_round_is_judged_again_and_told_once(
    database: Database, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start()
    for batch in of_each(COOL):
        first.hand_over(database.commit(batch), batch)
    assert first.wait_idle(60)
    if database.keeps:
        wait_for(lambda: (database.shelf.position or 0) > len(FLEET))
        monkeypatch.setattr(keeping, "ROUND_SECONDS", 3600.0)
        wait_for(lambda: len(database.shelf.kept) == len(FLEET))
    complete, kept = database.shelf.position, dict(database.shelf.kept)
    for batch in of_each(HOT):
        later = [reading._replace(measured_at=reading.measured_at + HOUR) for reading in batch]
        first.hand_over(database.commit(later), later)
    assert first.wait_idle(60)
    first.close(5)
    database.shelf.position, database.shelf.kept = complete, kept  # it was not closed
    database.pasts = 0
    unjudged = [reading._replace(measured_at=reading.measured_at + 2 * HOUR) for reading in of_each(COOL)[0]]
    database.commit(unjudged)
    assert start().wait_idle(60)
    assert [(alarm.device, alarm.cleared_at is None) for alarm in database.journal] == [
        (one, one != FLEET[0]) for one in sorted(FLEET)
    ]
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED] * len(FLEET) + [ChangeKind.CLEARED]
    assert (database.pasts == 0) is database.keeps


def test_other_rules_begin_with_the_past_whatever_is_kept(database: Database, start: Start) -> None:
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    engine.close(5)
    milder = RULE.model_copy(update={"rule": "milder"})
    other = LiveEngine(Engine([RULE, milder], PROFILES), database.ports(), database.announcer, time.monotonic)
    other.start()
    batch = temperatures(15, 95.0)
    other.hand_over(database.commit(batch), batch)
    assert other.wait_idle(60)
    other.close(5)
    assert [(a.rule, a.raised_at) for a in database.journal] == [
        (RULE.rule, database.journal[0].raised_at),
        ("milder", database.journal[0].raised_at),
    ]


def test_who_does_not_lead_neither_judges_nor_writes_until_the_lead_is_free(database: Database, start: Start) -> None:
    database.lead = False
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert not engine.wait_idle(0.3)
    assert database.changes == []
    database.lead = True
    assert engine.wait_idle(60)
    assert database.journal == expected(database)
    assert len(database.journal) == 1


def test_who_loses_the_lead_begins_anew_when_it_comes_back(database: Database, start: Start) -> None:
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    database.lead = False
    assert not engine.wait_idle(0.3)
    # Meanwhile another process leads and finds that it is over; what it writes must not be contradicted.
    late = temperatures(15, *COOL)
    database.commit(late)
    database.journal = expected(database)
    before = list(database.changes)
    database.lead = True
    assert engine.wait_idle(60)
    assert database.journal == expected(database)
    assert database.changes == before


def test_a_restart_judges_again_and_changes_nothing(database: Database, start: Start) -> None:
    first = start()
    batch = temperatures(0, *HOT)
    first.hand_over(database.commit(batch), batch)
    assert first.wait_idle(60)
    first.close(5)
    before = list(database.changes)
    database.position = 0  # as if the position had been lost: everything is new again
    second = start()
    assert second.wait_idle(60)
    assert database.changes == before
    late = temperatures(15, *COOL)
    second.hand_over(database.commit(late), late)
    assert second.wait_idle(60)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED, ChangeKind.CLEARED]


def test_a_backlog_beyond_the_limit_is_left_to_the_log(
    database: Database, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BACKLOG_LIMIT", 5)
    engine = start()
    batch = temperatures(0, *HOT)
    engine.hand_over(database.commit(batch), batch)
    assert engine.wait_idle(60)
    assert database.journal == expected(database)


def test_an_outage_delays_the_journal_and_loses_nothing(database: Database, start: Start) -> None:
    engine = start()
    assert engine.wait_idle(60)
    database.available = False
    for number, values in enumerate((COOL, HOT)):
        batch = temperatures(15 * number, *values)
        engine.hand_over(database.commit(batch), batch)
    assert not engine.wait_idle(0.3)
    assert database.journal == []
    database.available = True
    assert engine.wait_idle(60)
    assert database.journal == expected(database)


def test_late_readings_amend_what_was_written(database: Database, start: Start) -> None:
    engine = start()
    for batch in (temperatures(0, *COOL), temperatures(30, *HOT), temperatures(15, *HOT)):
        engine.hand_over(database.commit(batch), batch)
        assert engine.wait_idle(60)
    assert database.journal == expected(database)
    assert [change.kind for change in database.changes] == [ChangeKind.RAISED, ChangeKind.AMENDED]


def test_a_defect_that_one_device_meets_does_not_stop_the_others(database: Database, start: Start) -> None:
    database.broken.add("urn:dev:imei:2")
    engine = start()
    batch = temperatures(0, *HOT)
    both = [*batch, *(reading._replace(device="urn:dev:imei:2") for reading in batch)]
    engine.hand_over(database.commit(both), both)
    assert engine.wait_idle(60)
    assert [alarm.device for alarm in database.journal] == [DEVICE.identity]
    database.broken.clear()
    more = [reading._replace(device="urn:dev:imei:2") for reading in temperatures(15, *HOT)]
    engine.hand_over(database.commit(more), more)
    assert engine.wait_idle(60)
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
    assert engine.wait_idle(60)
    engine.close(5)
    ((name, reasons),) = engine.idle.items()
    assert name == "lacking"
    assert list(reasons) == ["centrifugal-pump: there is no design.rated_flow"]
