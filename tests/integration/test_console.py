"""The console in a real headless browser: the work on alarms, on a screen and on a phone, in both languages.

Skipped where there is no browser: `make browser` puts Playwright beside Debian's Chromium.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from alerts.rulefiles import shipped_rules
from devices.alarm import Alarm, AlarmChange, Announcement, ChangeKind, Priority, Suppression, SuppressionKind
from devices.batch import Batch, UplinkRecord
from devices.model import MINUTE, SECOND, Device, Quality, Reading, Transport, Uplink
from devices.profile import shipped_profiles
from headworks import clock
from headworks.api.context import Context, Ports
from headworks.console import FOLDER
from headworks.http import HttpDoor
from headworks.judging import definition
from storage import journal, lifecycle, outbox, registry, tokens
from storage.database import connect
from storage.tokens import Role
from storage.writer import Writer
from tests.conftest import PUMP, VALVE

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: `make browser` installs it")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: Debian's package chromium has it")

RULES = shipped_rules()
SHOTS = Path(os.environ.get("HEADWORKS_TEST_SHOTS", "build/console"))
"""Where a picture of each page is put."""
ASSETS = 1_000
_number = itertools.count(1)
TAGGED = '<img src=x onerror="document.title=1">'


def _alarm(rule: str, device: str, minutes: int, priority: Priority, message: str) -> Alarm:
    at = clock.now() // SECOND * SECOND - minutes * MINUTE
    return Alarm(rule, device, priority, message, at - MINUTE, at, None, 91.0)


@pytest.fixture(scope="module")
def plant(postgres_url: str, template: str) -> Iterator[str]:
    """The name of a database with a thousand assets, three alarms and the readings of one pump, to be cloned."""
    name = f"headworks_console_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    _fill(make_conninfo(postgres_url, dbname=name))
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def registered(postgres_url: str, plant: str) -> Iterator[str]:
    """A database of this test's own, as `plant` is."""
    name = f"{plant}_{next(_number)}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{plant}"'.encode())
    yield make_conninfo(postgres_url, dbname=name)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _fill(url: str) -> None:
    fleet = [
        Device(f"urn:dev:console:{n}", "centrifugal-pump", tag=f"P-{n:04d}", site=f"Site {n % 4}", area="Hall")
        for n in range(ASSETS)
    ]
    with connect(url) as connection:
        odd = Device("urn:odd", "control-valve", tag=TAGGED, site="North")
        registry.register(connection, [PUMP, VALVE, *fleet, odd], shipped_profiles())
        lifecycle.define(connection, [definition(rule) for rule in RULES])
        alarms = [
            _alarm("bearing-temperature-high", PUMP.identity, 5, Priority.HIGH, "Bearing at 91 °C, limit 82 °C"),
            _alarm("battery-low", VALVE.identity, 300, Priority.LOW, "Battery at 18 %"),
            _alarm("valve-travel-deviation", "urn:odd", 60, Priority.MEDIUM, "12 % beside its command"),
        ]
        journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm) for alarm in alarms], None)
    writer = Writer(url)
    now = clock.now() // SECOND * SECOND
    readings = [
        Reading(PUMP.identity, metric, now - n * MINUTE, value + (n * 7 % 11) / 10, Quality.GOOD)
        for metric, value in (("bearing_temperature", 81.5), ("pressure", 4.0), ("flow", 50.0), ("rsrp", -97.0))
        for n in range(240, 0, -1)
    ]
    writer.commit(Batch([UplinkRecord(Uplink(Transport.COAP, b"", now), PUMP.identity, readings)]))
    writer.close()


@pytest.fixture
def address(registered: str) -> Iterator[str]:
    with connect(registered) as connection:
        token = tokens.make(connection, "kim", Role.OPERATOR, "test")
    ports = Ports(
        registered,
        health=lambda: {"database": "ok"},
        rules=lambda: RULES,
        failing=dict,
        idle=lambda: {"pump-dry-run": {"centrifugal-pump: there is no flow": PUMP.identity}},
        profiles=shipped_profiles(),
        now=clock.now,
        time_zone="Asia/Shanghai",
        grafana_url="https://grafana.example.org",
    )
    door = HttpDoor("127.0.0.1", 0, dict, Context(ports))
    port = door.open()
    door.start()
    os.environ["HEADWORKS_TEST_TOKEN"] = token
    yield f"http://127.0.0.1:{port}/"
    door.close(5)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that is logged in; it may not have told of a single error."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB", has_touch=True)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    # The browser itself logs answers of 401 (before anybody is logged in) and the 503 that one test makes up.
    opened.on(
        "console",
        lambda line: (
            problems.append(line.text)
            if line.type == "error" and "401" not in line.text and "503" not in line.text
            else None
        ),
    )
    opened.goto(address)
    opened.get_by_label("Token").fill(os.environ["HEADWORKS_TEST_TOKEN"])
    opened.get_by_role("button", name="Log in").click()
    opened.get_by_text("Bearing at 91 °C").wait_for()
    yield opened
    context.close()
    assert problems == []


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=False)


