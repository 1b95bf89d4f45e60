"""Carries announcements to people: every one to the log, and to a webhook where one is named.

What is announced, and how it reads, is in `alerts.announcement`. The webhook has a thread of its own, so that a slow
receiver never holds up the engine. What waits is lost when the process is killed: the journal is the record, and an
announcement only points at it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx
import structlog
from prometheus_client import Counter, Gauge

from alerts.announcement import Event, announce, idempotency_key, render
from alerts.rules import Rule
from devices.alarm import AlarmChange, Priority
from devices.model import Device, Instant

log = structlog.get_logger()

ANNOUNCED = Counter("headworks_announcements", "Alarm events that people are told", ["event"])
DELIVERIES = Counter("headworks_webhook_deliveries", "Announcements that left the webhook's queue", ["outcome"])
WAITING = Gauge("headworks_webhook_waiting", "Announcements that wait for the webhook's receiver")

QUEUE_LIMIT = 1_000
"""Announcements that wait for the receiver; beyond it the oldest of the lowest priority gives way."""
TIMEOUT_SECONDS = 10.0
REFUSALS = 10
"""Answers of 5xx or 429 after which one announcement is given up, so that it cannot block the others for ever. A
receiver that cannot be reached at all is tried for as long as there is room."""

_RANK = {Priority.LOW.value: 0, Priority.MEDIUM.value: 1, Priority.HIGH.value: 2}


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between two attempts: a random part (so that many senders do not come at once) of a time that doubles
    from `first` to `longest`."""

    first: float = 0.5
    longest: float = 60.0

    def after(self, attempts: int, chance: Callable[[], float]) -> float:
        """The pause after so many failed attempts; `chance` gives numbers from 0 to 1."""
        return min(self.longest, self.first * 2.0 ** min(attempts - 1, 30)) * (0.5 + 0.5 * chance())


class Notifier:
    """Tells people what changed in the journal. `start()`, any number of `announce()`, `close()`."""

    def __init__(self, rules: Sequence[Rule], webhook_url: str | None, clock: Callable[[], Instant]) -> None:
        self._rules = {rule.rule: rule for rule in rules}
        self._clock = clock
        self._webhook = None if webhook_url is None else Webhook(webhook_url)

    def start(self) -> None:
        """Begin to deliver."""
        if self._webhook is not None:
            self._webhook.start()

    def close(self, timeout: float) -> None:
        """Deliver what waits for at most `timeout` seconds, then stop."""
        if self._webhook is not None:
            self._webhook.close(timeout)

    def announce(self, change: AlarmChange, device: Device) -> None:
        """Tell people about a change, if it is one to tell; returns at once."""
        event, why = announce(change)
        alarm = change.alarm
        if event is None:
            log.debug("alarm.not_announced", rule=alarm.rule, device=alarm.device, kind=change.kind.value, why=why)
            return
        told = render(change, event, device, self._rules.get(alarm.rule), self._clock())
        ANNOUNCED.labels(event.value).inc()
        log_announcement(told)
        if self._webhook is not None:
            self._webhook.put(idempotency_key(change, event), told)


def log_announcement(told: dict[str, Any]) -> None:
    """Write an announcement to the log; a page is a warning, the rest is information."""
    write = log.warning if told["event"] == Event.RAISED else log.info
    write(
        f"alarm.{told['event']}",
        rule=told["rule"],
        tag=told["device"]["tag"] or told["device"]["identity"],
        site=told["device"]["site"],
        message=told["message"],
        priority=told["priority"],
        raised_at=told["raised_at"],
        cleared_at=told["cleared_at"],
    )


class Outcome(Enum):
    """What became of one attempt."""

    DELIVERED = "delivered"
    BUSY = "busy"
    """The receiver answered that it cannot now (5xx, 408, 429)."""
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    """The receiver will not take it: trying again would not help."""


