"""A scenario plays: every unit writes, sleeps and sends by its own stack, at a pace or as fast as acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from devices.credential import OscoreKeys
from devices.model import Instant, moment
from simulators.coap_client import NoAnswerError
from simulators.contacts import Contact, Step, when
from simulators.firmware import Unit, Written
from simulators.links import BrokerLink, CoapLink, DoorLink, Link, OscoreLink, Sent, Way
from simulators.memory import Memory
from simulators.mqtt_client import MqttClient
from simulators.records import Ledger
from simulators.scenario import Credential, Protocol
from simulators.scenario_plant import Played
from simulators.sparkplug_node import SparkplugLink, SparkplugNode
from simulators.truth import write_truth

_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 2.0, 60.0
"""After an uplink that nobody answered a run that is not bound to a pace tries again at doubling intervals."""
_REPORT_SECONDS = 0.2
_DEVICES_PER_CONNECTION = 20


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, and what devices prove themselves with; secrets stay out of `repr`."""

    coap: tuple[str, int]
    mqtt_url: str = field(repr=False)
    door_url: str = field(default="", repr=False)
    oscore: Mapping[str, OscoreKeys] = field(default_factory=dict, repr=False)
    """By identity."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Tokens of ThingsBoard's and secrets of IoTDA's devices, by identity."""
    state: Path = Path("build/oscore")
    """A folder for OSCORE's sequence numbers."""


@dataclass(slots=True)
class Counts:
    """What the units of one protocol did."""

    written: int = 0
    """Uplinks."""
    readings: int = 0
    acknowledged: int = 0
    """Readings that the gateway has promised to keep."""
    unpromised: int = 0
    """Readings sent with QoS 0."""
    rejected: int = 0
    """Uplinks that were answered with an error that a repeat would not mend."""
    dropped: int = 0
    """Uplinks that a full memory or a reboot has cost."""
    repeated: int = 0
    waiting: int = 0
    """Uplinks in memories now."""


@dataclass(slots=True)
class Progress:
    """Where a run is; `at` in the plant's time."""

    at: Instant
    by: dict[Protocol, Counts] = field(default_factory=dict)
    retransmitted: int = 0
    unanswered: int = 0
    """Uplinks that were tried again later."""
    energy: float = 0.0
    """J that the units' batteries paid for what was sent."""
    seconds: float = 0.0
    complete: bool = False
    """Everything was sent and answered; False while it runs, and where it was stopped."""


async def run_scenario(
    played: Played,
    target: Target,
    speed: float,
    folder: Path,
    clock: tuple[Callable[[], float], Callable[[], Instant]],
    report: Callable[[Progress], None],
    stop: asyncio.Event,
) -> Progress:
    """Play it to its end, or until `stop` is set. `clock` is a monotonic one in seconds, and the time of day.

    The ground truth is written to `folder/truth.jsonl` first, the ledger to `folder/ledger.jsonl` as answers come.
    `OSError` where the broker cannot be reached, `DocumentError` where a unit cannot say what it has to.
    """
    now, today = clock
    path = await asyncio.to_thread(_begin_files, folder, played)
    scenario = played.scenario
    units = scenario.units
    progress = Progress(played.start, {unit.fleet.protocol: Counts() for unit in units})
    steps = await asyncio.to_thread(lambda: [played.steps(unit) for unit in units])
    way = Way(target.coap, target.mqtt_url, target.door_url, scenario.seed, scenario.radio, speed, target.state)
    ledger = Ledger(path)
    shared = _Shared(played, target, way, today)
    try:
        links = await shared.open(units)
        run = _Run(played, speed, now, ledger, progress, way)
        await run.all(units, links, steps, report, stop)
    finally:
        await shared.close()
        ledger.close()
    report(progress)
    return progress


