"""Least privilege: the platform works as a member of headworks_writer, and a reader reads what dashboards show."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiocoap
import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

from deploy.provision import Installation
from devices.codecs.senml import encode_json
from devices.credential import Login
from devices.model import MINUTE, SECOND, Calibration, Device, Measurement, moment
from devices.profile import shipped_profiles
from headworks import clock
from headworks.service import prepare
from storage import credentials, journal, maintenance
from storage.database import connect
from storage.maintenance import TASKS, Keep
from storage.registry import calibrate, register
from storage.sealing import Seal
from tests.conftest import PUMP
from tests.integration.test_gateways import coap, eventually, running

DEPLOY = Path(__file__).parents[2] / "deploy"
T0 = 1_785_000_000 * SECOND


@pytest.fixture(params=["headworks_writer", "headworks_reader"])
def role(request: pytest.FixtureRequest, registered: str) -> Iterator[tuple[str, str]]:
    """A log-in that is a member of one group role, and its address."""
    name = f"login_{random.randrange(10**9)}"
    with psycopg.connect(registered, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN".encode())
        owner.execute(f"GRANT {request.param} TO {name}".encode())
    yield request.param, make_conninfo(registered, user=name)
    with psycopg.connect(registered, autocommit=True) as owner:
        owner.execute(f"DROP OWNED BY {name}".encode())
        owner.execute(f"DROP ROLE {name}".encode())


@pytest.mark.parametrize("role", ["headworks_writer"], indirect=True)
def test_the_platform_owns_nothing(role: tuple[str, str], registered: str, broker_url: str) -> None:
    _, url = role
    prepare(url)  # the schema is up to date: nothing that needs the owner
    entries = [Measurement("bearing_temperature", None, 90.0, T0 + number * MINUTE) for number in range(30)]
    with running(url, broker_url) as doors:
        answer = coap(doors, f"/telemetry/{PUMP.identity}", encode_json(PUMP.identity, entries), 110)
        assert answer.code == aiocoap.CHANGED
        assert coap(doors, f"/telemetry/{PUMP.identity}", b"[{}]", 110).code == aiocoap.BAD_REQUEST
        with connect(registered) as owner:
            eventually(lambda: len(journal.all_occurrences(owner)) == 1, "the alarm is in the journal")
    with connect(url) as connection:
        for task in TASKS:
            maintenance.run(connection, task, clock.now(), Keep(30, 30, 30), time.monotonic)
        assert {run.error for run in maintenance.last_runs(connection).values()} == {None}
        assert connection.execute("SELECT count(*) FROM reading").fetchall() == [(0,)], "they are from the summer"
        assert connection.execute("SELECT sum(readings)::int FROM reading_hourly").fetchall() == [(30,)]
        for statement in ("DROP TABLE reading", "DELETE FROM alarm", "DELETE FROM alarm_event", "CREATE TABLE x ()"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)
        with pytest.raises(errors.RaiseException, match="not for this"):
            connection.execute("SELECT headworks_drop('alarm', 'raised_at', now(), 1)")


@pytest.mark.parametrize("role", ["headworks_reader"], indirect=True)
def test_a_reader_sees_no_payload_and_changes_nothing(role: tuple[str, str]) -> None:
    _, url = role
    with connect(url) as connection:
        for name in (
            "reading",
            "reading_hourly",
            "reading_daily",
            "latest",
            "alarm_state",
            "alarm_kpi",
            "quarantine_hourly",
        ):
            connection.execute(f"SELECT * FROM {name} LIMIT 1".encode())
        for statement in ("SELECT payload FROM quarantine", "SELECT told FROM announcement", "DELETE FROM reading",
                          "SELECT headworks_drop('reading', 'measured_at', now(), 1)"):  # fmt: skip
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


@pytest.mark.parametrize("role", ["headworks_writer"], indirect=True)
def test_the_registry_is_kept_without_owning_it(role: tuple[str, str]) -> None:
    _, url = role
    with connect(url) as connection:
        assert register(connection, [Device("urn:x", "water-meter")], shipped_profiles()) == 1
        assert calibrate(connection, "urn:x", "flow", Calibration(T0, 1.1, 0.0))
        token = credentials.make_token(connection, "urn:x")
        grant = credentials.login(connection, _no_seal, Login("", token, ""), moment(T0))
        assert grant is not None
        assert grant.identity == "urn:x"
        assert credentials.still_good(connection, [grant]) == {grant}
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("DELETE FROM calibration")


def _no_seal() -> Seal:
    raise AssertionError("a token needs no key")


@pytest.mark.parametrize(
    ("script", "variable", "user"),
    [
        ("writer.sql", "PLATFORM_DATABASE_PASSWORD", "headworks_platform"),
        ("grafana/reader.sql", "GRAFANA_DATABASE_PASSWORD", "grafana"),
    ],
)
def test_the_scripts_for_log_ins_may_run_again(
    script: str, variable: str, user: str, registered: str, installation: Installation
) -> None:
    psql = installation.postgres_bin / "psql"
    if not psql.exists():
        pytest.skip("psql comes with Debian's packages, and apt is not there")
    for password in ("one", "two"):
        subprocess.run(
            [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={DEPLOY / script}", registered],
            env={**os.environ, variable: password},
            check=True,
        )
    with connect(registered) as owner:
        member = "SELECT pg_has_role(%s, %s, 'MEMBER')"
        group = "headworks_writer" if script == "writer.sql" else "headworks_reader"
        assert owner.execute(member, (user, group)).fetchall() == [(True,)]
        owner.execute(f"DROP OWNED BY {user}".encode())
        owner.execute(f"DROP ROLE {user}".encode())
