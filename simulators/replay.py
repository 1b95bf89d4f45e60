"""Replay of recorded CSV files through the gateways: real input with its real gaps, repeats and jumping clocks.

A checkpoint says how far a file was answered; a run that was interrupted goes on from there. Reading is in `recording`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

from devices.codecs.senml import encode_cbor
from devices.model import SECOND, ContentFormat, Instant, Measurement, Transport
from simulators.coap_client import Answer, CoapClient, NoAnswerError
from simulators.device import COAP_PAYLOAD, MQTT_PAYLOAD
from simulators.mapping import Mapping
from simulators.mqtt_client import MqttClient, Puback
from simulators.recording import (
    Checkpoint,
    Findings,
    ReplayError,
    Row,
    batches,
    count_rows,
    fingerprint,
    load_checkpoint,
    rows,
    save_checkpoint,
)
from simulators.records import Ledger

__all__ = ["ReplayError", "Replayed", "Way", "replay"]

_LONGEST_PAUSE = 300 * SECOND
"""A gap in the recording lasts at most this long in its own time: nobody waits a month for a stand-still to pass."""
_COAP_SOCKETS = 4
_MQTT_WINDOW = 16
"""Uplinks under way at once. Each socket has one (NSTART of RFC 7252); a broker takes more."""
_BATCHES_AHEAD = 8
_LAST_ANSWERS_SECONDS = 2.0
"""How long a replay that was told to stop waits for what is under way, so as not to send it again the next time."""
_UNKNOWN_DEVICE = "4.03"
_NOBODY_SECONDS = 1.0
_NOBODY_TRIES = 10
"""How often, and how long apart, MQTT uplinks are sent again that the broker had nobody to give to."""


@dataclass(slots=True)
class Replayed(Findings):
    """How a replay went, or stands."""

    rows: int = 0
    """Rows of the file that are dealt with, those of an earlier run included."""
    total_rows: int = 0
    uplinks: int = 0
    acknowledged: int = 0
    """Readings that were acknowledged in this run."""
    rejected_uplinks: int = 0
    rejections: tuple[str, ...] = ()
    """The first few rejections, with the gateway's reason."""
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach the platform: by CoAP (host, port) or by MQTT."""

    coap: tuple[str, int] | None = None
    mqtt_url: str | None = None

    def __post_init__(self) -> None:
        if (self.coap is None) == (self.mqtt_url is None):
            raise ValueError("a replay goes by CoAP or by MQTT: name one")

    @property
    def target(self) -> str:
        """Where it leads, without a password."""
        if self.coap is not None:
            return f"coap://{self.coap[0]}:{self.coap[1]}"
        parts = urlsplit(self.mqtt_url or "")
        return f"{parts.scheme}://{parts.hostname}:{parts.port}"


@dataclass(frozen=True, slots=True)
class _Pack:
    """One uplink: its device, its sequence number, its bytes and its readings."""

    identity: str
    sequence: int
    payload: bytes
    entries: list[Measurement]
    first_row: int


async def replay(
    path: Path,
    mapping: Mapping,
    way: Way,
    checkpoint: Path,
    *,
    speed: float = 0.0,
    ledger: Path | None = None,
    report: Callable[[Replayed], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> Replayed:
    """Send a file at `speed` times its own pace (0: as fast as it is answered).

    `checkpoint` keeps how far it was answered, and is removed at the end; who wants to begin anew removes it before.
    Rejected uplinks are counted and passed over. `ReplayError` where the file does not fit the mapping or the platform
    does not know its device, `OSError` where the file or the gateway cannot be reached.
    """
    of = await asyncio.to_thread(fingerprint, path, mapping, way.target)
    reached = load_checkpoint(checkpoint, of)
    state = Replayed(rows=reached.rows, total_rows=await asyncio.to_thread(count_rows, path))
    sender = _Sender(way)
    book = Ledger(ledger) if ledger else None
    await sender.open()
    try:
        run = _Run(path, mapping, sender, state, book, checkpoint, of)
        state.complete = await run.play(reached, speed, report, stop or asyncio.Event())
    finally:
        await sender.close()
        if book is not None:
            book.close()
    if state.complete:
        await asyncio.to_thread(checkpoint.unlink, missing_ok=True)
    report(state)
    return state


class _Run:
    """One replay: batches go out ahead of each other, and are ticked off in the order of the file."""

    def __init__(
        self,
        path: Path,
        mapping: Mapping,
        sender: _Sender,
        state: Replayed,
        book: Ledger | None,
        checkpoint: Path,
        of: str,
    ) -> None:
        self._path = path
        self._mapping = mapping
        self._sender = sender
        self._state = state
        self._book = book
        self._checkpoint = checkpoint
        self._of = of
        self._under_way: deque[tuple[Checkpoint, asyncio.Task[None]]] = deque()

    async def play(
        self, reached: Checkpoint, speed: float, report: Callable[[Replayed], None], stop: asyncio.Event
    ) -> bool:
        """Whether the end of the file was reached."""
        uplinks, at_end = reached.uplinks, False
        pace = _Pace(speed)
        try:
            for batch in batches(rows(self._path, self._mapping, self._state, reached.rows), self._mapping):
                await pace.wait(batch, stop)
                packs = _packs(batch, self._sender.payload_limit, uplinks)
                uplinks += len(packs)
                after = Checkpoint(batch[-1].number, uplinks)
                self._under_way.append((after, asyncio.create_task(self._deliver(packs))))
                await self._tick_off(_BATCHES_AHEAD - 1, stop)
                report(self._state)
                if stop.is_set():
                    break
            else:
                at_end = True
            await self._tick_off(0, stop)
            if self._under_way:
                await asyncio.wait({task for _, task in self._under_way}, timeout=_LAST_ANSWERS_SECONDS)
                self._tick_off_answered()
            return at_end and not self._under_way
        finally:
            await self._abandon()

    async def _tick_off(self, left: int, stop: asyncio.Event) -> None:
        """Wait until at most `left` batches are under way, or for `stop`."""
        stopping = asyncio.create_task(stop.wait())
        try:
            self._tick_off_answered()
            while len(self._under_way) > left and not stopping.done():
                await asyncio.wait({self._under_way[0][1], stopping}, return_when=asyncio.FIRST_COMPLETED)
                self._tick_off_answered()
        finally:
            stopping.cancel()

    def _tick_off_answered(self) -> None:
        """Write down how far the file is answered; raises what went wrong in a batch."""
        while self._under_way and self._under_way[0][1].done():
            after, task = self._under_way.popleft()
            task.result()
            self._state.rows = after.rows
            save_checkpoint(self._checkpoint, self._of, after)

    async def _abandon(self) -> None:
        tasks = [task for _, task in self._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, packs: list[_Pack]) -> None:
        tasks = [asyncio.create_task(self._send(pack)) for pack in packs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, pack: _Pack) -> None:
        answer = await self._sender.send(pack.identity, pack.payload)
        state = self._state
        if answer.code == _UNKNOWN_DEVICE:
            raise ReplayError(
                f"the platform does not take data of {pack.identity} ({_reason(answer)}); "
                f"register it first: headworks devices add {pack.identity} --profile …"
            )
        state.uplinks += 1
        if answer.stored:
            state.acknowledged += len(pack.entries)
        else:
            state.rejected_uplinks += 1
            if len(state.rejections) < 10:
                state.rejections += (f"from row {pack.first_row}: {_reason(answer)}",)
        if self._book is not None:
            times: dict[str, list[Instant]] = {}
            for entry in pack.entries:
                times.setdefault(entry.name, []).append(entry.time)
            self._book.write(
                pack.identity,
                self._sender.transport.value,
                pack.sequence,
                answer.code,
                times,
                acknowledged=answer.stored,
            )


class _Pace:
    """Holds batches back until their time has come."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._last: Instant | None = None
        self._due = asyncio.get_running_loop().time()

    async def wait(self, batch: list[Row], stop: asyncio.Event) -> None:
        """Until a batch would have been complete, or `stop`; a clock that jumps back is not waited for."""
        if self._speed <= 0:
            return
        for row in batch:
            gap = 0 if self._last is None else min(max(row.at - self._last, 0), _LONGEST_PAUSE)
            self._due += gap / self._speed / SECOND
            self._last = row.at
        with suppress(TimeoutError):
            pause = self._due - asyncio.get_running_loop().time()
            if pause > 0:
                await asyncio.wait_for(stop.wait(), pause)


