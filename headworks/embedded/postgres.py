"""An embedded PostgreSQL, with TimescaleDB where that was fetched: a private data directory and a unix socket.

Made for a platform that may be killed at any moment, and so may its database: commits are durable (fsync and
synchronous_commit as PostgreSQL has them), and every way a run can end is a way the next one can begin.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg

from deploy.provision import Installation
from headworks.embedded.process import Account, EmbeddedServiceError, GuardedProcess, Home, service_account

_WHAT = "PostgreSQL"
_SOCKET_LIMIT = 107 - len("/.s.PGSQL.5432.lock")
"""Bytes of the socket's folder: `sun_path` has 108 with the closing zero (unix(7))."""
_PATIENCE = 300.0
"""Seconds until ready: after a crash the server replays up to `max_wal_size` first."""
_STAGES = ((signal.SIGINT, 45.0), (signal.SIGQUIT, 10.0))
"""Fast shutdown, with a checkpoint; then immediate, without one (PostgreSQL, "Shutting Down the Server")."""

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "50",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "128MB",
    # Checkpoints seldom and spread out: the write load comes in storms at the top of the hour.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    # The queries are short; its library is not fetched.
    "jit": "off",
    # A query over a year of one-day chunks locks each of them.
    "max_locks_per_transaction": "256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}
"""For a small machine that the database shares with the rest of the platform."""
_TIMESCALE_SETTINGS = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    "timescaledb.max_background_workers": "4",
}
_ZONES = Path("/usr/share/zoneinfo")


