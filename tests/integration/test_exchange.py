"""Readings to files and back: the same to the last bit, at once or after a kill, and nothing chosen in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from devices.document import DocumentError
from devices.model import DAY, MINUTE, SECOND, Device
from devices.profile import shipped_profiles
from headworks.cli import app
from storage import exchange, history
from storage.database import Connection, connect
from storage.exchange import COLUMNS, Block
from storage.export import Choice, export
from storage.importing import Conflict, Imported, Importer, RowsError
from storage.migrate import migrate
from storage.registry import register, sync_metrics
from tests.conftest import PUMP, VALVE
from tests.integration.test_quarantine import as_url

T0 = 1_790_000_000 * SECOND
SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".parquet"])
METRICS = [("pressure", "bar"), ("flow", "m3/h"), ("running", "1")]
ODD = Device('urn:dev:ops:"quoted", and comma', PUMP.profile, site="South")
IDENTITIES = [PUMP.identity, VALVE.identity, ODD.identity]


@pytest.fixture
def connection(registered: str) -> Iterator[Connection]:
    with connect(registered) as opened:
        register(opened, [ODD], shipped_profiles())
        yield opened


def block(rows: list[tuple[int, int, int, float, int]], first: int = 1) -> Block:
    """Rows of device, metric, time, value and quality."""
    device, metric, at, value, quality = zip(*rows, strict=True)
    return Block(
        IDENTITIES,
        METRICS,
        np.array(device, np.int32),
        np.array(metric, np.int32),
        np.array(at, np.int64),
        np.array(value, np.float64),
        np.array(quality, np.int16),
        first,
    )


def stored(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT identity, name, measured_at, float8send(value), quality FROM reading"
        " JOIN device USING (device_id) JOIN metric USING (metric_id) ORDER BY 1, 2, 3"
    ).fetchall()


def clear(connection: Connection) -> None:
    connection.execute("TRUNCATE reading, latest_pack, uplink, commit_log")


def write_out(connection: Connection, path: Path, choice: Choice | None = None) -> int:
    rows = 0
    with exchange.writing(path, "0") as sink:
        for part in export(connection, choice or Choice()):
            sink.write(part)
            rows += len(part)
    return rows


def read_in(connection: Connection, path: Path) -> list[Imported]:
    importer = Importer(connection)
    return [importer.write(part, T0) for part in exchange.read(path)]


keys = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(T0, T0 + 3 * DAY))
values = st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0, 64, 192]))


@SUFFIXES
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(readings=st.dictionaries(keys, values, min_size=1, max_size=40))
def test_what_is_exported_and_imported_is_the_same(
    connection: Connection,
    tmp_path: Path,
    suffix: str,
    readings: dict[tuple[int, int, int], tuple[float, int]],
) -> None:
    clear(connection)
    rows = [(*key, *value) for key, value in readings.items()]
    Importer(connection).write(block(rows), T0)
    before = stored(connection)
    assert len(before) == len(rows)
    path = tmp_path / f"all{suffix}"
    assert write_out(connection, path) == len(rows)
    clear(connection)
    assert read_in(connection, path) == [Imported(len(rows), 0)]
    assert stored(connection) == before
    assert read_in(connection, path) == [Imported(0, len(rows))], "a second time, all of it is known"
    assert stored(connection) == before


@SUFFIXES
def test_a_choice_of_devices_metrics_and_time(connection: Connection, tmp_path: Path, suffix: str) -> None:
    Importer(connection).write(
        block([(d, m, T0 + i * MINUTE, d + i, 192) for d in range(3) for m in range(3) for i in range(5)]), T0
    )
    path = tmp_path / f"some{suffix}"

    def times(choice: Choice) -> set[tuple[str, str, int]]:
        write_out(connection, path, choice)
        return {
            (part.identities[device], part.metrics[metric][0], (at - T0) // MINUTE)
            for part in exchange.read(path)
            for device, metric, at in zip(
                part.identity.tolist(), part.metric.tolist(), part.measured_at.tolist(), strict=True
            )
        }

    assert len(times(Choice())) == 45
    chosen = times(Choice([ODD.identity], "South", ["flow"], T0 + MINUTE, T0 + 3 * MINUTE))
    assert chosen == {(ODD.identity, "flow", 1), (ODD.identity, "flow", 2)}
    assert {device for device, _, _ in times(Choice(site="North"))} == {PUMP.identity, VALVE.identity}
    assert times(Choice(since=T0 + DAY)) == set()


def test_a_parquet_file_says_what_it_is(connection: Connection, tmp_path: Path) -> None:
    rows = 150_000
    importer = Importer(connection)
    for start in range(0, rows, 50_000):
        importer.write(block([(i % 3, i % 2, T0 + i * SECOND, i, 192) for i in range(start, start + 50_000)]), T0)
    path = tmp_path / "big.parquet"
    assert write_out(connection, path) == rows
    file = pq.ParquetFile(path)
    assert file.schema_arrow.names == list(COLUMNS)
    assert file.schema_arrow.field("measured_at").type == pa.timestamp("us", tz="UTC")
    assert file.schema_arrow.metadata[b"headworks.format"] == b"1"
    assert file.metadata.num_row_groups == 3, "a row group is one block at the least"
    clear(connection)
    assert sum(done.stored for done in read_in(connection, path)) == rows


def test_another_value_is_handed_back_and_nothing_is_chosen(connection: Connection) -> None:
    importer = Importer(connection)
    importer.write(block([(0, 0, T0, 1.0, 192), (0, 1, T0, 2.0, 192)]), T0)
    again = block([(0, 0, T0, 9.0, 192), (0, 1, T0, 2.0, 192), (0, 2, T0, 5.0, 192), (0, 2, T0, 6.0, 192)])
    assert importer.write(again, T0) == Imported(1, 1, [Conflict(3, 5.0), Conflict(0, 1.0)])
    assert [row[3] for row in stored(connection)] == [np.array(v, ">f8").tobytes() for v in (2.0, 1.0, 5.0)]


def test_imported_readings_are_in_the_log_and_in_the_latest_values(connection: Connection) -> None:
    position = history.changed(connection, 0).watermark
    Importer(connection).write(block([(d, 0, T0 + i, 1.0 + i, 192) for d in range(2) for i in range(3)]), T0 + DAY)
    found = history.changed(connection, position)
    assert sorted((entry.device, entry.since) for entry in found.uplinks) == sorted(
        [(PUMP.identity, T0), (VALVE.identity, T0)]
    )
    assert connection.execute("SELECT DISTINCT transport, readings FROM uplink").fetchall() == [("import", 3)]
    assert connection.execute("SELECT DISTINCT value FROM latest").fetchall() == [(3.0,)]
    late = Importer(connection)
    late.write(block([(0, 0, T0 - DAY, 7.0, 192)]), T0 + DAY)
    assert connection.execute("SELECT DISTINCT value FROM latest").fetchall() == [(3.0,)]


def test_a_block_with_a_wrong_row_says_where_and_stores_nothing(connection: Connection) -> None:
    wrong = Block(
        [PUMP.identity, "urn:x:nobody"],
        [("pressure", "Pa"), ("flow", "m3/h"), ("colour", "1")],
        np.array([0, 0, 1, 0], np.int32),
        np.array([1, 0, 1, 2], np.int32),
        np.full(4, T0),
        np.array([1.0, 2.0, np.inf, 4.0]),
        np.full(4, 192, np.int16),
    )
    with pytest.raises(RowsError) as caught:
        Importer(connection).write(wrong, T0)
    assert [row for row, _ in caught.value.problems] == [1, 2, 2, 3]
    assert stored(connection) == []


HEAD = ",".join(COLUMNS)
GOOD = f"{PUMP.identity},pressure,bar,2026-11-01T00:00:00.000000Z,4.2,good"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("identity,metric\n", ":1: the column unit is missing"),
        (f"{HEAD}\n{GOOD}\n{GOOD.replace('4.2', 'much')}\n", ":3: 'much' is not a number"),
        (f"{HEAD}\n{GOOD}\n{GOOD},more\n", ":3: 7 columns"),
        (f"{HEAD}\n{GOOD.replace('good', 'fine')}\n", ":2: 'fine' is not good, uncertain or bad"),
        (f"{HEAD}\n{GOOD.replace('.000000Z', '')}\n", ":2: '2026-11-01T00:00:00' is not a time"),
    ],
)
def test_a_file_that_is_not_valid_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text(text)
    with pytest.raises(DocumentError, match=message):
        list(exchange.read(path))


def test_times_of_other_programs_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text(
        "quality,value,measured_at,unit,metric,identity,remark\n"
        f"good,1e1,2026-11-01T01:00:00+01:00,bar,pressure,{PUMP.identity},x\n"
    )
    (part,) = exchange.read(path)
    assert exchange.text_of(int(part.measured_at[0])) == "2026-11-01T00:00:00.000000Z"
    assert part.value.tolist() == [10.0]


def test_a_file_of_that_name_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "kept.csv"
    path.write_text("before")
    with pytest.raises(RuntimeError), exchange.writing(path, "0") as sink:
        sink.write(block([(0, 0, T0, 1.0, 192)]))
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


# The commands


@pytest.fixture
def run(registered: str, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", as_url(registered))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_export_and_import_from_the_command_line(
    run: Callable[..., Result], connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Importer(connection).write(block([(0, 0, T0 + i * MINUTE, i, 192) for i in range(10)]), T0)
    path = tmp_path / "all.csv"
    assert f"wrote 10 readings to {path}" in run("export", path).output
    assert "stored 0 readings; 10 were known before" in run("import", path).output
    assert run("export", path, "--device", "urn:x:nobody").exit_code == 2
    assert "no such metric" in run("export", path, "--metric", "colour").output
    assert path.exists(), "a mistake in the options leaves the file alone"
    assert "themselves are taken out within the hour" not in run("import", path).output
    monkeypatch.setenv("HEADWORKS_KEEP_READINGS_DAYS", "1")
    assert "themselves are taken out within the hour" in run("import", path).output
    path.write_text(path.read_text().replace(",3.0,good", ",33.0,good"))
    result = run("import", path)
    assert result.exit_code == 1
    rejects = (tmp_path / "all.csv.rejects.csv").read_text().splitlines()
    assert rejects[1:] == [f"5,{PUMP.identity},pressure,bar,{exchange.text_of(T0 + 3 * MINUTE)},33.0,3.0"]
    path.write_text(f"{HEAD}\n{GOOD.replace(PUMP.identity, 'urn:x:nobody')}\n")
    assert f"{path}:2: 'urn:x:nobody' is not registered" in str(run("import", path).exception)
    assert isinstance(run("export", tmp_path / "all.xlsx").exception, DocumentError)


def test_an_import_that_is_killed_is_simply_run_again(registered: str, connection: Connection, tmp_path: Path) -> None:
    rows = 200_000
    path = tmp_path / "big.parquet"
    with exchange.writing(path, "0") as sink:
        for start in range(0, rows, 50_000):
            span = np.arange(start, start + 50_000)
            sink.write(
                Block(
                    IDENTITIES,
                    METRICS,
                    (span % 3).astype(np.int32),
                    (span % 2).astype(np.int32),
                    T0 + span * SECOND,
                    span.astype(np.float64),
                    np.full(50_000, 192, np.int16),
                )
            )
    environment = {**os.environ, "HEADWORKS_DATABASE_URL": as_url(registered)}
    command = [sys.executable, "-m", "headworks", "import", str(path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not connection.execute("SELECT EXISTS (SELECT FROM commit_log)").fetchone()[0]:  # type: ignore[index]
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    [(some,)] = connection.execute("SELECT count(*) FROM reading").fetchall()
    assert 0 < int(str(some)) < rows
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "were known before, 0 contradict" in done.stdout
    assert connection.execute("SELECT count(*), sum(value) FROM reading").fetchall() == [(rows, rows * (rows - 1) / 2)]
    assert connection.execute("SELECT sum(readings) FROM commit_log").fetchall() == [(rows,)]


def test_on_plain_postgresql(postgres_url: str, tmp_path: Path) -> None:
    name = f"headworks_exchange_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
    try:
        with connect(psycopg.conninfo.make_conninfo(postgres_url, dbname=name)) as connection:
            migrate(connection, plain=True)
            sync_metrics(connection)
            register(connection, [PUMP, VALVE, ODD], shipped_profiles())
            Importer(connection).write(block([(i % 3, i % 3, T0 + i, i, 64) for i in range(100)]), T0)
            path = tmp_path / "plain.csv"
            before = stored(connection)
            assert write_out(connection, path) == 100
            clear(connection)
            assert read_in(connection, path) == [Imported(100, 0)]
            assert stored(connection) == before
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
