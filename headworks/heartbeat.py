"""What the platform says of itself in the database, for dashboards: that it is there, where its console is, its spool,
and the rules that it cannot calculate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version

from devices.model import MINUTE, Instant
from headworks.settings import Settings
from storage.database import Connection
from storage.display import PlatformState, platform_seen
from storage.maintenance import Keep, Task
from storage.spool import Spool


def heartbeat(
    settings: Settings, started_at: Instant, spool: Spool | None, failing: Callable[[], Mapping[str, str]]
) -> Task:
    """The task that writes it, once a minute."""

    def beat(connection: Connection, now: Instant, _: Keep) -> int:
        state = PlatformState(
            settings.instance, version("headworks"), settings.console_address, started_at,
            spool=spool.id if spool else None,
            spool_waiting=spool.waiting if spool else 0,
            spool_bytes=spool.waiting_bytes if spool else 0,
            spool_limit=settings.spool_bytes if spool else 0,
            failing=failing(),
        )  # fmt: skip
        platform_seen(connection, state, now)
        return 1

    return Task("heartbeat", MINUTE, beat)
