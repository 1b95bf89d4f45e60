"""The ways out that a routing file may name: Apprise, topics at the broker. Signed webhooks are in `alerts.webhook`.

Each makes one attempt; when to try, and again, is `alerts.courier`'s business. No address is ever logged: it may hold
secrets.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from alerts.messages import Message
from alerts.webhook import Attempt, Outcome

log = structlog.get_logger()

PUBLISH_SECONDS = 10.0


class AppriseChannel:
    """Sends by one Apprise URL. `ValueError` for one that Apprise does not know, without showing it."""

    def __init__(
        self,
        name: str,
        url: str,
        word: Callable[[str, Mapping[str, Any]], Message],
        picture: Callable[[Mapping[str, Any]], bytes | None] | None = None,
    ) -> None:
        """`picture` gives the trend of an announcement as PNG, None where there is none; it may raise."""
        import apprise  # half a second that most commands have no use for
        from apprise.attachment.memory import AttachMemory

        # Apprise writes addresses and answers to its own log, credentials and all.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        self._to = apprise.Apprise()
        self._kinds = apprise.NotifyType.SUCCESS, apprise.NotifyType.WARNING
        self._text = apprise.NotifyFormat.TEXT
        if not self._to.add(url):
            raise ValueError("Apprise knows no such address (it is not shown, as it may hold a secret)")
        self._word = word
        self._picture = picture if any(server.attachment_support for server in self._to) else None
        self._attachment = AttachMemory
        self.receiver = f"{url.split(':', 1)[0]}://… ({name})"

    def send(self, key: str, told: Mapping[str, Any]) -> Attempt:
        """Send it once; never raises."""
        try:
            message = self._word(key, told)
            kind = self._kinds[told["event"] != "returned"]
            done = self._to.notify(
                title=message.subject,
                body=message.body,
                notify_type=kind,
                body_format=self._text,
                attach=self._drawn(told),
            )
        except Exception as error:
            log.exception("channel.defect", receiver=self.receiver)
            return Attempt(Outcome.REFUSED, type(error).__name__)
        return Attempt(Outcome.DELIVERED) if done else Attempt(Outcome.FAILED, "it was not taken")

    def _drawn(self, told: Mapping[str, Any]) -> Any:
        """The picture as an attachment; a message without one is better than none, so what fails is only logged."""
        if self._picture is None:
            return None
        try:
            png = self._picture(told)
        except Exception:
            log.exception("channel.no_picture", receiver=self.receiver)
            return None
        return None if png is None else self._attachment(content=png, name="trend.png", mimetype="image/png")  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Nothing is kept open."""


class TopicChannel:
    """Publishes at a broker with QoS 1: the announcement as JSON, its key as the user property `idempotency-key`."""

    def __init__(self, topic: str, make: Callable[[], Client], connect: Callable[[Client], None]) -> None:
        """`make` gives a client with its credentials; `connect` begins to connect it."""
        self._topic = topic
        self._make = make
        self._connect = connect
        self._client: Client | None = None
        self._online = threading.Event()
        self.receiver = f"topic {topic}"

    def send(self, key: str, told: Mapping[str, Any]) -> Attempt:
        """Publish it once; never raises."""
        try:
            client = self._started()
            if not self._online.wait(PUBLISH_SECONDS):
                return Attempt(Outcome.UNREACHABLE, "the broker is not connected")
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = "application/json"
            properties.UserProperty = ("idempotency-key", key)
            body = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
            has_properties = client.protocol == MQTTv5
            sent = client.publish(self.topic(told), body, qos=1, properties=properties if has_properties else None)
            sent.wait_for_publish(PUBLISH_SECONDS)
            if not sent.is_published():
                return Attempt(Outcome.UNREACHABLE, "the broker did not acknowledge it in time")
        except (OSError, RuntimeError) as error:
            return Attempt(Outcome.UNREACHABLE, type(error).__name__)
        except Exception as error:
            log.exception("channel.defect", receiver=self.receiver)
            return Attempt(Outcome.REFUSED, type(error).__name__)
        return Attempt(Outcome.DELIVERED)

    def topic(self, told: Mapping[str, Any]) -> str:
        """The topic of an announcement; `/`, `+` and `#` in a name become `_`, what is empty `-`."""
        device = told["device"]
        fields = {name: device.get(name) or "" for name in ("site", "area", "unit", "tag")}
        fields |= {name: str(told.get(name) or "") for name in ("priority", "rule", "event")}
        clean = str.maketrans("/+#\0", "____")
        return self._topic.format_map({name: value.translate(clean) or "-" for name, value in fields.items()})

    def close(self) -> None:
        """Leave the broker."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def _started(self) -> Client:
        if self._client is None:
            client = self._make()
            client.on_connect = lambda *_: self._online.set()
            client.on_disconnect = lambda *_: self._online.clear()
            self._connect(client)
            client.loop_start()
            self._client = client
        return self._client
