"""What the engine keeps over a restart, in a real database: who starts goes on, and ends in the same journal."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from alerts import keeping, live
from alerts.engine import Engine, judge
from alerts.keeping import Keeping
from alerts.live import LiveEngine
from alerts.rulefiles import shipped_rules
from devices.alarm import AlarmChange
from devices.batch import Batch, Kept, UplinkRecord
from devices.model import HOUR, MINUTE, SECOND, Device, Reading, Transport, Uplink, moment
from devices.profile import shipped_profiles
from headworks.judging import Journal
from headworks.service import Doors
from headworks.session import Session
from storage import engine_memory
from storage.database import connect
from storage.maintenance import TASKS, Keep, run
from storage.registry import find, register
from storage.writer import Writer
from tests.conftest import PUMP, VALVE
from tests.integration.test_gateways import T0 as SENT_AT
from tests.integration.test_gateways import ask_http, coap, eventually, pack, query, running

T0 = 1_790_000_000 * SECOND
PROFILES = shipped_profiles()
RULES = [one for one in shipped_rules() if one.rule in ("bearing-temperature-high", "vibration-zone-c", "dry-running")]


OTHER = """
rule: warm
title: Warm
condition: bearing_temperature > 70
message: "at {value} {unit}"
priority: low
guidance: {cause: c, consequence: q, corrective_action: a, time_to_respond: 1h}
"""


class Silent:
    """Tells nobody."""

    def compose(self, _change: AlarmChange, _device: Device) -> None:
        return None

    def told(self, _announcements: object) -> None:
        return None


class Engines:
    """Live engines one after the other on one database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.pasts = 0
        self.writer = Writer(url)

    def commit(self, readings: Sequence[Reading]) -> None:
        uplink = Uplink(Transport.COAP, b"x", readings[-1].measured_at)
        by_device = {reading.device: [r for r in readings if r.device == reading.device] for reading in readings}
        self.writer.commit(Batch([UplinkRecord(uplink, device, own) for device, own in by_device.items()]))

    def judged(self) -> None:
        """One engine from its start to its end, with all there is judged."""
        session, lookup = Session(self._url, "test engine"), Session(self._url, "test registry")

        def devices(identities: Sequence[str]) -> dict[str, Device]:
            return {name: e.device for name, e in lookup.run(lambda c: find(c, identities)).items()}

        ports = Journal(session, RULES, [], PROFILES).ports(devices)
        past = ports.past

        def counted(since: object, metrics: object) -> object:
            self.pasts += 1
            return past(since, metrics)  # type: ignore[arg-type]

        object.__setattr__(ports, "past", counted)
        engine = LiveEngine(Engine(RULES, PROFILES), ports, Silent(), time.monotonic)
        engine.start()
        assert engine.wait_idle(60)
        engine.close(10)
        session.close()
        lookup.close()


@pytest.fixture
def engines(registered: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engines]:
    monkeypatch.setattr(live, "SCAN_SECONDS", 0.02)
    engines = Engines(registered)
    yield engines
    engines.writer.close()


def test_it_is_kept_replaced_made_void_and_discarded(registered: str) -> None:
    with connect(registered) as connection:
        assert engine_memory.complete_until(connection) is None
        engine_memory.keep(
            connection,
            [Kept(PUMP.identity, "", b"1"), Kept(VALVE.identity, "", b"2"), Kept(PUMP.identity, "balance", b"3")],
        )
        engine_memory.keep(connection, [Kept(PUMP.identity, "", b"4"), Kept(VALVE.identity, "", None)])
        everyone = [PUMP.identity, VALVE.identity]
        assert engine_memory.of_devices(connection, everyone) == [Kept(PUMP.identity, "", b"4")]
        assert engine_memory.of_site(connection, PUMP.site) == [Kept(PUMP.identity, "balance", b"3")]
        engine_memory.limit(connection, ["balance"])
        assert engine_memory.of_site(connection, PUMP.site) == [Kept(PUMP.identity, "balance", b"3")]
        engine_memory.limit(connection, [])
        assert engine_memory.of_site(connection, PUMP.site) == []
        assert engine_memory.of_devices(connection, everyone) == [Kept(PUMP.identity, "", b"4")]
        engine_memory.complete(connection, 7)
        engine_memory.complete(connection, 9)
        assert engine_memory.complete_until(connection) == 9
        engine_memory.discard(connection)
        assert engine_memory.complete_until(connection) is None
        assert engine_memory.of_devices(connection, everyone) == []


def test_who_is_no_leader_keeps_nothing(registered: str) -> None:
    first, second = Session(registered, "first"), Session(registered, "second")
    leader = Journal(first, RULES, [], PROFILES).ports(lambda _: {})
    other = Journal(second, RULES, [], PROFILES).ports(lambda _: {})
    assert (leader.lead(), other.lead()) == (True, False)
    leader.keeping.keep([Kept(PUMP.identity, "", b"1")])
    with pytest.raises(Exception, match="lead was lost"):
        other.keeping.keep([Kept(PUMP.identity, "", b"2")])
    first.close()
    second.close()


