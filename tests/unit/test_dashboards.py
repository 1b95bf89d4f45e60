"""The dashboards' JSON is what the code builds, and keeps the rules that Grafana does not enforce."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from alerts.rulefiles import shipped_rules
from dashboards import panels
from dashboards.__main__ import files, main
from dashboards.macros import macro_calls, variable_uses
from dashboards.query import BEARING_SAFE, DATA_SOURCE, PLUGIN
from devices.metrics import CATALOGUE

FILES = files()
BOARDS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in FILES.items()}
PANELS = [pytest.param(panel, id=panel["title"]) for board in BOARDS.values() for panel in board["panels"]]
GRID_WIDTH = 24


def _queries() -> list[Any]:
    found = []
    for board in BOARDS.values():
        for panel in board["panels"]:
            found += [pytest.param(target["rawSql"], id=panel["title"]) for target in panel["targets"]]
        found += [pytest.param(a["target"]["rawSql"], id=a["name"]) for a in board["annotations"]["list"]]
        found += [pytest.param(v["query"], id=v["name"]) for v in board["templating"]["list"] if v["type"] == "query"]
    return found


QUERIES = _queries()


def test_the_limit_that_is_drawn_for_a_bearing_is_the_one_above_which_the_shipped_rule_calls() -> None:
    [rule] = [one for one in shipped_rules() if one.rule == "bearing-temperature-high"]
    assert rule.setpoints["high"].value == f"{BEARING_SAFE} Cel"


def test_building_twice_gives_the_same_text() -> None:
    assert files() == FILES


def test_check_tells_a_stale_file_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--directory", str(tmp_path / "json")]
    assert main([*arguments, "--check"]) == 1
    assert "run `python -m dashboards`" in capsys.readouterr().err
    assert not (tmp_path / "json").exists()
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0
    stale = tmp_path / "json" / "zh" / "fleet-overview.json"
    stale.write_text("{}", encoding="utf-8")
    assert main([*arguments, "--check"]) == 1
    assert stale.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panel_ids_are_unique_and_not_zero(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_stay_on_the_grid_and_do_not_overlap(board: dict[str, Any]) -> None:
    cells: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["w"] > 0
        assert at["h"] > 0
        assert 0 <= at["x"] <= GRID_WIDTH - at["w"], panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in cells, f"{panel['title']} lies on {cells[x, y]}"
                cells[x, y] = panel["title"]
    height = max(y for _, y in cells) + 1
    assert len(cells) == GRID_WIDTH * height, "a hole in the grid: Grafana would move panels up"


@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_explains_itself(panel: dict[str, Any]) -> None:
    description = panel["description"]
    assert len(description) > 80
    assert "Normal:" in description
    assert "To do" in description


@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_says_something_better_than_no_data(panel: dict[str, Any]) -> None:
    nothing = panel["fieldConfig"]["defaults"]["noValue"]
    assert nothing
    assert nothing.lower() != "no data"


@pytest.mark.parametrize("panel", PANELS)
def test_panels_and_queries_use_the_chosen_data_source(panel: dict[str, Any]) -> None:
    chosen = {"type": PLUGIN, "uid": DATA_SOURCE.uid}
    assert panel["datasource"] == chosen
    assert [target["datasource"] for target in panel["targets"]] == [chosen]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("panel", PANELS)
def test_trends_show_their_unit(panel: dict[str, Any]) -> None:
    if panel["type"] == "timeseries":
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["format"] for target in panel["targets"]] == ["time_series"]


@pytest.mark.parametrize("panel", PANELS)
def test_overrides_name_columns_that_the_query_returns(panel: dict[str, Any]) -> None:
    sql = panel["targets"][0]["rawSql"]
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["id"] == "byName"
        name = override["matcher"]["options"]
        assert f'AS "{name}"' in sql or f"'{name}'" in sql


def test_normal_is_grey_and_alarm_colours_mean_alarm_priorities_only() -> None:
    alarm_colours = {panels.HIGH, panels.MEDIUM, panels.LOW}
    for board in BOARDS.values():
        for panel in board["panels"]:
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            if panel["type"] == "geomap":  # its markers are the priorities
                assert steps[0] == {"value": None, "color": panels.GREY}
            else:
                assert steps == [{"value": None, "color": panels.PALE}]
            for override in panel["fieldConfig"]["overrides"]:
                used = set(re.findall(r"#[0-9A-F]{6}", json.dumps(override))) & alarm_colours
                if used:
                    assert override["matcher"]["options"] in {"High", "Medium", "Low", "Priority"}, panel["title"]


def test_colours_are_distinct() -> None:
    colours = [panels.GREY, panels.PALE, panels.SLATE, panels.HIGH, panels.MEDIUM, panels.LOW, panels.LOOK, panels.ACT]
    assert all(a != b for a, b in combinations(colours, 2))


@pytest.mark.parametrize("sql", QUERIES)
def test_variables_are_used_in_the_one_safe_format(sql: str) -> None:
    assert {format_name for _, format_name in variable_uses(sql)} <= {"sqlstring"}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_used_variables_are_declared_before_they_are_used(board: dict[str, Any]) -> None:
    declared: set[str] = set()
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert {name for name, _ in variable_uses(variable["query"])} <= declared
        declared.add(variable["name"])
    for panel in board["panels"]:
        for target in panel["targets"]:
            assert {name for name, _ in variable_uses(target["rawSql"])} <= declared, panel["title"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_variables_come_in_the_same_order_everywhere(board: dict[str, Any]) -> None:
    shown = [variable["name"] for variable in board["templating"]["list"] if variable.get("hide") != 2]
    hidden = [variable["name"] for variable in board["templating"]["list"] if variable.get("hide") == 2]
    assert shown == ["datasource", "site", "area", "asset"][: len(shown)]
    assert hidden == ["pressure_unit", "flow_unit", "console"]


@pytest.mark.parametrize("sql", QUERIES)
def test_macros_hold_no_parentheses_and_queries_no_comments(sql: str) -> None:
    for name, argument in macro_calls(sql):
        assert "(" not in argument, name
    assert "--" not in sql
    assert "/*" not in sql
    assert ";" not in sql


_VARIABLES = {"site", "area", "asset", "console"}


_OF_ALL = {target["rawSql"] for panel in BOARDS["platform.json"]["panels"] for target in panel["targets"]}
"""The platform itself has no sites."""


@pytest.mark.parametrize(
    "sql", [param for param in QUERIES if param.id not in _VARIABLES and param.values[0] not in _OF_ALL]
)
def test_every_query_respects_what_is_chosen(sql: str) -> None:
    assert {("site", "sqlstring"), ("asset", "sqlstring")} & set(variable_uses(sql))


def test_metrics_in_queries_are_in_the_catalogue() -> None:
    text = " ".join(param.values[0] for param in QUERIES if isinstance(param.values[0], str))
    named = set(re.findall(r"m\.name = '(\w+)'", text))
    for group in re.findall(r"m\.name IN \(([^)]*)\)", text):
        named |= set(re.findall(r"'(\w+)'", group))
    assert {"pressure", "flow", "vibration", "battery"} <= named <= set(CATALOGUE)


def _links(board: dict[str, Any]) -> list[str]:
    return re.findall(r'"url": "([^"]*)"', json.dumps(board, ensure_ascii=False))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_links_lead_to_a_dashboard_of_ours_with_its_variables_or_into_the_console(board: dict[str, Any]) -> None:
    uids = {other["uid"]: {v["name"] for v in other["templating"]["list"]} for other in BOARDS.values()}
    urls = _links(board)
    assert "${console:raw}/#/alarms" in urls
    for url in urls:
        if url.startswith("${console:raw}/#/"):
            assert re.fullmatch(
                r"\$\{console:raw\}/#/(alarms|(alarms|assets)/\$\{__data\.fields\.\w+:percentencode\})", url
            )
            continue
        match = re.match(r"/d/(headworks-[a-z]+|headworks-\$\{__data\.fields\.Board\})\?", url)
        assert match, url
        # A row's board is a pump's, a valve's or a site's; what a board does not have it does not see.
        known = uids.get(match[1], {"datasource", "site", "area", "asset"})
        assert set(re.findall(r"var-(\w+)=", url)) <= known


@pytest.mark.parametrize("panel", PANELS)
def test_links_name_columns_that_the_query_returns(panel: dict[str, Any]) -> None:
    sql = panel["targets"][0]["rawSql"]
    for name in re.findall(r"__data\.fields\.(\w+)", json.dumps(panel)):
        assert f'AS "{name}"' in sql or f'."{name}"' in sql


def test_one_gets_from_each_level_to_the_next_and_into_the_console() -> None:
    """Fleet to site to asset to console; whatever lists assets leads to them."""
    links = {board["uid"]: _links(board) for board in BOARDS.values()}
    to_site, to_asset, to_console = "/d/headworks-site?", "/d/headworks-${__data.fields.Board}?", "/#/assets/"
    for uid, wanted in {
        "headworks-fleet": (to_site, to_asset, to_console),
        "headworks-site": (to_asset, to_console),
        "headworks-pump": (to_site, to_console, "/#/alarms/${__data"),
        "headworks-valve": (to_site, to_console, "/#/alarms/${__data"),
        "headworks-connectivity": (to_site, to_asset, to_console),
        "headworks-performance": (to_site, to_asset, to_console),
    }.items():
        for part in wanted:
            assert any(part in url for url in links[uid]), f"{uid} does not lead to {part}"


@pytest.mark.parametrize("panel", PANELS)
def test_pressures_and_flows_are_shown_in_the_units_of_the_site(panel: dict[str, Any]) -> None:
    """Where a query converts, the panel names the unit; and no panel says bar or m³/h where sites choose."""
    sql = panel["targets"][0]["rawSql"]
    text = json.dumps({**panel, "targets": [], "description": ""}, ensure_ascii=False)
    for quantity in ("pressure", "flow"):
        assert (f"${{{quantity}_unit:sqlstring}}" in sql) == (f"${{{quantity}_unit:text}}" in text)
    if panel["title"] not in {"Kv", "Nameplate"}:  # a flow coefficient is in m³/h by definition, whatever people read
        assert not re.findall(r"suffix: (?:bar|m³/h)", text)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_board_has_a_stable_identity(board: dict[str, Any]) -> None:
    assert re.fullmatch(r"headworks-[a-z-]{1,30}", board["uid"])
    assert board["schemaVersion"] >= 41
    assert not board["editable"]
