"""A simulation: the devices of a plant play its time through real gateways, at a pace or as fast as acknowledged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.model import Instant, Transport
from devices.profile import shipped_profiles
from simulators.coap_client import ACK_TIMEOUT, Answer, CoapClient, NoAnswerError
from simulators.device import Manner, Uplink, manner, uplinks
from simulators.faults import Fault
from simulators.mqtt_client import MqttClient, Puback
from simulators.observation import observe
from simulators.plant import Asset, Plant, build
from simulators.radio import DEFAULTS, Disturbance, Transmission, disturbed
from simulators.records import Ledger, truth_of
from simulators.schedule import schedule
from simulators.truth import write_truth

_RETRY_SECONDS = 2.0
_LONGEST_RETRY_SECONDS = 60.0
"""After an uplink that nobody answered, a device tries again at doubling intervals between these two."""
_REPORT_SECONDS = 0.2
_DEVICES_PER_CONNECTION = 6


@dataclass(frozen=True, slots=True)
class Config:
    """What to simulate, and where to send it."""

    start: Instant
    end: Instant
    coap_host: str
    coap_port: int
    mqtt_url: str = field(repr=False)
    """May hold a password, so it is not printed."""
    ledger: Path
    truth: Path
    seed: int = 1
    pumps: int = 12
    valves: int = 12
    play_seconds: float = 45.0
    """Wall-clock time in which [start, end) passes; 0 is as fast as it is acknowledged."""
    with_faults: bool = True
    disturbance: Disturbance = DEFAULTS
    ack_timeout: float = ACK_TIMEOUT
    """Seconds before a CoAP device sends again; real ones on NB-IoT wait 10 to 20."""


@dataclass(slots=True)
class Progress:
    """Where a simulation is; `at` in the plant's time."""

    at: Instant
    sent: dict[Transport, int] = field(default_factory=lambda: dict.fromkeys(Transport, 0))
    """Readings handed to the radio, without repeats."""
    acknowledged: dict[Transport, int] = field(default_factory=lambda: dict.fromkeys(Transport, 0))
    uplinks: int = 0
    repeated: int = 0
    """Uplinks sent once more on purpose."""
    rejected: int = 0
    """Uplinks that were answered with an error that a repeat would not mend."""
    retransmitted: int = 0
    """CoAP messages sent again as their acknowledgement did not come in time."""
    unanswered: int = 0
    """Uplinks that were tried again later, as nobody answered or the answer was `not now`."""
    seconds: float = 0.0
    complete: bool = False
    """Everything was sent and answered; False while it runs, and where it was stopped."""


def faults_of(config: Config, plant: Plant) -> list[Fault]:
    """The faults of a run."""
    return schedule(plant.works, config.start, config.end) if config.with_faults else []


