"""Forward-only schema migrations: numbered SQL files, each in its own transaction, remembered with its checksum.

The edition's own file (`edition_*.sql`) goes first; the numbered ones after it are the same text on all editions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files

import psycopg

from storage.database import MINIMUM_VERSION, Connection, first_line, offers_timescaledb, unavailable

_LOCK = 0x48454144  # "HEAD": any number that only this project's migrators take

_BOOK = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""


class MigrationError(RuntimeError):
    """The schema could not be brought up to date; nothing of the failed migration remains."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file; its name orders it, its checksum says whether it was changed after it ran."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(*, timescaledb: bool) -> list[Migration]:
    """All migrations of an edition, in order."""
    edition = "edition_timescaledb.sql" if timescaledb else "edition_plain.sql"
    folder = files("storage").joinpath("migrations")
    numbered = sorted(entry.name for entry in folder.iterdir() if entry.name[:1].isdigit())
    return [
        Migration(name.removesuffix(".sql"), folder.joinpath(name).read_text("utf-8")) for name in [edition, *numbered]
    ]


def plan(connection: Connection, *, plain: bool = False) -> list[Migration]:
    """What `migrate` would still apply. `MigrationError` where an applied file was changed or is unknown here."""
    with unavailable():
        version = connection.info.server_version
        if version < MINIMUM_VERSION:
            raise MigrationError(f"PostgreSQL 15 or newer is needed; this server is {version // 10_000}")
        book = connection.execute("SELECT to_regclass('schema_migration') IS NOT NULL").fetchone()
        applied: dict[str, str] = {}
        if book and book[0]:
            rows = connection.execute("SELECT name, checksum FROM schema_migration").fetchall()
            applied = {str(name): str(checksum) for name, checksum in rows}
        # A database keeps the edition that it was made with; a new one takes the extension if the server offers it.
        timescaledb = "edition_timescaledb" in applied or (
            not plain and "edition_plain" not in applied and offers_timescaledb(connection)
        )
    known = migrations(timescaledb=timescaledb)
    for migration in known:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"{migration.name} was changed after it was applied; restore it and add a new file instead"
            )
    newer = sorted(set(applied) - {migration.name for migration in known})
    if newer:
        raise MigrationError(f"this database was migrated by a newer Headworks ({', '.join(newer)}); update this one")
    return [migration for migration in known if migration.name not in applied]


def migrate(connection: Connection, *, plain: bool = False, to: str | None = None) -> list[str]:
    """Apply what is missing; returns the names applied. Two migrators at once take turns.

    `plain` makes a new database without TimescaleDB although the server offers it; `to` stops after that migration.
    """
    done: list[str] = []
    if not plan(connection, plain=plain):
        return done  # before anything that only the owner may do
    with unavailable(), alone(connection):
        connection.execute(_BOOK)
        for migration in plan(connection, plain=plain):
            _apply(connection, migration)
            done.append(migration.name)
            if migration.name == to:
                break
    return done


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Nobody else changes the schema meanwhile."""
    connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def _apply(connection: Connection, migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.sql.encode())
            connection.execute(
                "INSERT INTO schema_migration (name, checksum) VALUES (%s, %s)", (migration.name, migration.checksum)
            )
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise MigrationError(f"{migration.name} failed: {first_line(error)}") from error
