"""Every panel of every dashboard is filled by the demo's day, on a plan that reads no whole hypertable, and nothing
that somebody may call a site, an area or a device breaks it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from dashboards.__main__ import files
from dashboards.macros import TimeRange, Variable, expand
from devices.model import DAY, HOUR, Instant, instant
from storage.database import connect
from storage.migrate import migrate
from storage.registry import sync_metrics
from tests.integration.demo_day import play

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]

BOARDS: dict[str, dict[str, Any]] = {(board := json.loads(text))["uid"]: board for text in files().values()}
HYPERTABLES = ("reading", "uplink", "hourly_store", "daily_store", "_hyper_", "compress_hyper_")
OF_WORDS: set[str] = set()
"""Tables that hold no number."""

ODD = 'O\'Brien "$now(x)" \\ ${site} %s; DROP TABLE device --'


class Request(NamedTuple):
    uid: str
    name: str
    sql: str
    result_format: str

    def __str__(self) -> str:
        return f"{self.uid}: {self.name}"


def _requests() -> list[Request]:
    found = []
    for uid, board in BOARDS.items():
        for panel in board["panels"]:
            found += [Request(uid, panel["title"], target["rawSql"], target["format"]) for target in panel["targets"]]
        for annotation in board["annotations"]["list"]:
            target = annotation["target"]
            found.append(Request(uid, annotation["name"], target["rawSql"], target["format"]))
    return found


REQUESTS = _requests()
PANELS = [request for request in REQUESTS if not request.name.endswith(" alarms")]
every_request = pytest.mark.parametrize("request_", REQUESTS, ids=str)
every_panel = pytest.mark.parametrize("request_", PANELS, ids=str)


@pytest.fixture(scope="module")
def demo_url(postgres_url: str, template: str) -> Iterator[str]:
    """One database for all tests here: they only read, or roll back."""
    name = f"headworks_boards_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    yield make_conninfo(postgres_url, dbname=name)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="module")
def end(demo_url: str) -> Instant:
    """When the day ends, in each database."""
    with psycopg.connect(demo_url, autocommit=True) as connection:
        return _now(connection)


def _now(connection: Connection) -> Instant:
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    found: datetime = row[0]
    return instant(found)


@pytest.fixture(scope="module")
def demo(demo_url: str, end: Instant) -> Iterator[Connection]:
    with psycopg.connect(demo_url, autocommit=True) as connection:
        called = play(demo_url, end)
        assert {"pump-dry-run", "valve-seat-passing"} <= called
        connection.execute("ANALYZE")
        yield connection


@pytest.fixture(scope="module")
def plain_demo(postgres_url: str, end: Instant) -> Iterator[Connection]:
    """The same day in a database without TimescaleDB."""
    name = f"headworks_boards_plain_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
    url = make_conninfo(postgres_url, dbname=name)
    with connect(url) as connection:
        migrate(connection, plain=True)
        sync_metrics(connection)
    with psycopg.connect(url, autocommit=True) as connection:
        play(url, end)
        connection.execute("ANALYZE")
        yield connection
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="module")
def now(demo: Connection) -> Instant:
    return _now(demo)


def _options(connection: Connection, board: Mapping[str, Any], time_range: TimeRange) -> dict[str, Variable]:
    """What Grafana offers and chooses at first: all of a multi-valued variable, else the first; one after the other, as
    each depends on those before it."""
    chosen: dict[str, Variable] = {}
    for variable in board["templating"]["list"]:
        if variable["type"] != "query":
            continue
        rows = connection.execute(expand(variable["query"], time_range, chosen).sql.encode()).fetchall()
        values = [row[1] for row in rows]
        assert values
        assert all(isinstance(value, str) and value for value in values)
        chosen[variable["name"]] = Variable(values, multi=True) if variable.get("multi") else Variable(values[0])
    return chosen


def _expanded(
    connection: Connection,
    request: Request,
    now: Instant,
    span: Instant = DAY,
    chosen: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    time_range = TimeRange(now - span, now)
    variables = _options(connection, BOARDS[request.uid], time_range)
    variables |= {name: Variable(value) for name, value in chosen.items() if name in variables}
    return expand(request.sql, time_range, variables, interval=HOUR).sql.encode()


class Result(NamedTuple):
    columns: dict[str, str]
    rows: list[Row]

    def values(self, column: str) -> list[Any]:
        at = list(self.columns).index(column)
        return [row[at] for row in self.rows]


def _run(connection: Connection, sql: bytes) -> Result:
    cursor = connection.execute(sql)
    assert cursor.description is not None
    known = connection.adapters.types
    columns = {}
    for column in cursor.description:
        info = known.get(column.type_code)
        columns[column.name] = info.name if info else str(column.type_code)
    return Result(columns, cursor.fetchall())


@pytest.fixture(scope="module")
def faulty(demo: Connection) -> dict[str, str]:
    """The pump and the valve with the most alarms, which a user would look at."""
    rows = demo.execute(
        "SELECT DISTINCT ON (kind) kind, device_id::text FROM device JOIN alarm USING (device_id)"
        " GROUP BY kind, device_id ORDER BY kind, count(*) DESC, device_id"
    ).fetchall()
    return dict(rows)


def _asset(request: Request, faulty: dict[str, str]) -> dict[str, str]:
    return _asset_of(BOARDS[request.uid], faulty)


def _asset_of(board: Mapping[str, Any], faulty: dict[str, str]) -> dict[str, str]:
    kind = board["uid"].removeprefix("headworks-")
    return {"asset": faulty[kind]} if kind in faulty else {}


@every_panel
def test_the_demo_fills_every_panel(request_: Request, demo: Connection, faulty: dict[str, str], now: Instant) -> None:
    result = _run(demo, _expanded(demo, request_, now, chosen=_asset(request_, faulty)))
    assert result.rows, "the panel is empty"
    measured = [value for row in result.rows for value in row if isinstance(value, int | float)]
    assert measured or request_.name in OF_WORDS, "nothing but times or names"


@every_request
def test_results_are_of_types_and_order_that_grafana_draws(
    request_: Request, demo: Connection, faulty: dict[str, str], now: Instant
) -> None:
    result = _run(demo, _expanded(demo, request_, now, chosen=_asset(request_, faulty)))
    assert set(result.columns.values()) <= {"text", "float8", "int8", "timestamptz"}
    panel = next((p for p in BOARDS[request_.uid]["panels"] if p["title"] == request_.name), None)
    names = set(result.columns) | (set(result.values("metric")) if "metric" in result.columns else set())
    if request_.result_format == "time_series":
        times = result.values("time")
        assert None not in times
        assert times == sorted(times)
        keys = [row[:-1] for row in result.rows] if "metric" in result.columns else times
        assert len(set(keys)) == len(keys), "two values of one series at one time"
    elif panel is not None:
        assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} <= names


@every_request
def test_the_reader_role_may_run_it_for_half_a_year(request_: Request, demo: Connection, now: Instant) -> None:
    if not demo.execute("SELECT FROM pg_roles WHERE rolname = 'headworks_reader'").fetchall():
        pytest.skip("this server did not let the migrations create the role headworks_reader")
    with demo.transaction(force_rollback=True):
        demo.execute("SET LOCAL ROLE headworks_reader")
        _run(demo, _expanded(demo, request_, now, 180 * DAY))


@every_request
def test_a_new_installation_shows_no_error(request_: Request, demo: Connection, now: Instant) -> None:
    with demo.transaction(force_rollback=True):
        demo.execute(
            "TRUNCATE device, metric, reading, uplink, latest_pack, alarm, hourly_store, daily_store, contact CASCADE"
        )
        _run(demo, _expanded(demo, request_, now))


@every_request
def test_odd_names_break_nothing_and_change_nothing(
    request_: Request, demo: Connection, faulty: dict[str, str], now: Instant
) -> None:
    """Everybody is renamed to the same odd names: there is one site and one area then, and as much to see as before."""
    asset = _asset(request_, faulty)
    with demo.transaction(force_rollback=True):
        demo.execute("UPDATE device SET site = 'one', area = 'one', manufacturer = 'one', model = 'one'")
        plain = _run(demo, _expanded(demo, request_, now, chosen=asset))
        demo.execute(
            "UPDATE device SET site = %(odd)s, area = %(odd)s, manufacturer = %(odd)s, model = %(odd)s,"
            " tag = %(odd)s || device_id, serial = %(odd)s",
            {"odd": ODD},
        )
        odd = _run(demo, _expanded(demo, request_, now, chosen=asset))
    assert len(odd.rows) == len(plain.rows)


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in node and node["Node Type"] != "Custom Scan":
        yield node
    for child in node.get("Plans", []):
        yield from _scans(child)


@every_request
@pytest.mark.parametrize("days", [1, 30], ids=["day", "month"])
def test_no_query_reads_a_whole_hypertable(request_: Request, days: int, demo: Connection, now: Instant) -> None:
    """With sequential scans made expensive, one that remains has no index that could serve it; an index scan without a
    condition reads everything too."""
    sql = _expanded(demo, request_, now, days * DAY)
    with demo.transaction(force_rollback=True):
        demo.execute("SET LOCAL enable_seqscan = off")
        row = demo.execute(b"EXPLAIN (FORMAT JSON) " + sql).fetchone()
    assert row is not None
    for scan in _scans(row[0][0]["Plan"]):
        if scan["Relation Name"].startswith(HYPERTABLES):
            where = f"{scan['Node Type']} on {scan['Relation Name']}"
            assert scan["Node Type"] != "Seq Scan", where
            assert "Index Cond" in scan or "Recheck Cond" in scan, where


@pytest.mark.parametrize("name", sorted(files()))
def test_in_chinese_the_same_rows_come_under_other_names(
    name: str, demo: Connection, faulty: dict[str, str], now: Instant
) -> None:
    """Words differ and nothing else: what is no text is the same to the last bit."""
    english, chinese = json.loads(files()[name]), json.loads(files("zh")[name])
    time_range = TimeRange(now - DAY, now)
    with demo.transaction(force_rollback=True):
        variables = [_options(demo, board, time_range) for board in (english, chinese)]
        for chosen in variables:
            chosen |= {key: Variable(value) for key, value in _asset_of(english, faulty).items()}
        for pair in zip(english["panels"], chinese["panels"], strict=True):
            found = [
                _run(demo, expand(panel["targets"][0]["rawSql"], time_range, chosen, interval=HOUR).sql.encode())
                for panel, chosen in zip(pair, variables, strict=True)
            ]
            assert len(found[1].columns) == len(found[0].columns), "two columns of one name"
            assert _without_texts(found[0]) == _without_texts(found[1]), pair[0]["title"]


def _without_texts(result: Result) -> list[list[Any]]:
    # Rows of series come in the order of their names.
    return sorted(
        ([value for value in row if not isinstance(value, str)] for row in result.rows), key=lambda row: repr(row)
    )


def test_plain_postgresql_answers_every_query_alike(
    plain_demo: Connection, demo: Connection, faulty: dict[str, str], now: Instant
) -> None:
    """The same text on the edition without the extension: columns, types and how many rows."""
    later = now + HOUR  # the plain one was filled after the other
    for request in REQUESTS:
        asset = _asset(request, faulty)
        sql = [_expanded(connection, request, later, chosen=asset) for connection in (plain_demo, demo)]
        plain, extended = _run(plain_demo, sql[0]), _run(demo, sql[1])
        assert plain.columns == extended.columns, request
        if request.name not in {"Storage", "Upkeep", "From arrival to commit", "Throughput"}:  # as the servers do
            assert len(plain.rows) == len(extended.rows), request
        assert bool(plain.rows) == bool(extended.rows), request


@pytest.mark.parametrize("edition", ["demo", "plain_demo"])
def test_whoever_has_spoken_is_heard_before_that_is_judged(
    edition: str, request: pytest.FixtureRequest, faulty: dict[str, str], now: Instant
) -> None:
    """Wherever contact is shown, nobody is called never heard whose readings stand beside it."""
    connection: Connection = request.getfixturevalue(edition)

    def shown(column: str) -> dict[str, set[Any]]:
        found = {}
        for one in REQUESTS:
            if f'"{column}"' in one.sql and one.uid != "headworks-fleet":  # which counts the age itself
                result = _run(connection, _expanded(connection, one, now + HOUR, chosen=_asset(one, faulty)))
                found[f"{one.uid}: {one.name}"] = set(result.values(column))
        return found

    with connection.transaction(force_rollback=True):
        connection.execute("DELETE FROM contact")
        words, never, share = shown("Contact"), shown("Never heard"), shown("Heard")
        connection.execute("DELETE FROM uplink")
        words_then = shown("Contact")
    missing = words.pop("headworks-connectivity: Not heard of")
    assert missing == set()
    assert set(words) == {
        "headworks-pump: Nameplate", "headworks-valve: Nameplate", "headworks-site: Pumps", "headworks-site: Valves",
    }  # fmt: skip
    assert all(states == {"heard"} for states in words.values()), words
    assert never == {"headworks-site: Contact": {0}, "headworks-connectivity: Contact": {0}}
    assert all(share.values())
    assert 0 not in set().union(*share.values()), share
    assert {state for states in words_then.values() for state in states} == {"never heard"}


def test_a_site_is_shown_in_the_units_that_it_reads(demo: Connection, now: Instant) -> None:
    """kPa and l/s once the site says so: hundred times and a 3.6th, in names as in numbers."""
    requests = [r for r in REQUESTS if (r.uid, r.name) in {("headworks-site", "Pumps"), ("headworks-site", "Pumped")}]
    time_range = TimeRange(now - DAY, now)
    with demo.transaction(force_rollback=True):
        before = [_run(demo, _expanded(demo, request, now)) for request in requests]
        demo.execute("UPDATE site SET pressure_unit = 'kPa', flow_unit = 'l/s'")
        variables = {v["name"]: v for v in BOARDS["headworks-site"]["templating"]["list"]}
        chosen = _options(demo, BOARDS["headworks-site"], time_range)
        named = demo.execute(expand(variables["pressure_unit"]["query"], time_range, chosen).sql.encode()).fetchall()
        after = [_run(demo, _expanded(demo, request, now)) for request in requests]
    assert named == [("kPa", "100")]
    (pumps, pumped), (pumps_after, pumped_after) = before, after
    assert pumps_after.values("Discharge") == pytest.approx([100 * value for value in pumps.values("Discharge")])
    assert pumps_after.values("Flow") == pytest.approx([value / 3.6 for value in pumps.values("Flow")])
    assert pumped_after.values("Pumped") == pytest.approx([value / 3.6 for value in pumped.values("Pumped")])
    assert pumped_after.values("p95") == pytest.approx([value / 3.6 for value in pumped.values("p95")])


def test_sites_that_read_different_units_are_shown_together_in_the_stored_ones(demo: Connection, now: Instant) -> None:
    fleet = {v["name"]: v for v in BOARDS["headworks-fleet"]["templating"]["list"]}
    time_range = TimeRange(now - DAY, now)
    with demo.transaction(force_rollback=True):
        demo.execute("UPDATE device SET site = CASE WHEN device_id % 2 = 0 THEN 'even' ELSE 'odd' END")
        demo.execute("INSERT INTO site (site, pressure_unit) VALUES ('even', 'psi'), ('odd', 'kPa')")
        chosen = _options(demo, BOARDS["headworks-fleet"], time_range)
        for sites, unit in ((["even", "odd"], "bar"), (["even"], "psi"), (["odd"], "kPa"), (["none"], "bar")):
            chosen["site"] = Variable(sites, multi=True)
            sql = expand(fleet["pressure_unit"]["query"], time_range, chosen).sql
            assert [row[0] for row in demo.execute(sql.encode()).fetchall()] == [unit]


def test_links_lead_to_the_asset_of_their_row(demo: Connection, now: Instant) -> None:
    site = "headworks-site"
    for name, kind in (("Pumps", "pump"), ("Valves", "valve")):
        request = next(r for r in REQUESTS if (r.uid, r.name) == (site, name))
        listed = _run(demo, _expanded(demo, request, now)).values("Asset")
        offered = next(v for v in BOARDS[f"headworks-{kind}"]["templating"]["list"] if v["name"] == "asset")
        time_range = TimeRange(now - DAY, now)
        chosen = _options(demo, BOARDS[f"headworks-{kind}"], time_range)
        values = [row[1] for row in demo.execute(expand(offered["query"], time_range, chosen).sql.encode()).fetchall()]
        assert listed
        assert set(listed) <= set(values)
