"""Every query that Grafana would send for the fleet overview runs on the real database and means what its panel says.

The queries are taken from the built JSON and expanded as Grafana does. One transaction seeds a small
fleet and stays open, so that `now()` stands still.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from dashboards.__main__ import files
from dashboards.macros import TimeRange, Variable, expand
from devices.model import DAY, HOUR, Instant, instant

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]

QUOTED = "O'Brien's; DROP TABLE device --"
SPOILT = 'Depot "$now(x)" \\ 50 %'
SPOILT_AS_SHOWN = "Depot ”＄now(x)” \\ 50 %"
NO_SITE = "(no site)"
SITES = ["North", "South", QUOTED, SPOILT, ""]
SITES_AS_SHOWN = ["North", "South", QUOTED, SPOILT_AS_SHOWN, NO_SITE]


class Request(NamedTuple):
    """One query of the dashboards with the place it is used in."""

    name: str
    sql: str
    result_format: str


def _requests() -> list[Request]:
    found = []
    for name, text in files().items():
        if name != "fleet-overview.json":
            continue
        board = json.loads(text)
        for panel in board["panels"]:
            found += [Request(panel["title"], target["rawSql"], target["format"]) for target in panel["targets"]]
        for annotation in board["annotations"]["list"]:
            target = annotation["target"]
            found.append(Request(annotation["name"], target["rawSql"], target["format"]))
        found += [
            Request(f"variable {variable['name']}", variable["query"], "table")
            for variable in board["templating"]["list"]
            if variable["type"] == "query"
        ]
    return found


REQUESTS = {request.name: request for request in _requests()}

TIME, TEXT, NUMBER, COUNT = "timestamptz", "text", "float8", "int8"
LINKED = {"Asset": TEXT, "Device": TEXT, "Board": TEXT}
COLUMNS = {
    "Active alarms": {"High": COUNT, "Medium": COUNT, "Low": COUNT},
    "To acknowledge": {"To acknowledge": COUNT},
    "Alarm rate": {"Last 10 min": COUNT},
    "Device freshness": {"Fresh": COUNT, "Late": COUNT, "Silent": COUNT},
    "Alarms active or not acknowledged": {
        "Priority": TEXT,
        "State": TEXT,
        "Tag": TEXT,
        "Site": TEXT,
        "What": TEXT,
        "Since": TIME,
        "Lasting": NUMBER,
        "Rule": TEXT,
        "Number": TEXT,
        **LINKED,
    },
    "Map": {
        "Site": TEXT,
        "Latitude": NUMBER,
        "Longitude": NUMBER,
        "Devices": COUNT,
        "State": COUNT,
        "Alarms": COUNT,
        "Not heard of": COUNT,
    },
    "Yesterday against the last weeks": {
        "Site": TEXT,
        "Pumped": NUMBER,
        "Pumped, change": NUMBER,
        "Energy": NUMBER,
        "Energy, change": NUMBER,
        "District pressure": NUMBER,
        "District pressure, change": NUMBER,
        "Alarms": NUMBER,
        "Alarms, change": NUMBER,
    },
    "Sites": {
        "Site": TEXT,
        "Devices": COUNT,
        "High": COUNT,
        "Medium": COUNT,
        "Low": COUNT,
        "Unacknowledged": COUNT,
        "Fresh": NUMBER,
        "Late": COUNT,
        "Silent": COUNT,
    },
    "Late and silent devices": {
        "Tag": TEXT,
        "Site": TEXT,
        "Kind": TEXT,
        "Freshness": TEXT,
        "Age": NUMBER,
        "Expected every": NUMBER,
        "Last contact": TIME,
        **LINKED,
    },
    "Pressure": {"time": TIME, "metric": TEXT, "value": NUMBER},
    "Flow": {"time": TIME, "metric": TEXT, "value": NUMBER},
    "Highest vibration": {
        "Tag": TEXT,
        "Site": TEXT,
        "Vibration": NUMBER,
        "Zone": TEXT,
        "Quality": TEXT,
        "As of": TIME,
        **LINKED,
    },
    "Lowest battery": {
        "Tag": TEXT,
        "Site": TEXT,
        "Battery": NUMBER,
        "Signal": NUMBER,
        "Coverage level": NUMBER,
        "As of": TIME,
        **LINKED,
    },
    "Readings stored per hour": {"time": TIME, "Readings": NUMBER},
    "Uplinks per hour": {"time": TIME, "metric": TEXT, "value": COUNT},
    "Age of the oldest sample at arrival": {"time": TIME, "Median": NUMBER, "95 %": NUMBER},
    "High alarms": {"time": TIME, "timeend": TIME, "text": TEXT, "tags": TEXT},
    "Medium alarms": {"time": TIME, "timeend": TIME, "text": TEXT, "tags": TEXT},
    "variable site": {"__text": TEXT, "__value": TEXT},
    "variable pressure_unit": {"__text": TEXT, "__value": TEXT},
    "variable flow_unit": {"__text": TEXT, "__value": TEXT},
    "variable console": {"__text": TEXT, "__value": TEXT},
}

# (tag, kind, site, minutes since its last uplink or None, status); every device is expected every 10 minutes.
FLEET = [
    ("P-101", "pump", "North", 5, "active"),
    ("P-102", "pump", "North", 30, "active"),
    ("V-101", "valve", "North", 5, "active"),
    ("V-201", "valve", "South", 300, "active"),
    ("P-301", "pump", QUOTED, 5, "active"),
    ("P-401", "pump", SPOILT, 5, "active"),
    ("M-501", "meter", "", None, "active"),
    ("P-900", "pump", "North", 9000, "retired"),
]

SEED = """
TRUNCATE device, metric, reading, uplink, latest_pack, alarm, alarm_event, quarantine RESTART IDENTITY CASCADE;

