"""A Sparkplug B edge node and its devices on a connection of its own: births, data by alias, numbers, deaths.

After the Sparkplug 3.0 specification: NBIRTH has `seq` 0 and the `bdSeq` of the will (NDEATH), every message after it
the next number modulo 256; a rebirth is asked for by NCMD. It sends with QoS 0, so nobody promises anything: it keeps
what it has to say until the host application says in STATE that it is there.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from devices.codecs.sparkplug_schema import Payload
from devices.model import Instant
from simulators.coap_client import NoAnswerError
from simulators.contacts import Contact
from simulators.firmware import Unit, Written
from simulators.links import Sent
from simulators.speech import birth_metrics

_UINT64, _BOOLEAN = 8, 11
_REBIRTH = b"Node Control/Rebirth"
_PATIENCE = 10.0
"""Seconds that a message waits for the host to be there."""


class SparkplugNode:
    """An edge node `group/node`. `first` has the values that each device is born with, by identity and metric."""

    def __init__(
        self, url: str, name: str, units: list[Unit], first: dict[str, dict[str, float]], now: Callable[[], Instant]
    ) -> None:
        parts = urlsplit(url)
        self._group, self._node = name.split("/")
        self._units, self._first, self._now = units, first, now
        self._host, self._port, self._tls = parts.hostname or "", parts.port, parts.scheme == "mqtts"
        self._sequence = 0
        # Every life of the process begins at another number, so that the will of the last one means nothing.
        self._births = now() // 1000 % 256
        self._lock = threading.RLock()
        self._online = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"headworks-simulator-{name}")
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if self._tls:
            self._client.tls_set(parse_qs(parts.query).get("ca", [None])[0])

    def open(self) -> None:
        """Connect and be born; `OSError` where the broker cannot be reached."""
        self._client.will_set(self._topic("NDEATH"), self._death(), qos=1)
        try:
            self._client.connect(self._host, self._port or (8883 if self._tls else 1883), keepalive=30)
        except OSError as error:
            raise OSError(f"the MQTT broker at {self._host}:{self._port} cannot be reached: {error}") from error
        self._client.loop_start()

    def close(self) -> None:
        """Die in order: the will is not said after a farewell, so it is said before."""
        self._client.publish(self._topic("NDEATH"), self._death(), qos=1).wait_for_publish(5)
        self._client.disconnect()
        self._client.loop_stop()

    async def send(self, unit: Unit, payload: bytes) -> Sent:
        """Send a device's data; `NoAnswerError` while no host is on line."""
        if not await asyncio.to_thread(self._online.wait, _PATIENCE):
            raise NoAnswerError("no Sparkplug host is on line: start the platform with HEADWORKS_SPARKPLUG_HOST")
        with self._lock:
            # Fields of a protobuf message may follow in any order, so the number of this life goes behind.
            octets = payload + self._next().SerializeToString()
            info = self._client.publish(self._topic("DDATA", unit.tag), octets, qos=0)
        try:
            await asyncio.to_thread(info.wait_for_publish, _PATIENCE)
            published = info.is_published()
        except RuntimeError:  # paho's word for a connection that is no more
            published = False
        if not published:
            raise NoAnswerError("the broker is away")
        return Sent("QoS 0", stored=False)

    def _topic(self, kind: str, device: str = "") -> str:
        return "/".join(["spBv1.0", self._group, kind, self._node, *([device] if device else [])])

    def _death(self) -> bytes:
        payload = Payload(timestamp=self._now() // 1000)
        payload.metrics.add(name=b"bdSeq", datatype=_UINT64, long_value=self._births)
        return bytes(payload.SerializeToString())

    def _next(self) -> Any:
        self._sequence = (self._sequence + 1) % 256
        return Payload(seq=self._sequence)

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([("spBv1.0/STATE/+", 1), (f"spBv1.0/{self._group}/NCMD/{self._node}", 1)])
        self._be_born()

    def _on_disconnect(self, client: mqtt.Client, *_: object) -> None:
        # Whether a host is there is not known without a broker. The next connection is another life, and its will has
        # the number of that one.
        self._online.clear()
        self._births = (self._births + 1) % 256
        client.will_set(self._topic("NDEATH"), self._death(), qos=1)

    def _be_born(self) -> None:
        with self._lock:
            now = self._now()
            self._sequence = 0
            birth = Payload(timestamp=now // 1000, seq=0)
            birth.metrics.add(name=b"bdSeq", datatype=_UINT64, long_value=self._births)
            birth.metrics.add(name=_REBIRTH, datatype=_BOOLEAN, boolean_value=False)
            self._client.publish(self._topic("NBIRTH"), birth.SerializeToString(), qos=0)
            for unit in self._units:
                identity = unit.device.identity
                payload = self._next()
                payload.timestamp = now // 1000
                birth_metrics(payload, identity, self._first[identity], now)
                self._client.publish(self._topic("DBIRTH", unit.tag), payload.SerializeToString(), qos=0)

    def _on_message(self, _: mqtt.Client, __: object, message: mqtt.MQTTMessage) -> None:
        if message.topic.startswith("spBv1.0/STATE/"):
            try:
                online = bool(json.loads(message.payload)["online"])
            except (ValueError, KeyError, TypeError):
                return
            if online:
                self._online.set()
            else:
                self._online.clear()
        elif any(metric.name == _REBIRTH for metric in Payload.FromString(message.payload).metrics):
            self._be_born()


class SparkplugLink:
    """A device behind an edge node, which whoever shares it out opens and closes."""

    def __init__(self, unit: Unit, node: SparkplugNode) -> None:
        self._unit, self._node = unit, node

    async def open(self) -> None:
        """See above."""

    async def send(self, written: Written, contact: Contact) -> Sent:
        """Hand over its data."""
        return await self._node.send(self._unit, written.payload)

    async def close(self) -> None:
        """See above."""