def _begin_files(folder: Path, played: Played) -> Path:
    """Write the ground truth; the path of an empty ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    write_truth(folder / "truth.jsonl", played.truth)
    path = folder / "ledger.jsonl"
    path.unlink(missing_ok=True)
    return path


class _Shared:
    """The connections that units share, and who opens and closes them all."""

    def __init__(self, played: Played, target: Target, way: Way, today: Callable[[], Instant]) -> None:
        self._played, self._target, self._way, self._today = played, target, way, today
        self._brokers: list[MqttClient] = []
        self._nodes: list[SparkplugNode] = []
        self._links: list[Link] = []

    async def open(self, units: Sequence[Unit]) -> list[Link]:
        at_broker = [unit for unit in units if unit.fleet.protocol is Protocol.MQTT]
        brokers: dict[str, MqttClient] = {}
        for number, unit in enumerate(at_broker):
            if number % _DEVICES_PER_CONNECTION == 0:
                name = f"headworks-scenario-{self._way.seed}-{number}"
                client = MqttClient(self._target.mqtt_url, name)
                await asyncio.to_thread(client.open)
                self._brokers.append(client)
            brokers[unit.tag] = self._brokers[-1]
        nodes: dict[str, SparkplugNode] = {}
        for name in sorted({unit.fleet.node for unit in units if unit.fleet.node}):
            mine = [unit for unit in units if unit.fleet.node == name]
            first = {unit.device.identity: self._first(unit) for unit in mine}
            node = SparkplugNode(self._target.mqtt_url, name, mine, first, self._today)
            await asyncio.to_thread(node.open)
            self._nodes.append(node)
            nodes[name] = node
        for unit in units:
            link = self._link(unit, brokers, nodes)
            await link.open()
            self._links.append(link)
        return self._links

    def _link(self, unit: Unit, brokers: Mapping[str, MqttClient], nodes: Mapping[str, SparkplugNode]) -> Link:
        identity = unit.device.identity
        match unit.fleet.protocol:
            case Protocol.COAP if unit.fleet.credential is Credential.OSCORE:
                return OscoreLink(self._way, unit, self._target.oscore[identity])
            case Protocol.COAP:
                return CoapLink(self._way, unit)
            case Protocol.MQTT:
                return BrokerLink(unit, brokers[unit.tag])
            case Protocol.SPARKPLUG:
                return SparkplugLink(unit, nodes[unit.fleet.node])
        return DoorLink(self._way, unit, self._target.secrets[identity], moment(self._today()))

    def _first(self, unit: Unit) -> dict[str, float]:
        """What a device is born with: its first samples, and the telemetry unit's own."""
        _, series = self._played.shown[unit.tag]
        own = {"battery": 100.0, "battery_voltage": 3.6, "rsrp": -100.0, "snr": 10.0, "coverage_level": 0.0}
        return {metric: float(values[0]) for metric, values in series.items()} | {
            metric: value for metric, value in own.items() if metric in unit.profile.metrics
        }

    async def close(self) -> None:
        for link in self._links:
            with suppress(OSError):
                await link.close()
        for close in (*(one.close for one in self._brokers), *(one.close for one in self._nodes)):
            await asyncio.to_thread(close)