def test_the_files_name_no_foreign_address_and_have_no_inline_script() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8")
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
    assert '<script type="module" src="main.js"></script>' in (FOLDER / "index.html").read_text("utf-8")


def test_alarms_are_worked_on(page: Any, address: str) -> None:
    lines = page.locator("#list li[data-number]")
    assert [line.inner_text().split("\n")[0] for line in lines.all()] == ["HIGH", "MEDIUM", "LOW"]
    assert TAGGED in page.locator("#list").inner_text(), "what devices say is text"
    shot(page, "alarms")
    page.get_by_text("Bearing at 91 °C").click()
    page.get_by_text("What to do").wait_for()
    shot(page, "alarm")
    page.locator("#detail").get_by_label("Remark (optional)").fill("On my way")
    page.locator("#detail").get_by_role("button", name="Acknowledge").click()
    page.locator(".journal").get_by_text("acknowledged by kim").wait_for()
    page.locator(".journal").get_by_text("On my way").wait_for()
    page.locator("#detail").get_by_role("button", name="Comment…").click()
    page.get_by_label("Remark").fill("Grease is on its way")
    page.locator("dialog").get_by_role("button", name="Comment…").click()
    page.get_by_text("Grease is on its way").wait_for()
    page.locator("#detail").get_by_role("button", name="Shelve…").click()
    page.get_by_label("Why").fill("Bearing is ordered")
    shot(page, "shelve")
    page.locator("dialog").get_by_role("button", name="Shelve…").click()
    page.locator("#list").get_by_text("Bearing at 91 °C").wait_for(state="detached")
    page.get_by_text("shelved 1").wait_for()
    page.get_by_label("State").select_option("shelved")
    page.locator("#list").get_by_text("Bearing at 91 °C").wait_for()
    shot(page, "shelved")
    page.locator("#detail").get_by_role("button", name="End it…").click()
    page.get_by_label("Why").fill("Bearing is new")
    page.locator("dialog").get_by_role("button", name="End it").click()
    page.locator("#list").get_by_text("Nothing is shelved").wait_for()
    page.locator(".journal").get_by_text("Bearing is new").wait_for()


def test_a_device_is_taken_out_of_service_and_put_back_with_the_reasons(page: Any, registered: str) -> None:
    with connect(registered) as connection:
        connection.execute("UPDATE api_token SET role = 'engineer'")
    page.reload()
    page.locator("#list").get_by_role("link", name="Bearing at 91 °C").click()
    page.locator("#detail .tag a").click()
    page.get_by_role("button", name="Out of service…").click()
    page.get_by_label("Why").fill("Overhaul")
    page.locator("dialog").get_by_role("button", name="Out of service…").click()
    page.locator(".held").get_by_text("Overhaul").wait_for()
    page.locator(".held").get_by_role("button", name="Put into service…").click()
    page.get_by_label("Why").fill("Overhauled and tested")
    page.locator("dialog").get_by_role("button", name="Put into service").click()
    page.locator(".held").wait_for(state="detached")
    with connect(registered) as connection:
        rows = connection.execute(
            "SELECT kind, detail ->> 'reason' FROM alarm_event WHERE kind LIKE '%service' ORDER BY 1"
        ).fetchall()
    assert rows == [("in_service", "Overhauled and tested"), ("out_of_service", "Overhaul")]


def test_by_keys_alone(page: Any) -> None:
    page.locator("body").press("j")
    page.locator("body").press("x")
    page.locator("body").press("k")
    page.locator("body").press("x")
    page.get_by_role("button", name="Acknowledge (2)").wait_for()
    page.locator("body").press("a")
    page.get_by_text("2 done").wait_for()
    page.locator("#list").get_by_text("acknowledged", exact=True).nth(1).wait_for()
    assert page.locator("#list").get_by_text("unacknowledged", exact=True).count() == 1


def test_what_others_do_is_seen_without_a_reload(page: Any, registered: str) -> None:
    page.get_by_text("live", exact=True).wait_for()
    with connect(registered) as connection:
        new = _alarm("pump-dry-run", PUMP.identity, 1, Priority.HIGH, "Runs without water")
        journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, new)], None)
    page.get_by_text("Runs without water").wait_for()


