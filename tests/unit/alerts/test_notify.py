"""The webhook against a real HTTP receiver on the loopback interface."""

from __future__ import annotations

import base64
import hashlib
import hmac
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
from alerts.courier import Pauses
from alerts.notify import Notifier, log_announcement
from alerts.webhook import Attempt, Outcome, Webhook, signature
from devices.alarm import Alarm, AlarmChange, ChangeKind, Priority, SuppressionKind
from devices.model import MINUTE, SECOND, Instant
from tests.ports import free_port
from tests.unit.alerts.plant import PUMP, T0, rule

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
        return self.got.get(timeout=60)

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


def now() -> Instant:
    return T0 + 2 * MINUTE


def test_what_is_told_reaches_the_receiver_as_json_with_its_key(receiver: Receiver) -> None:
    hook = Webhook(receiver.url, now)
    assert hook.send("k1", told()) == Attempt(Outcome.DELIVERED)
    hook.close()
    headers, body = receiver.next()
    assert headers["Idempotency-Key"] == "k1"
    assert headers["Content-Type"] == "application/json"
    assert "Headworks-Signature" not in headers
    assert body == told()


def test_with_a_secret_the_receiver_can_check_who_says_it_and_when(receiver: Receiver) -> None:
    hook = Webhook(receiver.url, now, "s3cret")
    hook.send("k1", told() | {"message": "水泵 P-101"})
    hook.close()
    headers, body = receiver.next()
    raw = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    assert headers["Headworks-Signature"] == signature("s3cret", now() // SECOND, raw)
    assert signature("s3cret", 1, b"{}") == "t=1,v1=" + hmac.new(b"s3cret", b"1.{}", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (503, {}, Attempt(Outcome.BUSY, "it answered 503")),
        (429, {"Retry-After": "7"}, Attempt(Outcome.BUSY, "it answered 429", 7.0)),
        (500, {"Retry-After": "tomorrow"}, Attempt(Outcome.BUSY, "it answered 500")),
        (429, {"Retry-After": "999999"}, Attempt(Outcome.BUSY, "it answered 429", 3600.0)),
        (400, {}, Attempt(Outcome.REFUSED, "it answered 400")),
        (301, {}, Attempt(Outcome.REFUSED, "it answered 301")),
        (204, {}, Attempt(Outcome.DELIVERED)),
    ],
)
def test_what_an_answer_means(receiver: Receiver, status: int, headers: dict[str, str], expected: Attempt) -> None:
    receiver.answers = [(status, headers)]
    hook = Webhook(receiver.url, now)
    assert hook.send("k", told()) == expected
    hook.close()


def test_a_receiver_that_is_down_is_unreachable() -> None:
    hook = Webhook(f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}/hook", now)
    assert hook.send("k", told()).outcome is Outcome.UNREACHABLE
    hook.close()


def test_secrets_of_the_address_are_sent_but_never_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    secret = receiver.url.replace("://", "://user:hunter2@").replace("/hook", "/T0KEN?key=s3cret")
    receiver.answers = [(503, {})]
    hook = Webhook(secret, now)
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        attempt = hook.send("k", told())
        headers, _ = receiver.next()
        hook.close()
    assert headers["path"] == "/T0KEN?key=s3cret"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"user:hunter2").decode()
    everything = str(logs) + caplog.text + attempt.why + hook.receiver
    for word in ("hunter2", "T0KEN", "s3cret"):
        assert word not in everything


@pytest.mark.parametrize("url", ["", "hunter2", "ftp://user:hunter2@host/", "http://", "http://hunter2:port/"])
def test_a_bad_address_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="https://host/path") as caught:
        Webhook(url, now)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_announcement_is_composed_for_what_people_should_hear() -> None:
    notifier = Notifier([rule()], now, lambda *_: None)
    with capture_logs() as logs:
        composed = notifier.compose(RAISED, PUMP)
        assert notifier.compose(AlarmChange(ChangeKind.RAISED, None, OVER), PUMP) is None, "over before it was known"
        assert composed is not None
        notifier.told([composed])
    assert (composed.key, composed.event, composed.rule) == (idempotency_key(RAISED, Event.RAISED), "raised", "tested")
    assert composed.told == told()
    [entry] = [entry for entry in logs if entry["log_level"] != "debug"]
    assert (entry["event"], entry["tag"], entry["message"]) == ("alarm.raised", "P-101", "at 6 mm/s")


def test_what_is_suppressed_is_not_told_but_logged() -> None:
    notifier = Notifier([rule()], now, lambda name, _: SuppressionKind.SHELVED if name == "tested" else None)
    with capture_logs() as logs:
        assert notifier.compose(RAISED, PUMP) is None
    assert [(entry["event"], entry["how"]) for entry in logs] == [("alarm.suppressed", "shelved")]


def test_a_return_to_normal_is_no_warning() -> None:
    with capture_logs() as logs:
        log_announcement(told(AlarmChange(ChangeKind.CLEARED, ON, OVER), Event.RETURNED))
    assert [entry["log_level"] for entry in logs] == ["info"]


def test_pauses_double_up_to_the_longest_and_are_never_below_half() -> None:
    pauses = Pauses(first=1, longest=10)
    assert [pauses.after(n, lambda: 1.0) for n in (1, 2, 3, 4, 5, 99)] == [1, 2, 4, 8, 10, 10]
    assert pauses.after(3, lambda: 0.0) == 2
