"""Replay through the gateways: of tables, real input with its real gaps, repeats and jumping clocks, and of what
`headworks record` has kept.

A checkpoint says how far a file was answered; a run that was interrupted goes on from there. Reading is in `recording`
and `uplink_recording`, sending in `replay_sender`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devices.codecs.senml import encode_cbor
from devices.model import SECOND, ContentFormat, Instant, Measurement, Transport, Uplink
from simulators.coap_client import Answer
from simulators.device import COAP_PAYLOAD, MQTT_PAYLOAD
from simulators.mapping import Mapping
from simulators.mqtt_client import Puback
from simulators.parquet_rows import count_parquet_rows, is_parquet, parquet_rows
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
from simulators.replay_sender import Sender, Way

__all__ = ["ReplayError", "Replayed", "Way", "replay"]

_LONGEST_PAUSE = 300 * SECOND
"""A gap in the recording lasts at most this long in its own time: nobody waits a month for a stand-still to pass."""
_BATCHES_AHEAD = 8
_LAST_ANSWERS_SECONDS = 2.0
"""How long a replay that was told to stop waits for what is under way, so as not to send it again the next time."""
_UNKNOWN_DEVICE = "4.03"


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
    unprotected: int = 0
    """Of these, what came by OSCORE or DTLS and goes in clear here."""
    rejections: tuple[str, ...] = ()
    """The first few rejections, with the gateway's reason."""
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Parcel:
    """One uplink to send: where it is from in the file, and, of a table, its sequence number and its readings."""

    uplink: Uplink
    place: str
    sequence: int = 0
    entries: Sequence[Measurement] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """What goes out together: the times by which it is paced, the uplinks, and how far the file is answered then."""

    times: Sequence[Instant]
    parcels: Sequence[Parcel]
    after: Checkpoint


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
    of = await asyncio.to_thread(fingerprint, path, mapping.model_dump_json(), way.target)
    reached = load_checkpoint(checkpoint, of)
    state = Replayed(rows=reached.rows, total_rows=await asyncio.to_thread(_count, path))
    book = Ledger(ledger) if ledger else None
    limit = MQTT_PAYLOAD if way.coap is None else COAP_PAYLOAD
    transport = Transport.MQTT if way.coap is None else Transport.COAP
    stages = _stages(path, mapping, state, reached, limit, transport)
    try:
        return await play(stages, Sender(way), state, checkpoint, of, speed=speed, book=book, report=report, stop=stop)
    finally:
        if book is not None:
            book.close()


async def play(
    stages: Iterable[Stage],
    sender: Sender,
    state: Replayed,
    checkpoint: Path,
    of: str,
    *,
    speed: float,
    book: Ledger | None = None,
    report: Callable[[Replayed], None] = lambda _: None,
    stop: asyncio.Event | None = None,
    strangers: bool = False,
) -> Replayed:
    """Send stages one after the other, some ahead of the last answer; `checkpoint` is of what `of` names.

    With `strangers` a device that the platform does not know is a rejection like others, without a `ReplayError`.
    """
    await sender.open()
    try:
        run = _Run(stages, sender, state, book, checkpoint, of, strangers=strangers)
        state.complete = await run.play(speed, report, stop or asyncio.Event())
    finally:
        await sender.close()
    if state.complete:
        await asyncio.to_thread(checkpoint.unlink, missing_ok=True)
    report(state)
    return state


