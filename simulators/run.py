"""A simulation: every device of a plant plays its day through the real gateways, as fast as asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from devices.codecs.senml import encode_cbor, encode_json
from devices.model import MINUTE, SECOND, ContentFormat, Instant, Measurement, Transport
from devices.profile import Profile, shipped_profiles
from simulators.coap_client import CoapClient, NoAnswerError
from simulators.faults import Fault, schedule
from simulators.mqtt_client import MqttClient
from simulators.plant import Asset, Plant, build, signals
from simulators.records import Ledger, write_truth

DUPLICATE_SHARE = 0.02
SWAP_SHARE = 0.02
"""Shares of uplinks that are sent twice, and that change places with the next one: the radio's everyday."""
_RETRY_PAUSE = 5.0

# What real devices send: SenML units with the factor from canonical ones.
_WIRE = {
    "pressure": ("Pa", 1e5), "suction_pressure": ("Pa", 1e5), "outlet_pressure": ("Pa", 1e5), "flow": ("l/s", 1 / 3.6),
    "vibration": ("m/s", 1e-3), "power": ("W", 1e3), "temperature": ("Cel", 1.0), "bearing_temperature": ("Cel", 1.0),
    "speed": ("1/min", 1.0), "current": ("A", 1.0), "position": ("/", 1e-2), "position_command": ("/", 1e-2),
    "battery": ("%EL", 1.0), "rsrp": ("dBm", 1.0), "torque": ("N*m", 1.0),
}  # fmt: skip
# Sent with the last sample of an uplink only: they hardly change, and each byte costs battery.
_SLOW = frozenset({"battery", "rsrp", "enclosure_open", "temperature"})


@dataclass(frozen=True, slots=True)
class Config:
    """What to simulate, and where to send it."""

    start: Instant
    end: Instant
    coap_host: str
    coap_port: int
    mqtt_url: str
    ledger: Path
    truth: Path
    seed: int = 1
    pumps: int = 12
    valves: int = 12
    play_seconds: float = 45.0
    """Wall-clock time in which [start, end) passes."""
    with_faults: bool = True


@dataclass(slots=True)
class Progress:
    """Where a simulation is; `at` in the plant's time."""

    at: Instant
    sent: dict[Transport, int] = field(default_factory=lambda: dict.fromkeys(Transport, 0))
    """Readings handed to the radio, without repeats."""
    acknowledged: dict[Transport, int] = field(default_factory=lambda: dict.fromkeys(Transport, 0))
    uplinks: int = 0
    repeated: int = 0
    rejected: int = 0
    retransmitted: int = 0
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class _Uplink:
    due: Instant
    sequence: int
    payload: bytes
    readings: dict[str, list[Instant]]
    count: int


def faults_of(config: Config, plant: Plant) -> list[Fault]:
    """The faults of a run."""
    return schedule(plant, config.start, config.end) if config.with_faults else []


