"""The MQTT gateway: subscribes on the site's broker and acknowledges (PUBACK) only what is committed.

paho-mqtt with `manual_ack` and a persistent session under a stable client id: while we or the database are away, the
broker keeps the messages; what was not acknowledged comes again. Flow control is MQTT's own: the broker sends at most
`receive_maximum` unacknowledged messages.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from devices.model import ContentFormat, Instant, Transport, Uplink
from ingest import counters
from ingest.outcome import STORED, Outcome, Verdict
from ingest.pipeline import Done
from ingest.topics import FILTERS, address_of

log = structlog.get_logger()

SHARED = "$share/headworks/"
"""Before a filter, for several gateways on one broker: each message goes to one of them."""
CLIENT_ID = "headworks-ingest"
RECEIVE_MAXIMUM = 2_000
"""Unacknowledged messages the broker may have under way to us: several commits' worth, and a bound on our memory."""
SESSION_EXPIRY = 7 * 24 * 3600
"""Seconds the broker keeps our session: a week's outage loses nothing, as far as its disk goes."""

Submit = Callable[[Uplink, Done], None]

_FORMATS = {
    "application/octet-stream": ContentFormat.OCTET_STREAM,
    "application/senml+json": ContentFormat.SENML_JSON,
    "application/senml+cbor": ContentFormat.SENML_CBOR,
}
_UNKNOWN_FORMAT = -1


_VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is, from an URL `mqtt://[user:password@]host[:port]` or `mqtts://…`.

    The query may say `version=3.1.1` for a broker that does not speak MQTT 5, and `ca=FILE` for a certificate authority
    of the site's own.
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    ca: str | None = None

    @classmethod
    def parse(cls, url: str) -> Broker:
        """`ValueError` saying what is wrong; never with the password in it."""
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError("an MQTT address looks like mqtt://host:1883 or mqtts://user:password@host:8883")
        tls = parts.scheme == "mqtts"
        asked = parse_qs(parts.query)
        version = _VERSIONS.get(asked.pop("version", ["5"])[0])
        ca = asked.pop("ca", [None])[0]
        if version is None or asked or (ca and not tls):
            raise ValueError("what follows the ? of an MQTT address is version=5 or =3.1.1, and ca=FILE with mqtts")
        return cls(
            parts.hostname,
            parts.port or (8883 if tls else 1883),
            tls,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            version,
            ca,
        )

    def client(self, client_id: str, *, clean: bool, manual_ack: bool = False) -> mqtt.Client:
        """A client for it, not connected yet; with `clean` its session ends with its connection."""
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean if self.version is MQTTProtocolVersion.MQTTv311 else None,
            protocol=self.version,
            manual_ack=manual_ack,
        )
        if self.username is not None:
            client.username_pw_set(self.username, self.password)
        if self.tls:
            client.tls_set(self.ca)
        return client

    def connect_options(
        self, *, clean: bool, receive_maximum: int | None = None, session_expiry: int = 0
    ) -> dict[str, Any]:
        """How that client connects. MQTT 3.1.1 has no such bounds: there the broker's own setting decides how many
        messages are under way, and for how long it keeps a session."""
        if self.version is MQTTProtocolVersion.MQTTv311:
            return {}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        if receive_maximum is not None:
            properties.ReceiveMaximum = receive_maximum
        if session_expiry:
            properties.SessionExpiryInterval = session_expiry
        return {"clean_start": clean, "properties": properties}


