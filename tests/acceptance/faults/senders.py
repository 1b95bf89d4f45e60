"""Devices that send all the time, badly, and keep every acknowledgement they get.

They live in the tests' process, outside of everything that is killed. What they send is a function of (device, number),
so that a repeat is a repeat. Some uplinks come three days late and later, the rest in random order, and some of what
was acknowledged is sent again, from another address: all of that in every run.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from devices.codecs.senml import encode_cbor
from devices.model import DAY, MINUTE, SECOND, ContentFormat, Device, Instant, Measurement, Quality, Reading
from simulators.coap_client import CoapClient, NoAnswerError
from simulators.mqtt_client import MqttClient
from tests.integration.test_gateways import eventually

T0: Instant = 1_420_070_400 * SECOND
"""2015: a long run has years of sample time before it."""
STEP = 2 * MINUTE
SAMPLES = 4
DAYS = DAY // (STEP * SAMPLES)
"""Uplinks of a day of sample time."""

Key = tuple[str, str, Instant]


def fleet(count: int, first: int = 0) -> list[Device]:
    """Pumps with numbers of their own."""
    numbers = range(first, first + count)
    return [
        Device(f"urn:dev:imei:86700000001{n:04d}", "centrifugal-pump", tag=f"P-{n}", site="North", design={"pn": 16.0})
        for n in numbers
    ]


@dataclass(frozen=True, slots=True)
class Pack:
    """One uplink: eight readings over eight minutes."""

    device: str
    number: int

    @property
    def readings(self) -> list[Reading]:
        """What is to be stored of it."""
        hot = self.number % 10 in (4, 5, 6)
        found = []
        for i in range(SAMPLES):
            at = T0 + (self.number * SAMPLES + i) * STEP
            found.append(Reading(self.device, "bearing_temperature", at, 95.0 if hot else 60.0, Quality.GOOD))
            found.append(Reading(self.device, "pressure", at, self.number / 1000, Quality.GOOD))
        return found

    @property
    def payload(self) -> bytes:
        """SenML CBOR."""
        entries = [Measurement(reading.metric, None, reading.value, reading.measured_at) for reading in self.readings]
        return encode_cbor(self.device, entries, self.number)

    @property
    def keys(self) -> list[Key]:
        """What an acknowledgement of it promises."""
        return [(reading.device, reading.metric, reading.measured_at) for reading in self.readings]


def packs(device: str, rng: random.Random, ended: threading.Event) -> Iterator[Pack]:
    """A device's uplinks in the order in which it sends them: the newest ones shuffled a little, and between them what
    it kept for three to seven days."""
    old, new = 0, 3 * DAYS
    while not ended.is_set():
        window = [Pack(device, new + i) for i in range(6)]
        new += len(window)
        rng.shuffle(window)
        for pack in window:
            if rng.random() < 0.1:
                old = max(old, new - 7 * DAYS)
                yield Pack(device, old)
                old += 1
            yield pack


@dataclass
class Tally:
    """What the senders saw."""

    acknowledged: dict[tuple[str, int], float] = field(default_factory=dict)
    """(device, number) of an uplink, and when that was by the monotonic clock."""
    by_broker: set[str] = field(default_factory=set)
    """Devices whose acknowledgements are the broker's."""
    repeated: int = 0
    refused: int = 0
    unanswered: int = 0


