"""A unit's way to the platform, by the stack that its fleet speaks: one call hands over one uplink and waits for the
answer. CoAP, CoAP with OSCORE, MQTT at the broker, and the MQTT door for ThingsBoard's and Huawei IoTDA's devices;
Sparkplug's edge nodes are in `sparkplug_node`.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import aiocoap
from aiocoap.numbers.constants import TransportTuning
from aiocoap.oscore import FilesystemSecurityContext

from devices.codecs import iotda
from devices.credential import OscoreKeys
from devices.model import SECOND
from simulators import scenario
from simulators.coap_client import Answer, CoapClient, NoAnswerError
from simulators.contacts import Contact
from simulators.firmware import Unit, Written
from simulators.mqtt_client import MqttClient
from simulators.nbiot import MAX_RETRANSMIT, Radio, fate
from simulators.speech import CONTENT_FORMATS

_CONTENT_TYPES = {
    scenario.Format.JSON: "application/senml+json",
    scenario.Format.CBOR: "application/senml+cbor",
    scenario.Format.FRAME: "application/octet-stream",
}
_LEAST_TIMEOUT = 0.3
"""Seconds: below this a busy machine looks like a lossy radio."""
_INCOMPLETE = "4.08"
"""Request Entity Incomplete (RFC 7959): the gateway has forgotten the blocks before; the transfer begins anew."""


class Sent(NamedTuple):
    """How an uplink ended."""

    code: str
    """The CoAP code, `PUBACK` or the broker's reason; `QoS 0` where nobody answers."""
    stored: bool
    later: bool = False
    """Whether the same may succeed later."""
    max_age: float = 0.0
    """Seconds after which the gateway wants to be asked again."""


class Link(Protocol):
    """A unit's stack."""

    async def open(self) -> None:
        """Get ready; `OSError` where the other side cannot be reached."""

    async def send(self, written: Written, contact: Contact) -> Sent:
        """Hand over an uplink; `NoAnswerError` where nobody answers."""

    async def close(self) -> None:
        """Let go of sockets."""


@dataclass(slots=True)
class Way:
    """What the links of a run share."""

    coap: tuple[str, int]
    mqtt_url: str
    door_url: str
    """Of the MQTT door; empty where there is none."""
    seed: int
    radio: Radio
    speed: float
    """Times real time; 0 is as fast as acknowledged."""
    state: Path
    """A folder for OSCORE's sequence numbers."""
    retransmitted: int = 0

    def seconds(self, plant_seconds: float) -> float:
        """A timeout on the wall clock: shorter as the plant's time is faster."""
        return max(plant_seconds / self.speed if self.speed > 0 else 0.0, _LEAST_TIMEOUT)


class CoapLink:
    """Plain CoAP from a port of its own, in blocks where the fleet says so."""

    def __init__(self, way: Way, unit: Unit) -> None:
        self._way, self._unit = way, unit
        level_0 = way.seconds(way.radio.timeout(0))
        rng = random.Random(f"{way.seed}/{unit.tag}")  # noqa: S311 - message ids and jitter
        self._client = CoapClient(rng, level_0)

    async def open(self) -> None:
        """See `Link`."""
        await self._client.open(*self._way.coap)

    async def send(self, written: Written, contact: Contact) -> Sent:
        """See `Link`."""
        way, unit = self._way, self._unit
        if contact.new_port:
            await self._client.rebind()
        self._client.ack_timeout = way.seconds(way.radio.timeout(contact.level))
        self._client.fate = lambda block, attempt: fate(
            way.radio, way.seed, unit.tag, written.due + block * SECOND, contact.first_attempt + attempt, contact.level
        )
        before = self._client.retransmissions
        try:
            answer = await self._client.post(
                unit.device.identity, CONTENT_FORMATS[unit.form], written.payload, block=unit.fleet.block
            )
        finally:
            way.retransmitted += self._client.retransmissions - before
        return _of_answer(answer)

    async def close(self) -> None:
        """See `Link`."""
        self._client.close()