def test_in_a_storm_the_list_stays_in_order_and_can_be_worked_on(page: Any, registered: str) -> None:
    page.get_by_text("live", exact=True).wait_for()
    with connect(registered) as connection:
        for part in range(5):
            burst = [
                _alarm("pump-dry-run", f"urn:dev:console:{part * 200 + n}", 1, Priority.MEDIUM, "Runs without water")
                for n in range(200)
            ]
            journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, alarm) for alarm in burst], None)
    page.locator("#summary").get_by_text("1,001 unacknowledged").or_(page.get_by_text("· 1001 unack")).wait_for()
    assert page.locator("#list li[data-number]").count() == 100, "a page of it, the gravest first"
    assert page.locator("#list .badge").first.inner_text() == "HIGH"
    page.locator("body").press("X")
    page.get_by_role("button", name="Acknowledge (100)").click()
    page.get_by_text("100 done").wait_for()
    page.get_by_role("button", name="More").click()
    page.locator("#list li[data-number]").nth(150).wait_for()
    with connect(registered) as connection:
        one = _alarm("pump-dry-run", PUMP.identity, 1, Priority.HIGH, "Runs without water")
        journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, one)], None)
    page.locator("#list").get_by_text("P-101 Runs without water").wait_for()
    assert page.locator("#list li[data-number]").count() == 200, "a live update does not fold it up again"


def test_a_link_in_a_message_leads_to_its_alarm_and_on_to_the_asset(page: Any, address: str, registered: str) -> None:
    page.goto(f"{address}#/alarms/of/{quote(PUMP.identity, safe='')}/bearing-temperature-high")
    page.get_by_role("heading", name="Bearing temperature high").wait_for()
    page.locator("#detail svg.chart .limit.high").first.wait_for(state="attached")
    page.locator("#detail").get_by_role("link", name="P-101").click()
    page.get_by_role("heading", name="Latest values").wait_for()
    page.locator("svg.chart").nth(3).wait_for(state="attached")
    assert page.locator("svg.chart .limit").count() >= 1, "the alarm's limit stands in the trend"
    assert "Bearing temperature" in page.locator("main").inner_text()
    page.get_by_role("heading", name="Radio and battery").wait_for()
    assert "Signal power (RSRP)" in page.locator("main").inner_text()
    with connect(registered) as connection:
        number = registry.find(connection, [PUMP.identity])[PUMP.identity].device_id
    link = page.locator("aside").get_by_role("link", name="Dashboards").get_attribute("href")
    assert link == f"https://grafana.example.org/d/headworks-pump?var-asset={number}"
    shot(page, "asset")