def test_the_log_of_transactions_is_held_as_far_back_as_what_is_kept(registered: str, engines: Engines) -> None:
    engines.commit([Reading(PUMP.identity, "bearing_temperature", T0, 60.0)])
    engines.judged()
    with connect(registered) as connection:
        connection.execute("UPDATE commit_log SET committed_at = now() - interval '1 year'")
        connection.execute("UPDATE engine_memory_state SET xid = (SELECT min(xid) FROM commit_log)")
        connection.execute(
            "INSERT INTO aggregate_state (xid) SELECT '9' WHERE NOT EXISTS (SELECT FROM aggregate_state)"
        )
        connection.execute("UPDATE aggregate_state SET xid = (SELECT xid FROM engine_position)")
        sweep = next(task for task in TASKS if task.name == "sweep")
        run(connection, sweep, int(time.time()) * SECOND, Keep(), time.monotonic)
        assert query(registered, "SELECT count(*) FROM commit_log") == [(1,)]
        connection.execute("UPDATE engine_memory_state SET xid = (SELECT xid FROM engine_position)")
        run(connection, sweep, int(time.time()) * SECOND, Keep(), time.monotonic)
        assert query(registered, "SELECT count(*) FROM commit_log") == [(0,)]


@pytest.mark.parametrize("crashes", [False, True], ids=["stops", "crashes"])
def test_after_many_restarts_the_journal_is_as_without_any(
    registered: str, engines: Engines, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    """With crashes the last round was before the end: it goes on from that and finds the rest in the log."""
    if crashes:
        monkeypatch.setattr(keeping, "ROUND_SECONDS", 0.0)
        monkeypatch.setattr(Keeping, "stop", lambda *_: None)
    chance = random.Random(5)
    whole: list[Reading] = []
    temperature = {PUMP.identity: 60.0, "second": 60.0}
    with connect(registered) as connection:
        register(connection, [Device("second", PUMP.profile, site="west")], PROFILES)
    for number in range(400):
        for device in temperature:
            if chance.random() < 0.05:
                temperature[device] = chance.choice((60.0, 95.0))
            at = T0 + number * MINUTE
            whole.append(Reading(device, "bearing_temperature", at, temperature[device]))
            whole.append(Reading(device, "vibration", at, chance.choice((1.0, 3.0, 8.0))))
    uplinks = [whole[start : start + 40] for start in range(0, len(whole), 40)]
    uplinks = [one for _, one in sorted(enumerate(uplinks), key=lambda pair: pair[0] + 6 * chance.random())]
    for start in range(0, len(uplinks), 5):
        for uplink in uplinks[start : start + 5]:
            engines.commit(uplink)
        engines.judged()
        if not start:
            assert engines.pasts > 0
            engines.pasts = 0
    found = query(
        registered,
        "SELECT rule, identity, since, raised_at, cleared_at FROM alarm JOIN device USING (device_id)"
        " WHERE NOT retracted",
    )
    pumps = (PUMP, Device("second", PUMP.profile, site="west"))
    alarms = [alarm for pump in pumps for rule in RULES for alarm in judge(rule, pump, PROFILES[pump.profile], whole)]
    assert len(alarms) > 5
    times = [(a.rule, a.device, moment(a.since), moment(a.raised_at), a.cleared_at) for a in alarms]
    assert sorted(found, key=str) == sorted([(*t, at and moment(at)) for *t, at in times], key=str)
    told = query(registered, "SELECT alarm_id, kind FROM alarm_event WHERE kind = 'raised'")
    assert len(told) == len(set(told)), "each is raised once"
    assert engines.pasts == 0, "nobody's past was read again"


def test_a_platform_goes_on_from_what_it_kept(registered: str, broker_url: str, tmp_path: Path) -> None:

    def sent(doors: Doors, *values: float, start: int = SENT_AT) -> None:
        payload = pack(*values, metric="bearing_temperature", unit="Cel", start=start)
        assert coap(doors, f"/telemetry/{PUMP.identity}", payload, 110).code.is_successful()

    with running(registered, broker_url) as doors:
        sent(doors, *[85.0] * 600)
        eventually(lambda: query(registered, "SELECT count(*) FROM alarm") == [(1,)], "the alarm is raised")
    assert query(registered, "SELECT count(*) FROM engine_memory_state") == [(1,)]
    before = query(registered, "SELECT device_id, memory FROM engine_memory WHERE rule = ''")
    assert len(before) == 1
    with running(registered, broker_url) as doors:
        sent(doors, *[40.0] * 600, start=SENT_AT + HOUR)
        cleared = "SELECT count(*) FROM alarm WHERE cleared_at IS NOT NULL"
        eventually(lambda: query(registered, cleared) == [(1,)], "the alarm is cleared")
        assert "headworks_engine_resumed_devices_total" in ask_http(doors, "/metrics")[1]
    assert query(registered, "SELECT device_id, memory FROM engine_memory WHERE rule = ''") != before
    own = tmp_path / "rules.yaml"
    own.write_text(OTHER)
    with running(registered, broker_url, rules=str(own)) as doors:
        sent(doors, 40.0, start=SENT_AT + 2 * HOUR)
        warm = "SELECT count(*) FROM alarm WHERE rule = 'warm' AND cleared_at IS NOT NULL"
        eventually(lambda: query(registered, warm) == [(1,)], "other rules judge the past")
