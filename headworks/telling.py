"""People are told: the notifier, what is suppressed, and a courier for each channel, put together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

import structlog

from alerts import trend
from alerts.channels import AppriseChannel, TopicChannel
from alerts.courier import Channel, Courier, Outbox
from alerts.lifecycle import suppressed_by
from alerts.messages import Message, word
from alerts.notify import Notifier
from alerts.routing import Routing, load_routing
from alerts.rules import Rule
from alerts.webhook import Webhook
from devices.alarm import AlarmChange, Announcement, DueAnnouncement, Suppression, SuppressionKind
from devices.document import DocumentError
from devices.errors import UnavailableError
from devices.model import Device, instant
from headworks import clock
from headworks.dispatching import Dispatcher
from headworks.session import Session
from headworks.settings import Settings, SettingsError
from ingest.mqtt import Broker
from storage import api_queries_plant, lifecycle, notification, outbox, registry
from storage.database import Connection

log = structlog.get_logger()

SUPPRESSIONS_SECONDS = 2.0
"""How old the knowledge of what is shelved may be when an alarm is announced."""
TREND_POINTS = 300
"""Points of the trend that goes with a message."""
DEAD_SECONDS = 30.0
"""How often dead letters are counted for the health check."""


def webhook_of(settings: Settings) -> Webhook | None:
    """The webhook that the settings name; None where they name none."""
    if settings.webhook_url is None:
        return None
    secret = settings.webhook_secret
    return Webhook(settings.webhook_url.get_secret_value(), clock.now, secret.get_secret_value() if secret else None)


class Closable(Channel, Protocol):
    """A channel that may hold a connection."""

    def close(self) -> None:
        """Give it back."""
        ...


def routing_of(settings: Settings) -> Routing | None:
    """The routing file that the settings name; None where they name none. `SettingsError` where it is not valid."""
    path = settings.routing
    if path is None:
        return None
    try:
        return load_routing(path.read_text("utf-8"), str(path), os.environ)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"HEADWORKS_ROUTING: {error}") from None
    except DocumentError as error:
        raise SettingsError(f"HEADWORKS_ROUTING: the file is not valid\n{error}") from None


Picture = Callable[[Mapping[str, Any], str], bytes | None]
"""From an announcement and a time zone to its trend as PNG; None where there is none."""


def channels_of(
    routing: Routing, broker: Broker | None, picture: Picture | None = None, console: str | None = None
) -> dict[str, Closable]:
    """The channels of a routing file. `SettingsError` where an address is none; it is not shown. `console` is where
    people reach the console: messages lead there, unless the file has a link of its own."""
    link = routing.link or (f"{console}/#/alarms/of/{{device}}/{{rule}}" if console else "")
    found: dict[str, Closable] = {}
    for name, entry in routing.channels.items():
        try:
            if entry.apprise is not None:
                found[name] = AppriseChannel(
                    name, entry.apprise, _wording(routing, name, link), _drawing(routing, picture)
                )
            elif entry.webhook is not None:
                found[name] = Webhook(entry.webhook, clock.now, entry.secret)
            elif entry.mqtt is not None and broker is not None:
                found[name] = _topic(name, entry.mqtt, broker)
            else:
                raise ValueError("it needs the broker, of which this does not know")
        except ValueError as error:
            raise SettingsError(f"HEADWORKS_ROUTING: the channel ‘{name}’: {error}") from None
    return found


def _wording(routing: Routing, channel: str, link: str) -> Callable[[str, Mapping[str, Any]], Message]:
    return lambda key, told: word(told, key, routing.language_of(channel, told), routing.zone_of(told), link)


def _drawing(routing: Routing, picture: Picture | None) -> Callable[[Mapping[str, Any]], bytes | None] | None:
    return None if picture is None else lambda told: picture(told, routing.zone_of(told))


def trend_of(connection: Connection, told: Mapping[str, Any], zone: str) -> bytes | None:
    """The trend of the metric that a raised alarm is about, as PNG with times in `zone`; None where there is none."""
    metric, device = told.get("metric"), told["device"]["identity"]
    if told["event"] != "raised" or not metric:
        return None
    since, announced = (instant(datetime.fromisoformat(told[name])) for name in ("since", "announced_at"))
    entry = registry.find(connection, [device]).get(device)
    if entry is None:
        return None
    begin, end = trend.window(since, announced)
    found = api_queries_plant.series(connection, entry.device_id, metric, begin, end + 1, TREND_POINTS)
    limit = told.get("limit") or {}
    course = trend.Trend(
        [instant(point.at) for point in found.points],
        [point.value for point in found.points],
        limit.get("value"),
        since,
    )
    return trend.draw(course, zone) if len(course.at) > 1 else None


def _topic(name: str, topic: str, broker: Broker) -> TopicChannel:
    return TopicChannel(
        topic,
        lambda: broker.client(f"headworks-notify-{name}-{os.getpid()}", clean=True),
        lambda client: client.connect_async(broker.host, broker.port, **broker.connect_options(clean=True)),
    )


class Telling:
    """Words announcements for the engine, which puts them into the outbox, and has them carried to their receivers."""

    def __init__(
        self, settings: Settings, database_url: str, rules: Sequence[Rule], broker: Broker | None = None
    ) -> None:
        self._notifier = Notifier(rules, clock.now, self._suppressed)
        self._lookup = Session(database_url, "headworks suppressions")
        self._carrying = Session(database_url, "headworks courier")
        self._suppressions: list[Suppression] = []
        self._asked_at = float("-inf")
        self._channels: dict[str, Closable] = {}
        webhook = webhook_of(settings)
        if webhook is not None:
            self._channels["webhook"] = webhook
        self._put_into = list(self._channels)
        self._dispatcher: Dispatcher | None = None
        routing = routing_of(settings)
        if routing is not None:
            self._channels |= channels_of(routing, broker, self._trend, settings.console_url)
            self._put_into.append(notification.DISPATCH)
            self._dispatching = Session(database_url, "headworks dispatcher")
            self._dispatcher = Dispatcher(routing, self._dispatching, clock.now, self._wake)
        self._couriers = {name: Courier(name, one, self._outbox(name)) for name, one in self._channels.items()}
        self._dead = 0
        self._counted_at = float("-inf")

    @property
    def channels(self) -> list[str]:
        """The channels that announcements are put into the outbox for."""
        return self._put_into

    def start(self) -> None:
        """Begin to route and to deliver."""
        if self._dispatcher is not None:
            self._strand()
            self._dispatcher.start()
        for courier in self._couriers.values():
            courier.start()

    def close(self, timeout: float) -> None:
        """Stop delivering; what is left stays in the outbox."""
        if self._dispatcher is not None:
            self._dispatcher.close(timeout)
            self._dispatching.close()
        for courier in self._couriers.values():
            courier.close(timeout)
        for channel in self._channels.values():
            channel.close()
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
            if self._dispatcher is not None:
                self._dispatcher.wake()
            self._wake()

    def _wake(self) -> None:
        for courier in self._couriers.values():
            courier.wake()

    def _strand(self) -> None:
        """What waits for channels that the file does not name any more must not wait for ever."""
        known = [*self._couriers, notification.DISPATCH]
        try:
            if count := self._lookup.run(lambda connection: outbox.strand(connection, known)):
                log.error("courier.stranded", count=count, hint="`headworks notify dead` lists them")
        except UnavailableError:
            log.warning("courier.waiting", why="the database is away; what waits for old channels is not looked for")

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

    def _trend(self, told: Mapping[str, Any], zone: str) -> bytes | None:
        try:
            return self._carrying.run(lambda connection: trend_of(connection, told, zone))
        except UnavailableError:
            return None  # the message goes without it

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
