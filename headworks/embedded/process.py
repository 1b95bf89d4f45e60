"""What the embedded servers have in common: a folder that one owner holds, a guarded process, readiness, a log."""

from __future__ import annotations

import fcntl
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_GUARD = Path(__file__).with_name("guard.py")
_LOG_LINES = 15


class EmbeddedServiceError(RuntimeError):
    """A server could not be started; the message has the last lines of its log and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user a server runs as."""

    user: int
    group: int


def service_account() -> Account | None:
    """Another user for root's servers (PostgreSQL refuses root); None for everybody else, who run them themselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedServiceError("root needs a user ‘postgres’ or ‘nobody’ to run PostgreSQL as; neither exists")


def tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return "(there is no log)"
    return "\n".join(f"  | {line}" for line in lines[-_LOG_LINES:]) or "  | (the log is empty)"


class Folder:
    """A server's private folder, held by one process at a time."""

    def __init__(self, path: Path, account: Account | None) -> None:
        self.path = path
        self._account = account
        self._lock: IO[str] | None = None

    def hold(self) -> None:
        """Create the folder and take its lock; `EmbeddedServiceError` naming the process that has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._check_reachable()
        lock = (self.path / "owner").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise EmbeddedServiceError(
                f"{self.path} is in use by process {owner}; stop that one, or set HEADWORKS_STATE_DIR to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        self.own(self.path)
        self.path.chmod(0o700)

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def own(self, path: Path) -> None:
        """Give a file or folder to the server's user."""
        if self._account is not None:
            os.chown(path, self._account.user, self._account.group)

    def _check_reachable(self) -> None:
        """Another user must be able to enter every folder on the way."""
        if self._account is None:
            return
        for parent in self.path.absolute().parents:
            if not parent.stat().st_mode & 0o001:
                raise EmbeddedServiceError(
                    f"{parent} cannot be entered by the user that root's PostgreSQL runs as; "
                    "set HEADWORKS_STATE_DIR to a folder that can, for instance /var/lib/headworks"
                )


class Server:
    """A guarded server process with its log."""

    def __init__(self, name: str, log: Path, account: Account | None, *, gentle: int, forceful: int) -> None:
        self._name = name
        self._log = log
        self._account = account
        self._signals = (str(gentle), str(forceful))
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start the server; it is not ready yet."""
        who = ("-", "-") if self._account is None else (str(self._account.user), str(self._account.group))
        # -I -S: no site packages, no environment variables of Python's; it is up in a few milliseconds.
        guard = [sys.executable, "-I", "-S", str(_GUARD), *who, *self._signals, *map(str, command)]
        with self._log.open("ab") as log:
            self._guard = subprocess.Popen(
                guard,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
                cwd="/",
            )

    def await_ready(self, ready: Callable[[], bool], patience: float) -> None:
        """Ask until the server says it is ready; `EmbeddedServiceError` where it ends before, or takes too long."""
        deadline = time.monotonic() + patience
        pause = 0.01
        while not ready():
            if self.ended:
                self.stop()
                raise EmbeddedServiceError(f"{self._name} did not start. The end of {self._log}:\n{tail(self._log)}")
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedServiceError(
                    f"{self._name} was not ready after {patience:.0f} s. The end of {self._log}:\n{tail(self._log)}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    @property
    def ended(self) -> bool:
        """Whether the server is gone."""
        return self._guard is None or self._guard.poll() is not None

    def stop(self) -> None:
        """Stop the server in order and wait until it is gone."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):
            self._guard.stdin.close()
        self._guard.wait()
        self._guard = None


def await_gone(gone: Callable[[], bool], patience: float, pid: int) -> None:
    """Wait until another process has ended; `EmbeddedServiceError` naming it where it does not."""
    deadline = time.monotonic() + patience
    while not gone():
        if time.monotonic() > deadline:
            raise EmbeddedServiceError(f"process {pid} still serves this folder; end it, then start again")
        time.sleep(0.05)
