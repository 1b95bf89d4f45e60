"""Runs the database's maintenance (`storage.maintenance`) from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog
from prometheus_client import Counter, Histogram

from devices.errors import UnavailableError
from devices.model import SECOND
from headworks import clock
from headworks.session import Session
from storage import maintenance
from storage.maintenance import TASKS, Keep, Task

log = structlog.get_logger()

FAILURES = Counter("headworks_maintenance_failures", "Maintenance tasks that failed", ["task"])
SECONDS = Histogram("headworks_maintenance_seconds", "Time a maintenance task took", ["task"])

LOOK_SECONDS = 1.0
"""How often it is looked whether something is due."""


class Upkeep:
    """`start()` and `close()`; each task runs when its interval is over, and once at the start."""

    def __init__(self, session: Session, keep: Keep, tasks: Sequence[Task] = TASKS) -> None:
        self._session = session
        self._keep = keep
        self._tasks = tasks
        self._due = {task.name: float("-inf") for task in tasks}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Stop after the task under way; after `timeout` seconds it is broken off, and goes on with the next start."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
            if self._thread.is_alive():
                self._session.cancel()
                self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            for task in self._tasks:
                if time.monotonic() >= self._due[task.name] and not self._closing.is_set():
                    self._due[task.name] = time.monotonic() + task.interval / SECOND
                    self._do(task)

    def _do(self, task: Task) -> None:
        begin = time.monotonic()
        try:
            rows = self._session.run(
                lambda connection: maintenance.run(connection, task, clock.now(), self._keep, time.monotonic)
            )
        except UnavailableError as error:
            log.warning("upkeep.waiting", task=task.name, why=str(error))
        except Exception:
            FAILURES.labels(task.name).inc()
            log.exception("upkeep.failed", task=task.name)
        else:
            SECONDS.labels(task.name).observe(time.monotonic() - begin)
            if rows:
                log.info("upkeep.done", task=task.name, rows=rows, seconds=round(time.monotonic() - begin, 2))
