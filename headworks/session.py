"""A database connection for one thread, kept open and replaced when it was lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from storage.database import Connection, cancel, connect

T = TypeVar("T")


class Session:
    """One database connection for one thread, opened when needed and again after it was lost."""

    def __init__(self, url: str, application: str) -> None:
        self._url = url
        self._application = application
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do something with the connection; `UnavailableError` passes through and lets the next call reconnect."""
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._url, application=self._application)
            try:
                return work(self._connection)
            except BaseException:
                self._connection.close()
                raise

    def cancel(self) -> None:
        """Break off what is running, if anything is; `run` then raises `UnavailableError` in its thread."""
        connection = self._connection
        if connection is not None:
            cancel(connection)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
