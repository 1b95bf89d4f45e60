"""A real Grafana, where one is reachable: it takes the dashboards, its own data source answers every query of every
panel, and each dashboard is photographed. Needs:

HEADWORKS_TEST_GRAFANA_URL, HEADWORKS_TEST_GRAFANA_TOKEN: a server and the token of a service account (Admin);
HEADWORKS_TEST_GRAFANA_DATABASE_URL: an empty database, at an address that both it and these tests reach. The demo's
day is put into it. Photographs need Chromium and `make browser`, and go to `build/grafana/`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from typer.testing import CliRunner, Result

from dashboards.__main__ import files
from dashboards.language import LANGUAGES
from dashboards.macros import Variable, interpolate_variables
from devices.model import DAY, Instant
from headworks import clock
from headworks.cli import app
from storage.database import connect
from storage.migrate import migrate
from storage.registry import sync_metrics
from tests.integration.demo_day import play

URL, TOKEN, DATABASE = (
    os.environ.get(f"HEADWORKS_TEST_GRAFANA_{name}", "") for name in ("URL", "TOKEN", "DATABASE_URL")
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = Path("build/grafana")
BOARDS: list[dict[str, Any]] = [json.loads(text) for language in LANGUAGES for text in files(language).values()]

pytestmark = pytest.mark.skipif(
    not (URL and TOKEN and DATABASE), reason="no Grafana: set HEADWORKS_TEST_GRAFANA_URL, …_TOKEN and …_DATABASE_URL"
)


@pytest.fixture(scope="module")
def end() -> Instant:
    """When the demo's day ends; it is put into the database where there is none yet."""
    with connect(DATABASE) as connection:
        migrate(connection)
        sync_metrics(connection)
        row = connection.execute("SELECT max(newest) FROM latest_pack").fetchone()
    if not (row and row[0]):
        play(DATABASE, clock.now())
    return clock.now()


def push() -> Result:
    arguments = ["dashboards", "push", "--url", URL, "--language", "both"]
    return CliRunner().invoke(app, arguments, env={"GRAFANA_TOKEN": TOKEN, "GRAFANA_DATABASE_URL": DATABASE})


@pytest.fixture(scope="module")
def pushed(end: Instant) -> Instant:
    done = push()
    assert done.exit_code == 0, done.output
    return end


@pytest.fixture(scope="module")
def api() -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=URL.rstrip("/"), headers=headers, timeout=60) as client:
        yield client


def _chosen(board: dict[str, Any]) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    with psycopg.connect(DATABASE) as connection:
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                rows = connection.execute(interpolate_variables(variable["query"], found).encode()).fetchall()
                values = [str(row[1]) for row in rows]
                found[variable["name"]] = Variable(values, multi=True) if variable.get("multi") else Variable(values[0])
    return found


def test_a_second_push_has_nothing_to_change(pushed: Instant) -> None:
    assert "Everything is up to date." in push().output


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_its_data_source_answers_every_query(board: dict[str, Any], pushed: Instant, api: httpx.Client) -> None:
    """Variables are put in as the browser does; macros are left to the server."""
    chosen = _chosen(board)
    targets = [(panel["title"], target) for panel in board["panels"] for target in panel["targets"]]
    targets += [(annotation["name"], annotation["target"]) for annotation in board["annotations"]["list"]]
    for title, target in targets:
        query = {
            "refId": "A",
            "datasource": {"uid": "headworks"},
            "rawSql": interpolate_variables(target["rawSql"], chosen),
            "format": target["format"],
            "intervalMs": 60_000,
            "maxDataPoints": 1_000,
        }
        span = {"from": str((pushed - DAY) // 1000), "to": str(pushed // 1000)}
        answer = api.post("/api/ds/query", json={"queries": [query], **span})
        assert answer.status_code == 200, f"{title}: {answer.text}"
        result = answer.json()["results"]["A"]
        assert "error" not in result, f"{title}: {result}"
        assert result["frames"], title


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: Debian's package chromium has it")
def test_each_dashboard_is_photographed_without_an_error(pushed: Instant) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: `make browser` installs it")
    PICTURES.mkdir(parents=True, exist_ok=True)
    span = f"from={(pushed - DAY) // 1000}&to={pushed // 1000}"
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = running.new_page(
            viewport={"width": 1600, "height": 3000}, extra_http_headers={"Authorization": f"Bearer {TOKEN}"}
        )
        for board in BOARDS:
            page.goto(f"{URL.rstrip('/')}/d/{board['uid']}?kiosk&theme=light&{span}", wait_until="networkidle")
            page.get_by_text(board["panels"][0]["title"], exact=True).first.wait_for()
            page.screenshot(path=str(PICTURES / f"{board['uid']}.png"), full_page=True)
            assert page.get_by_test_id("data-testid Panel status error").count() == 0, board["uid"]
        running.close()