INSERT INTO metric (name, unit)
VALUES ('pressure', 'bar'), ('flow', 'm3/h'), ('vibration', 'mm/s'), ('battery', '%'), ('rsrp', 'dBm'), ('coverage_level', '1');

INSERT INTO reading (measured_at, device_id, metric_id, value, quality)
SELECT t, d.device_id, m.metric_id, CASE m.name WHEN 'pressure' THEN 4 WHEN 'flow' THEN 10 * d.device_id ELSE 1 END, 192
FROM device d, metric m, generate_series(now() - interval '6 days', now() - interval '1 minute', interval '10 minutes') t
WHERE d.tag <> 'M-501' AND m.name IN ('pressure', 'flow', 'vibration');
INSERT INTO reading SELECT measured_at + interval '1 second', device_id, metric_id, 99999, 0 FROM reading;

CREATE TEMP TABLE newest AS
SELECT DISTINCT ON (device_id, metric_id) device_id, metric_id, measured_at, value, quality
FROM reading WHERE quality = 192 ORDER BY device_id, metric_id, measured_at DESC;
UPDATE newest SET value = 2 * device_id + 0.1 WHERE metric_id = 3;
INSERT INTO newest
SELECT d.device_id, m.metric_id, now() - interval '1 day',
       CASE m.name WHEN 'battery' THEN 10 * d.device_id WHEN 'rsrp' THEN -100 - d.device_id ELSE 1 END, 192
FROM device d, metric m WHERE m.name IN ('battery', 'rsrp', 'coverage_level') AND d.tag <> 'M-501';
INSERT INTO latest_pack
SELECT device_id, max(measured_at), array_agg(metric_id), array_agg(measured_at), array_agg(value), array_agg(quality)
FROM newest GROUP BY device_id;

INSERT INTO site (site, latitude, longitude) VALUES ('North', 52.1, 4.3), ('South', 52.4, 4.3);

INSERT INTO alarm (rule, device_id, priority, message, since, raised_at, cleared_at, acked_at, acked_by, retracted, recorded_at)
SELECT r.rule, d.device_id, r.priority, 'message of ' || r.rule, now() - r.raised - interval '1 minute', now() - r.raised,
       now() - r.cleared, now() - r.acked, CASE WHEN r.acked IS NOT NULL THEN 'kim' END, r.retracted, now() - r.raised
