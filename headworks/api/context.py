"""What every request works with: the platform around the API, its own connections, and who may ask how often."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from alerts.rules import Rule
from devices.model import Instant
from devices.profile import Profile
from headworks.api.events import Hub
from headworks.api.pool import Pool
from headworks.oidc.configuration import Configuration
from ingest.limits import Rate

REQUESTS_PER_SECOND, REQUESTS_BURST = 20.0, 200
FAILURES_PER_SECOND, FAILURES_BURST = 0.2, 10
"""Wrong tokens from one address: 256 bits are not guessed, but nobody should keep the database busy with trying."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What the API needs of the platform that it is a part of."""

    database_url: str
    health: Callable[[], dict[str, str]]
    """The state of each part: `ok`, or what is wrong with it."""
    rules: Callable[[], Sequence[Rule]]
    failing: Callable[[], Mapping[str, str]]
    """Rules that cannot be calculated, with the reason."""
    idle: Callable[[], Mapping[str, Mapping[str, str]]]
    """Rules that can never call on some devices: the reasons, each with the first such device."""
    profiles: Mapping[str, Profile]
    now: Callable[[], Instant]
    time_zone: str = "UTC"
    """Of sites that have none of their own."""
    grafana_url: str | None = None
    oidc: Configuration | None = None
    """The OpenID Connect provider that people may log in by, if there is one."""
    secure: bool = False
    """Whether browsers come over HTTPS; cookies are then for HTTPS only."""


class Context:
    """One for the application; threads share it."""

    def __init__(self, ports: Ports) -> None:
        self.ports = ports
        self.pool = Pool(ports.database_url)
        self.hub = Hub(self.pool)
        self._rates = threading.Lock()
        self._requests = Rate(REQUESTS_PER_SECOND, REQUESTS_BURST)
        self._failures = Rate(FAILURES_PER_SECOND, FAILURES_BURST)

    @property
    def cookie(self) -> str:
        """The session cookie's name; the prefix has browsers refuse it from anything but this host over HTTPS."""
        return "__Host-headworks" if self.ports.secure else "headworks"

    @property
    def issuer(self) -> str | None:
        """The OpenID Connect provider whose sessions count."""
        return None if self.ports.oidc is None else self.ports.oidc.issuer

    def wait(self, who: Hashable) -> float:
        """Count a request; the seconds after which it would be let through, 0 where it is."""
        with self._rates:
            return self._requests.wait(who, time.monotonic())

    def fail(self, source: str) -> None:
        """Count a wrong token."""
        with self._rates:
            self._failures.wait(source, time.monotonic())

    def has_failed_often(self, source: str) -> bool:
        """Whether too many wrong tokens came from there lately."""
        with self._rates:
            return self._failures.peek(source, time.monotonic())

    def close(self) -> None:
        """End open streams and give the connections back; from any thread."""
        self.hub.close()
        self.pool.close()


def context(request: Request) -> Context:
    """The application's context."""
    found = request.app.state.context
    assert isinstance(found, Context)
    return found


Ctx = Annotated[Context, Depends(context)]
