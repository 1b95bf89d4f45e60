"""Announcements on a real outbox and a real receiver: each is delivered at least once, whatever dies meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts import courier
from alerts.courier import REFUSALS, Courier, Outbox, Pauses
from alerts.webhook import Webhook
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind, Priority
from devices.model import MINUTE, SECOND
from headworks import clock
from headworks.cli import app
from headworks.session import Session
from storage import journal, outbox
from storage.database import connect
from tests.conftest import PUMP
from tests.integration.test_gateways import eventually
from tests.ports import free_port
from tests.unit.alerts.test_notify import Receiver, serve

T0 = 1_790_000_000 * SECOND
FAST = Pauses(first=0.005, longest=0.02)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from serve(Receiver())


def announcement(key: str, *, rule: str = "r", priority: Priority = Priority.LOW) -> Announcement:
    told = {"event": "raised", "title": "Hot", "rule": rule, "device": {"tag": "P-101"}, "raised_at": "now"}
    return Announcement(key, "raised", rule, PUMP.identity, priority, told)


def put(url: str, *announcements: Announcement) -> None:
    with connect(url) as connection:
        outbox.put(connection, announcements, ["webhook"])


Start = Callable[[str], Courier]


@pytest.fixture
def start(registered: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(courier, "IDLE_SECONDS", 0.02)
    running: list[tuple[Courier, Webhook, Session]] = []

    def begin(address: str) -> Courier:
        session = Session(registered, "headworks courier")
        hook = Webhook(address, clock.now)
        run = session.run
        ports = Outbox(
            lambda limit: run(lambda connection: outbox.claim(connection, "webhook", limit)),
            lambda number: run(lambda connection: outbox.delivered(connection, number)),
            lambda number, seconds, why: run(lambda connection: outbox.postpone(connection, number, seconds, why)),
            lambda number, why: run(lambda connection: outbox.give_up(connection, number, why)),
        )
        found = Courier("webhook", hook, ports, FAST)
        found.start()
        running.append((found, hook, session))
        return found

    yield begin
    for found, hook, session in running:
        found.close(5)
        hook.close()
        session.close()


def states(url: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        return connection.execute("SELECT key, state, attempts FROM announcement ORDER BY announcement_id").fetchall()


def test_an_announcement_is_in_the_outbox_exactly_when_its_alarm_is_in_the_journal(registered: str) -> None:
    alarm = Alarm("r", PUMP.identity, Priority.LOW, "m", T0, T0 + MINUTE)
    change = AlarmChange(ChangeKind.RAISED, None, alarm)
    with connect(registered) as connection:
        connection.execute("ALTER TABLE engine_position ADD CHECK (consumer <> 'broken')")
        with pytest.raises(Exception, match="engine_position"):
            journal.record(connection, [change], 1, "broken", announcements=[announcement("k")], channels=["webhook"])
        assert (states(registered), journal.all_occurrences(connection)) == ([], [])
        for _ in range(2):  # judged again after a crash
            journal.record(connection, [change], 1, announcements=[announcement("k")], channels=["webhook"])
        assert journal.all_occurrences(connection) == [alarm]
    assert states(registered) == [("k", "waiting", 0)]


def test_it_is_delivered_with_its_key_and_in_order(registered: str, receiver: Receiver, start: Start) -> None:
    put(registered, announcement("k1"), announcement("k2"), announcement("urgent", rule="x", priority=Priority.HIGH))
    start(receiver.url)
    keys = [receiver.next()[0]["Idempotency-Key"] for _ in range(3)]
    assert keys[0] == "urgent"
    assert keys[1:] == ["k1", "k2"], "of one alarm the earlier goes first"
    eventually(lambda: {state for _, state, _ in states(registered)} == {"delivered"}, "all are marked")
    assert receiver.nothing_more()
    with connect(registered) as connection:
        assert outbox.sweep(connection, 1) == 0
        assert outbox.sweep(connection, 0) == 3


def test_a_busy_receiver_is_tried_again_and_refusals_end_as_dead_letters(
    registered: str, receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receiver.answers = [(503, {}), (429, {"Retry-After": "0"}), (200, {}), (400, {})]
    put(registered, announcement("busy"))
    running = start(receiver.url)
    assert [receiver.next()[0]["Idempotency-Key"] for _ in range(3)] == ["busy"] * 3
    put(registered, announcement("refused"))
    running.wake()
    eventually(lambda: ("refused", "dead", 1) in states(registered), "it is given up at once")
    receiver.answers = [(503, {})] * REFUSALS
    put(registered, announcement("hopeless"))
    running.wake()
    eventually(lambda: ("hopeless", "dead", REFUSALS) in states(registered), "it is given up in the end")
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", f"postgresql:///?{registered.replace(' ', '&')}")
    monkeypatch.setenv("HEADWORKS_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    listed = runner.invoke(app, ["notify", "dead"])
    assert "it answered 400" in listed.output
    assert "2 will be tried again" in runner.invoke(app, ["notify", "retry"]).output
    running.wake()
    eventually(lambda: {state for _, state, _ in states(registered)} == {"delivered"}, "the mended receiver has all")
    monkeypatch.setenv("HEADWORKS_WEBHOOK_URL", receiver.url)
    assert "took it" in runner.invoke(app, ["notify", "test"]).output


def test_a_receiver_that_is_down_gets_everything_when_it_is_back(registered: str, start: Start) -> None:
    port = free_port(socket.SOCK_STREAM)
    put(registered, *(announcement(f"k{number}") for number in range(3)))
    start(f"http://127.0.0.1:{port}/hook")
    eventually(lambda: int(str(states(registered)[0][2])) > 1, "it was tried")
    for receiver in serve(Receiver(port)):
        assert [receiver.next()[0]["Idempotency-Key"] for _ in range(3)] == ["k0", "k1", "k2"]
        eventually(lambda: {state for _, state, _ in states(registered)} == {"delivered"}, "all are marked")


def test_what_a_dead_process_had_claimed_is_anybodys_again(registered: str, receiver: Receiver, start: Start) -> None:
    put(registered, announcement("k"))
    with connect(registered) as connection:
        assert [entry.key for entry in outbox.claim(connection, "webhook", 10)] == ["k"]
        assert outbox.claim(connection, "webhook", 10) == [], "nobody else while the lease lasts"
        connection.execute("UPDATE announcement SET due_at = now()")  # the lease is over
    start(receiver.url)
    assert receiver.next()[0]["Idempotency-Key"] == "k"
