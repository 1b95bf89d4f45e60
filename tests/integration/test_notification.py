"""Routing on a real database, by real channels: mail, webhooks and the broker. What is told is told once, and kept."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import quote

import pytest
from aiosmtpd.controller import Controller
from paho.mqtt.client import Client, MQTTMessage
from typer.testing import CliRunner

from alerts.dispatch import channel_failure
from alerts.routing import load_routing
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind, Priority
from devices.batch import Batch, UplinkRecord
from devices.model import HOUR, MINUTE, SECOND, Reading, Transport, Uplink, instant
from headworks import clock
from headworks.cli import app
from headworks.dispatching import step
from headworks.settings import Settings
from headworks.telling import Telling
from ingest.mqtt import Broker
from storage import journal, lifecycle, notification, outbox
from storage.database import connect
from storage.writer import Writer
from tests.conftest import PUMP
from tests.integration.test_gateways import eventually
from tests.ports import free_port
from tests.unit.alerts.test_notify import Receiver, serve

T0 = 1_790_000_000 * SECOND
PLAIN = """
channels: {one: {webhook: "http://127.0.0.1:1/"}, two: {webhook: "http://127.0.0.1:1/"}}
routes: [{name: all, to: [one], escalate: [{to: [two], after: 10m}], group: {at_once: 2, window: 1m}}]
"""


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def announcement(tag: str = "P-101", event: str = "raised", rule: str = "hot") -> Announcement:
    identity = PUMP.identity if tag == "P-101" else f"urn:{tag}"
    told: dict[str, Any] = {
        "event": event, "rule": rule, "title": "Bearing hot", "message": "at 96 °C", "priority": "high",
        "class": "equipment", "since": "2026-11-23T22:30:00Z", "seconds_to_respond": 600, "metric": "pressure",
        "announced_at": "2026-11-23T22:35:00Z",
        "device": {"identity": identity, "tag": tag, "site": "North", "area": "", "unit": ""},
    }  # fmt: skip
    return Announcement(f"{tag} {event} {rule}", event, rule, identity, Priority.HIGH, told)


def put(url: str, *announcements: Announcement) -> None:
    with connect(url) as connection:
        outbox.put(connection, announcements, [notification.DISPATCH])


def sent(url: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        return connection.execute(
            "SELECT channel, told->>'event', coalesce(told->>'notice', ''), coalesce(told->>'count', '1')"
            " FROM announcement WHERE channel <> 'dispatch' ORDER BY announcement_id"
        ).fetchall()


def do(url: str, at: int, text: str = PLAIN) -> tuple[int, int]:
    with connect(url) as connection:
        return step(connection, load_routing(text, "r.yaml", {}), at)


def test_a_step_either_tells_and_remembers_or_neither(registered: str) -> None:
    put(registered, *(announcement(f"P-{number}") for number in range(5)))
    with connect(registered) as connection:
        connection.execute("ALTER TABLE notification_window ADD CHECK (sent < 0)")
    with pytest.raises(Exception, match="notification_window"):
        do(registered, T0)
    assert sent(registered) == []
    with connect(registered) as connection:
        connection.execute("ALTER TABLE notification_window DROP CONSTRAINT notification_window_sent_check")
    assert do(registered, T0) == (5, 2)
    assert do(registered, T0) == (0, 0), "what was routed is routed"
    assert do(registered, T0 + MINUTE) == (0, 1)
    assert sent(registered) == [("one", "raised", "", "1"), ("one", "raised", "", "1"), ("one", "summary", "", "3")]
    put(registered, *(announcement(f"P-{number}", "returned") for number in range(5)))
    assert do(registered, T0 + 2 * MINUTE) == (5, 3)
    assert [event for _, event, _, _ in sent(registered)][3:] == ["returned", "returned", "summary-returned"]
    with connect(registered) as connection:
        assert connection.execute("SELECT count(*) FROM notification_case").fetchone() == (0,)


def test_while_one_process_routes_no_other_does(registered: str) -> None:
    put(registered, announcement())
    with connect(registered) as connection, connection.transaction():
        assert notification.lock(connection)
        assert do(registered, T0) == (0, 0)
    assert do(registered, T0) == (1, 1)


@pytest.mark.parametrize("what", ["nothing", "acknowledged", "shelved", "over"])
def test_it_is_escalated_only_while_it_is_on_and_nobody_has_acknowledged(registered: str, what: str) -> None:
    alarm = Alarm("hot", PUMP.identity, Priority.HIGH, "m", T0, T0)
    with connect(registered) as connection:
        journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm)], None)
        [listed] = lifecycle.alarms(connection)
        if what == "acknowledged":
            lifecycle.acknowledge(connection, [listed.number], "anna")
        elif what == "shelved":
            connection.execute(
                "INSERT INTO alarm_suppression (kind, rule, device_id, began_at, until_at, began_by, reason)"
                " SELECT 'shelved', 'hot', device_id, now(), now() + interval '1 hour', 'anna', 'x' FROM alarm"
            )
        elif what == "over":
            over = Alarm("hot", PUMP.identity, Priority.HIGH, "m", T0, T0, T0 + MINUTE)
            journal.record(connection, [AlarmChange(ChangeKind.CLEARED, alarm, over)], None)
    put(registered, announcement())
    do(registered, T0)
    do(registered, T0 + HOUR)
    escalated = [("two", "raised", "escalation", "1")] if what == "nothing" else []
    assert sent(registered) == [("one", "raised", "", "1"), *escalated]


def test_dead_letters_are_told_by_another_channel_once_and_their_end_too(registered: str) -> None:
    put(registered, announcement())
    do(registered, T0)
    with connect(registered) as connection:
        [entry] = outbox.claim(connection, "one", 10)
        outbox.give_up(connection, entry.number, "it answered 410")
    assert do(registered, T0 + MINUTE) == (0, 1)
    assert do(registered, T0 + MINUTE) == (0, 0)
    with connect(registered) as connection:
        [told] = outbox.claim(connection, "two", 10)
        assert (told.told["rule"], told.told["device"]["tag"]) == ("channel-failed", "one")
        outbox.revive(connection)
    assert do(registered, T0 + 2 * MINUTE) == (0, 1)
    assert sent(registered)[-1][:2] == ("two", "returned")


def test_the_failure_of_what_tells_of_a_failure_is_not_told(registered: str) -> None:
    with connect(registered) as connection:
        outbox.put(connection, [channel_failure("one", 1, "2026-11-23T22:30:00Z", "raised", "x")], ["two"])
        [entry] = outbox.claim(connection, "two", 10)
        outbox.give_up(connection, entry.number, "no")
    assert do(registered, T0) == (0, 0)


def test_one_that_cannot_be_read_is_a_dead_letter_and_holds_up_no_other(registered: str) -> None:
    broken = announcement("P-9")
    del broken.told["device"]["site"]
    put(registered, broken, announcement())
    assert do(registered, T0) == (2, 1)
    with connect(registered) as connection:
        assert [letter.channel for letter in outbox.dead(connection)] == ["dispatch"]


class Mailbox:
    """An SMTP server on loopback that keeps what it takes."""

    def __init__(self) -> None:
        self.got: Queue[EmailMessage] = Queue()

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.got.put(BytesParser(policy=default).parsebytes(envelope.content))
        return "250 taken"


@pytest.fixture
def mail() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port(socket.SOCK_STREAM)
    server = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=60)
    server.start()
    yield box, port
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from serve(Receiver())


@pytest.fixture
def listening(broker_url: str) -> Iterator[Queue[MQTTMessage]]:
    got: Queue[MQTTMessage] = Queue()
    broker = Broker.parse(broker_url)
    client: Client = broker.client("listener", clean=True)
    ready: Queue[int] = Queue()
    client.on_message = lambda _client, _data, message: got.put(message)
    client.on_subscribe = lambda *_: ready.put(1)
    client.connect(broker.host, broker.port, **broker.connect_options(clean=True))
    client.subscribe("plant/#", 1)
    client.loop_start()
    ready.get(timeout=60)
    yield got
    client.disconnect()
    client.loop_stop()


FILE = """
zone: Asia/Shanghai
channels:
  mail:
    apprise: "mailto://127.0.0.1:{port}?from=headworks@example.org&to=anna@example.org&mode=insecure"
    language: zh
  hook: {{webhook: "${{HOOK}}", secret: "hunter2"}}
  bus: {{mqtt: "plant/{{site}}/alarms/{{priority}}"}}
