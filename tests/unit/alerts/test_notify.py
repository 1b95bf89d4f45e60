"""The notifier against a real HTTP receiver on the loopback interface."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any

import pytest
from structlog.testing import capture_logs

from alerts.announcement import Event, idempotency_key, render
from alerts.notify import REFUSALS, Notifier, Pauses, Webhook
from devices.alarm import Alarm, AlarmChange, ChangeKind, Priority
from devices.model import MINUTE
from tests.unit.alerts.plant import PUMP, T0, rule

FAST = Pauses(first=0.005, longest=0.02)
ON = Alarm("tested", PUMP.identity, Priority.MEDIUM, "at 6 mm/s", T0, T0 + MINUTE, None, 6.0)
OVER = replace(ON, cleared_at=T0 + 5 * MINUTE)
RAISED = AlarmChange(ChangeKind.RAISED, None, ON)


class Receiver(ThreadingHTTPServer):
    """Answers with the next status of `answers` (200 when they are used up) and keeps what it got."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.got: Queue[tuple[dict[str, str], dict[str, Any]]] = Queue()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"

    def next(self) -> tuple[dict[str, str], dict[str, Any]]:
        return self.got.get(timeout=10)

    def nothing_more(self) -> bool:
        try:
            self.got.get_nowait()
        except Empty:
            return True
        return False


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.server.got.put(({**dict(self.headers), "path": self.path}, body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def serve(receiver: Receiver) -> Iterator[Receiver]:
    thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
    thread.start()
    yield receiver
    receiver.shutdown()
    thread.join()
    receiver.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from serve(Receiver())


def told(change: AlarmChange = RAISED, event: Event = Event.RAISED) -> dict[str, Any]:
    return render(change, event, PUMP, rule(), T0 + 2 * MINUTE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_what_is_told_reaches_the_receiver_as_json_with_its_key(receiver: Receiver) -> None:
    notifier = Notifier([rule()], receiver.url, lambda: T0 + 2 * MINUTE)
    notifier.start()
    with capture_logs() as logs:
        notifier.announce(RAISED, PUMP)
        notifier.announce(AlarmChange(ChangeKind.RAISED, None, OVER), PUMP)
        notifier.announce(AlarmChange(ChangeKind.CLEARED, ON, OVER), PUMP)
    headers, body = receiver.next()
    assert headers["Idempotency-Key"] == idempotency_key(RAISED, Event.RAISED)
    assert headers["Content-Type"] == "application/json"
    assert body == told()
    assert receiver.next()[1]["event"] == "returned"
    notifier.close(5)
    assert receiver.nothing_more()
    assert [entry["event"] for entry in logs if entry["log_level"] != "debug"] == ["alarm.raised", "alarm.returned"]


def test_without_a_webhook_announcements_go_to_the_log() -> None:
    notifier = Notifier([rule()], None, lambda: T0)
    notifier.start()
    with capture_logs() as logs:
        notifier.announce(RAISED, PUMP)
    notifier.close(1)
    (entry,) = logs
    assert (entry["event"], entry["tag"], entry["message"]) == ("alarm.raised", "P-101", "at 6 mm/s")


def test_a_busy_receiver_is_tried_again_with_the_same_key(receiver: Receiver) -> None:
    receiver.answers = [(503, {}), (429, {"Retry-After": "0"}), (500, {"Retry-After": "tomorrow"})]
    hook = Webhook(receiver.url, FAST)
    hook.start()
    hook.put("k1", told())
    hook.put("k2", told())
    assert [receiver.next()[0]["Idempotency-Key"] for _ in range(5)] == ["k1", "k1", "k1", "k1", "k2"]
    hook.close(5)


def test_what_a_receiver_will_not_take_does_not_hold_up_the_rest(receiver: Receiver) -> None:
    receiver.answers = [(400, {}), *[(503, {})] * REFUSALS]
    hook = Webhook(receiver.url, FAST)
    hook.start()
    with capture_logs() as logs:
        for key in ("refused", "busy", "taken"):
            hook.put(key, told())
        keys = [receiver.next()[0]["Idempotency-Key"] for _ in range(REFUSALS + 2)]
        hook.close(5)
    assert keys == ["refused", *["busy"] * REFUSALS, "taken"]
    assert [entry["why"] for entry in logs if entry["event"] == "webhook.dropped"] == [
        "it answered 400",
        "it answered 503",
    ]


def test_a_receiver_that_is_down_gets_everything_when_it_is_back() -> None:
    port = free_port()
    hook = Webhook(f"http://127.0.0.1:{port}/hook", FAST)
    failed = threading.Event()
    with capture_logs() as logs:
        hook.start()
        for number in range(3):
            hook.put(f"k{number}", told())
        while not any(entry["event"] == "webhook.failed" for entry in logs):
            failed.wait(0.005)
        for receiver in serve(Receiver(port)):
            assert [receiver.next()[0]["Idempotency-Key"] for _ in range(3)] == ["k0", "k1", "k2"]
            hook.close(5)
    assert not [entry for entry in logs if entry["event"] == "webhook.dropped"]


def test_when_too_many_wait_the_oldest_of_the_lowest_priority_gives_way() -> None:
    hook = Webhook(f"http://127.0.0.1:{free_port()}/hook", FAST, limit=3)
    with capture_logs() as logs:
        for number, priority in enumerate(("high", "low", "medium", "low", "high", "high")):
            hook.put(f"k{number}", told() | {"priority": priority, "rule": f"r{number}"})
        dropped = [entry["rule"] for entry in logs]
        hook.close(0)
    assert dropped == ["r1", "r3", "r2"]
    assert [entry["rule"] for entry in logs][3:] == ["r0", "r4", "r5"]


def test_closing_does_not_wait_for_a_receiver_that_is_down() -> None:
    hook = Webhook(f"http://127.0.0.1:{free_port()}/hook", Pauses(first=1000, longest=1000))
    hook.start()
    with capture_logs() as logs:
        hook.put("k", told())
        hook.close(0.2)
    assert not hook._thread.is_alive()
    assert [entry["why"] for entry in logs if entry["event"] == "webhook.dropped"] == ["the platform stopped"]


def test_secrets_of_the_address_are_sent_but_never_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    secret = receiver.url.replace("://", "://user:hunter2@").replace("/hook", "/T0KEN?key=s3cret")
    receiver.answers = [(503, {}), (404, {})]
    hook = Webhook(secret, FAST)
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        hook.start()
        hook.put("k", told())
        headers, _ = receiver.next()
        receiver.next()
        hook.close(5)
    assert headers["path"] == "/T0KEN?key=s3cret"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"user:hunter2").decode()
    everything = str(logs) + caplog.text
    assert logs
    for word in ("hunter2", "T0KEN", "s3cret"):
        assert word not in everything


@pytest.mark.parametrize("url", ["", "hunter2", "ftp://user:hunter2@host/", "http://", "http://hunter2:port/"])
def test_a_bad_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="https://host/path") as caught:
        Webhook(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_pauses_double_up_to_the_longest_and_are_never_below_half() -> None:
    pauses = Pauses(first=1, longest=10)
    assert [pauses.after(n, lambda: 1.0) for n in (1, 2, 3, 4, 5, 99)] == [1, 2, 4, 8, 10, 10]
    assert pauses.after(3, lambda: 0.0) == 2
