"""A storm: 10,000 alarms in a minute on 10,000 assets, with people at work on them. `make storm-alarms`.

What is asked: a bounded number of messages, none lost; a console that stays usable. Measured in Debian's Chromium by
Playwright (`make browser`); without them only the messages are. Loopback only; a database of its own, given back.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from alerts.announcement import Event, idempotency_key, render
from alerts.rulefiles import shipped_rules
from deploy.provision import provision
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind
from devices.model import SECOND, Device
from devices.profile import shipped_profiles
from headworks import clock
from headworks.api.context import Context, Ports
from headworks.embedded import EmbeddedPostgres
from headworks.http import HttpDoor
from headworks.judging import definition
from headworks.service import prepare
from headworks.settings import Settings
from headworks.telling import Telling
from storage import journal, lifecycle, registry, tokens
from storage.database import connect
from storage.tokens import Role
from tests.benchmarks.figures import Figure

OUTPUT = Path("build/storm-alarms.json")
ASSETS, SITES, ALARMS, SECONDS, AT_ONCE = 10_000, 20, 10_000, 60.0, 5
MOST = SITES * AT_ONCE * 3
"""Messages: of each site at most so many a window, and the storm touches three (its first alarms, and two ends)."""
RULE = next(rule for rule in shipped_rules() if rule.rule == "bearing-temperature-high")
FLEET = [
    Device(f"urn:dev:storm:{n}", "centrifugal-pump", tag=f"P-{n:05}", site=f"Site {n % SITES:02}", area="Hall")
    for n in range(ASSETS)
]
ROUTING = """
channels: {{hook: {{webhook: "http://127.0.0.1:{port}/"}}}}
routes: [{{name: all, to: [hook], group: {{at_once: {at_once}, window: 1m}}}}]
"""
# Seen in the page: how long tasks of its main thread are, and how long its questions take.
WATCH = """window.long = []; performance.setResourceTimingBufferSize(5000);
new PerformanceObserver((list) => list.getEntries().forEach((one) => long.push(one.duration)))
  .observe({ type: "longtask", buffered: true });"""
ACKNOWLEDGE = """() => new Promise((resolve) => {
  const said = document.getElementById("said");
  said.textContent = "";
  const box = document.querySelector("#list li.new input");
  box.click();
  const began = performance.now();
  new MutationObserver((_, seen) => { if (said.textContent) { seen.disconnect(); resolve([performance.now() - began,
    said.textContent]); } }).observe(said, { childList: true, characterData: true, subtree: true });
  document.getElementById("acknowledge").click();
})"""


class Receiver(ThreadingHTTPServer):
    """Counts the messages, and the alarms that they tell of, each key once."""

    daemon_threads = True

    def __init__(self) -> None:
        self.told: dict[str, int] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.told[self.headers["Idempotency-Key"]] = int(body.get("count", 1))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def storm(url: str, telling: Telling, over: threading.Event) -> None:
    """One alarm on each asset, spread over the minute, as the engine writes them: journal and outbox together."""
    batch = 100
    began = time.monotonic()
    with connect(url) as connection:
        for first in range(0, ALARMS, batch):
            at = clock.now()
            changes, announced = [], []
            for device in FLEET[first : first + batch]:
                alarm = Alarm(
                    RULE.rule, device.identity, RULE.priority, "Bearing at 91 °C", at - 60 * SECOND, at, None, 91.0
                )
                change = AlarmChange(ChangeKind.RAISED, None, alarm)
                told = render(change, Event.RAISED, device, RULE, at)
                key = idempotency_key(change, Event.RAISED)
                announced.append(Announcement(key, "raised", RULE.rule, device.identity, RULE.priority, told))
                changes.append(change)
            journal.record(connection, changes, None, announcements=announced, channels=telling.channels)
            telling.told([])
            time.sleep(max(0.0, began + SECONDS * (first + batch) / ALARMS - time.monotonic()))
    over.set()


def main() -> int:
    out = Console(highlight=False)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    folder = Path(tempfile.mkdtemp(prefix="hw-"))
    folder.chmod(0o711)
    receiver = Receiver()
    try:
        with EmbeddedPostgres(provision(out.print), folder / "postgres") as server:
            prepare(server.url)
            with connect(server.url) as connection:
                registry.register(connection, FLEET, shipped_profiles())
                lifecycle.define(connection, [definition(RULE)])
                connection.execute("ANALYZE")
                token = tokens.make(connection, "storm", Role.OPERATOR, "benchmark")
            routing = folder / "routing.yaml"
            routing.write_text(ROUTING.format(port=receiver.server_address[1], at_once=AT_ONCE))
            figures = _run(server.url, routing, token, receiver, out)
    finally:
        receiver.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    table = Table("figure", "measured", "unit", "limit", box=None)
    for one in figures:
        table.add_row(one.name, f"{one.value:,.0f}", one.unit, "" if one.beside is None else f"{one.beside:,.0f}")
    out.print(table)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({one.name: one.as_dict() for one in figures}, indent=2) + "\n")
    by = {one.name: one.value for one in figures}
    return int(by["alarms told of"] != ALARMS or by["messages"] > MOST)


def _run(url: str, routing: Path, token: str, receiver: Receiver, out: Console) -> list[Figure]:
    rules = [RULE]
    ports = Ports(url, dict, lambda: rules, dict, dict, shipped_profiles(), clock.now)
    door = HttpDoor("127.0.0.1", 0, dict, Context(ports))
    address = f"http://127.0.0.1:{door.open()}/"
    door.start()
    telling = Telling(Settings(routing=routing), url, rules)
    telling.start()
    over = threading.Event()
    thread = threading.Thread(target=storm, args=(url, telling, over))
    try:
        figures = _console(address, token, thread.start, over, out)
        if thread.ident is None:
            thread.start()
        thread.join()
        deadline = time.monotonic() + 180
        while sum(receiver.told.values()) < ALARMS and time.monotonic() < deadline:
            time.sleep(0.5)
        with connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM alarm WHERE NOT retracted").fetchone()
    finally:
        telling.close(5)
        door.close(5)
    return [
        Figure("alarms in the journal", float(str(row and row[0])), "", ALARMS, "raised"),
        Figure("alarms told of", float(sum(receiver.told.values())), "", ALARMS, "raised"),
        Figure("messages", float(len(receiver.told)), "", MOST, "bound"),
        *figures,
    ]


def _console(address: str, token: str, begin: Callable[[], None], over: threading.Event, out: Console) -> list[Figure]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        out.print("no browser: the console is not measured (`make browser`, and Debian's package chromium)")
        return []
    figures = []
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB").new_page()
        page.add_init_script(WATCH)
        page.goto(address)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.locator("#summary .badge").first.wait_for()
        for name in ("alarms", "sites", "fleet"):
            figures += _first_paint(page, address, name)
        page.goto(f"{address}#/alarms")
        page.reload()
        page.get_by_text("live", exact=True).wait_for()
        page.evaluate("long.length = 0")
        out.print(f"{ALARMS:,} alarms in {SECONDS:.0f} s …")
        begin()
        page.locator("#list li.new").first.wait_for()
        clicks: list[float] = []
        while not over.is_set():
            with suppress(Exception):  # a page that does not answer is seen in what is missing here
                taken, said = page.evaluate(ACKNOWLEDGE)
                if said.startswith("1 done"):
                    clicks.append(taken)
            page.wait_for_timeout(1500)
        long = page.evaluate("long")
        asked = page.evaluate(
            'performance.getEntriesByType("resource").filter((one) => one.name.includes("/alarms?"))'
            ".map((one) => one.duration)"
        )
    return [
        *figures,
        Figure("acknowledgements during the storm", float(len(clicks)), ""),
        Figure("click on acknowledge to done, median", statistics.median(clicks), "ms"),
        Figure("click on acknowledge to done, worst", max(clicks), "ms"),
        Figure("refreshes of the list", float(len(asked)), ""),
        Figure("refresh of the list, median", statistics.median(asked), "ms"),
        Figure("refresh of the list, worst", max(asked), "ms"),
        Figure("long tasks of the main thread (over 50 ms)", float(len(long)), ""),
        Figure("longest task of the main thread", float(max(long, default=0.0)), "ms"),
    ]


def _first_paint(page: Any, address: str, name: str) -> list[Figure]:
    """The medians of five: when something is seen, and when what the page is about stands on it."""
    paints, whole = [], []
    for _ in range(5):
        page.goto(f"{address}#/{name}")
        page.reload()
        page.locator(f'main[data-page="#/{name}"]').wait_for()
        paints.append(page.evaluate('performance.getEntriesByName("first-contentful-paint")[0].startTime'))
        whole.append(page.evaluate('Number(document.getElementById("page").dataset.at)'))
    return [
        Figure(f"first paint of {name}, {ASSETS:,} assets", statistics.median(paints), "ms", 1000, "limit"),
        Figure(f"{name} complete", statistics.median(whole), "ms"),
    ]


if __name__ == "__main__":
    sys.exit(main())
