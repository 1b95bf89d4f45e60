"""Aggregates are those of the readings that are stored, whenever those came and whenever they were computed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.batch import Batch, UplinkRecord
from devices.model import DAY, HOUR, MINUTE, SECOND, Instant, Quality, Reading, Transport, Uplink
from storage import aggregates
from storage.database import Connection, connect
from storage.writer import Writer
from tests.conftest import PUMP, VALVE

T0 = 1_790_000_000 * SECOND // DAY * DAY


@pytest.fixture
def writer(registered: str) -> Iterator[Writer]:
    opened = Writer(registered)
    yield opened
    opened.close()


def write(writer: Writer, readings: list[Reading]) -> None:
    by_device: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_device[reading.device].append(reading)
    writer.commit(
        Batch([UplinkRecord(Uplink(Transport.COAP, b"", T0), device, own) for device, own in by_device.items()])
    )


def expected(readings: list[Reading], width: Instant) -> dict[tuple[object, ...], tuple[float, ...]]:
    groups: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for reading in readings:
        if reading.quality is Quality.GOOD:
            groups[reading.measured_at // width * width, reading.device, reading.metric].append(reading.value)
    return {
        key: (
            min(values),
            max(values),
            sum(values) / len(values),
            len(values),
            sorted(values)[math.ceil(0.95 * len(values)) - 1],
        )
        for key, values in groups.items()
    }


def found(connection: Connection, view: str) -> dict[tuple[object, ...], tuple[float, ...]]:
    rows = connection.execute(
        "SELECT (extract(epoch FROM bucket) * 1000000)::bigint, identity, name, min_value, max_value, avg_value,"
        f" readings, p95_value FROM {view} JOIN device USING (device_id) JOIN metric USING (metric_id)".encode()
    ).fetchall()
    assert len(rows) == len({row[:3] for row in rows}), "no bucket is there twice"
    return {row[:3]: row[3:] for row in rows}  # type: ignore[misc]


def same(connection: Connection, readings: list[Reading]) -> None:
    hours = found(connection, "reading_hourly")
    assert hours == {key: pytest.approx(value) for key, value in expected(readings, HOUR).items()}
    days = found(connection, "reading_daily")
    wanted = expected(readings, DAY)
    assert days.keys() == wanted.keys()
    for key, value in wanted.items():
        assert days[key][:4] == pytest.approx(value[:4])
        assert days[key][4] in (None, pytest.approx(value[4]))


readings_strategy = st.lists(
    st.tuples(
        st.sampled_from([PUMP.identity, VALVE.identity]),
        st.sampled_from(["pressure", "flow"]),
        st.integers(0, 4 * 24 * 6),  # ten minutes in four days
        st.floats(-100, 100),
        st.sampled_from([Quality.GOOD, Quality.GOOD, Quality.BAD]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda entry: entry[:3],
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(readings_strategy, st.one_of(st.none(), st.integers(0, 5 * 24))), min_size=1, max_size=5))
def test_after_a_refresh_the_views_are_what_the_readings_say(
    registered: str, writer: Writer, steps: list[tuple[list[tuple[str, str, int, float, Quality]], int | None]]
) -> None:
    """Readings in any order, refreshes at any time, the clock of each later or earlier than the one before."""
    stored: dict[tuple[str, str, int], Reading] = {}
    with connect(registered) as connection:
        connection.execute(
            "TRUNCATE reading, uplink, commit_log, latest_pack, hourly_store, daily_store, aggregate_due, quarantine"
        )
        connection.execute("UPDATE aggregate_state SET closed_to = '-infinity', xid = '0'")
        now = T0
        for entries, refreshed in steps:
            new = [
                Reading(device, metric, T0 + step * 10 * MINUTE, value, quality)
                for device, metric, step, value, quality in entries
            ]
            write(writer, new)
            for reading in new:
                stored.setdefault(reading[:3], reading)
            if refreshed is not None:
                now = max(now, T0 + refreshed * HOUR)
                aggregates.refresh(connection, now)
                same(connection, list(stored.values()))
        aggregates.refresh(connection, now + 10 * DAY)
        same(connection, list(stored.values()))


def test_between_two_refreshes_the_last_hours_are_exact(registered: str, writer: Writer) -> None:
    now = T0 + 12 * HOUR
    first = [Reading(PUMP.identity, "pressure", now - 5 * HOUR, 1.0)]
    write(writer, first)
    with connect(registered) as connection:
        aggregates.refresh(connection, now)
        more = [Reading(PUMP.identity, "pressure", now - number * 20 * MINUTE, 2.0 + number) for number in range(6)]
        write(writer, more)
        same(connection, first + more)
        late = [Reading(PUMP.identity, "pressure", now - 5 * HOUR + SECOND, 9.0)]
        write(writer, late)
        assert aggregates.refresh(connection, now + MINUTE) > 0
        same(connection, first + more + late)
        assert aggregates.refresh(connection, now + 2 * MINUTE) == 0, "nothing is computed twice"


def test_what_retention_has_dropped_keeps_its_aggregate(registered: str, writer: Writer) -> None:
    old = [Reading(PUMP.identity, "pressure", T0 + number * MINUTE, float(number)) for number in range(10)]
    write(writer, old)
    with connect(registered) as connection:
        aggregates.refresh(connection, T0 + 3 * DAY)
        connection.execute("DELETE FROM reading")
        write(writer, [Reading(PUMP.identity, "pressure", T0 + 30 * MINUTE, 1000.0)])
        aggregates.refresh(connection, T0 + 3 * DAY, floor=T0 + DAY)
        same(connection, old)


def test_a_long_range_reads_no_raw_reading(registered: str, writer: Writer) -> None:
    write(writer, [Reading(PUMP.identity, "pressure", T0 + day * DAY, 1.0) for day in range(20)])
    with connect(registered) as connection:
        aggregates.refresh(connection, T0 + 30 * DAY)
        plan = "\n".join(
            str(line)
            for (line,) in connection.execute(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM reading_daily"
                " WHERE device_id = 1 AND metric_id = 1 AND bucket >= '2026-09-01' AND bucket < '2026-10-10'"
            )
        )
    touched = [
        line for line in plan.splitlines() if "Scan" in line and "reading" in line and "never executed" not in line
    ]
    assert all("rows=0" in line for line in touched), plan