def test_a_thousand_assets_at_once_and_who_is_not_heard_of(page: Any) -> None:
    page.get_by_role("link", name="Sites").click()
    page.locator(".tile.high").wait_for()
    page.locator(".tile").nth(ASSETS // 2).wait_for(state="attached")
    assert page.locator(".tile.high").count() == 1
    shot(page, "sites")
    page.get_by_role("link", name="Fleet").click()
    page.get_by_text("never heard").first.wait_for()
    shot(page, "fleet")
    page.get_by_role("link", name="Performance").click()
    page.get_by_role("heading", name="Most frequent").wait_for()
    page.get_by_text("idle on some").click()
    page.get_by_text("centrifugal-pump: there is no flow").wait_for()
    shot(page, "performance")


def test_what_chatters_is_named_also_while_it_is_shelved(page: Any, registered: str) -> None:
    with connect(registered) as connection:
        until = clock.now() + 60 * MINUTE
        lifecycle.suppress(
            connection,
            Suppression(SuppressionKind.SHELVED, "pump-vibration-high", PUMP.identity, until, "it chatters", "kim"),
        )
        for minutes in (90, 84, 78, 72):
            alarm = _alarm("pump-vibration-high", PUMP.identity, minutes, Priority.MEDIUM, "7 mm/s")
            over = replace(alarm, cleared_at=alarm.raised_at + MINUTE)
            journal.record(connection, [AlarmChange(ChangeKind.RAISED, None, over)], None)
    page.get_by_role("link", name="Performance").click()
    page.get_by_role("heading", name="Chattering").wait_for()
    row = page.locator("h2:has-text('Chattering') + * tr", has_text="P-101")
    assert [cell.inner_text() for cell in row.locator("td").all()][3:5] == ["1", "4"]
    assert "shelved" in row.inner_text()


def test_in_chinese_and_in_the_dark_on_a_phone(browser: Any, page: Any, address: str) -> None:
    page.get_by_role("button", name="中文").click()
    page.get_by_role("heading", name="报警").wait_for()
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing to scroll sideways"
    shot(page, "phone-list")
    assert not page.get_by_role("button", name="确认").is_visible(), "a finger means only what it has chosen"
    page.locator("#list .pick").first.tap()
    page.get_by_role("button", name="确认 (1)").wait_for()
    shot(page, "phone-chosen")
    page.locator("#list .pick").first.tap()
    page.get_by_text("Bearing at 91 °C").tap()
    page.get_by_text("处理措施").wait_for()
    assert not page.locator("#list").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shot(page, "phone-alarm")
    page.get_by_role("link", name="‹ 返回").click()
    page.locator("#list").wait_for()
    page.get_by_role("button", name="English").click()


# Of each text: its contrast with what is behind it, by WCAG 2; and of what is touched: how large it is.
CONTRAST = r"""() => {
  const channels = (text) => text.match(/[\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => sum + part * linear(c[i] / 255), 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const c = channels(getComputedStyle(node).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!text || !node.checkVisibility() || node.closest("svg, noscript, .skip, :disabled")) continue;
    const pair = [light(channels(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) poor.add(`${node.className || node.tagName} ${node.textContent.slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""
SMALL = """() => [...document.querySelectorAll(
    "button, select, nav a, input:not([type=checkbox]), #list li[data-number], .pick, .tile, .back, .counts a")]
  .filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 44)
  .map((node) => `${node.className || node.tagName} ${node.textContent.slice(0, 20)}`)"""
EVERY_PAGE = ("#/alarms", "#/sites", "#/fleet", "#/kpis", "#/platform", f"#/assets/{PUMP.identity}")


def test_every_page_can_be_read_and_touched_in_light_and_dark_on_a_screen_and_on_a_phone(
    page: Any, registered: str
) -> None:
    with connect(registered) as connection:
        told = {"rule": "r", "device": {"identity": PUMP.identity}}
        outbox.put(connection, [Announcement("k", "raised", "r", PUMP.identity, Priority.HIGH, told)], ["duty-mail"])
        [letter] = outbox.claim(connection, "duty-mail", 1)
        outbox.give_up(connection, letter.number, "it answered 410")
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 844 if width == 390 else 800})
        page.emulate_media(color_scheme=scheme)
        for place in EVERY_PAGE:
            page.evaluate("(place) => { location.hash = place; }", place)
            page.locator(f'main[data-page="{place}"]').wait_for()
            page.wait_for_load_state("networkidle")
            assert page.evaluate(CONTRAST) == [], (place, width, scheme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (place, width)
            assert width > 390 or page.evaluate(SMALL) == [], place
            shot(page, f"{place.split('/')[1]}-{width}-{scheme}")
    page.evaluate("location.hash = '#/alarms'")
    page.get_by_text("Notifications cannot be delivered").wait_for()


def test_nothing_moves_while_a_page_is_read(page: Any) -> None:
    page.add_init_script(
        "window.moved = []; new PerformanceObserver((list) => list.getEntries().filter((one) => !one.hadRecentInput)"
        ".forEach((one) => moved.push(one.value))).observe({ type: 'layout-shift', buffered: true });"
    )
    for place in EVERY_PAGE:
        page.goto(page.url.split("#")[0] + place)
        page.reload()
        page.locator("main h1").wait_for()
        page.wait_for_load_state("networkidle")
        assert sum(page.evaluate("moved")) < 0.1, f"{place}: cumulative layout shift, as Core Web Vitals count it"


def test_what_cannot_be_loaded_says_so_and_can_be_tried_again(page: Any) -> None:
    page.route(
        "**/api/v1/fleet", lambda route: route.fulfill(status=503, json={"detail": "the database does not answer"})
    )
    page.get_by_role("link", name="Fleet").click()
    page.get_by_text("the database does not answer").wait_for()
    shot(page, "error")
    page.unroute("**/api/v1/fleet")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("heading", name="Fleet").wait_for()
    page.evaluate("location.hash = '#/nowhere'")
    page.get_by_text("There is no such page.").wait_for()
    page.evaluate("location.hash = '#/alarms'")
    page.get_by_label("Tag or text").fill("nothing is called so")
    page.get_by_label("Tag or text").press("Enter")
    page.get_by_text("No alarm fits this search and these filters.").wait_for()
    shot(page, "empty")


def test_a_viewer_may_look_and_not_act(browser: Any, address: str, registered: str) -> None:
    with connect(registered) as connection:
        token = tokens.make(connection, "guest", Role.VIEWER, "test")
    context = browser.new_context(locale="en-GB")
    opened = context.new_page()
    opened.goto(address)
    opened.get_by_label("Token").fill("hw_wrong")
    opened.get_by_role("button", name="Log in").click()
    opened.get_by_text("the token is not valid").wait_for()
    opened.get_by_label("Token").fill(token)
    opened.get_by_role("button", name="Log in").click()
    opened.get_by_text("Bearing at 91 °C").wait_for()
    assert opened.get_by_role("button", name="Acknowledge").is_disabled()
    opened.get_by_role("button", name="Log out").click()
    opened.get_by_label("Token").wait_for()
    context.close()


def test_the_files_are_small_and_asked_about_each_time(address: str) -> None:
    total = 0
    for path in FOLDER.iterdir():
        answer = httpx.get(f"{address}{path.name}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-cache"
        total += len(answer.content)
    assert total < 96_000
