"""What the embedded servers share: the user they run as, a folder that one platform holds, a guarded process, its log.

Each server has a folder of its own, with two locks (flock(2)): `guard.lock` is held as long as the server's guard
lives, `server.lock` as long as any process of the server does. The kernel gives them back, so none is ever stale.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headworks.embedded.guard import Order

_GUARD = Path(__file__).with_name("guard.py")
_LOG_LINES = 15
_LOG_LIMIT = 8 << 20
"""Bytes after which a log is put aside, at the next start."""

_SERVICE_ID = 59_432
"""The user and group id of root's servers: fixed, as their files belong to it, and of nobody else, so that no other
program can touch them. In the range that Debian (Policy 9.2.2) and systemd leave alone."""


class EmbeddedServiceError(RuntimeError):
    """A server could not be started; the message has the last lines of its log, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group id that a server runs as."""

    user: int
    group: int

    @property
    def named(self) -> bool:
        """Whether the system knows a name for the user."""
        try:
            pwd.getpwuid(self.user)
        except KeyError:
            return False
        return True


def service_account(data: Path, *, nameless: bool) -> Account | None:
    """Who root's server runs as, since PostgreSQL refuses root; None for everybody else, who run theirs themselves.

    The owner of existing data, else an id of our own; without `nameless` one that has a name.
    """
    if os.geteuid() != 0:
        return None
    with suppress(FileNotFoundError):
        owner = data.stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
    if nameless:
        return Account(_SERVICE_ID, _SERVICE_ID)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServiceError(
            "PostgreSQL refuses to run as root, and this system has no user `nobody`: start Headworks as another user"
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


class Home:
    """A server's folder, held by one platform at a time; the server's user owns only some folders in it.

    Locks, log and configuration are out of that user's reach: where root writes files, a server that was taken over
    must not be able to put a link in their place.
    """

    def __init__(self, path: Path, account: Account | None, what: str) -> None:
        self.path = path
        self.account = account
        self._what = what
        self._locks: list[int] = []

    def prepare(self) -> None:
        """Create the folder, its parents too, and see that the server can get there."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self.account is not None:
                os.chown(self.path, os.geteuid(), os.getegid())
            self.path.chmod(0o700 if self.account is None else 0o711)
        except OSError as error:
            raise EmbeddedServiceError(
                f"{self._what} cannot have {self.path}: {error.strerror}; make it accessible, or set "
                "HEADWORKS_STATE_DIR to another folder"
            ) from error
        self.check_way(self.path, "HEADWORKS_STATE_DIR", "/var/lib/headworks")

    def own(self, folder: Path) -> None:
        """Create a private folder of the server's, or take over one that is there."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.account is not None:
            os.chown(folder, self.account.user, self.account.group, follow_symlinks=False)

    def write(self, name: str, text: str) -> Path:
        """A file for the server to read."""
        file = self.path / name
        file.write_text(text, "utf-8")
        file.chmod(0o600 if self.account is None else 0o644)
        return file

    def check_way(self, path: Path, variable: str, example: str) -> None:
        """`EmbeddedServiceError` where a folder on the way to `path` keeps the server's user out."""
        if self.account is None:
            return
        for parent in reversed(path.resolve().parents):
            status = parent.stat()
            bit = (
                0o100 if status.st_uid == self.account.user else 0o010 if status.st_gid == self.account.group else 0o001
            )
            if not status.st_mode & bit:
                raise EmbeddedServiceError(
                    f"{self._what} does not run as root but as user {self.account.user}, who cannot enter {parent}; "
                    f"set {variable} to a folder that everybody can reach, for instance {example}"
                )

    def hold(self) -> None:
        """Take both locks. `EmbeddedServiceError` naming the processes where another platform has them.

        Where that platform is gone already, its server is about to be: it is waited for.
        """
        guard = self._take("guard.lock", lambda: 30.0 if not _alive(self._recorded("guard.lock")) else 1.0)
        os.ftruncate(guard, 0)
        os.pwrite(guard, str(os.getpid()).encode(), 0)
        self._take("server.lock", lambda: 60.0)

    @property
    def locks(self) -> tuple[int, int]:
        """The descriptors of both locks, while they are ours."""
        guard, server = self._locks
        return guard, server

    def release(self) -> None:
        """Close our own descriptors: from now on the locks last as long as the processes that inherited them."""
        while self._locks:
            os.close(self._locks.pop())

    def _take(self, name: str, patience: Callable[[], float]) -> int:
        descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        begin = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() - begin > patience():
                    os.close(descriptor)
                    server, owner = self._recorded("server.lock"), self._recorded("guard.lock")
                    raise EmbeddedServiceError(
                        f"{self._what} runs on {self.path} already: process {server}, started by process {owner}. "
                        "Stop that one, or set HEADWORKS_STATE_DIR to another folder"
                    ) from None
                time.sleep(0.05)
                continue
            self._locks.append(descriptor)
            return descriptor

    def _recorded(self, name: str) -> int:
        try:
            return int((self.path / name).read_text("ascii"))
        except (OSError, ValueError):
            return 0


