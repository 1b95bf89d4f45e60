"""Replay of recorded CSV files through the gateways: real input with its real gaps, repeats and jumping clocks.

A checkpoint says how far a file was acknowledged; a run that was interrupted goes on from there.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from devices.codecs.senml import encode_cbor
from devices.document import suggest
from devices.model import SECOND, ContentFormat, Instant, Measurement, Transport
from simulators.coap_client import CoapClient, NoAnswerError
from simulators.mapping import Mapping
from simulators.mqtt_client import MqttClient
from simulators.records import Ledger

_LONGEST_PAUSE = 300 * SECOND
"""A gap in the recording lasts at most this long in its own time: a jump of the clock is no reason to wait a month."""


class ReplayError(ValueError):
    """The file does not fit the mapping; the message says where."""


@dataclass(slots=True)
class Replayed:
    """How a replay went, or stands."""

    rows: int = 0
    total_rows: int = 0
    uplinks: int = 0
    acknowledged: int = 0
    """Readings that were acknowledged."""
    rejected_uplinks: int = 0
    skipped: list[str] = field(default_factory=list)
    """Rows that could not be read, as `file:line: why`."""
    complete: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    at: Instant
    values: list[tuple[int, Measurement]]


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach the platform: by CoAP or by MQTT."""

    coap: tuple[str, int] | None = None
    mqtt_url: str | None = None


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
    """Send a file at `speed` times its own pace (0: as fast as it is acknowledged).

    `checkpoint` keeps how far it was acknowledged, and is removed at the end. `ReplayError` where the file does not fit
    the mapping, `OSError` where it or the gateway cannot be reached.
    """
    stop = stop or asyncio.Event()
    fingerprint = _fingerprint(path, mapping)
    done = _resume(checkpoint, fingerprint)
    state = Replayed(rows=done, total_rows=_count(path))
    sender = _Sender(way)
    book = Ledger(ledger) if ledger else None
    await sender.open()
    try:
        last: Instant | None = None
        for batch in _batches(_rows(path, mapping, state), mapping.batch, done):
            if stop.is_set():
                return state
            if speed > 0 and last is not None:
                pause = min(max(0, batch[0].at - last), _LONGEST_PAUSE) / speed / SECOND
                await _pause(stop, pause)
            last = batch[-1].at
            await _send(batch, mapping, sender, state, book, stop)
            if stop.is_set():
                return state
            state.rows = batch[-1].number
            _save(checkpoint, fingerprint, state.rows)
            report(state)
        state.complete = True
    finally:
        sender.close()
        if book is not None:
            book.close()
    _forget(checkpoint)
    return state


async def _send(
    batch: list[_Row], mapping: Mapping, sender: _Sender, state: Replayed, book: Ledger | None, stop: asyncio.Event
) -> None:
    for index, target in enumerate(mapping.devices):
        entries = [entry for row in batch for number, entry in row.values if number == index]
        if not entries:
            continue
        sequence = batch[0].number
        stored, code = await sender.send(target.identity, encode_cbor(target.identity, entries, sequence), stop)
        if code == "stopped":
            return
        state.uplinks += 1
        state.acknowledged += len(entries) if stored else 0
        state.rejected_uplinks += not stored
        if book is not None:
            readings: dict[str, list[Instant]] = {}
            for entry in entries:
                readings.setdefault(entry.name, []).append(entry.time)
            book.write(target.identity, sender.transport.value, sequence, code, readings, acknowledged=stored)


class _Sender:
    """One way to the gateways."""

    def __init__(self, way: Way) -> None:
        coap, mqtt_url = way.coap, way.mqtt_url
        self._coap_address = coap
        self._coap = CoapClient(random.Random(), ack_timeout=2.0) if coap else None  # noqa: S311 - message ids
        self._mqtt = MqttClient(mqtt_url, f"headworks-replay-{random.randrange(1 << 32):08x}") if mqtt_url else None  # noqa: S311
        if (self._coap is None) == (self._mqtt is None):
            raise ValueError("replay goes by CoAP or by MQTT: name one")
        self.transport = Transport.COAP if coap else Transport.MQTT

    async def open(self) -> None:
        if self._coap is not None and self._coap_address is not None:
            await self._coap.open(*self._coap_address)
        if self._mqtt is not None:
            self._mqtt.open()

    def close(self) -> None:
        for client in (self._coap, self._mqtt):
            if client is not None:
                client.close()

    async def send(self, identity: str, payload: bytes, stop: asyncio.Event) -> tuple[bool, str]:
        """(stored, code), once the gateway or broker has answered; `stopped` where it was told to end before."""
        if self._mqtt is not None:
            return await self._mqtt.publish(identity, payload), "PUBACK"
        assert self._coap is not None
        while not stop.is_set():
            try:
                answer = await self._coap.post(identity, ContentFormat.SENML_CBOR, payload)
            except NoAnswerError as error:
                raise OSError("the CoAP gateway does not answer; is the platform running? (`headworks up`)") from error
            if not answer.later:
                return answer.stored, answer.code
            await _pause(stop, answer.max_age)
        return False, "stopped"


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def _rows(path: Path, mapping: Mapping, state: Replayed) -> Iterator[_Row]:
    """The rows of a file as measurements; one that cannot be read is told and left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=mapping.separator)
        header = next(reader, None)
        if not header:
            raise ReplayError(f"{path}: the file is empty")
        wanted = [mapping.time_column, *mapping.columns]
        for name in wanted:
            if name not in header:
                raise ReplayError(
                    f"{path}:1: there is no column ‘{name}’{suggest(name, header)} It has: {', '.join(header)}"
                )
        time_at = header.index(mapping.time_column)
        columns = [(header.index(name), column) for name, column in mapping.columns.items()]
        for number, cells in enumerate(reader, start=1):
            try:
                at = mapping.instant(cells[time_at])
                values = [
                    (column.device, Measurement(column.metric, column.unit, float(cells[i]) * column.scale, at))
                    for i, column in columns
                    if cells[i].strip()
                ]
            except (ValueError, IndexError, OverflowError) as error:
                state.skipped.append(f"{path}:{reader.line_num}: {error}")
                continue
            if values:
                yield _Row(number, at, values)


def _batches(rows: Iterator[_Row], size: int, done: int) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    for row in rows:
        if row.number <= done:
            continue
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return max(0, sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1)


def _fingerprint(path: Path, mapping: Mapping) -> str:
    digest = hashlib.sha256(mapping.model_dump_json().encode())
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _resume(checkpoint: Path, fingerprint: str) -> int:
    try:
        saved = json.loads(checkpoint.read_text("utf-8"))
        return int(saved["rows"]) if saved["file"] == fingerprint else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _forget(checkpoint: Path) -> None:
    checkpoint.unlink(missing_ok=True)


def _save(checkpoint: Path, fingerprint: str, rows: int) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    part = checkpoint.with_suffix(".part")
    part.write_text(json.dumps({"file": fingerprint, "rows": rows}), "utf-8")
    part.replace(checkpoint)