async def simulate(
    config: Config, now: Callable[[], float], report: Callable[[Progress], None], stop: asyncio.Event
) -> Progress:
    """Play the plant's time; returns when all of it is acknowledged, or when `stop` is set.

    `now` is a monotonic clock in seconds. `OSError` where the broker cannot be reached.
    """
    plant = build(config.seed, config.pumps, config.valves)
    faults = faults_of(config, plant)
    write_truth(config.truth, faults)
    ledger = Ledger(config.ledger)
    progress = Progress(config.start)
    brokers = [MqttClient(config.mqtt_url, f"headworks-simulator-{config.seed}-{i}") for i in range(4)]
    begin = now()
    pace = (config.end - config.start) / config.play_seconds

    async def wait_until(due: Instant) -> None:
        await asyncio.sleep(max(0.0, begin + (due - config.start) / pace - now()))
        progress.at = max(progress.at, min(due, config.end))

    try:
        for broker in brokers:
            broker.open()
        profiles = shipped_profiles()
        tasks = [
            asyncio.create_task(
                _Device(config, plant, asset, faults, profiles, ledger, progress, brokers[index % 4]).play(wait_until)
            )
            for index, asset in enumerate(plant.assets)
        ]
        playing = asyncio.gather(*tasks)
        stopping = asyncio.create_task(stop.wait())
        while not playing.done() and not stop.is_set():
            report(progress)
            waiting: set[asyncio.Future[Any]] = {playing, stopping}
            await asyncio.wait(waiting, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing
        stopping.cancel()
    finally:
        for broker in brokers:
            broker.close()
        ledger.close()
    report(progress)
    return progress


class _Device:
    """A virtual device: samples, batches, sends, and keeps what is not acknowledged."""

    def __init__(
        self, config: Config, plant: Plant, asset: Asset, faults: Sequence[Fault], profiles: dict[str, Profile],
        ledger: Ledger, progress: Progress, broker: MqttClient,
    ) -> None:  # fmt: skip
        self._config = config
        self._plant = plant
        self._asset = asset
        self._faults = [fault for fault in faults if fault.device == asset.device.identity]
        self._reporting = profiles[asset.device.profile].reporting
        self._ledger = ledger
        self._progress = progress
        self._broker = broker
        self._rng = random.Random(f"{config.seed}/{asset.device.identity}")  # noqa: S311 - a simulation, repeatable
        # Half of each kind speaks CoAP, half of each of these JSON.
        self._transport = Transport.COAP if asset.number % 2 else Transport.MQTT
        self._json = asset.number % 4 < 2
        self._client: CoapClient | None = None

    async def play(self, wait_until: Callable[[Instant], Awaitable[None]]) -> None:
        """Send every uplink when it is due."""
        if self._transport is Transport.COAP:
            self._client = CoapClient(self._rng)
            await self._client.open(self._config.coap_host, self._config.coap_port)
        try:
            for uplink in self._disturbed():
                await wait_until(uplink.due)
                await self._send(uplink)
        finally:
            if self._client is not None:
                self._progress.retransmitted += self._client.retransmissions
                self._client.close()

    def _disturbed(self) -> Iterator[_Uplink]:
        """The uplinks in the order in which they go out: some late, some twice."""
        held: _Uplink | None = None
        for uplink in self._uplinks():
            if held is None and self._rng.random() < SWAP_SHARE:
                held = uplink
                continue
            yield uplink
            if self._rng.random() < DUPLICATE_SHARE:
                self._progress.repeated += 1
                yield uplink
            if held is not None:
                yield held
                held = None
        if held is not None:
            yield held

    def _uplinks(self) -> Iterator[_Uplink]:
        sampling, interval = self._reporting.sampling, self._reporting.interval
        identity = self._asset.device.identity
        # Each device samples at a second of its own within the minute.
        offset = self._rng.randrange(60) * SECOND
        times = np.arange(self._config.start + offset, self._config.end, sampling, dtype=np.int64)
        effects = {fault.kind.name: fault.intensity(times) for fault in self._faults}
        values = signals(self._plant, self._asset, times, effects)
        size = max(1, interval // sampling)
        for sequence, begin in enumerate(range(0, len(times), size), start=1):
            part = times[begin : begin + size].tolist()
            measurements, readings = [], {}
            for metric, series in values.items():
                rows = list(zip(part, series[begin : begin + size].tolist(), strict=True))
                rows = rows[-1:] if metric in _SLOW else rows
                readings[metric] = [at for at, _ in rows]
                unit, factor = _WIRE.get(metric, (None, 1.0))
                measurements += [Measurement(metric, unit, round(value * factor, 9), at) for at, value in rows]
            encode = encode_json if self._json else encode_cbor
            count = sum(map(len, readings.values()))
            yield _Uplink(part[-1] + MINUTE // 6, sequence, encode(identity, measurements, sequence), readings, count)

    async def _send(self, uplink: _Uplink) -> None:
        """Send until it is acknowledged or rejected; what is not stays with the device and is tried again."""
        progress, transport = self._progress, self._transport
        progress.uplinks += 1
        progress.sent[transport] += uplink.count
        acknowledged, code = False, "cancelled"
        try:
            acknowledged, code = await (self._by_coap(uplink) if self._client else self._by_mqtt(uplink))
        finally:
            self._ledger.write(
                self._asset.device.identity, transport.value, uplink.sequence, code, uplink.readings,
                acknowledged=acknowledged,
            )  # fmt: skip
        if acknowledged:
            progress.acknowledged[transport] += uplink.count
        else:
            progress.rejected += 1

    async def _by_mqtt(self, uplink: _Uplink) -> tuple[bool, str]:
        done = await self._broker.publish(self._asset.device.identity, uplink.payload)
        return done, "PUBACK" if done else "refused"

    async def _by_coap(self, uplink: _Uplink) -> tuple[bool, str]:
        assert self._client is not None
        content_format = ContentFormat.SENML_JSON if self._json else ContentFormat.SENML_CBOR
        while True:
            try:
                answer = await self._client.post(self._asset.device.identity, content_format, uplink.payload)
            except NoAnswerError:
                self._progress.unanswered += 1
                await asyncio.sleep(_RETRY_PAUSE)
                continue
            if not answer.later:
                return answer.stored, answer.code
            await asyncio.sleep(answer.max_age)
