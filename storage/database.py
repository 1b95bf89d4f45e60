"""Connections, and which of the three editions a server is; the rest of `storage` takes its connections from here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import psycopg
from psycopg import errors, pq
from psycopg.abc import DumperKey, PyFormat
from psycopg.adapt import Dumper
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_loads

from devices.errors import UnavailableError
from storage.packing import BinaryArray


class _BinaryArrayDumper(Dumper):
    """Passes a `BinaryArray` on as it is, with its own type."""

    format = pq.Format.BINARY

    def get_key(self, obj: BinaryArray, format: PyFormat) -> DumperKey:  # noqa: A002 - psycopg's name
        return (self.cls, (obj.oid,))  # type: ignore[return-value]  # any hashable will do

    def upgrade(self, obj: BinaryArray, format: PyFormat) -> Dumper:  # noqa: A002
        dumper = _BinaryArrayDumper(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: BinaryArray) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(BinaryArray, _BinaryArrayDumper)

Connection = psycopg.Connection[tuple[object, ...]]


class Edition(StrEnum):
    """What the server offers; chosen once at migration, asked nowhere else."""

    COMMUNITY = "timescaledb-community"
    """TimescaleDB under the Timescale licence: columnstore, continuous aggregates, policies."""
    APACHE = "timescaledb-apache"
    """TimescaleDB as Debian ships it: hypertables, time_bucket, drop_chunks."""
    PLAIN = "postgresql"
    """PostgreSQL 15 or newer without the extension."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server's edition, with the version of TimescaleDB or, on the plain edition, of PostgreSQL."""

    edition: Edition
    version: str


MINIMUM_VERSION = 150_000
"""PostgreSQL 15: `MERGE`, `UNIQUE NULLS NOT DISTINCT`, and still supported."""


def connect(url: str, *, application: str = "headworks", timeout: int = 5, statement_seconds: int = 0) -> Connection:
    """Open a connection in autocommit mode; `UnavailableError` with a hint where that is not possible.

    Times travel in UTC; a lost server is noticed within a minute (TCP keepalive), a stuck lock within thirty seconds.
    A statement is broken off after `statement_seconds`; 0 is never.
    """
    defaults = {
        "connect_timeout": str(timeout),
        "application_name": application,
        "keepalives_idle": "20",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
    }
    try:
        given = conninfo_to_dict(url)
        connection = psycopg.connect(make_conninfo("", **{**defaults, **given}), autocommit=True)
        # A registry of 100,000 devices has two documents each: five times as fast.
        set_json_loads(msgspec.json.decode, connection)
        connection.execute(
            "SET TIME ZONE 'UTC'; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'"
        )
        if statement_seconds:
            connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{statement_seconds}s",))
    except psycopg.Error as error:
        raise UnavailableError(f"cannot reach the database {describe(url)}: {first_line(error)}") from error
    return connection


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn the errors that say "not now" into `UnavailableError`; what is wrong with the data passes through."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction) as error:
        raise UnavailableError(f"the database is not available: {first_line(error)}") from error


def cancel(connection: Connection) -> None:
    """Break off the statement that another thread runs on a connection; what it did is undone."""
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=2.0)


def describe(url: str) -> str:
    """A database URL as it may be shown: host, port and name, never the password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return "(unreadable address)"
    return f"{parts.get('dbname') or 'postgres'} at {parts.get('host') or 'localhost'}:{parts.get('port') or 5432}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for one-line logs."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def server(connection: Connection) -> Server:
    """What the migrated database runs on."""
    row = connection.execute(
        "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),"
        " current_setting('timescaledb.license', true), current_setting('server_version')"
    ).fetchone()
    assert row is not None
    extension, licence, version = row
    if extension is None:
        return Server(Edition.PLAIN, str(version).split()[0])
    return Server(Edition.COMMUNITY if licence == "timescale" else Edition.APACHE, str(extension))


def offers_timescaledb(connection: Connection) -> bool:
    """Whether the extension is installed here or can be."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
    ).fetchone()
    return bool(row and row[0])
