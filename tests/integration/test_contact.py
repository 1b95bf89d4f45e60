"""Who is heard of, from the uplink log to the journal."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest
from typer.testing import CliRunner

from alerts import live
from alerts.engine import Engine
from alerts.live import LiveEngine
from alerts.notify import Notifier
from devices.alarm import AlarmChange
from devices.batch import Batch, UplinkRecord
from devices.model import HOUR, MINUTE, SECOND, Device, Reading, Transport, Uplink, moment
from devices.profile import shipped_profiles
from headworks import clock, contacts
from headworks.cli import app
from headworks.judging import Journal
from headworks.session import Session
from storage import contact, journal
from storage.database import Connection, connect
from storage.registry import register, retire
from storage.writer import Writer
from tests.integration.test_gateways import eventually
from tests.integration.test_quarantine import as_url

T0 = 1_790_000_000 * SECOND
PUMPS = [Device(f"urn:dev:imei:8670000000010{i:02}", "centrifugal-pump", tag=f"P-{i}", site="East") for i in range(6)]
PROFILES = shipped_profiles()


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as own:
        register(own, PUMPS, PROFILES)
        yield own


@pytest.fixture
def writer(database_url: str) -> Iterator[Writer]:
    own = Writer(database_url)
    yield own
    own.close()


def speak(writer: Writer, minute: int, pumps: list[Device], **words: float) -> None:
    at = T0 + minute * MINUTE
    for pump in pumps:
        readings = [Reading(pump.identity, name, at, value) for name, value in (words or {"pressure": 4.0}).items()]
        writer.commit(Batch([UplinkRecord(Uplink(Transport.COAP, b"x", at), pump.identity, readings)]))


def look(connection: Connection, minute: int) -> list[AlarmChange]:
    found = contacts.judge(connection, PROFILES, ["webhook"], T0 + minute * MINUTE)
    journal.record(connection, found, None)
    return found


def states(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT tag, state FROM device_contact").fetchall())  # type: ignore[arg-type]


def test_one_silent_pump_is_an_alarm_with_its_last_words(connection: Connection, writer: Writer) -> None:
    look(connection, 0)
    assert set(states(connection).values()) == {"never_heard"}
    speak(writer, 1, PUMPS[:5], battery=80, rsrp=-130)
    for minute in range(5, 45, 5):
        speak(writer, minute, PUMPS[1:5])
        look(connection, minute)
    (alarm,) = journal.all_occurrences(connection)
    assert (alarm.rule, alarm.device, alarm.since) == ("device-out-of-coverage", PUMPS[0].identity, T0 + MINUTE)
    assert "signal -130 dBm" in alarm.message
    assert alarm.raised_at == T0 + 21 * MINUTE
    assert states(connection)["P-0"] == "out_of_coverage"
    assert states(connection)["P-1"] == "heard"
    assert states(connection)["P-5"] == "never_heard"
    speak(writer, 50, PUMPS[:5])
    look(connection, 51)
    assert [one.cleared_at for one in journal.all_occurrences(connection)] == [T0 + 50 * MINUTE]
    assert look(connection, 52) == []


def test_a_first_uplink_is_heard_at_once(connection: Connection, writer: Writer) -> None:
    look(connection, 0)
    speak(writer, 1, PUMPS[:2])
    retire(connection, PUMPS[1].identity)
    assert states(connection) == {"P-0": "heard", **{f"P-{i}": "never_heard" for i in range(2, 6)}}
    assert {one.tag: one.since for one in contact.states(connection)}["P-0"] is None, "it is not judged yet"
    look(connection, 8)
    assert states(connection)["P-0"] == "heard"
    look(connection, 12)
    assert states(connection)["P-0"] == "late", "what is judged stands"


def test_an_outage_is_told_once_and_no_device_is_blamed(connection: Connection, writer: Writer) -> None:
    look(connection, 0)
    speak(writer, 1, PUMPS)
    for minute in range(5, 125, 5):
        look(connection, minute)
    assert journal.all_occurrences(connection) == []
    assert set(states(connection).values()) == {"cut_off"}
    speak(writer, 125, PUMPS[:5])
    look(connection, 126)
    assert states(connection)["P-5"] == "heard", "its time counts anew"
    speak(writer, 135, PUMPS[:5])
    speak(writer, 145, PUMPS[:5])
    for minute in (135, 140, 146):
        look(connection, minute)
    assert [one.device for one in journal.all_occurrences(connection)] == [PUMPS[5].identity]
    told = connection.execute("SELECT subject, event FROM announcement ORDER BY announcement_id").fetchall()
    assert told == [("path-outage coap", "raised"), ("path-outage coap", "returned")]
    assert connection.execute("SELECT count(*) FROM outage").fetchone() == (1,)


def test_an_outage_is_shown_and_acknowledged(
    connection: Connection, writer: Writer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(database_url))

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["alarms", *words], catch_exceptions=False)
        return f"{result.exit_code} {result.output}"

    assert "No outage." in run("outages")
    look(connection, 0)
    speak(writer, 1, PUMPS)
    for minute in range(5, 65, 5):
        look(connection, minute)
    assert "coap" in run("outages")
    assert run("ack-outage", "mqtt").startswith("1 headworks: there is no outage of 'mqtt'")
    assert run("ack-outage", "coap", "--by", "ada", "--comment", "mast is down").startswith("0 coap: acknowledged")
    speak(writer, 65, PUMPS)
    look(connection, 66)
    assert "No outage." in run("outages"), "it is over, and somebody has seen it"
    (seen,) = contact.outages(connection, ended=True)
    assert (seen.acked_by, seen.comment, seen.ended_at) == ("ada", "mast is down", T0 + 65 * MINUTE)
    assert "ada" in run("outages", "--all")
    assert run("ack-outage", "coap").startswith("1 ")


def test_while_the_platform_is_away_nobody_is_missed(connection: Connection, writer: Writer) -> None:
    look(connection, 0)
    speak(writer, 1, PUMPS)
    look(connection, 2)
    hours = 10 * HOUR // MINUTE
    assert look(connection, hours) == []
    speak(writer, hours + 1, PUMPS[:1])
    assert look(connection, hours + 2) == []
    assert connection.execute("SELECT count(*) FROM outage").fetchone() == (0,)
    assert states(connection)["P-3"] == "heard"


def test_a_platform_that_comes_back_into_an_outage_finds_one(connection: Connection, writer: Writer) -> None:
    look(connection, 0)
    speak(writer, 1, PUMPS)
    for minute in range(600, 660, 5):
        look(connection, minute)
    assert journal.all_occurrences(connection) == []
    assert connection.execute("SELECT since FROM outage").fetchall() == [(moment(T0 + 600 * MINUTE),)]


def test_the_console_shows_who_is_heard_of(
    connection: Connection, writer: Writer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(connection, 0)
    speak(writer, 1, PUMPS[:1])
    look(connection, 2)
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(database_url))
    shown = CliRunner().invoke(app, ["devices", "contact", "--site", "East"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.output.splitlines()[1:]]
    assert [(line[1], " ".join(line[3:5])) for line in lines[:2]][1] == ("P-1", "never heard")
    assert lines[0][3] == "heard"


def test_the_live_engine_writes_what_is_judged(
    connection: Connection, writer: Writer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(connection, 0)
    for minute in range(1, 25, 5):
        speak(writer, minute, PUMPS if minute == 1 else PUMPS[1:])
        look(connection, min(minute, 16))
    session = Session(database_url, "test")
    kept = Journal(session, [], [], PROFILES)
    ports = kept.ports(lambda identities: {one.identity: one for one in PUMPS if one.identity in identities})
    monkeypatch.setattr(live, "CONTACT_SECONDS", 0.0)
    monkeypatch.setattr(clock, "now", lambda: T0 + 22 * MINUTE)
    engine = LiveEngine(Engine([], PROFILES), ports, Notifier([], clock.now, lambda _rule, _device: None), monotonic)
    engine.start()
    eventually(lambda: bool(journal.all_occurrences(connection)), "an alarm")  # in a thread of its own
    engine.close(60)
    session.close()
    assert [one.device for one in journal.all_occurrences(connection)] == [PUMPS[0].identity]
    shown = connection.execute("SELECT title FROM alarm JOIN alarm_rule USING (rule)").fetchall()
    assert shown == [("Device silent",)]