class _Run:
    """One replay: batches go out ahead of each other, and are ticked off in the order of the file."""

    def __init__(
        self,
        stages: Iterable[Stage],
        sender: Sender,
        state: Replayed,
        book: Ledger | None,
        checkpoint: Path,
        of: str,
        *,
        strangers: bool,
    ) -> None:
        self._stages = stages
        self._strangers = strangers
        self._sender = sender
        self._state = state
        self._book = book
        self._checkpoint = checkpoint
        self._of = of
        self._under_way: deque[tuple[Checkpoint, asyncio.Task[None]]] = deque()

    async def play(self, speed: float, report: Callable[[Replayed], None], stop: asyncio.Event) -> bool:
        """Whether the end of the file was reached."""
        at_end = False
        pace = _Pace(speed)
        try:
            for stage in self._stages:
                await pace.wait(stage.times, stop)
                self._under_way.append((stage.after, asyncio.create_task(self._deliver(stage.parcels))))
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

    async def _deliver(self, parcels: Sequence[Parcel]) -> None:
        tasks = [asyncio.create_task(self._send(parcel)) for parcel in parcels]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, parcel: Parcel) -> None:
        identity = parcel.uplink.identity or ""
        answer = await self._sender.send(parcel.uplink)
        state = self._state
        if answer.code == _UNKNOWN_DEVICE and not self._strangers:
            raise ReplayError(
                f"the platform does not take data of {identity} ({_reason(answer)}); "
                f"register it first: headworks devices add {identity} --profile …"
            )
        state.uplinks += 1
        if answer.stored:
            state.acknowledged += len(parcel.entries)
        else:
            state.rejected_uplinks += 1
            in_clear = self._sender.transport(parcel.uplink) is Transport.COAP
            state.unprotected += in_clear and parcel.uplink.authenticated is not None
            if len(state.rejections) < 10:
                state.rejections += (f"from {parcel.place}: {_reason(answer)}",)
        if self._book is not None:
            times: dict[str, list[Instant]] = {}
            for entry in parcel.entries:
                times.setdefault(entry.name, []).append(entry.time)
            transport = self._sender.transport(parcel.uplink).value
            self._book.write(identity, transport, parcel.sequence, answer.code, times, acknowledged=answer.stored)


class _Pace:
    """Holds batches back until their time has come."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._last: Instant | None = None
        self._due = asyncio.get_running_loop().time()

    async def wait(self, times: Sequence[Instant], stop: asyncio.Event) -> None:
        """Until a batch would have been complete, or `stop`; a clock that jumps back is not waited for."""
        if self._speed <= 0:
            return
        for at in times:
            gap = 0 if self._last is None else min(max(at - self._last, 0), _LONGEST_PAUSE)
            self._due += gap / self._speed / SECOND
            self._last = at
        with suppress(TimeoutError):
            pause = self._due - asyncio.get_running_loop().time()
            if pause > 0:
                await asyncio.wait_for(stop.wait(), pause)


def _reason(answer: Answer | Puback) -> str:
    text = answer.text if isinstance(answer, Answer) else ""
    return f"{answer.code} {text}".strip()


def _stages(
    path: Path, mapping: Mapping, findings: Findings, reached: Checkpoint, limit: int, transport: Transport
) -> Iterator[Stage]:
    """The batches of a table; an uplink has at most `limit` bytes."""
    sent = reached.uplinks
    read = parquet_rows if is_parquet(path) else rows
    for batch in batches(read(path, mapping, findings, reached.rows), mapping):
        parcels = _parcels(batch, limit, sent, transport)
        sent += len(parcels)
        yield Stage([row.at for row in batch], parcels, Checkpoint(batch[-1].number, sent))


def _count(path: Path) -> int:
    return count_parquet_rows(path) if is_parquet(path) else count_rows(path)


def _parcels(batch: list[Row], limit: int, sent: int, transport: Transport) -> list[Parcel]:
    """The uplinks of a batch: one a device, split where it is too long. `sent` is the last sequence number used."""
    by_device: dict[str, list[Measurement]] = {}
    for row in batch:
        for identity, entry in row.values:
            by_device.setdefault(identity, []).append(entry)
    parcels: list[Parcel] = []
    for identity, entries in by_device.items():
        for part in _split(identity, entries, limit):
            sequence = sent + len(parcels) + 1
            payload = encode_cbor(identity, part, sequence)
            form = ContentFormat.SENML_CBOR if transport is Transport.COAP else None
            uplink = Uplink(transport, payload, batch[-1].at, identity, form)
            parcels.append(Parcel(uplink, f"row {batch[0].number}", sequence, part))
    return parcels


def _split(identity: str, entries: list[Measurement], limit: int) -> list[list[Measurement]]:
    # The longest sequence number takes nine bytes.
    if len(entries) == 1 or len(encode_cbor(identity, entries, 1 << 40)) <= limit:
        return [entries]
    middle = len(entries) // 2
    return _split(identity, entries[:middle], limit) + _split(identity, entries[middle:], limit)