class Senders:
    """CoAP and MQTT devices in a thread's event loop.

    `coap` names gateways: with several, a device's repeats go to the next one at the same moment. `brokers` likewise.
    """

    def __init__(self, coap: Sequence[int], brokers: Sequence[str], devices: Sequence[Device], seed: int = 1) -> None:
        self.devices = list(devices)
        self.tally = Tally()
        self.pause = 0.03
        """Seconds a device rests between two uplinks."""
        self._coap_ports = list(coap)
        self._brokers = list(brokers)
        self._seed = seed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def finish(self, seconds: float = 90) -> None:
        """End once everything that was begun is acknowledged."""
        self._ended.set()
        self.pause = 0.0
        self._thread.join(seconds)
        if self._failure is not None:
            raise self._failure
        assert not self._thread.is_alive(), f"not everything was acknowledged: {self.tally}"

    def abandon(self) -> None:
        """End without waiting for acknowledgements."""
        self._ended.set()
        if self._loop is not None and self._thread.is_alive() and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(60)

    @property
    def count(self) -> int:
        """Uplinks acknowledged so far."""
        return len(self.tally.acknowledged)

    def await_more(self, uplinks: int, seconds: float = 60) -> float:
        """Wait until this many more were acknowledged; returns how many a second that was."""
        goal, begin = self.count + uplinks, time.monotonic()

        def reached() -> bool:
            if self._failure is not None:
                raise self._failure
            return self.count >= goal

        eventually(reached, f"{uplinks} more uplinks acknowledged ({self.tally.refused} refused)", seconds)
        return uplinks / (time.monotonic() - begin)

    def speed(self, uplinks: int = 200) -> float:
        """Uplinks a second when nobody rests."""
        rest, self.pause = self.pause, 0.0
        try:
            return self.await_more(uplinks)
        finally:
            self.pause = rest

    def _main(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as failure:
            self._failure = failure

    async def _all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        clients = [MqttClient(url, f"sender-{self._seed}-{i}") for i, url in enumerate(self._brokers)]
        for client in clients:
            client.open()
        work: list[Coroutine[Any, Any, None]] = []
        for index, device in enumerate(self.devices):
            rng = random.Random(self._seed * 1000 + index)
            if index % 2 and clients:
                work.append(self._mqtt(device.identity, clients, rng))
            else:
                work.append(self._coap(device.identity, rng))
        try:
            async with asyncio.TaskGroup() as group:
                for one in work:
                    group.create_task(one)
        finally:
            for client in clients:
                client.close()

    async def _coap(self, device: str, rng: random.Random) -> None:
        clients = [CoapClient(rng, ack_timeout=0.3, response_timeout=6.0) for _ in self._coap_ports]
        try:
            for client, port in zip(clients, self._coap_ports, strict=True):
                await client.open("127.0.0.1", port)
            await self._converse(device, clients, rng)
        finally:
            for client in clients:
                client.close()

    async def _converse(self, device: str, clients: Sequence[CoapClient], rng: random.Random) -> None:
        sent: list[Pack] = []
        for pack in packs(device, rng, self._ended):
            first = rng.choice(clients)
            both = rng.random() < 0.2
            await asyncio.gather(*(self._post(client, pack, rng) for client in (clients if both else [first])))
            self.tally.acknowledged.setdefault((device, pack.number), time.monotonic())
            sent = [*sent[-20:], pack]
            if rng.random() < 0.05:
                await first.rebind()
                await self._post(first, rng.choice(sent), rng)
                self.tally.repeated += 1
            await asyncio.sleep(self.pause)

    async def _post(self, client: CoapClient, pack: Pack, rng: random.Random) -> None:
        """As a device does: until it is acknowledged."""
        while True:
            try:
                answer = await client.post(pack.device, ContentFormat.SENML_CBOR, pack.payload)
            except NoAnswerError:
                self.tally.unanswered += 1
                if rng.random() < 0.3:
                    await client.rebind()
                continue
            if answer.stored:
                return
            assert answer.later, f"a good uplink was answered {answer}"
            self.tally.refused += 1
            await asyncio.sleep(0.2)  # its Max-Age is for batteries, this is for a test

    async def _mqtt(self, device: str, clients: Sequence[MqttClient], rng: random.Random) -> None:
        self.tally.by_broker.add(device)
        sent: list[Pack] = []
        for pack in packs(device, rng, self._ended):
            await self._publish(rng.choice(clients), pack)
            self.tally.acknowledged.setdefault((device, pack.number), time.monotonic())
            sent = [*sent[-20:], pack]
            if rng.random() < 0.05:
                await self._publish(rng.choice(clients), rng.choice(sent))
                self.tally.repeated += 1
            await asyncio.sleep(self.pause)

    async def _publish(self, client: MqttClient, pack: Pack) -> None:
        while True:
            answer = await client.publish(pack.device, pack.payload)
            if answer.stored:
                return
            assert answer.later, f"a good uplink was answered {answer}"
            self.tally.refused += 1
            await asyncio.sleep(0.2)
