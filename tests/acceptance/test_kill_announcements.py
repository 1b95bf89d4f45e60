"""Whenever the process is killed: what stands in the alarm journal was told, at least once, under the same key."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alerts.announcement import Event, idempotency_key
from storage.database import connect
from tests.acceptance.announcing import change
from tests.integration.test_gateways import eventually

ROUTING = """
channels: {{hook: {{webhook: "http://127.0.0.1:{port}/"}}}}
routes: [{{name: all, to: [hook], group: {{at_once: 1000, window: 1s}}}}]
"""
EACH = 6
"""Alarms of one life of the process."""


class Listener:
    """A receiver that keeps every key, and may do something before it answers, or after."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                listener.keys.append(self.headers["Idempotency-Key"])
                listener.before()
                self.send_response(204)
                self.end_headers()
                self.wfile.flush()
                listener.after()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_kill_9_loses_no_announcement(
    registered: str, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    routing = tmp_path / "routing.yaml"
    routing.write_text(ROUTING.format(port=listener.server.server_address[1]))

    def life(number: int) -> subprocess.Popen[str]:
        with connect(registered) as connection:  # what the dead process had taken is anybody's after a minute
            connection.execute("UPDATE announcement SET due_at = now() WHERE state = 'waiting'")
        first = number * EACH
        arguments = [sys.executable, "-m", "tests.acceptance.announcing", registered, str(routing), str(first)]
        return subprocess.Popen(
            [*arguments, str(first + EACH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def end(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.communicate()

    def keys_of_the_journal() -> set[str]:
        with connect(registered) as connection:
            rows = connection.execute("SELECT rule FROM alarm").fetchall()
        return {idempotency_key(change(int(str(rule).partition("-")[2])), Event.RAISED) for (rule,) in rows}

    # As soon as the first alarms are committed: nothing may be routed yet.
    process = life(0)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    end(process)

    # The receiver has one, and the process dies before it hears that; then, right after it was told so.
    for life_number, moment in ((1, "before"), (2, "after")):
        process = life(life_number)
        seen, dies = len(listener.keys), process
        setattr(listener, moment, lambda seen=seen, dies=dies: dies.kill() if len(listener.keys) >= seen + 3 else None)
        process.wait(60)
        process.communicate()
        setattr(listener, moment, lambda: None)

    process = life(3)
    try:
        everything = {idempotency_key(change(number), Event.RAISED) for number in range(3 * EACH, 4 * EACH)}
        eventually(lambda: everything <= keys_of_the_journal(), "the last life has announced all of its own")
        eventually(lambda: keys_of_the_journal() <= set(listener.keys), "everything in the journal was told")
    finally:
        end(process)
    assert set(listener.keys) == keys_of_the_journal(), "and nothing that is not there"
    assert len(listener.keys) > len(set(listener.keys)), "one was told twice, under the same key"
