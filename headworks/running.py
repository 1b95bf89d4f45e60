"""Where a platform started by `headworks up` can be reached, for commands that work beside it.

Kept as a small file in the state directory while the platform runs; removed at its end, and ignored when its process
is gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from devices.errors import UnavailableError
from headworks.settings import Settings

_NAME = "running.json"


@dataclass(frozen=True, slots=True)
class Running:
    """The addresses of a running platform; they may hold passwords, so the file is private."""

    pid: int
    database_url: str
    mqtt_url: str
    coap_url: str


@contextmanager
def announced(folder: Path, running: Running) -> Iterator[None]:
    """Keep the file while the platform runs."""
    path = folder / _NAME
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(asdict(running)), "utf-8")
    part.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(folder: Path) -> Running | None:
    """The platform that runs on this state directory, or None."""
    try:
        running = Running(**json.loads((folder / _NAME).read_text("utf-8")))
        os.kill(running.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return running


def database_url(settings: Settings) -> str:
    """The database to work on: the one the settings name, else that of the platform running here."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    running = find_running(settings.state_dir)
    if running is None:
        raise UnavailableError(
            "no database: start the platform with `headworks up` in another terminal, or set HEADWORKS_DATABASE_URL"
        )
    return running.database_url
