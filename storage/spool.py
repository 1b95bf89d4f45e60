"""The spool: where uplinks wait on disk while the database is away, so that they can be acknowledged all the same.

A SQLite file in WAL mode with full sync; a segment is what one append made durable, many uplinks in one blob (one blob
of 500 readings a commit does 1.6 M readings/s, one row a reading would do a thousandth). Uplinks are kept as they came
and translated when they are drained, as nothing here can ask the registry while the database is away.

Exactly once: the database keeps, in the same transaction as the drained readings, up to which segment it has this
spool (`storage.writer`, table `spool_position`); after a crash between its commit and our delete, that number decides.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from devices.batch import Spooled, SpoolMark
from devices.errors import UnavailableError
from devices.model import Uplink
from devices.packed import pack, unpack

log = structlog.get_logger()

Drained = Callable[[str], int]
"""Up to which segment the database has this spool, 0 if it never heard of it; `UnavailableError` while it is away."""

_FORMAT = 1
_SCHEMA = (
    "CREATE TABLE spool (id TEXT NOT NULL)",
    # AUTOINCREMENT: a position is never given twice, also after all segments were deleted.
    "CREATE TABLE segment"
    " (position INTEGER PRIMARY KEY AUTOINCREMENT, uplinks INTEGER NOT NULL, content BLOB NOT NULL)",
)


class SpoolTakenError(UnavailableError):
    """Another process has this spool: a mistake in the settings, not a trouble that passes."""


class Spool:
    """A bounded, durable queue of uplinks. `append` may be called from one thread and the rest from another."""

    def __init__(self, path: Path, limit: int, drained: Drained) -> None:
        """Open or create; `limit` is in bytes of waiting segments.

        `UnavailableError` where the folder cannot be written or another process has this spool. A file that is no
        longer a database is set aside under another name, never deleted.
        """
        self._path = path
        self._limit = limit
        self._drained = drained
        self._lock = threading.Lock()
        self._in_doubt = True
        self._forgotten = 0
        """Up to which segment the database has it, also where the file could not be made smaller."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._guard = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"the spool {path} cannot be opened: {error.strerror or error}") from error
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._guard)
            raise SpoolTakenError(
                f"the spool {path} is another process's; set HEADWORKS_SPOOL to a file of its own"
            ) from error
        try:
            self._connection = self._opened()
        except BaseException:
            os.close(self._guard)
            raise
        row = self._connection.execute("SELECT id FROM spool").fetchone()
        self.id = str(row[0])
        count, size = self._connection.execute(
            "SELECT coalesce(sum(uplinks), 0), coalesce(sum(length(content)), 0) FROM segment"
        ).fetchone()
        self._waiting, self._bytes = int(count), int(size)
        if self._waiting:
            log.info("spool.found", uplinks=self._waiting, bytes=self._bytes)

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._connection.close()
            os.close(self._guard)

    @property
    def waiting(self) -> int:
        """Uplinks that are in the spool and not yet known to be in the database."""
        return self._waiting

    @property
    def waiting_bytes(self) -> int:
        """Their size on disk, in bytes."""
        return self._bytes

    def append(self, uplinks: Sequence[Uplink]) -> None:
        """Make uplinks durable: when this returns, they survive a power cut.

        `UnavailableError` where the spool or its disk is full; nothing of these uplinks is kept then.
        """
        content = pack(uplinks)
        with self._lock:
            if self._bytes + len(content) > self._limit:
                raise UnavailableError(f"the spool is full: {self._bytes} of {self._limit} bytes wait for the database")
            try:
                self._connection.execute(
                    "INSERT INTO segment (uplinks, content) VALUES (?, ?)", (len(uplinks), content)
                )
            except sqlite3.Error as error:
                raise UnavailableError(f"the spool cannot be written: {error}") from error
            self._waiting += len(uplinks)
            self._bytes += len(content)

    def oldest(self, limit: int) -> Spooled | None:
        """The oldest segments, up to about `limit` uplinks; None where nothing waits.

        Asks the database first what it has, wherever that is not certain (`UnavailableError` while it is away).
        """
        if not self._waiting:
            return None
        if self._in_doubt:
            self.discard(SpoolMark(self.id, self._drained(self.id)))
        uplinks: list[Uplink] = []
        position = 0
        with self._lock:
            rows = self._connection.execute(
                "SELECT position, content FROM segment WHERE position > ? ORDER BY position", (self._forgotten,)
            )
            for position, content in rows:  # noqa: B007 - the last one is the mark
                uplinks += unpack(content)
                if len(uplinks) >= limit:
                    break
            rows.close()
        if not uplinks:
            return None
        self._in_doubt = True
        return Spooled(SpoolMark(self.id, position), uplinks)

    def discard(self, mark: SpoolMark) -> None:
        """Forget the segments up to a mark: the database has them.

        Deleting takes room on the disk too (SQLite writes its log first). Where there is none, the segments stay in
        the file until a later mark, and are forgotten all the same: a full disk must not keep the spool full for ever.
        """
        with self._lock:
            count, size = self._connection.execute(
                "SELECT coalesce(sum(uplinks), 0), coalesce(sum(length(content)), 0) FROM segment"
                " WHERE position > ? AND position <= ?",
                (self._forgotten, mark.position),
            ).fetchone()
            self._forgotten = max(self._forgotten, mark.position)
            self._waiting -= int(count)
            self._bytes -= int(size)
            self._in_doubt = False
            try:
                self._connection.execute("DELETE FROM segment WHERE position <= ?", (mark.position,))
                if not self._waiting and count:
                    # Give the disk back once it is over, not while every millisecond counts.
                    self._connection.execute("PRAGMA incremental_vacuum")
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:
                log.warning("spool.not_shrunk", why=str(error), hint="make room on the spool's disk")

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._prepared()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # the disk or the rights, not the content
                raise UnavailableError(f"the spool {self._path} cannot be opened: {error}") from error
            aside = self._path.with_name(f"{self._path.name}.damaged-{uuid.uuid4().hex[:8]}")
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                part = self._path.with_name(self._path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            log.exception("spool.damaged", kept_as=str(aside), hint="`sqlite3 FILE .recover` may save what was in it")
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute("BEGIN")
                for statement in (*_SCHEMA, f"PRAGMA user_version = {_FORMAT}"):
                    connection.execute(statement)
                connection.execute("INSERT INTO spool VALUES (?)", (str(uuid.uuid4()),))
                connection.execute("COMMIT")
            elif version != _FORMAT:
                raise UnavailableError(
                    f"the spool {self._path} was written by another version of Headworks; let that one drain it first"
                )
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check failed")
        except BaseException:
            connection.close()
            raise
        return connection
