"""A dump, restored into another cluster by the commands of `deploy/README.md`: all goes on as if it had stayed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from typer.testing import CliRunner

from alerts import live
from deploy.provision import Installation
from devices.model import DAY, HOUR, MINUTE, SECOND, Device, Instant, Reading
from devices.profile import shipped_profiles
from headworks.cli import app
from headworks.embedded import EmbeddedPostgres
from headworks.service import prepare
from storage import aggregates, credentials, history, transactions
from storage.audit import judged_up_to_date
from storage.database import Connection, connect
from storage.migrate import MigrationError, alone, migrate
from storage.registry import register
from storage.sealing import Seal
from tests.conftest import PUMP
from tests.integration.test_aggregates import found
from tests.integration.test_engine_memory import Engines
from tests.integration.test_gateways import coap, eventually, pack, running

T0 = 1_790_000_000 * SECOND // DAY * DAY
OTHER = Device("urn:dev:imei:867000000000033", PUMP.profile)
ANOTHER = Device("urn:dev:imei:867000000000041", PUMP.profile)
CHAPTER = (Path(__file__).parents[2] / "deploy" / "README.md").read_text("utf-8").split("## Backup and restore")[1]
BLOCKS = re.findall(r"(?:^    .+\n)+", CHAPTER.split("\n## ")[0], re.MULTILINE)
WAYS = {"containers": (BLOCKS[0], BLOCKS[2]), "bare metal": (BLOCKS[1], BLOCKS[3])}
"""How each way of running backs up and restores."""
SEAL = Seal(bytes(32))
FAST = {"fsync": "off", "timescaledb.max_background_workers": "0"}


@pytest.fixture(scope="module")
def servers(installation: Installation, scratch: Path) -> Iterator[tuple[str, str]]:
    """Two clusters: one that the dump is from, and one to restore it into."""
    if not (installation.postgres_bin / "pg_dump").exists():
        pytest.skip("this PostgreSQL has no pg_dump")
    with (
        EmbeddedPostgres(installation, scratch / "source", FAST) as source,
        EmbeddedPostgres(installation, scratch / "target", FAST) as target,
    ):
        yield source.url, target.url


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SCAN_SECONDS", 0.02)


def execute(commands: str, url: str, installation: Installation, folder: Path, *, plain: bool = False) -> None:
    """Run commands of the README on a server; those for its container directly, those about containers not at all."""
    if plain:
        commands = "".join(line for line in commands.splitlines(keepends=True) if "timescaledb" not in line)
    container = '[ "$4" = exec ] || return 0; shift 6; "$@";'
    host = str(conninfo_to_dict(url)["host"])
    done = subprocess.run(
        ["/bin/sh", "-euc", f"docker() {{ {container} }}\n{commands}"],
        env={"PATH": f"{installation.postgres_bin}:{os.defpath}", "PGHOST": host, "PGUSER": "headworks"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def begin(url: str, *, plain: bool) -> None:
    """An empty database on a server, migrated."""
    renew(url)
    with connect(url) as connection:
        migrate(connection, plain=plain)
        prepare(url)
        register(connection, [PUMP, OTHER, ANOTHER], shipped_profiles())
        credentials.make_oscore(connection, SEAL, PUMP.identity)


def renew(url: str) -> None:
    with psycopg.connect(url, dbname="postgres", autocommit=True) as server:
        server.execute("DROP DATABASE IF EXISTS headworks WITH (FORCE)")
        server.execute("CREATE DATABASE headworks TEMPLATE template0")


def use_up(url: str, until: int) -> None:
    """Let a server give out the numbers of transactions up to one, as other databases on it would."""
    with psycopg.connect(url, dbname="postgres", autocommit=True) as server:
        ask = "pg_current_xact_id()::text::bigint"
        server.execute(f"DO $$ BEGIN WHILE {ask} < {until} LOOP COMMIT; END LOOP; END $$".encode())


def number(url: str) -> int:
    """The number that a server gives out next."""
    with connect(url) as connection:
        return int(str(value(connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")))


def value(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def warm(device: Device, at: Instant, degrees: float, count: int = 15) -> list[Reading]:
    return [Reading(device.identity, "bearing_temperature", at + i * MINUTE, degrees) for i in range(count)]


def live_a_while(url: str) -> None:
    """One alarm on, everything judged and in the aggregates; then readings that nobody has looked at: they end that
    alarm, begin another, come late into hours that were closed, and tell of an alarm before the first."""
    engines = Engines(url)
    engines.commit(warm(PUMP, T0, 60.0))
    engines.commit(warm(PUMP, T0 + HOUR, 95.0))
    engines.commit(warm(ANOTHER, T0, 60.0))
    engines.judged()
    with connect(url) as connection:
        aggregates.refresh(connection, T0 + 3 * DAY)
        assert value(connection, "SELECT count(*) FROM alarm WHERE cleared_at IS NULL") == 1
        assert value(connection, "SELECT count(*) FROM engine_memory") != 0
    engines.commit(warm(PUMP, T0 + 2 * HOUR, 60.0, 60))
    engines.commit(warm(OTHER, T0 + HOUR, 95.0))
    engines.commit(warm(PUMP, T0 - 2 * HOUR, 95.0) + warm(PUMP, T0 - HOUR, 60.0, 59))
    engines.writer.close()


def go_on(url: str) -> dict[str, dict[str, Any]]:
    """Start on a database that has lived a while, live on for hundreds of commits, and say what is there in the end."""
    prepare(url)
    engines = Engines(url)
    engines.judged()
    assert engines.pasts, "devices with readings that were not judged"
    with connect(url) as connection:
        aggregates.refresh(connection, T0 + 3 * DAY)
        after_start = stored(connection)
    for i in range(400):
        engines.commit(warm(PUMP, T0 + DAY + i * MINUTE, 95.0 if i // 50 % 2 else 60.0, 1))
        if i % 100 == 99:
            engines.judged()
    engines.writer.close()
    with connect(url) as connection:
        aggregates.refresh(connection, T0 + 3 * DAY)
        assert value(connection, "SELECT uplinks FROM engine_backlog") == 0
        return {"after the start": after_start, "in the end": stored(connection)}


def stored(connection: Connection) -> dict[str, Any]:
    """Everything that people see, by what it is about and not by numbers or times of storing."""
    questions = {
        "alarms": "SELECT rule, device_id, since, raised_at, cleared_at, retracted FROM alarm ORDER BY 1, 2, 4",
        "journal": "SELECT a.rule, a.device_id, e.kind, e.at FROM alarm_event e JOIN alarm a USING (alarm_id)"
        " ORDER BY alarm_event_id",
        "uplinks": "SELECT count(*), sum(readings), sum(duplicates) FROM uplink",
        "commits": "SELECT count(*), sum(uplinks) FROM commit_log",
        "quarantine": "SELECT reason, detail FROM quarantine",
    }
    return {
        "readings": history.readings(connection, [PUMP.identity, OTHER.identity, ANOTHER.identity], T0 - DAY),
        "hours": found(connection, "reading_hourly"),
        "days": found(connection, "reading_daily"),
        **{name: connection.execute(question.encode()).fetchall() for name, question in questions.items()},
    }


@pytest.fixture(params=[("containers", False), ("bare metal", False), ("bare metal", True)], ids=str)
def restored(
    request: pytest.FixtureRequest, servers: tuple[str, str], installation: Installation, tmp_path: Path
) -> tuple[str, str]:
    """A database that has lived a while, and what was restored from a dump of it: in a cluster whose numbers of
    transactions are a few short of those that are stored."""
    way, plain = request.param
    source, target = servers
    begin(source, plain=plain)
    use_up(source, number(target) + 5_000)
    live_a_while(source)
    backup, restore = WAYS[way]
    execute(backup, source, installation, tmp_path)
    execute(restore, target, installation, tmp_path, plain=plain)
    with connect(target) as connection:
        oldest = int(str(value(connection, "SELECT min(xid)::text FROM commit_log")))
    assert number(target) < oldest - 50
    use_up(target, oldest - 50)
    return source, target


def test_a_restored_platform_goes_on_as_the_one_that_the_dump_is_from(restored: tuple[str, str]) -> None:
    source, target = restored
    expected, after = go_on(source), go_on(target)
    for when in expected:
        for what in expected[when]:
            assert after[when][what] == expected[when][what], f"{what} {when}"
    assert [len(expected[when]["alarms"]) for when in expected] == [3, 7]
    assert after["in the end"]["quarantine"] == []
    with connect(source) as there, connect(target) as here:
        assert ahead(there) == 0, "nothing was restored there"
        assert ahead(here) > 0
        assert value(here, "SELECT has_table_privilege('headworks_writer', 'reading', 'INSERT')")
        name = bytes.fromhex(str(value(here, "SELECT name FROM credential")))
        since, now = (credentials.lease_oscore(connection, SEAL, name) for connection in (there, here))
        assert since is not None
        assert now is not None
        assert now.keys == since.keys
        assert now.first_number > since.end_number, "the numbers used since the dump are not used again"
        assert now.window is None, "the device has to show that it is there now"


@pytest.mark.parametrize("restored", [("bare metal", True)], indirect=True, ids=str)
def test_what_was_restored_can_be_restored_again(
    restored: tuple[str, str], installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = restored
    monkeypatch.setenv("HEADWORKS_DATABASE_URL", target)
    done = CliRunner().invoke(app, ["migrate"])
    assert "restored from another server" in done.output
    assert CliRunner().invoke(app, ["migrate"]).output == "the schema is up to date\n"
    with connect(target) as connection:
        first = ahead(connection)
    use_up(target, number(source) + 5_000)
    newest = commit(target, T0 + DAY)
    assert newest > number(target)
    backup, restore = WAYS["bare metal"]
    execute(backup, target, installation, tmp_path)
    # Where the numbers are: the dump knows what they go on by.
    execute(restore, target, installation, tmp_path, plain=True)
    prepare(target)
    with connect(target) as connection:
        assert ahead(connection) == first
    assert commit(target, T0 + DAY + HOUR) > newest
    execute(restore, source, installation, tmp_path, plain=True)
    prepare(source)
    with connect(source) as connection:
        assert ahead(connection) > first
    assert commit(source, T0 + DAY + HOUR) > newest


def ahead(connection: Connection) -> int:
    """What is added to the server's own numbers."""
    return int(str(value(connection, "SELECT transaction_number('0')::text")))