receivers: {{anna: [mail, hook]}}
routes: [{{name: all, to: [anna, bus]}}]
"""


def test_it_comes_by_mail_by_webhook_and_by_topic(
    registered: str,
    broker_url: str,
    mail: tuple[Mailbox, int],
    receiver: Receiver,
    listening: Queue[MQTTMessage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box, port = mail
    (tmp_path / "routing.yaml").write_text(FILE.format(port=port))
    monkeypatch.setenv("HOOK", receiver.url)
    writer = Writer(registered)
    began = instant(datetime(2026, 11, 23, 22, 30, tzinfo=UTC))
    readings = [Reading(PUMP.identity, "pressure", began + n * MINUTE, 4.0 + n / 10) for n in range(-30, 5)]
    writer.commit(Batch([UplinkRecord(Uplink(Transport.COAP, b"", began), PUMP.identity, readings)]))
    writer.close()
    settings = Settings(routing=tmp_path / "routing.yaml", console_url="https://plant.example.org")
    telling = Telling(settings, registered, [], Broker.parse(broker_url))
    assert telling.channels == ["dispatch"]
    telling.start()
    try:
        put(registered, announcement())
        telling.told([announcement()])
        letter = box.got.get(timeout=60)
        assert letter["subject"] == "【高级报警】P-101 Bearing hot"
        assert letter["to"] == "anna@example.org"
        part = letter.get_body(("plain",))
        assert part is not None
        assert "开始时间：2026-11-24 06:30:00 UTC+08:00" in part.get_content()
        assert f"https://plant.example.org/#/alarms/of/{quote(PUMP.identity, safe='')}/hot" in part.get_content()
        [picture] = letter.iter_attachments()
        assert (picture.get_content_type(), picture.get_content()[1:4]) == ("image/png", b"PNG"), "its trend"
        headers, body = receiver.next()
        assert headers["Idempotency-Key"] == "P-101 raised hot"
        assert "Headworks-Signature" in headers
        assert body["device"]["tag"] == "P-101"
        message = listening.get(timeout=60)
        assert message.topic == "plant/North/alarms/high"
        assert json.loads(message.payload) == body
        assert ("idempotency-key", "P-101 raised hot") in message.properties.UserProperty  # type: ignore[union-attr]
        eventually(lambda: _states(registered) == {"delivered"}, "all are marked")
    finally:
        telling.close(5)


def _states(url: str) -> set[object]:
    with connect(url) as connection:
        return {state for (state,) in connection.execute("SELECT state FROM announcement").fetchall()}


def test_a_mail_server_that_is_down_is_tried_again(
    registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    port = free_port(socket.SOCK_STREAM)
    monkeypatch.setenv("HOOK", "http://127.0.0.1:1/")
    (tmp_path / "routing.yaml").write_text(FILE.format(port=port).replace("[anna, bus]", "[mail]"))
    telling = Telling(Settings(routing=tmp_path / "routing.yaml"), registered, [], Broker.parse(broker_url))
    telling.start()
    try:
        put(registered, announcement())
        eventually(lambda: _attempts(registered) > 1, "it was tried")
        box = Mailbox()
        server = Controller(box, hostname="127.0.0.1", port=port, ready_timeout=60)
        server.start()
        try:
            assert box.got.get(timeout=60)["to"] == "anna@example.org"
        finally:
            server.stop()
    finally:
        telling.close(5)


def _attempts(url: str) -> int:
    with connect(url) as connection:
        row = connection.execute(
            "SELECT coalesce(max(attempts), 0) FROM announcement WHERE channel = 'mail'"
        ).fetchone()
    return int(str(row and row[0]))


@pytest.fixture
def run(registered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{registered.replace(' ', '&')}")
    monkeypatch.setenv("HEADWORKS_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HEADWORKS_ROUTING", str(tmp_path / "routing.yaml"))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["notify", *arguments])
        assert done.exit_code == code, done.output
        return done.output

    return invoke


def test_explain_says_who_would_get_it_and_why_and_what_became_of_it(
    registered: str, run: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "routing.yaml").write_text(
        PLAIN.replace("routes: [", "routes: [{name: far, match: {sites: [South]}, to: [two]}, ")
    )
    alarm = Alarm("bearing-temperature-high", PUMP.identity, Priority.HIGH, "m", T0, T0)
    with connect(registered) as connection:
        journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm)], None)
        [listed] = lifecycle.alarms(connection)
    put(registered, announcement(rule="bearing-temperature-high"))
    do(registered, clock.now())
    said = run("explain", str(listed.number))
    assert "class equipment" in said
    assert "route far: no, its site is North, not South" in said
    assert "one: one" in said
    assert "then two after 10m without acknowledgement" in said
    assert "So far on all: told at" in said
    assert "there is no alarm 99" in run("explain", "99", code=1)


def test_check_says_what_is_wrong_and_where(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "routing.yaml").write_text(PLAIN)
    assert "valid: 2 channels, 0 rosters, 1 routes" in run("check")
    (tmp_path / "routing.yaml").write_text(PLAIN.replace("[one]", "[oen]"))
    with pytest.raises(Exception, match="did you mean ‘one’"):
        CliRunner().invoke(app, ["notify", "check"], catch_exceptions=False)


def test_test_sends_by_each_channel_and_says_what_it_answered(
    run: Callable[..., str], tmp_path: Path, receiver: Receiver
) -> None:
    (tmp_path / "routing.yaml").write_text(PLAIN.replace("http://127.0.0.1:1/", receiver.url, 1))
    assert "one: http://127.0.0.1" in run("test", "one")
    assert receiver.next()[1]["event"] == "test"
    assert "ConnectError" in run("test", code=1)
    assert "did you mean ‘one’" in run("test", "onne", code=1)


def test_what_waits_for_a_channel_that_is_gone_is_a_dead_letter(registered: str, tmp_path: Path) -> None:
    with connect(registered) as connection:
        outbox.put(connection, [announcement()], ["old"])
    (tmp_path / "routing.yaml").write_text(PLAIN)
    telling = Telling(Settings(routing=tmp_path / "routing.yaml"), registered, [])
    telling.start()
    telling.close(5)
    with connect(registered) as connection:
        assert [(one.channel, one.why) for one in outbox.dead(connection)] == [("old", "there is no such channel")]


def test_ten_thousand_alarms_in_a_minute_are_a_few_messages_and_none_is_lost(registered: str) -> None:
    for part in range(20):
        put(registered, *(announcement(f"P-{part}-{number}") for number in range(500)))
    began, messages = time.monotonic(), 0
    for part in range(20):
        messages += do(registered, T0 + part * 3 * SECOND)[1]
    messages += do(registered, T0 + MINUTE)[1]
    print(f"10,000 alarms: {messages} messages, {time.monotonic() - began:.1f} s")
    assert messages == 3
    assert sum(int(str(count)) for *_, count in sent(registered)) == 10_000
