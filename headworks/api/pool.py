"""A few database connections that the API's threads take turns with, apart from those of the way of the readings."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from devices.errors import UnavailableError
from storage.database import Connection, connect

T = TypeVar("T")

CONNECTIONS = 4
PATIENCE_SECONDS = 5.0
"""How long a request waits for a connection."""
STATEMENT_SECONDS = 15
"""What takes longer is broken off: somebody has asked for too much, and others wait."""


class Pool:
    """Connections are opened when needed, at most `size`, and replaced when they were lost."""

    def __init__(self, url: str, size: int = CONNECTIONS) -> None:
        self._url = url
        self._free: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        self._closed = threading.Event()
        for _ in range(size):
            self._free.put(None)

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do something with a connection. `UnavailableError` where there is none in time, or it is lost."""
        try:
            connection = self._free.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise UnavailableError("too many requests wait for the database") from None
        try:
            if self._closed.is_set():
                raise UnavailableError("the platform is stopping")
            if connection is None or connection.closed:
                connection = connect(self._url, application="headworks api", statement_seconds=STATEMENT_SECONDS)
            return work(connection)
        finally:
            if connection is not None and (connection.broken or self._closed.is_set()):
                connection.close()
            self._free.put(connection)

    def close(self) -> None:
        """Close what is free now, and the rest when it comes back."""
        self._closed.set()
        while True:
            try:
                connection = self._free.get_nowait()
            except queue.Empty:
                return
            if connection is not None:
                connection.close()
