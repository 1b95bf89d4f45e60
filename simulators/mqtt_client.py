"""An MQTT device's side: QoS 1 publishes on one connection, each awaited until the broker has it.

paho-mqtt keeps what is not acknowledged and sends it again after a reconnect; its network thread calls back into the
event loop here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_NO_SUBSCRIBERS = 0x10
"""PUBACK reason "no matching subscribers" (MQTT 5, section 3.4.2.1): a success by its number, but nobody has it."""
_TAKEN = (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN)
"""paho has the message: sent, or queued until it is connected again."""


class Puback(NamedTuple):
    """How a publish ended: `PUBACK`, or the reason in the broker's words."""

    code: str
    stored: bool
    later: bool
    """Whether the same message may succeed later."""

    def __bool__(self) -> bool:
        return self.stored


class MqttClient:
    """A connection shared by some devices."""

    def __init__(
        self,
        url: str,
        client_id: str,
        login: tuple[str, str | None] | None = None,
        *,
        will: tuple[str, bytes] | None = None,
        listen: tuple[str, Callable[[bytes], object]] | None = None,
    ) -> None:
        """`login` is a user name and password in place of those in the address, `will` a topic and what the broker says
        there when this connection breaks, `listen` a topic and who takes what comes there (in another thread)."""
        parts = urlsplit(url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError("an MQTT address looks like mqtt://host:1883 or mqtts://user:password@host:8883")
        self._host, self._tls = parts.hostname, parts.scheme == "mqtts"
        self._port = parts.port or (8883 if self._tls else 1883)
        # By packet identifier: who waits, or how it ended where the answer came before anybody waited. paho calls back
        # with its own locks held, so ours is never held while calling paho.
        self._waiting: dict[int, asyncio.Future[Puback]] = {}
        self._early: dict[int, Puback] = {}
        self._lock = threading.Lock()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_publish = self._on_publish
        if will is not None:
            self._client.will_set(*will, qos=1)
        if listen is not None:
            topic, take = listen
            self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
            self._client.on_message = lambda _, __, message: _hand(take, message)
        self._client.reconnect_delay_set(1, 10)
        if login is not None:
            self._client.username_pw_set(*login)
        elif parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if self._tls:
            self._client.tls_set(parse_qs(parts.query).get("ca", [None])[0])

    def open(self) -> None:
        """Connect; `OSError` where the broker cannot be reached."""
        try:
            self._client.connect(self._host, self._port, keepalive=30, clean_start=True)
        except OSError as error:
            raise OSError(f"the MQTT broker at {self._host}:{self._port} cannot be reached: {error}") from error
        self._client.loop_start()

    def close(self) -> None:
        """Leave the broker in order."""
        self._client.disconnect()
        self._client.loop_stop()

    async def publish(self, identity: str, payload: bytes) -> Puback:
        """Publish to the device's telemetry topic and wait for the broker's word."""
        return await self.send(f"headworks/{identity}/telemetry", payload)

    async def send(self, topic: str, payload: bytes, content_type: str | None = None) -> Puback:
        """Publish to any topic and wait for the broker's word."""
        future: asyncio.Future[Puback] = asyncio.get_running_loop().create_future()
        properties = None
        if content_type is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = content_type
        info = self._client.publish(topic, payload, qos=1, properties=properties)
        if info.rc not in _TAKEN:
            return Puback(mqtt.error_string(info.rc), stored=False, later=True)
        with self._lock:
            if info.mid in self._early:
                return self._early.pop(info.mid)
            self._waiting[info.mid] = future
        return await future

    def _on_publish(self, _: mqtt.Client, __: object, mid: int, reason: ReasonCode, ___: Properties | None) -> None:
        answer = _answer(reason)
        with self._lock:
            future = self._waiting.pop(mid, None)
            if future is None:
                self._early[mid] = answer
        if future is not None:
            future.get_loop().call_soon_threadsafe(_settle, future, answer)


def _hand(take: Callable[[bytes], object], message: mqtt.MQTTMessage) -> None:
    take(bytes(message.payload))


def _answer(reason: ReasonCode) -> Puback:
    if reason.value == _NO_SUBSCRIBERS:
        return Puback("PUBACK no matching subscribers", stored=False, later=True)
    if reason.is_failure:
        return Puback(f"PUBACK {reason}", stored=False, later=False)
    return Puback("PUBACK", stored=True, later=False)


def _settle(future: asyncio.Future[Puback], value: Puback) -> None:
    if not future.done():
        future.set_result(value)
