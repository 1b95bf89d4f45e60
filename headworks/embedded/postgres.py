"""An embedded PostgreSQL: private data directory, unix socket, one owner."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from deploy.provision import Installation
from headworks.embedded.process import EmbeddedServiceError, Folder, Server, await_gone, service_account

_SOCKET_LIMIT = 107 - len("/.s.PGSQL.5432.lock")
_PATIENCE = 180.0
"""Seconds until ready: after a crash the server first replays its log."""
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "2GB",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "on",
    "jit": "off",
    "log_line_prefix": "%m [%p] %a ",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "4",
}
"""For a machine it shares with the rest of the platform. Durability stays as PostgreSQL has it: fsync and synchronous
commits on."""


class EmbeddedPostgres:
    """PostgreSQL (with TimescaleDB where it was fetched) on a data directory of its own.

    Reached by a unix socket only. `settings` go over the defaults above.
    """

    def __init__(self, installation: Installation, path: Path, settings: Mapping[str, str] | None = None) -> None:
        self._bin = installation.postgres_bin
        self._timescaledb = installation.edition != "postgresql"
        self._account = service_account()
        self._path = path.absolute()
        self._folder = Folder(self._path, self._account)
        self._settings = {**_SETTINGS, **(settings or {})}
        self._log = self._path / "postgres.log"
        self._server = Server("PostgreSQL", self._log, self._account, gentle=signal.SIGINT, forceful=signal.SIGQUIT)

    @property
    def url(self) -> str:
        """The address of the database `headworks` on this server."""
        return f"postgresql://headworks@/headworks?host={self._socket_folder()}"

    def start(self) -> None:
        """Start, recover if needed, and return when it answers. `EmbeddedServiceError` with the log's end otherwise."""
        self._folder.hold()
        try:
            self._initialise()
            self._await_predecessor()
            sockets = self._socket_folder()
            sockets.mkdir(mode=0o700, exist_ok=True)
            self._folder.own(sockets)
            settings = dict(self._settings) | {"unix_socket_directories": str(sockets)}
            if self._timescaledb:
                settings["shared_preload_libraries"] = "timescaledb"
            else:
                settings = {name: value for name, value in settings.items() if "." not in name}
            flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            self._server.start([self._bin / "postgres", "-D", self._data, *flags])
            self._server.await_ready(self._answers, _PATIENCE)
            self._create_database()
        except BaseException:
            self._server.stop()
            self._folder.release()
            raise

    def stop(self) -> None:
        """Stop in order: connections are ended, a checkpoint is written."""
        self._server.stop()
        self._folder.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._path / "data"

    def _socket_folder(self) -> Path:
        """Beside the data, or, as a socket's path may have 107 bytes only, in the folder for temporary files."""
        beside = self._path / "socket"
        if len(os.fsencode(beside)) <= _SOCKET_LIMIT:
            return beside
        name = hashlib.sha256(os.fsencode(self._path)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"headworks-{os.geteuid()}-{name}"

    def _initialise(self) -> None:
        """Make the data directory if there is none; one that was left half made is made again."""
        version = self._data / "PG_VERSION"
        if version.is_file():
            found = version.read_text("utf-8").strip()
            ours = self._major()
            if found != ours:
                raise EmbeddedServiceError(
                    f"{self._data} was made by PostgreSQL {found}, this is {ours}: move it away (`headworks export` of the "
                    "old version keeps the data), or set HEADWORKS_STATE_DIR to another folder"
                )
            return
        if self._data.exists() and any(self._data.iterdir()):
            raise EmbeddedServiceError(f"{self._data} is no PostgreSQL data directory; move it away")
        part = self._path / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        self._log.touch(mode=0o600)
        command = [
            self._bin / "initdb", "-D", part, "-U", "headworks", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
        ]  # fmt: skip
        if int(self._major()) >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=None if self._account is None else self._account.user,
            group=None if self._account is None else self._account.group,
            extra_groups=None if self._account is None else [],
        )
        if done.returncode:
            raise EmbeddedServiceError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
        # initdb did not sync, which is most of its time; what it wrote reaches the disk before the name says "complete".
        os.sync()
        part.rename(self._data)

    def _major(self) -> str:
        command = [self._bin / "postgres", "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return said.split()[2].split(".")[0]

    def _await_predecessor(self) -> None:
        """Where the last owner was killed, its server may still be stopping; a stale lock file is removed."""
        lock = self._data / "postmaster.pid"
        try:
            pid = int(lock.read_text("utf-8").split()[0])
        except (OSError, ValueError, IndexError):
            lock.unlink(missing_ok=True)
            return
        await_gone(lambda: not _is_server(pid, self._data), _PATIENCE, pid)
        lock.unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._admin_url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _admin_url(self) -> str:
        return make_conninfo(self.url, dbname="postgres")

    def _create_database(self) -> None:
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = 'headworks'").fetchone():
                connection.execute("CREATE DATABASE headworks")


def _is_server(pid: int, data: Path) -> bool:
    """Whether a process is a PostgreSQL on this directory: its number may belong to something else by now."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(data) in words
