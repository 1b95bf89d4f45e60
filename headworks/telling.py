"""People are told: the notifier, what is suppressed, and a courier for each channel, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from alerts.courier import Courier, Outbox
from alerts.lifecycle import suppressed_by
from alerts.notify import Notifier
from alerts.rules import Rule
from alerts.webhook import Webhook
from devices.alarm import AlarmChange, Announcement, DueAnnouncement, Suppression, SuppressionKind
from devices.errors import UnavailableError
from devices.model import Device
from headworks import clock
from headworks.session import Session
from headworks.settings import Settings
from storage import lifecycle, outbox

log = structlog.get_logger()

SUPPRESSIONS_SECONDS = 2.0
"""How old the knowledge of what is shelved may be when an alarm is announced."""
DEAD_SECONDS = 30.0
"""How often dead letters are counted for the health check."""


def webhook_of(settings: Settings) -> Webhook | None:
    """The webhook that the settings name; None where they name none."""
    if settings.webhook_url is None:
        return None
    secret = settings.webhook_secret
    return Webhook(settings.webhook_url.get_secret_value(), clock.now, secret.get_secret_value() if secret else None)


class Telling:
    """Words announcements for the engine, which puts them into the outbox, and has them carried to their receivers."""

    def __init__(self, settings: Settings, database_url: str, rules: Sequence[Rule]) -> None:
        self._notifier = Notifier(rules, clock.now, self._suppressed)
        self._lookup = Session(database_url, "headworks suppressions")
        self._carrying = Session(database_url, "headworks courier")
        self._suppressions: list[Suppression] = []
        self._asked_at = float("-inf")
        self._webhook = webhook_of(settings)
        self._couriers: dict[str, Courier] = {}
        if self._webhook is not None:
            self._couriers["webhook"] = Courier("webhook", self._webhook, self._outbox("webhook"))
        self._dead = 0
        self._counted_at = float("-inf")

    @property
    def channels(self) -> list[str]:
        """The channels that announcements are put into the outbox for."""
        return list(self._couriers)

    def start(self) -> None:
        """Begin to deliver."""
        for courier in self._couriers.values():
            courier.start()

    def close(self, timeout: float) -> None:
        """Stop delivering; what is left stays in the outbox."""
        for courier in self._couriers.values():
            courier.close(timeout)
        if self._webhook is not None:
            self._webhook.close()
        self._lookup.close()
        self._carrying.close()

    def replace(self, rules: Sequence[Rule]) -> None:
        """Word what is told by other rules from now on."""
        self._notifier.replace(rules)

    def compose(self, change: AlarmChange, device: Device) -> Announcement | None:
        """See `alerts.live.Announcer`."""
        return self._notifier.compose(change, device)

    def told(self, announcements: Sequence[Announcement]) -> None:
        """See `alerts.live.Announcer`."""
        self._notifier.told(announcements)
        if announcements:
            for courier in self._couriers.values():
                courier.wake()

    @property
    def dead_letters(self) -> int:
        """Announcements that could not be delivered, as of half a minute ago."""
        now = time.monotonic()
        if self._couriers and now - self._counted_at > DEAD_SECONDS:
            self._counted_at = now
            with suppress(UnavailableError):  # the health check has a line of its own for that
                self._dead = self._lookup.run(outbox.counts)["dead"]
        return self._dead

    def _suppressed(self, rule: str, device: str) -> SuppressionKind | None:
        now = time.monotonic()
        if now - self._asked_at > SUPPRESSIONS_SECONDS:
            try:
                self._suppressions = self._lookup.run(lifecycle.suppressions)
                self._asked_at = now
            except UnavailableError:
                log.warning("alarm.suppressions_unknown", hint="the last known ones are used")
        return suppressed_by(self._suppressions, rule, device, clock.now())

    def _outbox(self, channel: str) -> Outbox:
        run = self._carrying.run
        claim: Callable[[int], Sequence[DueAnnouncement]] = lambda limit: run(  # noqa: E731
            lambda connection: outbox.claim(connection, channel, limit)
        )
        return Outbox(
            claim,
            lambda number: run(lambda connection: outbox.delivered(connection, number)),
            lambda number, seconds, why: run(lambda connection: outbox.postpone(connection, number, seconds, why)),
            lambda number, why: run(lambda connection: outbox.give_up(connection, number, why)),
        )
