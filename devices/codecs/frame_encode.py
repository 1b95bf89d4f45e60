"""Binary vendor frames, written from the same declaration that they are read by: for simulated devices and tests.

The layout is walked as it stands; nothing here is on the way of a real uplink. What the declaration leaves open is
settled by what there is to say: of several cases the one that carries most of the values, of optional parts those that
carry any. Bits that nothing is known of are 0, reserved bytes too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from devices.codecs.checksum import checksum
from devices.codecs.frame import (
    Bit,
    Bits,
    Block,
    Check,
    Constant,
    Frame,
    Identity,
    Layout,
    Length,
    Mark,
    Optional,
    Preamble,
    Read,
    Repeat,
    SequenceNumber,
    Skip,
    Switch,
    Time,
    Value,
    inner_layouts,
    values,
)
from devices.codecs.frame_number import NumberFormat, number_format, scaling
from devices.model import Instant, Measurement, instant, moment

Convert = Callable[[Measurement, str | None], float]
"""A measurement's value in the unit that the frame carries; `ValueError` where it has none."""


def as_it_is(measurement: Measurement, unit: str | None) -> float:
    """The `Convert` for measurements that are in the frame's units already."""
    if not isinstance(measurement.value, int | float):
        raise ValueError(f"‘{measurement.name}’: {measurement.value!r} is no number")  # noqa: TRY004 - one error for all
    if unit is not None and measurement.unit not in (None, unit):
        raise ValueError(f"‘{measurement.name}’ is in {measurement.unit!r}, the frame carries {unit!r}")
    return float(measurement.value)


@dataclass(frozen=True, slots=True)
class Message:
    """What a frame shall say. `reads` are numbers for the declaration's reads (a type, an address); those that count or
    choose something are worked out where they are not given."""

    measurements: Sequence[Measurement]
    sent_at: Instant
    sequence: int = 0
    identity: str | None = None
    reads: Mapping[str, int] = field(default_factory=dict)


class FrameEncoder:
    """Writes frames of one declaration. `names` maps the names of measurements to those that the frame uses."""

    def __init__(self, frame: Frame, convert: Convert = as_it_is, names: Mapping[str, str] | None = None) -> None:
        self._frame = frame
        self._convert = convert
        self._names = names or {}

    def encode(self, message: Message) -> bytes:
        """The frame; `ValueError` where the declaration cannot carry the message."""
        samples: dict[str, dict[Instant, Measurement]] = defaultdict(dict)
        for entry in message.measurements:
            samples[self._names.get(entry.name, entry.name)][entry.time] = entry
        carried = {self._names.get(part.value or "", part.value) for _, part in values(self._frame.layout)}
        for name in samples:
            if name not in carried:
                raise ValueError(f"the frame has no place for ‘{name}’")
        reads = dict(message.reads)
        lengths: dict[str, list[int]] = {}
        for _ in range(2):  # what a block takes is known only when it was written once
            writer = _Writer(self._frame, message, samples, reads, lengths, self._convert, self._names)
            writer.layout(self._frame.layout)
            lengths = writer.measured
        return bytes(writer.out)