class _Run:
    """What the units of one run share."""

    def __init__(
        self, played: Played, speed: float, now: Callable[[], float], ledger: Ledger, progress: Progress, way: Way
    ) -> None:
        self._played, self._speed, self._now = played, speed, now
        self._ledger, self._progress, self._way = ledger, progress, way
        self._begin = now()

    async def all(
        self,
        units: Sequence[Unit],
        links: Sequence[Link],
        steps: Sequence[Sequence[Step]],
        report: Callable[[Progress], None],
        stop: asyncio.Event,
    ) -> None:
        """Run all units to their end, or cancel them on `stop`; an error of one ends all and is raised."""
        tasks = [asyncio.create_task(self._unit(*each)) for each in zip(units, links, steps, strict=True)]
        pending = set(tasks)
        progress = self._progress
        try:
            while pending and not stop.is_set():
                report(progress)
                done, pending = await asyncio.wait(
                    pending, timeout=_REPORT_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                )
                progress.seconds = self._now() - self._begin
                progress.retransmitted = self._way.retransmitted
                for task in done:
                    task.result()
            progress.complete = not pending
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _unit(self, unit: Unit, link: Link, steps: Sequence[Step]) -> None:
        """One unit: write when it is time to, and send what is kept at each contact.

        At a pace it goes on writing while it sends, as a device does whose modem waits for an answer; a contact that
        comes in between is no other one.
        """
        memory = Memory(unit.fleet.memory, keeps=unit.fleet.keeps)
        last: Contact | None = None
        sending: asyncio.Task[None] | None = None
        try:
            for step in steps:
                await self._until(when(step))
                if isinstance(step, Written):
                    self._keep(unit, memory, step)
                    continue
                last = step
                if self._speed <= 0:
                    await self._empty(unit, link, memory, step, patient=True)
                elif sending is None or sending.done():
                    if sending is not None:
                        sending.result()
                    sending = asyncio.create_task(self._empty(unit, link, memory, step, patient=False))
            if sending is not None:
                await sending
        finally:
            if sending is not None and not sending.done():
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        if len(memory) and last is not None:
            await self._empty(unit, link, memory, last, patient=True)

    def _keep(self, unit: Unit, memory: Memory, written: Written) -> None:
        """Take an uplink into the memory, and tell what that has no more room for."""
        counts = self._progress.by[unit.fleet.protocol]
        counts.written += 1
        counts.readings += written.count
        counts.waiting += 1
        for lost in memory.keep(written):
            counts.dropped += 1
            counts.waiting -= 1
            self._write(unit, lost, Sent("dropped", stored=False), sent=False)

    async def _until(self, at: Instant) -> None:
        """Wait for an instant of the plant's time."""
        if self._speed > 0:
            due = (at - self._played.start) / 1e6 / self._speed
            await asyncio.sleep(max(0.0, self._begin + due - self._now()))
        else:
            await asyncio.sleep(0)
        self._progress.at = max(self._progress.at, min(at, self._played.end))

    async def _empty(self, unit: Unit, link: Link, memory: Memory, contact: Contact, *, patient: bool) -> None:
        """Send what is kept. Without an answer the rest waits for the next contact, or here where `patient`."""
        pause = _RETRY_SECONDS
        counts = self._progress.by[unit.fleet.protocol]
        repeat = contact.repeat
        while (written := memory.next(newest=contact.newest)) is not None:
            memory.lend(written)
            sent = await self._once(unit, link, written, replace(contact, tries=memory.tries(written)))
            if sent is None or sent.later:
                self._progress.unanswered += 1
                memory.in_vain(written)
                if not patient:
                    return
                await asyncio.sleep(max(sent.max_age, 0.1) if sent is not None and sent.max_age else pause)
                pause = min(2.0 * pause, _LONGEST_RETRY_SECONDS)
                continue
            pause = _RETRY_SECONDS
            memory.forget(written)
            counts.waiting -= 1
            self._progress.energy += written.energy
            if sent.stored:
                counts.acknowledged += written.count
            elif sent.code == "QoS 0":
                counts.unpromised += written.count
            else:
                counts.rejected += 1
            if repeat:
                repeat = False
                counts.repeated += 1
                await self._once(unit, link, written, Contact(contact.at, contact.level, new_port=True))

    async def _once(self, unit: Unit, link: Link, written: Written, contact: Contact) -> Sent | None:
        """Hand an uplink over once, and write down how that ended; None where nobody answered."""
        sent: Sent | None = Sent("stopped", stored=False)
        try:
            try:
                sent = await link.send(written, contact)
            except NoAnswerError:
                sent = None
        finally:
            if sent is not None and not sent.later:
                self._write(unit, written, sent, sent=True)
        return sent

    def _write(self, unit: Unit, written: Written, how: Sent, *, sent: bool) -> None:
        self._ledger.write(
            unit.device.identity, "coap" if unit.fleet.protocol is Protocol.COAP else "mqtt", written.sequence,
            how.code, written.readings, acknowledged=how.stored, sent=sent, undated=written.undated,
        )  # fmt: skip