class GuardedProcess:
    """A server under its guard. One object, one run."""

    def __init__(self, what: str, home: Home, log: Path, *, stages: Sequence[tuple[int, float]], orphan: int) -> None:
        self._what = what
        self._home = home
        self.log = log
        self._log_start = 0
        self._stages = list(stages)
        self._orphan = orphan
        self._guard: subprocess.Popen[bytes] | None = None
        self._said = b""

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start the server, which takes over the home's locks; it is not ready yet.

        Of our environment it gets nothing: there are secrets in it, and settings meant for other programs.
        """
        guard_lock, server_lock = self._home.locks
        account = self._home.account
        order = Order(
            command=[str(part) for part in command],
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C", **(environment or {})},
            folder=str(self._home.path),
            account=None if account is None else [account.user, account.group],
            stages=self._stages,
            orphan=self._orphan,
            owner=os.getpid(),
            lock=server_lock,
        )
        self._rotate()
        private = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(private, "ab", buffering=0) as log:
            self._log_start = log.tell()
            self._guard = subprocess.Popen(
                # Isolated and without site packages: ready in milliseconds, whatever is installed or set here.
                [sys.executable, "-I", "-S", str(_GUARD), json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=(guard_lock, server_lock),
            )
        self._home.release()

    def await_ready(self, ready: Callable[[], bool], patience: float) -> None:
        """Ask until the server is ready; `EmbeddedServiceError` where it ends before, or `patience` seconds do."""
        deadline = time.monotonic() + patience
        pause = 0.005
        while not (self.pid and ready()):
            if self._listen(pause):
                self.stop()
                raise EmbeddedServiceError(f"{self._what} did not start. {self.last_words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedServiceError(f"{self._what} was not ready after {patience:.0f} s. {self.last_words()}")
            pause = min(pause * 1.5, 0.2)

    @property
    def pid(self) -> int | None:
        """The server's process id, once it was started."""
        for line in self._said.decode("ascii", "replace").splitlines():
            word, _, number = line.partition(" ")
            if word == "started":
                return int(number)
        return None

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        return self._guard is not None and not self._listen(0)

    def stop(self) -> None:
        """Have the guard stop the server in order, and return when both are gone. More than once is once."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None
        assert guard.stdout is not None
        with suppress(BrokenPipeError):
            guard.stdin.close()
        try:
            guard.wait(sum(patience for _, patience in self._stages) + 10)
        except subprocess.TimeoutExpired:
            # With the guard its server goes too.
            guard.kill()
            guard.wait()
        finally:
            guard.stdout.close()

    def written(self) -> bytes:
        """What this run has written to the log so far."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()

    def last_words(self) -> str:
        """The end of this run's log, for an error message."""
        lines = self.written().decode("utf-8", "replace").splitlines()[-_LOG_LINES:]
        return f"The end of {self.log}:\n" + ("\n".join(f"  | {line}" for line in lines) or "  | (nothing)")

    def _listen(self, patience: float) -> bool:
        """Take what the guard says within `patience` seconds; whether the server has ended."""
        assert self._guard is not None
        assert self._guard.stdout is not None
        descriptor = self._guard.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while poll.poll(patience * 1000):
            said = os.read(descriptor, 4096)
            if not said:
                return True
            self._said += said
            patience = 0
        return b"ended" in self._said

    def _rotate(self) -> None:
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > _LOG_LIMIT:
                self.log.replace(self.log.with_name(f"{self.log.name}.1"))


def _alive(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
