"""The ways from a replay to the gateways: uplinks out by CoAP or MQTT, many at once, each until its final answer."""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass
from secrets import token_hex
from urllib.parse import urlsplit

from devices.model import Codec, ContentFormat, Transport, Uplink
from simulators.coap_client import Answer, CoapClient, NoAnswerError
from simulators.mqtt_client import MqttClient, Puback
from simulators.sparkplug_lives import place_of
from simulators.sparkplug_replay import Sessions

_COAP_SOCKETS = 4
_MQTT_WINDOW = 16
"""Uplinks under way at once. Each socket has one (NSTART of RFC 7252); a broker takes more."""
_NOBODY_SECONDS = 1.0
_NOBODY_TRIES = 10
"""How often, and how long apart, MQTT uplinks are sent again that the broker had nobody to give to."""

_TOPICS = {
    None: "headworks/{}/telemetry",
    Codec.SENML: "headworks/{}/telemetry",
    Codec.FRAME: "headworks/{}/telemetry",
    Codec.IOTDA: "$oc/devices/{}/sys/properties/report",
    Codec.IOTDA_GATEWAY: "$oc/devices/{}/sys/gateway/sub_devices/properties/report",
    Codec.THINGSBOARD: "v1/devices/{}/telemetry",
    Codec.THINGSBOARD_GATEWAY: "v1/gateway/telemetry",
}
"""Where an uplink of a codec is published. Sparkplug is a session and not a message: `sparkplug_replay`."""
_CONTENT_TYPES = {
    ContentFormat.OCTET_STREAM: "application/octet-stream",
    ContentFormat.SENML_JSON: "application/senml+json",
    ContentFormat.SENML_CBOR: "application/senml+cbor",
}
_UNKNOWN_TYPE = "application/vnd.unknown"
_BLOCK = 1024
"""Bytes of a block (RFC 7959) where a payload is longer, as it was when its blocks were put together or not."""
_INCOMPLETE = "4.08"
"""The gateway has forgotten the blocks before, as it was restarted: the transfer begins anew."""
_ANEW = 5
"""So often; a gateway that goes on saying so has rejected it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach the platform: by CoAP (host, port), by MQTT, or both, each for what came by it."""

    coap: tuple[str, int] | None = None
    mqtt_url: str | None = None

    def __post_init__(self) -> None:
        if self.coap is None and self.mqtt_url is None:
            raise ValueError("a replay goes by CoAP or by MQTT: name one")

    @property
    def target(self) -> str:
        """Where it leads, without a password."""
        found = []
        if self.coap is not None:
            found.append(f"coap://{self.coap[0]}:{self.coap[1]}")
        if self.mqtt_url is not None:
            parts = urlsplit(self.mqtt_url)
            found.append(f"{parts.scheme}://{parts.hostname}:{parts.port}")
        return " ".join(found)


class Sender:
    """Keeps the order of each device by CoAP."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._lanes: list[tuple[CoapClient, asyncio.Lock]] = []
        self._window = asyncio.Semaphore(_MQTT_WINDOW)
        self._mqtt = MqttClient(way.mqtt_url, f"headworks-replay-{token_hex(4)}") if way.mqtt_url else None
        self.sessions = Sessions(way.mqtt_url, way.target) if way.mqtt_url else None
        """Of Sparkplug's edge nodes."""

    async def open(self) -> None:
        """Connect; `OSError` where that is not possible."""
        if self._mqtt is not None:
            await asyncio.to_thread(self._mqtt.open)
        if self._way.coap is not None:
            for _ in range(_COAP_SOCKETS):
                client = CoapClient(random.Random())  # noqa: S311 - message ids and jitter
                await client.open(*self._way.coap)
                self._lanes.append((client, asyncio.Lock()))

    async def close(self) -> None:
        """Leave in order."""
        for client, _ in self._lanes:
            client.close()
        if self.sessions is not None:
            await self.sessions.close()
        if self._mqtt is not None:
            await asyncio.to_thread(self._mqtt.close)

    def transport(self, uplink: Uplink) -> Transport:
        """The way an uplink takes: the one it came by, where there is a choice."""
        if self._mqtt is not None and (uplink.transport is Transport.MQTT or not self._lanes):
            return Transport.MQTT
        return Transport.COAP

    def can_send(self, uplink: Uplink) -> bool:
        """Whether there is a message that this uplink can be."""
        if uplink.codec is Codec.SPARKPLUG:
            return self.sessions is not None and place_of(uplink) is not None
        if self.transport(uplink) is Transport.COAP:
            return uplink.codec in (None, Codec.SENML, Codec.FRAME)
        topic = _TOPICS.get(uplink.codec)
        return topic is not None and (uplink.identity is not None or "{}" not in topic)

    async def send(self, uplink: Uplink) -> Answer | Puback:
        """The final answer; `OSError` where there is nobody to give one."""
        if uplink.codec is Codec.SPARKPLUG and (place := place_of(uplink)) is not None:
            assert self.sessions is not None
            return await self.sessions.send(place, uplink)
        if self.transport(uplink) is Transport.MQTT:
            assert self._mqtt is not None
            async with self._window:
                return await self._by_mqtt(self._mqtt, uplink)
        client, lock = self._lanes[zlib.crc32((uplink.identity or uplink.source).encode()) % len(self._lanes)]
        async with lock:
            return await self._by_coap(client, uplink)

    async def _by_coap(self, client: CoapClient, uplink: Uplink) -> Answer:
        anew = 0
        content_format = uplink.content_format if (uplink.content_format or 0) >= 0 else None
        while True:
            try:
                answer = await client.post(
                    uplink.identity or "", content_format, uplink.payload, at_root=uplink.identity is None, block=_BLOCK
                )
            except NoAnswerError as error:
                raise OSError(
                    f"the CoAP gateway at {self._way.target} does not answer; is the platform running? (`headworks up`)"
                ) from error
            if answer.code == _INCOMPLETE and anew < _ANEW:
                anew += 1
                continue
            if not answer.later:
                return answer
            await asyncio.sleep(max(0.1, answer.max_age))

    async def _by_mqtt(self, client: MqttClient, uplink: Uplink) -> Puback:
        topic = _TOPICS[uplink.codec].format(uplink.identity)
        kind = None
        if uplink.transport is Transport.MQTT and uplink.content_format is not None:
            kind = _CONTENT_TYPES.get(ContentFormat(uplink.content_format)) if uplink.content_format > 0 else None
            kind = kind or _UNKNOWN_TYPE
        for _ in range(_NOBODY_TRIES):
            answer = await client.send(topic, uplink.payload, kind)
            if not answer.later:
                return answer
            await asyncio.sleep(_NOBODY_SECONDS)
        raise OSError(
            f"the broker at {self._way.target} has nobody to give the data to ({answer.code}); "
            "is the platform running? (`headworks up`)"
        )
