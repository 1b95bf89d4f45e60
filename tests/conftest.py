"""Real services for the tests: one PostgreSQL and one broker a run, and a fresh migrated database a test that asks.

A missing service skips with its reason on a developer's machine; with HEADWORKS_REQUIRE_SERVICES (as `make test` and CI
set it) it fails.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psycopg
import pytest
import structlog
from psycopg.conninfo import make_conninfo

from deploy.provision import Installation, provision
from devices.model import Device
from devices.profile import shipped_profiles
from headworks.embedded import EmbeddedBroker, EmbeddedPostgres, EmbeddedServiceError
from headworks.settings import Settings
from storage.database import connect
from storage.migrate import migrate
from storage.registry import register, sync_metrics

# A developer's own settings have no place in a test: above all not their database, and not the webhook that pages
# somebody. What says where the services are kept and which server to test on stays.
for _name in Settings.model_fields.keys() - {"cache_dir"}:
    os.environ.pop(f"HEADWORKS_{_name.upper()}", None)
os.environ["HEADWORKS_SETTINGS"] = os.devnull
# A console made at import keeps the width that it finds here; a test that minds the width sets its own.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

# Platforms in the tests' own process log to the process's standard error, as they do in theirs: what a command that is
# run in the same process prints, or complains of, is apart from that. A defect that a test provokes is logged with a
# plain traceback: drawn with all its variables it takes seconds.
structlog.configure(
    logger_factory=lambda *_: structlog.PrintLogger(sys.__stderr__),
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ],
)

_LOGGING = structlog.get_config()


@pytest.fixture(autouse=True)
def _nobody_moves_the_logs() -> Iterator[None]:
    """A test that leaves the log elsewhere fails itself; otherwise a later one that reads a command's output does."""
    yield
    left = structlog.get_config()
    structlog.configure(**_LOGGING)
    assert left == _LOGGING, "this test left structlog configured otherwise than it found it"


# How long an example takes, or to find one, says how busy the machine is.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


def _unavailable(reason: str) -> None:
    if os.environ.get("HEADWORKS_REQUIRE_SERVICES"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def installation() -> Installation:
    try:
        return provision(print)
    except (OSError, RuntimeError) as error:
        _unavailable(f"the services could not be fetched: {error}")
        raise


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder for services' data: short, as unix sockets need it, and reachable for the database's own user."""
    folder = Path(tempfile.mkdtemp(prefix="hw-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# These databases live as long as the run: the durability of commits is tested with servers of their own.
# Nothing happens in them but what a test does.
_FAST = {"fsync": "off", "timescaledb.max_background_workers": "0", "autovacuum": "off"}


@pytest.fixture(scope="session")
def postgres_url(installation: Installation, scratch: Path) -> Iterator[str]:
    """A server for the whole run: HEADWORKS_TEST_DATABASE_URL, or an embedded one without fsync."""
    given = os.environ.get("HEADWORKS_TEST_DATABASE_URL")
    if given:
        yield given
        return
    try:
        with EmbeddedPostgres(installation, scratch / "postgres", settings=_FAST) as server:
            yield server.url
    except EmbeddedServiceError as error:
        _unavailable(f"PostgreSQL does not start: {error}")


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """The name of a migrated database that the others are cloned from."""
    name = f"headworks_template_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
    with connect(make_conninfo(postgres_url, dbname=name)) as connection:
        migrate(connection)
        sync_metrics(connection)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        # TimescaleDB's own workers would connect to it, and a database with a visitor cannot be cloned.
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
    return name


_number = itertools.count(1)


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A freshly migrated, empty database of this test's own."""
    name = f"headworks_test_{os.getpid()}_{next(_number)}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        # Copied as files: without fsync that takes half of the time that copying by the log does.
        server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'.encode())
    yield make_conninfo(postgres_url, dbname=name)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def broker_url(installation: Installation, scratch: Path) -> Iterator[str]:
    """A broker of this test's own."""
    folder = scratch / f"broker-{next(_number)}"
    with EmbeddedBroker(installation, folder) as broker:
        yield broker.url


PUMP = Device("urn:dev:imei:867000000000017", "centrifugal-pump", tag="P-101", site="North", design={"pn": 16.0})
VALVE = Device("urn:dev:imei:867000000000025", "control-valve", tag="FV-201", site="North", design={"kv": 40.0})


@pytest.fixture
def registered(database_url: str) -> str:
    """A database with one pump and one valve in its registry."""
    with connect(database_url) as connection:
        register(connection, [PUMP, VALVE], shipped_profiles())
    return database_url