def commit(url: str, at: Instant) -> int:
    """Commit an uplink; its transaction's number."""
    engines = Engines(url)
    engines.commit(warm(PUMP, at, 60.0))
    engines.writer.close()
    with connect(url) as connection:
        query = "SELECT xid::text FROM commit_log ORDER BY committed_at DESC LIMIT 1"
        return int(str(value(connection, query)))


@pytest.fixture
def foreign(registered: str) -> str:
    """A database whose positions another server has numbered."""
    with connect(registered) as connection:
        renumber(connection)
    return registered


def renumber(connection: Connection) -> None:
    """Give the engine a position that lies ahead of this server."""
    connection.execute(
        "INSERT INTO engine_position (consumer, xid)"
        " VALUES ('live', (pg_current_xact_id()::text::bigint + 1000000)::text::xid8)"
    )


def test_of_several_that_start_at_once_one_lets_the_numbers_go_on(foreign: str) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with connect(foreign) as first, connect(foreign) as second, connect(foreign) as third:
        with ThreadPoolExecutor() as pool:
            with alone(first):
                others = [pool.submit(transactions.go_on, connection) for connection in (second, third)]
                eventually(lambda: value(first, waiting) == 2, "both wait for their turn")
            added = [other.result() for other in others]
        assert sorted(one is None for one in added) == [False, True]
        assert transactions.go_on(first) is None
        assert ahead(first) in added