class _Sender:
    """One way to the gateways, for many uplinks at once."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self.transport = Transport.COAP if way.coap is not None else Transport.MQTT
        self.payload_limit = COAP_PAYLOAD if way.coap is not None else MQTT_PAYLOAD
        self._sockets: asyncio.Queue[CoapClient] = asyncio.Queue()
        self._window = asyncio.Semaphore(_MQTT_WINDOW)
        self._clients: list[CoapClient] = []
        self._mqtt = MqttClient(way.mqtt_url, f"headworks-replay-{token_hex(4)}") if way.mqtt_url else None

    async def open(self) -> None:
        if self._mqtt is not None:
            await asyncio.to_thread(self._mqtt.open)
        if self._way.coap is not None:
            for _ in range(_COAP_SOCKETS):
                client = CoapClient(random.Random())  # noqa: S311 - message ids and jitter
                await client.open(*self._way.coap)
                self._clients.append(client)
                self._sockets.put_nowait(client)

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        if self._mqtt is not None:
            await asyncio.to_thread(self._mqtt.close)

    async def send(self, identity: str, payload: bytes) -> Answer | Puback:
        """The final answer; `OSError` where there is nobody to give one."""
        if self._mqtt is not None:
            async with self._window:
                return await self._by_mqtt(self._mqtt, identity, payload)
        client = await self._sockets.get()
        try:
            return await self._by_coap(client, identity, payload)
        finally:
            self._sockets.put_nowait(client)

    async def _by_coap(self, client: CoapClient, identity: str, payload: bytes) -> Answer:
        while True:
            try:
                answer = await client.post(identity, ContentFormat.SENML_CBOR, payload)
            except NoAnswerError as error:
                raise OSError(
                    f"the CoAP gateway at {self._way.target} does not answer; is the platform running? (`headworks up`)"
                ) from error
            if not answer.later:
                return answer
            await asyncio.sleep(max(0.1, answer.max_age))

    async def _by_mqtt(self, client: MqttClient, identity: str, payload: bytes) -> Puback:
        for _ in range(_NOBODY_TRIES):
            answer = await client.publish(identity, payload)
            if not answer.later:
                return answer
            await asyncio.sleep(_NOBODY_SECONDS)
        raise OSError(
            f"the broker at {self._way.target} has nobody to give the data to ({answer.code}); "
            "is the platform running? (`headworks up`)"
        )


def _reason(answer: Answer | Puback) -> str:
    text = answer.text if isinstance(answer, Answer) else ""
    return f"{answer.code} {text}".strip()


def _packs(batch: list[Row], limit: int, sent: int) -> list[_Pack]:
    """The uplinks of a batch: one a device, split where it is too long. `sent` is the last sequence number used."""
    by_device: dict[str, list[Measurement]] = {}
    for row in batch:
        for identity, entry in row.values:
            by_device.setdefault(identity, []).append(entry)
    packs: list[_Pack] = []
    for identity, entries in by_device.items():
        for part in _split(identity, entries, limit):
            sequence = sent + len(packs) + 1
            packs.append(_Pack(identity, sequence, encode_cbor(identity, part, sequence), part, batch[0].number))
    return packs


def _split(identity: str, entries: list[Measurement], limit: int) -> list[list[Measurement]]:
    # The longest sequence number takes nine bytes.
    if len(entries) == 1 or len(encode_cbor(identity, entries, 1 << 40)) <= limit:
        return [entries]
    middle = len(entries) // 2
    return _split(identity, entries[:middle], limit) + _split(identity, entries[middle:], limit)