class _Writer:
    """One pass over the layout."""

    def __init__(
        self,
        frame: Frame,
        message: Message,
        samples: Mapping[str, Mapping[Instant, Measurement]],
        reads: dict[str, int],
        lengths: Mapping[str, list[int]],
        convert: Convert,
        names: Mapping[str, str],
    ) -> None:
        self.out = bytearray()
        self.measured: dict[str, list[int]] = defaultdict(list)
        self._frame, self._message, self._samples, self._convert = frame, message, samples, convert
        self._names, self._lengths = names, lengths
        self._told: dict[str, int] = defaultdict(int)
        self._marks: dict[str, int] = {}
        self._repeated = False
        self._several_times = sum(isinstance(element, Time) for element in _walk(frame.layout)) > 1
        self._reads = reads
        self._base = self._base_time(frame.layout)
        self._time = self._base
        self._settle(frame.layout)

    # What the message settles before anything is written

    def _of(self, name: str | None) -> Mapping[Instant, Measurement]:
        key = name or ""
        return self._samples.get(self._names.get(key, key), {})

    def _times(self, layout: Layout) -> list[Instant]:
        return sorted({time for _, part in values(layout) for time in self._of(part.value)})

    def _base_time(self, layout: Sequence[Any]) -> Instant:
        """The frame's own time: that of the record which a repeated part refers to, or the newest sample's."""
        for element in _walk(layout):
            if isinstance(element, Repeat) and element.step and (times := self._times(element.layout)):
                return times[-1] if element.stamp == "newest" else times[0]
        return max((entry.time for entry in self._message.measurements), default=self._message.sent_at)

    def _settle(self, layout: Sequence[Any]) -> None:
        """Work out the reads that count records, measure their distance, or choose a case."""
        for element in _walk(layout):
            if isinstance(element, Repeat):
                times = self._records(element)
                if element.times is not None and element.step:
                    self._reads.setdefault(element.times, _distance(times) // element.step or 1)
                if isinstance(element.repeat, str) and element.repeat != "rest" and times:
                    self._reads[element.repeat] = len(times)
            elif isinstance(element, Switch) and element.switch not in self._reads:
                score = {case: self._carried(part) for case, part in element.cases.items()}
                best = max(score, key=lambda case: score[case])
                if score[best][0] or element.otherwise is None:
                    self._reads[element.switch] = best

    def _carried(self, layout: Layout) -> tuple[int, int]:
        """How many of a part's values there are samples for; of two that carry as many, the shorter one wins."""
        names = {part.value for _, part in values(layout)}
        return sum(1 for name in names if self._of(name)), -len(names)

    def _records(self, element: Repeat) -> list[Instant]:
        """The time of each record, oldest first; a gap in a stepped part is a record of its own."""
        times = self._times(element.layout)
        if element.step is None or len(times) < 2:
            return times
        distance = element.step if element.times is None else _distance(times)
        if any((time - times[0]) % distance for time in times) or distance % element.step:
            raise ValueError("the samples of a repeated part do not lie a whole number of steps apart")
        return list(range(times[0], times[-1] + 1, distance))

    # Writing

    def layout(self, layout: Sequence[Any]) -> None:
        """Write the elements of a layout."""
        for element in layout:
            self._element(element)

    def _element(self, element: Any) -> None:
        match element:
            case Value():
                self._value(element)
            case Bits():
                self._bits(element)
            case Read():
                known = element.among is None or element.default in element.among
                default = element.default if known or not element.among else element.among[0]
                self._pack(element.type, element.order, self._reads.get(element.read, default), element.read)
            case SequenceNumber():
                self._pack(element.sequence, element.order, self._message.sequence, "the sequence number")
            case Identity():
                self._pack(element.type, element.order, self._identity(element), "the identity")
            case Time():
                self._write_time(element)
            case Constant():
                self.out += element.choices[0]
            case Skip():
                self.out += bytes(element.skip)
            case Mark():
                self._marks[element.mark] = len(self.out)
            case Check():
                size, work = checksum(element.check)
                covered = bytes(self.out[self._marks[element.since] if element.since else 0 :])
                self.out += work(covered).to_bytes(size, element.order or self._frame.order)
            case Preamble():
                pass
            case _:
                self._part(element)

    def _part(self, element: Any) -> None:
        match element:
            case Length():
                name, index = element.length, self._told[element.length]
                self._told[name] += 1
                known = self._lengths.get(name, [])
                size = known[index] if index < len(known) else 0
                self._pack(element.type, element.order, size + element.plus, f"the length of ‘{name}’")
            case Block():
                start = len(self.out)
                self.layout(element.layout)
                self.measured[element.block].append(len(self.out) - start)
            case Switch():
                part = element.cases.get(self._reads.get(element.switch, 0), element.otherwise)
                if part is None:
                    raise ValueError(f"no case is declared for ‘{element.switch}’ {self._reads.get(element.switch, 0)}")
                self.layout(part)
            case Optional():
                if self._carried(element.optional)[0]:
                    self.layout(element.optional)
            case Repeat():
                self._repeat(element)

    def _repeat(self, element: Repeat) -> None:
        times = self._records(element)
        number = element.repeat if isinstance(element.repeat, int) else len(times)
        if not any(True for _ in values(element.layout)):
            number = self._reads.get(str(element.repeat), 0) if isinstance(element.repeat, str) else element.repeat
            times = [self._time] * number
        if len(times) != number:
            raise ValueError(f"{number} records are declared, there are samples for {len(times)}")
        before, repeated = self._time, self._repeated
        for time in reversed(times) if element.newest == "first" else times:
            self._time, self._repeated = time, True
            self.layout(element.layout)
        self._time, self._repeated = before, repeated

    def _pack(self, kind: str, order: Any, number: float, name: str) -> None:
        try:
            self.out += number_format(kind, order or self._frame.order).pack(number)
        except ValueError as error:
            raise ValueError(f"‘{name}’: {error}") from None

    def _sample(self, part: Value | Bit) -> Measurement | None:
        """The sample that belongs here: of the record's time, or the newest where nothing repeats."""
        found = self._of(part.value)
        if self._repeated or not found:
            return found.get(self._time)
        return found.get(self._time) or found[max(found)]

    def _value(self, element: Value) -> None:
        form = number_format(element.type, element.order or self._frame.order)
        entry = self._sample(element)
        codes = element.unit_codes
        if entry is None:
            if not element.missing:
                raise ValueError(f"there is no value for ‘{element.value}’, and no bit pattern for a missing one")
            self.out += form.from_bits(element.missing[0]) + (bytes([next(iter(codes))]) if codes else b"")
            return
        unit, code = element.unit, None
        if codes is not None:
            code = next((c for c, text in codes.items() if text == entry.unit), next(iter(codes)))
            unit = codes[code]
        raw = _raw(element, self._convert(entry, unit), form)
        try:
            packed = form.pack(raw)
        except ValueError as error:
            raise ValueError(f"‘{element.value}’: {error}") from None
        if element.missing and int.from_bytes(packed, element.order or self._frame.order) in element.missing:
            raise ValueError(f"‘{element.value}’: {entry.value} has the bit pattern of a missing value")
        self.out += packed + (bytes([code]) if code is not None else b"")

    def _bits(self, element: Bits) -> None:
        group = 0
        ranges: dict[tuple[int, int], list[Bit]] = defaultdict(list)
        for bit in element.fields:
            ranges[bit.at, bit.width].append(bit)
        for (at, width), fields in ranges.items():
            group |= self._bit_range(fields, width) << at
        self.out += group.to_bytes(element.bits, element.order or self._frame.order)

    def _bit_range(self, fields: Sequence[Bit], width: int) -> int:
        """The raw number of bits that one or several fields look at: the one that suits them all best."""
        wanted: list[tuple[Bit, float]] = []
        for bit in fields:
            entry = self._sample(bit) if bit.value is not None else None
            if bit.read is not None:
                return _fit(self._reads.get(bit.read, bit.default), width, bit)
            if entry is not None:
                wanted.append((bit, self._convert(entry, bit.unit)))
        if not wanted:
            return next((bit.missing[0] for bit in fields if bit.missing), 0)
        candidates = {raw for bit, _ in wanted for raw in bit.states or ()}
        if not candidates:
            bit, value = wanted[0]
            number = round(scaling(bit.scale, bit.offset).raw(value))
            low = -(1 << width - 1) if bit.signed else 0
            if not low <= number < low + (1 << width):
                raise ValueError(f"‘{bit.value}’: {number} is not from {low} to {low + (1 << width) - 1}")
            return number & ((1 << width) - 1)

        def misfit(raw: int) -> tuple[int, float]:
            met = [(bit.states or {}).get(raw) for bit, _ in wanted]
            off = [abs(state - value) for state, (_, value) in zip(met, wanted, strict=True) if state is not None]
            return met.count(None), sum(off)

        return min(sorted(candidates), key=misfit)

    def _identity(self, element: Identity) -> int:
        before, _, after = element.identity.partition("{}")
        text = self._message.identity or ""
        digits = text.removeprefix(before).removesuffix(after)
        if before + digits + after != text or not digits.isdecimal():
            raise ValueError(f"the identity {text!r} is not of the form {element.identity!r}")
        return int(digits)

    def _write_time(self, element: Time) -> None:
        # Where the time of sending is the only time of the frame, it is also the samples'.
        time = self._message.sent_at if element.sent and self._several_times and not self._repeated else self._time
        if element.type is None:
            local = moment(time + int(element.ahead.total_seconds()) * 1_000_000)
            parts = {"CC": local.year // 100, "YY": local.year % 100, "MM": local.month, "DD": local.day,
                     "hh": local.hour, "mm": local.minute, "ss": local.second}  # fmt: skip
            numbers = [parts[part] for part in element.format.split()]
            self.out += bytes(n // 10 * 16 + n % 10 if element.digits == "bcd" else n for n in numbers)
            return
        start = instant(datetime(element.since.year, element.since.month, element.since.day, tzinfo=UTC))
        distance = {
            "epoch": time - start + int(element.ahead.total_seconds()) * 1_000_000,
            "age": self._message.sent_at - time,
            "before": self._base - time,
            "after": time - self._base,
        }[element.time]
        self._pack(element.type, element.order, distance // element.unit, "a time")


def _walk(layout: Iterable[Any]) -> Iterable[Any]:
    for element in layout:
        yield element
        for _, inner in inner_layouts(element):
            yield from _walk(inner)


def _distance(times: Sequence[Instant]) -> Instant:
    """The least distance between neighbours; 0 where there is only one."""
    return min((b - a for a, b in pairwise(times)), default=0)


def _raw(element: Value, value: float, form: NumberFormat) -> float:
    if element.states is not None:
        states = element.states
        return min(states, key=lambda raw: abs(states[raw] - value))
    raw = scaling(element.scale, element.offset).raw(value)
    return raw if form.code in ("f", "d") else round(raw)


def _fit(number: int, width: int, bit: Bit) -> int:
    if number >> width:
        raise ValueError(f"‘{bit.read}’: {number} does not fit into {width} bits")
    return number