async def simulate(
    config: Config, now: Callable[[], float], report: Callable[[Progress], None], stop: asyncio.Event
) -> Progress:
    """Play the plant's time; returns when all of it is answered, or soon after `stop` is set.

    `now` is a monotonic clock in seconds; `report` is called a few times a second. The ground truth is written first,
    the ledger as acknowledgements come. `OSError` where the broker or the ledger's folder cannot be reached,
    `ValueError` for a plant that cannot be.
    """
    plant = build(config.seed, config.pumps, config.valves)
    faults = await asyncio.to_thread(faults_of, config, plant)
    observation = await asyncio.to_thread(observe, plant.works, faults, config.start, config.end)
    write_truth(config.truth, truth_of(plant, faults, config.start, config.end))
    profiles = shipped_profiles()
    progress = Progress(config.start)
    ledger = Ledger(config.ledger)
    connections = -(-len(plant.assets) // _DEVICES_PER_CONNECTION)
    brokers = [MqttClient(config.mqtt_url, f"headworks-simulator-{config.seed}-{i}") for i in range(connections)]
    opened: list[MqttClient] = []
    try:
        for broker in brokers:
            await asyncio.to_thread(broker.open)
            opened.append(broker)
        run = _Run(config, now, ledger, progress)
        players = [
            run.play(
                asset,
                disturbed(
                    uplinks(asset, profiles[asset.device.profile].reporting, config.seed, observation),
                    config.seed,
                    asset.tag,
                    config.disturbance,
                ),
                brokers[index % connections],
            )
            for index, asset in enumerate(plant.assets)
        ]
        await run.until_played(players, report, stop)
    finally:
        for broker in opened:
            await asyncio.to_thread(broker.close)
        ledger.close()
    report(progress)
    return progress


class _Run:
    """What the devices of one run share."""

    def __init__(self, config: Config, now: Callable[[], float], ledger: Ledger, progress: Progress) -> None:
        self._config = config
        self._now = now
        self._begin = now()
        self._ledger = ledger
        self._progress = progress

    async def until_played(
        self, players: Iterable[Coroutine[Any, Any, None]], report: Callable[[Progress], None], stop: asyncio.Event
    ) -> None:
        """Run all players to their end, or cancel them on `stop`; an error of one ends all and is raised."""
        progress = self._progress
        tasks = [asyncio.create_task(player) for player in players]
        pending = set(tasks)
        try:
            while pending and not stop.is_set():
                report(progress)
                done, pending = await asyncio.wait(
                    pending, timeout=_REPORT_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                )
                progress.seconds = self._now() - self._begin
                for task in done:
                    task.result()
            progress.complete = not pending
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def play(self, asset: Asset, transmissions: Iterable[Transmission], broker: MqttClient) -> None:
        """One device: send every uplink when it is due, one at a time."""
        way = manner(asset)
        client: CoapClient | None = None
        if way.transport is Transport.COAP:
            rng = random.Random(f"{self._config.seed}/{asset.tag}")  # noqa: S311 - message ids and jitter
            client = CoapClient(rng, self._config.ack_timeout)
            await client.open(self._config.coap_host, self._config.coap_port)
        link = _Link(asset, way, client, broker, self._progress)
        try:
            for transmission in transmissions:
                await self._until(transmission.at)
                if transmission.repeat and client is not None:
                    await client.rebind()
                await self._send(asset, way, link, transmission)
        finally:
            if client is not None:
                client.close()

    async def _until(self, at: Instant) -> None:
        """Wait for an instant of plant time."""
        config = self._config
        if config.play_seconds > 0:
            due = (at - config.start) / (config.end - config.start) * config.play_seconds
            await asyncio.sleep(max(0.0, self._begin + due - self._now()))
        else:
            await asyncio.sleep(0)
        self._progress.at = max(self._progress.at, min(at, config.end))

    async def _send(self, asset: Asset, way: Manner, link: _Link, transmission: Transmission) -> None:
        progress, uplink = self._progress, transmission.uplink
        progress.uplinks += 1
        if transmission.repeat:
            progress.repeated += 1
        else:
            progress.sent[way.transport] += uplink.count
        acknowledged, code = False, "stopped"
        try:
            acknowledged, code = await link.deliver(uplink)
        finally:
            self._ledger.write(
                asset.device.identity,
                way.transport.value,
                uplink.sequence,
                code,
                uplink.readings,
                acknowledged=acknowledged,
            )
        if not acknowledged:
            progress.rejected += 1
        elif not transmission.repeat:
            progress.acknowledged[way.transport] += uplink.count


class _Link:
    """A device's way to the platform: tries until there is an answer that is final."""

    def __init__(
        self, asset: Asset, way: Manner, client: CoapClient | None, broker: MqttClient, progress: Progress
    ) -> None:
        self._identity = asset.device.identity
        self._way = way
        self._client = client
        self._broker = broker
        self._progress = progress

    async def deliver(self, uplink: Uplink) -> tuple[bool, str]:
        """(acknowledged, code) of the final answer. Until then the device keeps the uplink and sends it again."""
        pause = _RETRY_SECONDS
        while True:
            with suppress(NoAnswerError):
                answer = await self._once(uplink)
                if not answer.later:
                    return answer.stored, answer.code
                if isinstance(answer, Answer):
                    pause = max(0.1, answer.max_age)
            self._progress.unanswered += 1
            await asyncio.sleep(pause)
            pause = min(2.0 * pause, _LONGEST_RETRY_SECONDS)

    async def _once(self, uplink: Uplink) -> Answer | Puback:
        if self._client is None:
            return await self._broker.publish(self._identity, uplink.payload)
        before = self._client.retransmissions
        try:
            return await self._client.post(
                self._identity, self._way.content_format, uplink.payload, at_root=self._way.at_root
            )
        finally:
            self._progress.retransmitted += self._client.retransmissions - before