class EmbeddedPostgres:
    """A server on the folder `path`, which survives restarts: the data in `data`, the log in `postgres.log`.

    `settings` go over the defaults above, as `postgres -c` takes them. Where we are root it runs as another user.
    """

    def __init__(self, installation: Installation, path: Path, settings: Mapping[str, str] | None = None) -> None:
        self._installation = installation
        self._path = path.absolute()
        self._data = self._path / "data"
        account = service_account(self._data, nameless=installation.nameless_bin is not None)
        self._home = Home(self._path, account, _WHAT)
        timescale = _TIMESCALE_SETTINGS if installation.edition != "postgresql" else {}
        self._settings = {**_SETTINGS, **timescale, **(settings or {})}
        self._process = self._new_process()

    @property
    def url(self) -> str:
        """The address of the database `headworks`; no password, as the socket's folder lets in only its owner."""
        return f"postgresql://headworks@/headworks?host={quote(str(self._socket_folder()), safe='/')}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process.running else None

    def start(self) -> None:
        """Start, after whatever end the last run had, and return when the database `headworks` answers.

        `EmbeddedServiceError` with the log's end, or what else is wrong, and what to do.
        """
        if self._process.running:
            raise EmbeddedServiceError(f"{_WHAT} was started already, as process {self._process.pid}")
        self._process.stop()
        self._process = self._new_process()
        self._home.prepare()
        self._home.check_way(
            self._installation.postgres_bin / "postgres", "HEADWORKS_CACHE_DIR", "/var/cache/headworks"
        )
        self._check_zones()
        try:
            self._home.hold()
            self._prepare_data()
            self._check_other_server()
            sockets = self._prepare_sockets()
            settings = {**self._settings, "unix_socket_directories": str(sockets)}
            flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            self._process.start([self._installation.postgres_bin / "postgres", "-D", self._data, *flags])
            self._process.await_ready(self._ready, _PATIENCE)
            self._create_database()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop in order: connections are ended, a checkpoint is written."""
        self._process.stop()
        self._home.release()
        sockets = self._socket_folder()
        if sockets.parent != self._path:
            # In use by another platform, it is not empty.
            with suppress(OSError):
                sockets.rmdir()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def _new_process(self) -> GuardedProcess:
        log = self._path / "postgres.log"
        # An orphan is shut down at once: a fast shutdown can wait for a checkpoint, and nobody would follow it up.
        return GuardedProcess(_WHAT, self._home, log, stages=_STAGES, orphan=signal.SIGQUIT)

    def _check_zones(self) -> None:
        if self._installation.edition != "postgresql" and not (_ZONES / "UTC").exists():
            raise EmbeddedServiceError(f"{_WHAT} finds no time zones in {_ZONES}: install the package tzdata")

    def _prepare_data(self) -> None:
        """See that there is a data directory of our version, complete; create it where there is none.

        initdb works beside it and the result is renamed, so what has the name is complete. One that is not comes from
        elsewhere: it is put aside, unless a server ever ran on it.
        """
        if (self._data / "PG_VERSION").is_file() and (self._data / "global" / "pg_control").is_file():
            self._check_version()
            return
        if self._data.exists() and any(self._data.iterdir()):
            # Written by each start of a server, and not by initdb.
            if (self._data / "postmaster.opts").exists():
                raise EmbeddedServiceError(
                    f"{self._data} has been a database and is damaged (PG_VERSION or global/pg_control is missing): "
                    "put back a backup, or move that folder away to begin with an empty database"
                )
            number = 1
            while (aside := self._path / f"data.incomplete-{number}").exists():
                number += 1
            self._data.rename(aside)
        self._initialise()

    def _check_version(self) -> None:
        found = (self._data / "PG_VERSION").read_text("ascii").strip()
        ours = self._major_version()
        if found != ours:
            raise EmbeddedServiceError(
                f"{self._data} holds data of PostgreSQL {found}, and this is PostgreSQL {ours}, which cannot read it. "
                f"Start the version that wrote it (HEADWORKS_PROVISION=apt or =wheel chooses), or move {self._data} "
                "away, or set HEADWORKS_STATE_DIR to another folder"
            )

    def _initialise(self) -> None:
        new = self._path / "data.new"
        if new.exists():
            shutil.rmtree(new)
        self._home.own(new)
        program, environment = self._initdb()
        command: list[str | Path] = [
            program, "-D", new, "-U", "headworks", "-E", "UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
            # Whoever reaches the socket may connect: its folder lets in only its owner, and root. Asking for the peer's
            # user name instead would shut out root, who has another id than the server.
            "--auth=trust",
        ]  # fmt: skip
        if self._settings.get("fsync") == "off":
            command.append("--no-sync")
        account = self._home.account
        _, lock = self._home.locks
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._path,
            env=environment,
            user=None if account is None else account.user,
            group=None if account is None else account.group,
            extra_groups=None if account is None else [],
            umask=0o077,
            # Should we be killed, the next start waits for initdb's end before it clears up.
            pass_fds=(lock,),
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            if "could not look up effective user ID" in said:
                said += "\nStart Headworks as a user that has an account here (an entry in /etc/passwd)"
            raise EmbeddedServiceError(f"initdb could not create {self._data}:\n{said}")
        new.rename(self._data)
        descriptor = os.open(self._path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def _initdb(self) -> tuple[Path, dict[str, str]]:
        """The program and its environment. It asks for the name of its user, and stops where there is none."""
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        account = self._home.account or Account(os.geteuid(), os.getegid())
        nameless = self._installation.nameless_bin
        if account.named or nameless is None:
            return self._installation.postgres_bin / "initdb", environment
        passwd = f"headworks:x:{account.user}:{account.group}::{self._path}:/bin/false\n"
        environment["NSS_WRAPPER_PASSWD"] = str(self._home.write("passwd", passwd))
        environment["NSS_WRAPPER_GROUP"] = str(self._home.write("group", f"headworks:x:{account.group}:\n"))
        return nameless / "initdb", environment

    def _major_version(self) -> str:
        program = self._installation.postgres_bin / "postgres"
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        return str(said).split()[2].partition(".")[0]

    def _check_other_server(self) -> None:
        """See that no server runs there which is not ours, by the number in `postmaster.pid`.

        A dead server's file stays: PostgreSQL itself looks whether processes of it are left. Only where the number
        belongs to another program by now the file goes, as PostgreSQL would take that for the server.
        """
        file = self._data / "postmaster.pid"
        try:
            pid = int(file.read_text("utf-8").split("\n", 1)[0])
            folder = Path(f"/proc/{pid}/cwd").readlink()
        except (OSError, ValueError):
            return
        if folder == self._data.resolve():
            raise EmbeddedServiceError(
                f"another PostgreSQL, process {pid}, runs on {self._data} already. Stop that one, or set "
                "HEADWORKS_STATE_DIR to another folder"
            )
        file.unlink()

    def _socket_folder(self) -> Path:
        """Beside the data, or, where that name is too long for a socket, in the folder for temporary files."""
        beside = self._path / "socket"
        if len(os.fsencode(beside)) <= _SOCKET_LIMIT:
            return beside
        name = hashlib.sha256(os.fsencode(self._path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"headworks-{os.geteuid()}-{name}"

    def _prepare_sockets(self) -> Path:
        folder = self._socket_folder()
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        account = self._home.account
        status = folder.lstat()
        # In a public folder somebody else may have been there first.
        if folder.is_symlink() or status.st_uid not in (os.geteuid(), -1 if account is None else account.user):
            raise EmbeddedServiceError(
                f"{folder} belongs to user {status.st_uid}: remove it, or set HEADWORKS_STATE_DIR to a shorter name"
            )
        folder.chmod(0o700)
        self._home.own(folder)
        return folder

    def _ready(self) -> bool:
        """The server writes its state into the eighth line of its lock file, as `pg_ctl --wait` reads it."""
        try:
            lines = (self._data / "postmaster.pid").read_text("utf-8").split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[0].strip() == str(self._process.pid) and lines[7].strip() == "ready"

    def _create_database(self) -> None:
        try:
            with psycopg.connect(self.url, dbname="postgres", autocommit=True, connect_timeout=30) as connection:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'headworks'").fetchone() is None:
                    connection.execute("CREATE DATABASE headworks")
        except psycopg.Error as error:
            raise EmbeddedServiceError(f"{_WHAT} started, but: {error}. {self._process.last_words()}") from error
