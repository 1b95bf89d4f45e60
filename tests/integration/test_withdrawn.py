"""Alarms that are on when their rule is taken out of use: nobody is left with one that can never end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic

import pytest

from alerts import live
from alerts.announcement import Event
from alerts.engine import Engine
from alerts.live import LiveEngine
from alerts.notify import Notifier
from alerts.rules import Rule
from devices.alarm import Alarm, AlarmChange, AlarmState, ChangeKind, Priority
from devices.batch import Batch, UplinkRecord
from devices.model import MINUTE, SECOND, Device, Reading, Transport, Uplink
from devices.profile import shipped_profiles
from headworks import clock
from headworks.judging import Journal
from headworks.session import Session
from storage import journal, lifecycle
from storage.database import connect
from storage.registry import find
from storage.writer import Writer
from tests.conftest import PUMP
from tests.integration.test_gateways import eventually, query
from tests.unit.alerts.plant import rule

T0 = 1_790_000_000 * SECOND
STAYS, GOES, MOVES = (rule("vibration > 5", rule=name) for name in ("stays", "goes", "moves"))
MOVED = rule("vibration > 5", rule="moves", applies_to={"site": "elsewhere"})


def test_an_alarm_whose_rule_is_taken_out_of_use_ends_with_a_line_that_says_so(
    registered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CONTACT_SECONDS", 0.0)
    monkeypatch.setattr(live, "SCAN_SECONDS", 0.02)
    session, beside = Session(registered, "test"), Session(registered, "test beside")
    rules: list[Rule] = [STAYS, GOES, MOVES]
    kept = Journal(session, rules, ["webhook"], shipped_profiles(), beside)
    notifier = Notifier(rules, clock.now, lambda _rule, _device: None)
    with connect(registered) as connection:

        def devices(identities: Sequence[str]) -> Mapping[str, Device]:
            return {name: entry.device for name, entry in find(connection, identities).items()}

        engine = LiveEngine(Engine(rules, shipped_profiles()), kept.ports(devices), notifier, monotonic)
        engine.start()

        def use(others: list[Rule]) -> None:
            def taken() -> None:
                kept.replace(others)
                notifier.replace(others)

            engine.exchange(Engine(others, shipped_profiles()), taken)

        def speak(minute: int) -> None:
            reading = Reading(PUMP.identity, "vibration", T0 + minute * MINUTE, 6.0)
            writer = Writer(registered)
            uplink = Uplink(Transport.COAP, b"", clock.now())
            writer.commit(Batch([UplinkRecord(uplink, PUMP.identity, [reading])]))
            writer.close()

        def on() -> list[object]:
            return [r for (r,) in query(registered, "SELECT rule FROM alarm WHERE cleared_at IS NULL ORDER BY rule")]

        try:
            speak(0)
            eventually(lambda: on() == ["goes", "moves", "stays"], "all are raised")
            use([STAYS, MOVED])
            eventually(lambda: on() == ["stays"], "what nothing judges any more is over")
            speak(1)
            assert engine.wait_idle(60)
            assert on() == ["stays"]
            told = query(registered, "SELECT told->>'rule', told->>'event' FROM announcement ORDER BY 2, 1")
            assert [rule for rule, event in told if event == Event.RETURNED] == ["goes", "moves"]
            use(rules)
            speak(2)
            eventually(lambda: on() == ["goes", "moves", "stays"], "with the rule its alarm is back")
        finally:
            engine.close(5)
            session.close()
            beside.close()
    with connect(registered) as connection:
        number = {one.rule: one.number for one in lifecycle.alarms(connection)}
        lines = lifecycle.lines(connection, number["goes"])
        assert lifecycle.alarms(connection, number=number["stays"])[0].state is AlarmState.UNACKNOWLEDGED
        assert [line.kind for line in lifecycle.lines(connection, number["stays"])] == ["raised"]
        assert len(journal.all_occurrences(connection)) == 3
    assert [line.kind for line in lines] == ["raised", "cleared", "commented", "amended"]
    assert (lines[2].actor, lines[2].detail) == ("engine", {"comment": "no rule in use judges this any more"})


def test_an_alarm_that_nothing_can_judge_any_more_ends_whatever_the_reason(registered: str) -> None:
    """As after a restart with other files, another nameplate, or a device that went to another place."""
    group = {"by": "site", "roles": {"pump": {"kind": "pump"}, "meter": {"kind": "meter"}}}
    rules = [
        rule("vibration > 5", rule="judged"),
        rule("torque > 5", rule="without-its-metric"),
        rule("vibration > design.usual", rule="without-its-nameplate"),
        rule("pump.flow - meter.flow > 5", rule="without-its-group", group=group),
        rule("pump.flow - valve.flow > 5", rule="with-its-group", group={**group, "roles": VALVE_TOO}),
    ]
    names = [*(one.rule for one in rules), "gone", "device-silent"]
    session = Session(registered, "test")
    kept = Journal(session, rules, [], shipped_profiles())
    ports = kept.ports(lambda _: {})
    with connect(registered) as connection:
        for name in names:
            alarm = Alarm(name, PUMP.identity, Priority.LOW, "m", T0, T0, None, 6.0)
            journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm)], None)
        assert ports.lead()
        ended = {change.alarm.rule for change in ports.contact() if change.alarm.rule in names}
        assert ended == {"without-its-metric", "without-its-nameplate", "without-its-group", "gone"}
        assert not {change.alarm.rule for change in ports.contact()} & ended, "it is looked for once"
    session.close()


VALVE_TOO = {"pump": {"kind": "pump"}, "valve": {"kind": "valve"}}