class Webhook:
    """Posts announcements as JSON to one URL, in order, from a thread of its own.

    Each carries an `Idempotency-Key`. Credentials in the URL are sent (user and password as HTTP Basic) but never
    logged, nor are its path and query, which often are secrets too. `ValueError` for what is no http or https URL.
    """

    def __init__(
        self, url: str, pauses: Pauses | None = None, limit: int = QUEUE_LIMIT, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL:
            raise ValueError(_BAD_URL) from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError(_BAD_URL)
        port = "" if self._url.port is None else f":{self._url.port}"
        self.receiver = f"{self._url.scheme}://{self._url.host}{port}"
        self._pauses = pauses or Pauses()
        self._limit = limit
        self._timeout = timeout
        self._queue: deque[tuple[str, dict[str, Any]]] = deque()
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        # httpx writes every request's URL to its own log, credentials and all.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._thread.start()

    def put(self, key: str, told: dict[str, Any]) -> None:
        """Take an announcement; returns at once. If too many wait, the oldest of the lowest priority is dropped."""
        with self._changed:
            self._queue.append((key, told))
            if len(self._queue) > self._limit:
                ranks = [_RANK.get(waiting["priority"], 0) for _, waiting in self._queue]
                self._give_up(ranks.index(min(ranks)), "displaced", "too many wait for the receiver")
            WAITING.set(len(self._queue))
            self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """Go on for at most `timeout` seconds, then stop; what is left then is named in the log."""
        with self._changed:
            self._deadline = time.monotonic() + timeout
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout + _GRACE_SECONDS)
        with self._changed:
            while self._queue:
                self._give_up(0, "undelivered", "the platform stopped")

    def _run(self) -> None:
        current, failures, answers = "", 0, 0
        with httpx.Client(timeout=self._timeout) as client:
            while (head := self._head()) is not None:
                if head[0] != current:
                    current, failures, answers = head[0], 0, 0
                outcome, why, asked = self._post(client, *head)
                if outcome is Outcome.DELIVERED:
                    self._leave(current, outcome.value)
                    continue
                failures += 1
                answers += outcome is Outcome.BUSY
                log.warning("webhook.failed", receiver=self.receiver, why=why, attempts=failures)
                if outcome is Outcome.REFUSED or answers >= REFUSALS:
                    self._leave(current, Outcome.REFUSED.value, why)
                else:
                    self._pause(max(asked, self._pauses.after(failures, _CHANCE)))

    def _post(self, client: httpx.Client, key: str, told: dict[str, Any]) -> tuple[Outcome, str, float]:
        """One attempt: what became of it, why, and the pause in seconds that the receiver asks for."""
        try:
            answer = client.post(self._url, json=told, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            return Outcome.UNREACHABLE, type(error).__name__, 0.0
        except Exception as error:
            log.exception("webhook.defect", receiver=self.receiver)
            return Outcome.REFUSED, type(error).__name__, 0.0
        if answer.is_success:
            return Outcome.DELIVERED, "", 0.0
        why = f"it answered {answer.status_code}"
        if answer.is_server_error or answer.status_code in (408, 429):
            wish = answer.headers.get("Retry-After", "")
            return Outcome.BUSY, why, min(float(wish), self._pauses.longest) if wish.isdecimal() else 0.0
        return Outcome.REFUSED, why, 0.0

    def _head(self) -> tuple[str, dict[str, Any]] | None:
        """The announcement whose turn it is, as soon as there is one; None when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._deadline is not None)
            in_time = self._deadline is None or time.monotonic() < self._deadline
            return self._queue[0] if self._queue and in_time else None

    def _leave(self, key: str, outcome: str, why: str = "") -> None:
        """Take the announcement that was tried from the queue, unless it had to give way in the meantime."""
        with self._changed:
            if self._queue and self._queue[0][0] == key:
                if why:
                    self._give_up(0, outcome, why)
                else:
                    self._queue.popleft()
                    DELIVERIES.labels(outcome).inc()
                    WAITING.set(len(self._queue))

    def _pause(self, seconds: float) -> None:
        """Wait; when closing begins, no longer than it may last."""
        until = time.monotonic() + seconds
        with self._changed:
            if not self._changed.wait_for(lambda: self._deadline is not None, seconds):
                return
            assert self._deadline is not None
            self._changed.wait_for(lambda: False, max(0.0, min(until, self._deadline) - time.monotonic()))

    def _give_up(self, position: int, outcome: str, why: str) -> None:
        """Drop one, under the lock, and say so: it stays in the journal, but its receiver does not hear of it."""
        _, told = self._queue[position]
        del self._queue[position]
        WAITING.set(len(self._queue))
        DELIVERIES.labels(outcome).inc()
        log.error(
            "webhook.dropped",
            receiver=self.receiver,
            why=why,
            rule=told["rule"],
            device=told["device"]["identity"],
            told=told["event"],
            raised_at=told["raised_at"],
        )


_BAD_URL = "the webhook needs an address such as https://host/path (what was given is not shown: it may hold a secret)"
_GRACE_SECONDS = 0.5
"""Given to the thread to notice that its time is over."""
_CHANCE = random.SystemRandom().random