FROM (VALUES
    ('dry-run', 'P-101', 'high', interval '5 minutes', NULL::interval, NULL::interval, false),
    ('low-pressure', 'P-102', 'medium', interval '2 hours', NULL, NULL, false),
    ('known', 'P-102', 'high', interval '3 hours', NULL, interval '1 hour', false),
    ('over', 'V-101', 'low', interval '4 hours', interval '3 hours', NULL, false),
    ('done', 'V-101', 'medium', interval '5 hours', interval '4 hours', interval '4 hours', false),
    ('never-was', 'V-101', 'high', interval '6 minutes', NULL, NULL, true),
    ('long-ago', 'P-101', 'high', interval '5 days', interval '4 days', interval '4 days', false),
    ('quoted', 'P-301', 'low', interval '7 hours', NULL, NULL, false)
) AS r(rule, tag, priority, raised, cleared, acked, retracted) JOIN device d USING (tag);
ANALYZE;
"""  # noqa: E501


def _seed(connection: Connection) -> None:
    truncate, rest = SEED.split(";", 1)
    connection.execute(truncate)
    with connection.cursor() as cursor:
        for tag, kind, site, _, status in FLEET:
            cursor.execute(
                "INSERT INTO device (identity, profile, kind, tag, site, design, report_interval, status, created_at)"
                " VALUES (%s, 'p', %s, %s, %s, %s, '10 minutes', %s, now() - interval '7 days')",
                (
                    "urn:dev:test:" + tag,
                    kind,
                    tag,
                    site,
                    json.dumps({"rated_power": 250 if tag == "P-102" else 75}),
                    status,
                ),
            )
    connection.execute(rest)
    for tag, _, _, minutes, _ in FLEET:
        if minutes is None:
            continue
        # Uplinks every 10 minutes for 6 days up to the device's last one, CoAP by day parts and MQTT else.
        connection.execute(
            "INSERT INTO uplink (received_at, device_id, transport, first_measured_at, last_measured_at, readings)"
            " SELECT t, device_id, CASE WHEN kind = 'pump' THEN 'coap' ELSE 'mqtt' END, t - interval '9 minutes', t, 30"
            " FROM device, generate_series(now() - make_interval(mins => %(last)s),"
            " now() - interval '6 days', interval '-10 minutes') t WHERE tag = %(tag)s",
            {"last": minutes, "tag": tag},
        )
    connection.execute("ANALYZE")


@pytest.fixture(scope="module")
def fleet_url(postgres_url: str, template: str) -> Iterator[str]:
    """One database for all tests here: they only read, or roll back."""
    name = f"headworks_dashboards_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
    yield make_conninfo(postgres_url, dbname=name)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="module")
def seeded(fleet_url: str) -> Iterator[Connection]:
    with psycopg.connect(fleet_url) as connection:
        _seed(connection)
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def now(seeded: Connection) -> Instant:
    row = seeded.execute("SELECT now()").fetchone()
    assert row is not None
    found: datetime = row[0]
    return instant(found)


class Result(NamedTuple):
    columns: dict[str, str]
    rows: list[Row]

    def dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def run(
    connection: Connection,
    name: str,
    now: Instant,
    sites: Sequence[str] = SITES_AS_SHOWN,
    *,
    span: Instant = DAY,
    timescaledb: bool = True,
) -> Result:
    """What a panel gets for chosen sites, in a savepoint, so that an error does not spoil the other tests."""
    sql = expanded(name, now, sites, span=span, timescaledb=timescaledb)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(sql.encode())
        assert cursor.description is not None
        types = connection.adapters.types
        columns = {}
        for column in cursor.description:
            info = types.get(column.type_code)
            columns[column.name] = info.name if info else str(column.type_code)
        return Result(columns, cursor.fetchall())


def expanded(name: str, now: Instant, sites: Sequence[str], *, span: Instant = DAY, timescaledb: bool = True) -> str:
    time_range = TimeRange(now - span, now)
    variables = {"site": Variable(sites, multi=True), "pressure_unit": Variable("1"), "flow_unit": Variable("1")}
    return expand(REQUESTS[name].sql, time_range, variables, interval=HOUR, timescaledb=timescaledb).sql


def test_the_expectations_here_cover_every_query() -> None:
    assert set(COLUMNS) == set(REQUESTS)


@pytest.mark.parametrize("name", sorted(REQUESTS))
@pytest.mark.parametrize("timescaledb", [True, False], ids=["timescale-macros", "plain-macros"])
def test_each_query_gives_its_columns_and_rows(name: str, timescaledb: bool, seeded: Connection, now: Instant) -> None:
    result = run(seeded, name, now, timescaledb=timescaledb)
    expected = COLUMNS[name]
    assert result.columns == expected
    assert result.rows
    # Grafana turns long series to wide ones only if they are in order, and drops rows without a time.
    if REQUESTS[name].result_format == "time_series":
        times = [row[0] for row in result.rows]
        assert None not in times
        assert times == sorted(times)
        assert len({row[:-1] for row in result.rows}) == len(result.rows)


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_the_reader_role_may_run_each_query(name: str, seeded: Connection, now: Instant) -> None:
    if not seeded.execute("SELECT FROM pg_roles WHERE rolname = 'headworks_reader'").fetchall():
        pytest.skip("this server did not let the migrations create the role headworks_reader")
    with seeded.transaction(force_rollback=True):
        seeded.execute("SET LOCAL ROLE headworks_reader")
        assert run(seeded, name, now).rows


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_new_installation_shows_zeros_or_nothing_but_no_error(name: str, seeded: Connection, now: Instant) -> None:
    with seeded.transaction(force_rollback=True):
        seeded.execute("TRUNCATE device, metric, reading, uplink, latest_pack, alarm CASCADE")
        options = [row[1] for row in run(seeded, "variable site", now).rows]
        assert options == [NO_SITE]
        result = run(seeded, name, now, options)
    counts = [value for row in result.rows for value in row if isinstance(value, int | float)]
    assert not any(counts)


@pytest.mark.parametrize("site", SITES_AS_SHOWN)
@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_odd_site_names_break_nothing(name: str, site: str, seeded: Connection, now: Instant) -> None:
    result = run(seeded, name, now, [site])
    if "Site" in result.columns:
        assert {row["Site"] for row in result.dicts()} <= {site}


def test_the_site_variable_offers_every_site_once(seeded: Connection, now: Instant) -> None:
    rows = run(seeded, "variable site", now).rows
    assert sorted(row[1] for row in rows) == sorted(SITES_AS_SHOWN)
    assert all(text == value for text, value in rows)


def test_choosing_a_site_with_quotes_shows_its_device(seeded: Connection, now: Instant) -> None:
    for site in (QUOTED, SPOILT_AS_SHOWN):
        assert [(row["Site"], row["Devices"]) for row in run(seeded, "Sites", now, [site]).dicts()] == [(site, 1)]
        assert {row["metric"] for row in run(seeded, "Pressure", now, [site]).dicts()} == {f"{site} · pumps"}


def test_active_alarms_are_counted_by_priority_without_the_retracted(seeded: Connection, now: Instant) -> None:
    assert run(seeded, "Active alarms", now).rows == [(2, 1, 1)]
    assert run(seeded, "To acknowledge", now).rows == [(4,)]
    assert run(seeded, "Alarm rate", now).rows == [(1,)]


def test_the_alarm_list_puts_first_what_needs_a_person_first(seeded: Connection, now: Instant) -> None:
    rows = run(seeded, "Alarms active or not acknowledged", now).dicts()
    assert [row["Rule"] for row in rows] == ["dry-run", "low-pressure", "quoted", "known", "over"]
    assert [row["State"] for row in rows] == [
        "unacknowledged",
        "unacknowledged",
        "unacknowledged",
        "acknowledged",
        "returned_unacknowledged",
    ]
    assert rows[0]["Lasting"] == pytest.approx(6 * 60)
    assert rows[-1]["Lasting"] == pytest.approx(61 * 60)


def test_freshness_is_judged_by_each_devices_own_interval(seeded: Connection, now: Instant) -> None:
    assert run(seeded, "Device freshness", now).rows == [(4, 1, 2)]
    rows = run(seeded, "Late and silent devices", now).dicts()
    assert [(row["Tag"], row["Freshness"]) for row in rows] == [
        ("M-501", "silent"),
        ("V-201", "silent"),
        ("P-102", "late"),
    ]
    assert rows[0]["Last contact"] is None
    assert [row["Age"] for row in rows[1:]] == pytest.approx([30, 3])
    assert rows[1]["Expected every"] == 600


@pytest.mark.parametrize(
    ("intervals", "freshness"), [(1.99, "Fresh"), (2.0, "Late"), (3.99, "Late"), (4.0, "Silent"), (0.0, "Fresh")]
)
def test_the_bounds_of_freshness(intervals: float, freshness: str, seeded: Connection, now: Instant) -> None:
    with seeded.transaction(force_rollback=True):
        _last_contact(seeded, "P-301", intervals)
        row = run(seeded, "Device freshness", now, [QUOTED]).dicts()[0]
    assert {name for name, count in row.items() if count} == {freshness}


def _last_contact(connection: Connection, tag: str, intervals: float) -> None:
    connection.execute(
        "DELETE FROM uplink WHERE device_id = (SELECT device_id FROM device WHERE tag = %s)",
        (tag,),
    )
    connection.execute(
        "INSERT INTO uplink (received_at, device_id, transport, first_measured_at, last_measured_at, readings)"
        " SELECT now() - %s * report_interval, device_id, 'coap', now(), now(), 1 FROM device WHERE tag = %s",
        (intervals, tag),
    )


def test_a_device_that_was_silent_for_months_falls_back_to_its_newest_sample(seeded: Connection, now: Instant) -> None:
    with seeded.transaction(force_rollback=True):
        of_the_valve = "WHERE device_id = (SELECT device_id FROM device WHERE tag = 'V-201')"
        seeded.execute(f"DELETE FROM uplink {of_the_valve}")
        seeded.execute(
            "UPDATE latest_pack SET measured_at = ARRAY(SELECT now() - interval '50 days' FROM unnest(measured_at))"
            f" {of_the_valve}"
        )
        rows = run(seeded, "Late and silent devices", now, ["South"]).dicts()
    assert [(row["Tag"], row["Freshness"], row["Age"]) for row in rows] == [("V-201", "silent", 50 * 24 * 6)]
    assert instant(rows[0]["Last contact"]) == now - 50 * DAY


def test_sites_are_listed_worst_first_and_add_up(seeded: Connection, now: Instant) -> None:
    rows = run(seeded, "Sites", now).dicts()
    assert [row["Site"] for row in rows] == ["North", QUOTED, NO_SITE, "South", SPOILT_AS_SHOWN]
    north = rows[0]
    assert north == {
        "Site": "North",
        "Devices": 3,
        "High": 2,
        "Medium": 1,
        "Low": 0,
        "Unacknowledged": 2,
        "Fresh": pytest.approx(200 / 3),
        "Late": 1,
        "Silent": 0,
    }
    assert sum(row["Devices"] for row in rows) == 7


def test_trends_are_hourly_by_site_and_kind_and_only_of_good_readings(seeded: Connection, now: Instant) -> None:
    pressure = run(seeded, "Pressure", now).dicts()
    assert {row["value"] for row in pressure} == {4.0}
    assert {row["metric"] for row in pressure if "North" in row["metric"]} == {"North · pumps", "North · valves"}
    flow = {row["metric"]: row["value"] for row in run(seeded, "Flow", now).dicts()}
    # Two pumps with 10 and 20 m³/h; the retired third does not count.
    assert flow["North · pumps"] == pytest.approx(30)
    assert 23 <= len({row["time"] for row in pressure}) <= 25


def test_vibration_zones_follow_the_rated_power(seeded: Connection, now: Instant) -> None:
    rows = {row["Tag"]: row for row in run(seeded, "Highest vibration", now).dicts()}
    # mm/s: P-101 2.1, P-102 4.1 (250 kW: A/B at 4.2), V-101 6.1, V-201 8.1, P-301 10.1, P-401 12.1.
    zones = {tag: row["Zone"] for tag, row in rows.items()}
    assert zones == {"P-401": "D", "P-301": "D", "V-201": "C", "V-101": "C", "P-102": "A", "P-101": "A"}
    assert list(rows) == ["P-401", "P-301", "V-201", "V-101", "P-102", "P-101"]


def test_batteries_are_listed_lowest_first(seeded: Connection, now: Instant) -> None:
    rows = run(seeded, "Lowest battery", now).dicts()
    assert [(row["Tag"], row["Battery"]) for row in rows[:2]] == [("P-101", 10), ("P-102", 20)]
    assert rows[0]["Signal"] == -101
    assert "P-900" not in {row["Tag"] for row in rows}


def test_hours_without_uplinks_are_zeros_not_gaps(seeded: Connection, now: Instant) -> None:
    rows = run(seeded, "Uplinks per hour", now, ["South"]).dicts()
    by_transport = {name: [row["value"] for row in rows if row["metric"] == name] for name in ("coap", "mqtt")}
    assert set(by_transport["coap"]) == {0}
    # The valve fell silent five hours ago and sent six an hour before.
    assert by_transport["mqtt"][-4:] == [0, 0, 0, 0]
    assert set(by_transport["mqtt"][:18]) == {6}
    readings = run(seeded, "Readings stored per hour", now, ["South"]).dicts()
    assert [row["Readings"] for row in readings[:18]] == [180.0] * 18
    hour = timedelta(hours=1)
    assert all(b["time"] - a["time"] == hour for a, b in itertools.pairwise(readings))


def test_the_delay_is_that_of_the_oldest_sample(seeded: Connection, now: Instant) -> None:
    rows = run(seeded, "Age of the oldest sample at arrival", now).dicts()
    assert {(row["Median"], row["95 %"]) for row in rows} == {(540.0, 540.0)}


def test_annotations_are_the_alarms_that_touch_the_time_range(seeded: Connection, now: Instant) -> None:
    high = run(seeded, "High alarms", now).dicts()
    assert [row["tags"] for row in high] == ["high,dry-run", "high,known"]
    assert high[0]["text"] == "HIGH · P-101 · message of dry-run"
    assert high[0]["timeend"] is None
    assert [row["tags"] for row in run(seeded, "Medium alarms", now).dicts()] == ["medium,low-pressure", "medium,done"]
    week = run(seeded, "High alarms", now, span=7 * DAY).dicts()
    assert [row["tags"] for row in week] == ["high,dry-run", "high,known", "high,long-ago"]


HYPERTABLES = {"reading", "uplink"}
READS_HYPERTABLES = {
    "Device freshness",
    "Late and silent devices",
    "Sites",
    "Pressure",
    "Flow",
    "Yesterday against the last weeks",
    "Readings stored per hour",
    "Uplinks per hour",
    "Age of the oldest sample at arrival",
}


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # TimescaleDB's ChunkAppend names the hypertable, but the scans are its children.
    if "Relation Name" in node and node["Node Type"] != "Custom Scan":
        yield node
    for child in node.get("Plans", []):
        yield from _scans(child)


def _is_hypertable(name: str) -> bool:
    return name in HYPERTABLES or name.startswith(("_hyper_", "compress_hyper_"))


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_no_query_reads_a_whole_hypertable(name: str, seeded: Connection, now: Instant) -> None:
    """With sequential scans made expensive, one that remains has no index that could serve it; an index scan without
    a condition reads everything too."""
    sql = expanded(name, now, ["North"])
    with seeded.transaction(force_rollback=True):
        seeded.execute("SET LOCAL enable_seqscan = off")
        row = seeded.execute(b"EXPLAIN (FORMAT JSON) " + sql.encode()).fetchone()
    assert row is not None
    scans = [scan for scan in _scans(row[0][0]["Plan"]) if _is_hypertable(scan["Relation Name"])]
    assert bool(scans) == (name in READS_HYPERTABLES)
    for scan in scans:
        where = f"{scan['Node Type']} on {scan['Relation Name']}"
        assert scan["Node Type"] != "Seq Scan", where
        assert "Index Cond" in scan or "Recheck Cond" in scan, where


@pytest.mark.parametrize("name", ["Pressure", "Flow"])
def test_trends_of_a_day_read_only_that_days_chunks(name: str, seeded: Connection, now: Instant) -> None:
    if not seeded.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchall():
        pytest.skip("plain PostgreSQL has no chunks")
    row = seeded.execute(b"EXPLAIN (FORMAT JSON) " + expanded(name, now, ["North"]).encode()).fetchone()
    assert row is not None
    scanned = {scan["Relation Name"] for scan in _scans(row[0][0]["Plan"]) if _is_hypertable(scan["Relation Name"])}
    (chunks,) = seeded.execute("SELECT count(*) FROM show_chunks('reading')").fetchone() or (0,)
    assert 1 <= len(scanned) <= 2 < chunks