class MqttGateway:
    """One subscriber session. Callbacks run in paho's network thread, acknowledgements in the pipeline's."""

    def __init__(
        self,
        broker: Broker,
        submit: Submit,
        clock: Callable[[], Instant],
        *,
        instance: str = "",
        filters: Sequence[str] = FILTERS,
    ) -> None:
        # The session, and what the broker keeps for it, belongs to the client id: it must be the same after a restart,
        # and another one for each instance.
        client_id = f"{CLIENT_ID}-{instance}" if instance else CLIENT_ID
        self._filters = [SHARED + one if instance else one for one in filters]
        self._broker = broker
        self._submit = submit
        self._clock = clock
        # A packet identifier means something only on the connection it came by. After a reconnect the broker may have
        # given it to another message, and acknowledging that one unread would lose it.
        self._generation = 0
        self._lock = threading.Lock()
        self._subscribed = False
        self._client = broker.client(client_id, clean=False, manual_ack=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        # paho doubles the pause from the first to the second; that these differ from process to process keeps several
        # gateways from coming back in step after the broker was away.
        self._client.reconnect_delay_set(min_delay=random.randint(1, 3), max_delay=random.randint(20, 40))  # noqa: S311

    def start(self) -> None:
        """Connect in the background and keep trying; returns at once."""
        options = self._broker.connect_options(
            clean=False, receive_maximum=RECEIVE_MAXIMUM, session_expiry=SESSION_EXPIRY
        )
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=30, **options)
        self._client.loop_start()

    def close(self) -> None:
        """Leave the broker in order; the session stays there, and so does what was not acknowledged."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def connected(self) -> bool:
        """Whether the broker has us as a subscriber now."""
        return self._subscribed and self._client.is_connected()

    def _on_connect(
        self, client: mqtt.Client, _: object, flags: mqtt.ConnectFlags, reason: ReasonCode, __: Properties | None
    ) -> None:
        if reason.is_failure:
            log.warning("mqtt.refused", broker=f"{self._broker.host}:{self._broker.port}", reason=str(reason))
            return
        with self._lock:
            self._generation += 1
        log.info("mqtt.connected", broker=f"{self._broker.host}:{self._broker.port}", resumed=flags.session_present)
        client.subscribe([(one, 1) for one in self._filters])

    def _on_subscribe(
        self, _: mqtt.Client, __: object, ___: int, reasons: list[ReasonCode], ____: Properties | None
    ) -> None:
        refused = [(one, str(reason)) for one, reason in zip(self._filters, reasons, strict=False) if reason.is_failure]
        for one, why in refused:
            log.warning("mqtt.subscription_refused", filter=one, reason=why, hint="check the broker's ACL")
        if refused:
            return
        self._subscribed = True
        counters.BROKER_CONNECTED.set(1)

    def _on_disconnect(
        self, _: mqtt.Client, __: object, ___: mqtt.DisconnectFlags, reason: ReasonCode, ____: Properties | None
    ) -> None:
        with self._lock:
            self._generation += 1
        self._subscribed = False
        counters.BROKER_CONNECTED.set(0)
        log.warning("mqtt.disconnected", reason=str(reason))

    def _on_message(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        generation = self._generation
        mid, qos = message.mid, message.qos

        def done(outcome: Outcome) -> None:
            if outcome.verdict is Verdict.UNAVAILABLE or qos == 0:
                return  # not acknowledged: the broker keeps it
            with self._lock:
                if generation != self._generation:
                    counters.STALE_ACKS.inc()  # it comes again on the new connection, and is recognised
                    return
                client.ack(mid, qos)

        uplink = uplink_of(message, self._clock())
        if uplink is None:
            # A filter of the site's own that is wider than what we know: not ours to keep, and not to come again.
            counters.MQTT_FOREIGN.inc()
            done(STORED)
            return
        self._submit(uplink, done)


def uplink_of(message: mqtt.MQTTMessage, received_at: Instant) -> Uplink | None:
    """The uplink that a message is, by its topic; None where that means nothing here."""
    topic = message.topic
    address = address_of(topic)
    if address is None:
        return None
    content_type = getattr(message.properties, "ContentType", None)
    return Uplink(
        transport=Transport.MQTT,
        payload=bytes(message.payload),
        received_at=received_at,
        identity=address.identity,
        content_format=content_format_of(content_type),
        source=topic,
        codec=address.codec,
    )


def content_format_of(content_type: str | None) -> int | None:
    """The CoAP number of an MQTT content type; one that no codec takes where it is not known here."""
    return None if content_type is None else _FORMATS.get(str(content_type).lower(), _UNKNOWN_FORMAT)