class OscoreLink:
    """CoAP under OSCORE by aiocoap's client, with its context on disk, as a device has it in flash.

    aiocoap retransmits by itself; a loss on the way out is made before it, by waiting as long as it would have.
    """

    def __init__(self, way: Way, unit: Unit, keys: OscoreKeys) -> None:
        self._way, self._unit = way, unit
        self._folder = way.state / f"oscore-{keys.device_id.hex()}"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            "sender-id_hex": keys.device_id.hex(),
            "recipient-id_hex": keys.server_id.hex(),
            "secret_hex": keys.secret.hex(),
            "salt_hex": keys.salt.hex(),
        }
        path = self._folder / "settings.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(settings), "utf-8")
        host, port = way.coap
        self._address = f"coap://[{host}]:{port}" if ":" in host else f"coap://{host}:{port}"
        self._held: FilesystemSecurityContext | None = None
        self._client: aiocoap.Context | None = None

    async def open(self) -> None:
        """See `Link`."""
        self._held = FilesystemSecurityContext(str(self._folder))
        await self._connect()

    async def _connect(self) -> None:
        if self._client is not None:
            await self._client.shutdown()
            self._client.client_credentials.clear()
        self._client = await aiocoap.Context.create_client_context()
        self._client.client_credentials[f"{self._address}/*"] = self._held

    async def send(self, written: Written, contact: Contact) -> Sent:
        """See `Link`."""
        way, unit = self._way, self._unit
        if contact.new_port:
            await self._connect()
        assert self._client is not None
        pause = way.seconds(way.radio.timeout(contact.level))
        for attempt in range(MAX_RETRANSMIT + 1):
            number = contact.first_attempt + attempt
            if not fate(way.radio, way.seed, unit.tag, written.due, number, contact.level).uplink_lost:
                break
            way.retransmitted += 1
            await asyncio.sleep(pause * 2**attempt)
        else:
            raise NoAnswerError("every transmission was lost")
        message = aiocoap.Message(
            code=aiocoap.POST,
            uri=f"{self._address}/telemetry/{unit.device.identity}",
            payload=written.payload,
            content_format=int(CONTENT_FORMATS[unit.form]),
            transport_tuning=_tuning(pause),
        )
        try:
            answer = await self._client.request(message).response
        except aiocoap.error.Error as error:
            raise NoAnswerError(str(error) or type(error).__name__) from error
        code = answer.code.dotted
        return _of_answer(Answer(code, answer.opt.max_age or 60, answer.payload.decode("utf-8", "replace")))

    async def close(self) -> None:
        """See `Link`."""
        if self._client is not None:
            await self._client.shutdown()
            self._client.client_credentials.clear()
        if self._held is not None:
            self._held._destroy()  # it writes its numbers down and lets its lock go


class BrokerLink:
    """MQTT with QoS 1 over a connection that some units share, in the topic of the unit's own."""

    def __init__(self, unit: Unit, client: MqttClient) -> None:
        self._unit, self._client = unit, client

    async def open(self) -> None:
        """The connection is opened by whoever shares it out."""

    async def send(self, written: Written, contact: Contact) -> Sent:
        """See `Link`."""
        topic = f"headworks/{self._unit.device.identity}/telemetry"
        answer = await self._client.send(topic, written.payload, _CONTENT_TYPES[self._unit.form])
        return Sent(answer.code, answer.stored, answer.later)

    async def close(self) -> None:
        """See `open`."""


class DoorLink:
    """MQTT at the platform's own door, under the login of a ThingsBoard or an IoTDA device, on its topic."""

    def __init__(self, way: Way, unit: Unit, secret: str, now: datetime) -> None:
        identity = unit.device.identity
        if unit.fleet.protocol is scenario.Protocol.THINGSBOARD:
            self._topic, name, login = "v1/devices/me/telemetry", f"simulated {unit.tag}", (secret, None)
            self._client = MqttClient(way.door_url, name, login)
        else:
            self._topic = f"$oc/devices/{identity}/sys/properties/report"
            # As a device without a clock says it: its password is good for as long as the run goes on.
            name = iotda.client_id(identity, now)
            self._client = MqttClient(way.door_url, name, (identity, iotda.password(secret, now)))

    async def open(self) -> None:
        """See `Link`."""
        await asyncio.to_thread(self._client.open)

    async def send(self, written: Written, contact: Contact) -> Sent:
        """See `Link`."""
        answer = await self._client.send(self._topic, written.payload)
        return Sent(answer.code, answer.stored, answer.later)

    async def close(self) -> None:
        """See `Link`."""
        await asyncio.to_thread(self._client.close)


def _of_answer(answer: Answer) -> Sent:
    again = answer.later or answer.code == _INCOMPLETE
    return Sent(answer.code, answer.stored, again, float(answer.max_age) if answer.later else 0.0)


def _tuning(timeout: float) -> TransportTuning:
    tuning = TransportTuning()
    tuning.ACK_TIMEOUT = timeout
    return tuning