def test_only_the_owner_can_let_them_go_on(foreign: str) -> None:
    login = f"login_{os.getpid()}"
    with connect(foreign) as owner:
        owner.execute(f"CREATE ROLE {login} LOGIN IN ROLE headworks_writer".encode())
        try:
            with pytest.raises(MigrationError, match="as its owner"):
                prepare(make_conninfo(foreign, user=login))
            assert prepare(foreign)
            assert prepare(make_conninfo(foreign, user=login)), "nothing is left to do"
        finally:
            owner.execute(f"DROP ROLE {login}".encode())


def test_a_running_platform_judges_by_numbers_above_the_servers(foreign: str, broker_url: str) -> None:
    prepare(foreign)
    with running(foreign, broker_url) as doors, connect(foreign) as connection:
        payload = pack(*[85.0] * 600, metric="bearing_temperature", unit="Cel")
        assert coap(doors, f"/telemetry/{PUMP.identity}", payload, 110).code.is_successful()
        eventually(lambda: value(connection, "SELECT count(*) FROM alarm") == 1, "the alarm is raised")
        eventually(lambda: judged_up_to_date(connection), "the position is above what was committed")
        assert value(connection, "SELECT count(*) FROM alarm_event") == 1


def test_a_dump_of_an_earlier_schema_is_brought_up_to_date_and_goes_on(servers: tuple[str, str]) -> None:
    url, _ = servers
    renew(url)
    with connect(url) as connection:
        migrate(connection, to="0070_engine_memory")
        renumber(connection)
        prepare(url)
        register(connection, [PUMP], shipped_profiles())
        position = int(str(value(connection, "SELECT xid::text FROM engine_position")))
    assert commit(url, T0) >= position


def test_numbers_stay_while_an_older_transaction_runs(registered: str) -> None:
    with connect(registered) as older, connect(registered) as connection:
        with older.transaction():
            older.execute("SELECT pg_current_xact_id()")
            commit(registered, T0)
            assert transactions.go_on(connection) is None
        Engines(registered).judged()
        assert transactions.go_on(connection) is None
        assert ahead(connection) == 0
