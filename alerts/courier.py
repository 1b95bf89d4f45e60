"""Carries announcements from the outbox to their receivers, at least once, from a thread of its own.

The outbox is in the database: whatever happens to this process, what was not delivered is still there. A receiver that
is slow or down holds up nobody but itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from prometheus_client import Counter

from alerts.webhook import Attempt, Outcome
from devices.alarm import DueAnnouncement
from devices.errors import UnavailableError

log = structlog.get_logger()

DELIVERIES = Counter("headworks_deliveries", "Attempts to deliver an announcement", ["channel", "outcome"])
DEAD = Counter("headworks_dead_letters", "Announcements that were given up", ["channel"])

REFUSALS = 10
"""Answers of "not now" after which one announcement is given up, so that it cannot stand before the others for ever."""
UNREACHABLE = 1_000
"""Attempts on a receiver that cannot be reached: at the longest pause about sixteen hours."""
IDLE_SECONDS = 2.0
"""How often the outbox is looked at unasked: for what another process left, and what is due again."""
FAILURES = 100
"""Attempts that fail for a reason not told: at the longest pause about an hour and a half."""
_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between two attempts: a random part (so that many senders do not come at once) of a time that doubles
    from `first` to `longest`."""

    first: float = 0.5
    longest: float = 60.0

    def after(self, attempts: int, chance: Callable[[], float]) -> float:
        """The pause after so many failed attempts; `chance` gives numbers from 0 to 1."""
        return min(self.longest, self.first * 2.0 ** min(attempts - 1, 30)) * (0.5 + 0.5 * chance())


class Channel(Protocol):
    """A way to one receiver."""

    @property
    def receiver(self) -> str:
        """What may be logged of the receiver's address."""
        ...

    def send(self, key: str, told: Mapping[str, Any]) -> Attempt:
        """One attempt; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Outbox:
    """What the courier needs of the outbox of one channel; each may raise `UnavailableError`."""

    claim: Callable[[int], Sequence[DueAnnouncement]]
    delivered: Callable[[int], None]
    postpone: Callable[[int, float, str], None]
    give_up: Callable[[int, str], None]


class Courier:
    """Delivers the announcements of one channel. `start()`, `wake()` when there is something new, `close()`."""

    def __init__(self, name: str, channel: Channel, outbox: Outbox, pauses: Pauses | None = None) -> None:
        self._name = name
        self._channel = channel
        self._outbox = outbox
        self._pauses = pauses or Pauses()
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"courier {name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._woken.set()

    def close(self, timeout: float) -> None:
        """Stop after the attempt under way; what is left stays in the outbox."""
        self._closing.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._woken.clear()
            try:
                due = self._outbox.claim(_AT_ONCE)
                for entry in due:
                    if self._closing.is_set():
                        self._outbox.postpone(entry.number, 0.0, "the platform stopped")
                    else:
                        self._deliver(entry)
                if due:
                    continue
            except UnavailableError as error:
                log.warning("courier.waiting", channel=self._name, why=str(error))
            except Exception:  # a defect must be seen, but must not end the deliveries
                log.exception("courier.defect", channel=self._name)
            self._woken.wait(IDLE_SECONDS)

    def _deliver(self, entry: DueAnnouncement) -> None:
        attempt = self._channel.send(entry.key, entry.told)
        DELIVERIES.labels(self._name, attempt.outcome.value).inc()
        if attempt.outcome is Outcome.DELIVERED:
            self._outbox.delivered(entry.number)
            return
        log.warning(
            "courier.failed",
            channel=self._name,
            receiver=self._channel.receiver,
            why=attempt.why,
            attempts=entry.attempts,
        )
        limit = _LIMITS[attempt.outcome]
        if entry.attempts < limit:
            self._outbox.postpone(
                entry.number, max(attempt.wish, self._pauses.after(entry.attempts, _CHANCE)), attempt.why
            )
            return
        self._outbox.give_up(entry.number, attempt.why)
        DEAD.labels(self._name).inc()
        log.error(
            "courier.gave_up",
            channel=self._name,
            receiver=self._channel.receiver,
            why=attempt.why,
            rule=entry.told.get("rule"),
            told=entry.told.get("event"),
            raised_at=entry.told.get("raised_at"),
            hint="`headworks notify dead` lists what could not be delivered",
        )


_LIMITS = {
    Outcome.REFUSED: 1,
    Outcome.BUSY: REFUSALS,
    Outcome.FAILED: FAILURES,
    Outcome.UNREACHABLE: UNREACHABLE,
}
_CHANCE = random.SystemRandom().random
