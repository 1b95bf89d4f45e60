"""`headworks dashboards push` against a server that speaks Grafana's API, and against a real one where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dashboards.__main__ import files
from dashboards.push import data_source
from headworks.cli import app
from tests.integration.grafana_api import TOKEN, GrafanaApi

DATABASE = "postgresql://grafana:very-secret@db.example:5433/headworks?sslmode=verify-full"
BOARDS = len(files())


@pytest.fixture
def server() -> Iterator[GrafanaApi]:
    with GrafanaApi() as running:
        yield running


def push(server: GrafanaApi | str, *options: str, token: str = TOKEN) -> Result:
    url = server if isinstance(server, str) else server.url
    return CliRunner().invoke(app, ["dashboards", "push", "--url", url, *options], env={"GRAFANA_TOKEN": token})


def test_the_first_push_makes_everything_and_the_second_nothing(server: GrafanaApi) -> None:
    first = push(server, "--database-url", DATABASE)
    assert first.exit_code == 0, first.output
    assert "create data source Headworks\ncreate folder Headworks\ncreate dashboard" in first.output
    assert f"{BOARDS + 2} changed" in first.output
    source = server.sources["headworks"]
    assert (source["type"], source["url"], source["user"]) == (
        "grafana-postgresql-datasource",
        "db.example:5433",
        "grafana",
    )
    assert source["jsonData"]["sslmode"] == "verify-full"
    assert source["secureJsonFields"] == {"password": True}
    assert len(server.boards) == BOARDS
    assert all(held["meta"]["folderUid"] == "headworks" for held in server.boards.values())
    chosen = server.boards["headworks-fleet"]["dashboard"]["templating"]["list"][0]["current"]
    assert chosen["value"] == "headworks"
    server.requests.clear()
    second = push(server, "--database-url", DATABASE)
    assert second.exit_code == 0, second.output
    assert second.output.strip() == "Everything is up to date."
    assert server.requests == []


def test_a_dry_run_shows_the_difference_and_changes_nothing(server: GrafanaApi) -> None:
    assert f"{BOARDS + 2} would change" in push(server, "--database-url", DATABASE, "--dry-run").output
    assert server.requests == []
    push(server, "--database-url", DATABASE)
    server.requests.clear()
    server.boards["headworks-pump"]["dashboard"]["title"] = "Mine"
    server.sources["headworks"]["url"] = "elsewhere:5432"
    shown = push(server, "--database-url", DATABASE, "--dry-run").output
    assert 'would update data source Headworks\n    url: "elsewhere:5432" → "db.example:5433"\n' in shown
    assert 'would update dashboard Pump\n    title: "Mine" → "Pump"\n' in shown
    assert "2 would change" in shown
    assert server.requests == []
    assert "2 changed" in push(server, "--database-url", DATABASE).output
    assert server.boards["headworks-pump"]["dashboard"]["title"] == "Pump"


def test_without_a_database_the_data_source_is_left_alone(server: GrafanaApi) -> None:
    done = push(server)
    assert done.exit_code == 0, done.output
    assert "There is no data source ‘headworks’ yet: give --database-url" in done.output
    assert server.sources == {}
    assert len(server.boards) == BOARDS


def test_chinese_goes_beside_english_in_a_folder_of_its_own(server: GrafanaApi) -> None:
    push(server)
    both = push(server, "--language", "both")
    assert both.exit_code == 0, both.output
    assert "create folder Headworks 中文\ncreate dashboard 全厂总览" in both.output
    assert f"{BOARDS + 1} changed" in both.output
    assert len(server.boards) == 2 * BOARDS
    pump = server.boards["headworks-pump-zh"]
    assert (pump["dashboard"]["title"], pump["meta"]["folderUid"]) == ("泵", "headworks-zh")
    server.requests.clear()
    for language in ("zh", "en", "both"):
        assert push(server, "--language", language).output.endswith("Everything is up to date.\n")
    assert server.requests == []


def test_an_address_without_a_password_is_no_difference_for_ever(server: GrafanaApi) -> None:
    """Where the server trusts its host, or reads the password elsewhere."""
    address = DATABASE.replace(":very-secret", "")
    assert push(server, "--database-url", address).exit_code == 0
    assert push(server, "--database-url", address).output.strip() == "Everything is up to date."
    # One that is given afterwards is set, as whether there is one can be seen.
    assert "its password is not set" in push(server, "--database-url", DATABASE).output


def test_what_somebody_has_moved_is_brought_back(server: GrafanaApi) -> None:
    push(server)
    server.boards["headworks-site"]["meta"] |= {"folderUid": "other", "folderTitle": "Other"}
    assert "update dashboard Site\n    it is in another folder: Other" in push(server).output
    assert server.boards["headworks-site"]["meta"]["folderUid"] == "headworks"


@pytest.mark.parametrize(
    ("version", "plugin", "said"),
    [
        ("12.1.0", "grafana-postgresql-datasource", ""),
        ("13.0.0-pre+security", "grafana-postgresql-datasource", ""),
        ("10.4.2", "grafana-postgresql-datasource", "Grafana 10.4.2 is older than 11.6"),
        ("9.5.21", "postgres", "Grafana 9.5.21 is older than 11.6"),
    ],
)
def test_the_plug_in_fits_the_version(version: str, plugin: str, said: str) -> None:
    with GrafanaApi(version) as server:
        done = push(server, "--database-url", DATABASE)
        assert done.exit_code == 0, done.output
        assert said in done.output
        assert server.sources["headworks"]["type"] == plugin
        types = {
            panel["datasource"]["type"] for held in server.boards.values() for panel in held["dashboard"]["panels"]
        }
        assert types == {plugin}


def test_too_old_a_grafana_is_refused() -> None:
    with GrafanaApi("8.5.0") as server:
        done = push(server)
    assert done.exit_code == 1
    assert "is Grafana 8.5.0; the oldest that these dashboards fit is 9" in done.output
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "403 as the test wants it; the token may not do this; give its service account the role Admin"),
        (500, "500 as the test wants it; see Grafana's own log"),
        (412, "somebody else has changed it in between; push again"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, said: str) -> None:
    with GrafanaApi(status=status) as server:
        done = push(server)
    assert done.exit_code == 1
    assert said in done.output


def test_a_wrong_token_a_wrong_address_and_a_database_that_does_not_answer(server: GrafanaApi) -> None:
    wrong = push(server, token="glsa_other")
    assert wrong.exit_code == 1
    assert "401 Invalid API key; the token is not valid; make one for a service account" in wrong.output
    nobody = push("http://127.0.0.1:9")
    assert nobody.exit_code == 1
    assert "http://127.0.0.1:9 cannot be reached" in nobody.output
    elsewhere = push(server.url.removesuffix("grafana/"))
    assert elsewhere.exit_code == 1
    server.database_works = False
    done = push(server, "--database-url", DATABASE)
    assert done.exit_code == 1
    assert "Grafana cannot use the data source" in done.output


def test_no_secret_is_ever_shown(server: GrafanaApi) -> None:
    outputs = [
        push(server, "--database-url", DATABASE).output,
        push(server, "--database-url", DATABASE, "--dry-run").output,
    ]
    with GrafanaApi(status=500) as broken:
        outputs.append(push(broken, "--database-url", DATABASE).output)
    outputs.append(push(server, "--database-url", "postgresql://u:very-secret@:bad:5/ x").output)
    assert not [text for text in outputs if TOKEN in text or "very-secret" in text]


@pytest.mark.parametrize("url", ["postgresql://db/headworks", "postgresql://grafana@/headworks", "nonsense"])
def test_an_address_that_lacks_something_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="needs host, name and user"):
        data_source(url, "postgres", timescaledb=True)


def test_exported_files_say_what_they_need(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["dashboards", "export", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    found = {path.name: json.loads(path.read_text("utf-8")) for path in (tmp_path / "out").iterdir()}
    assert set(found) == set(files())
    for name, board in found.items():
        assert {one["id"] for one in board["__requires"]} == {"grafana", "grafana-postgresql-datasource"}
        assert {key: value for key, value in board.items() if not key.startswith("__")} == json.loads(files()[name])


def test_both_languages_are_exported_into_a_folder_each(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["dashboards", "export", str(tmp_path), "--language", "both"])
    assert done.exit_code == 0, done.output
    assert (
        {path.name for path in (tmp_path / "zh").iterdir()}
        == set(files())
        == {path.name for path in (tmp_path / "en").iterdir()}
    )
    assert json.loads((tmp_path / "zh" / "pump.json").read_text("utf-8"))["title"] == "泵"
