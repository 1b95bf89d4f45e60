"""The repeated part of a frame: how many records there are, of when each is, and plain numbers a column at a time.

How a repeated part is compiled, and one that is more than plain numbers is read, is in `frame_decode`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import cast

from devices.codecs.frame import Repeat
from devices.codecs.frame_fixed import LAST, Fixed, Op, Plain, State, malformed, measurement
from devices.errors import DecodeError
from devices.model import Instant, Measurement, Reason

MAX_MEASUREMENTS = 20_000
"""More measurements in one repeated part are refused; the same limit as SenML's."""


def too_many(number: int) -> DecodeError:
    """The error of a repeated part with more than `MAX_MEASUREMENTS`."""
    return DecodeError(Reason.TOO_LARGE, f"{number} measurements; at most {MAX_MEASUREMENTS}")


def record_count(element: Repeat, size: int, after: int) -> Callable[[State], int]:
    """How many records of `size` bytes follow; never more than there are bytes for. Where they are the rest of the
    frame, `after` bytes of it are not theirs."""
    kind = element.repeat

    def count(s: State) -> int:
        left = s.end - s.pos
        if kind == "rest":
            number, over = divmod(max(left - after, 0), size)
            if over:
                raise malformed(s.end - after - over, f"{over} bytes are left over; a record takes {size}")
            return number
        number = kind if isinstance(kind, int) else s.reads[kind]
        if number * size > left:
            raise malformed(s.pos, f"{number} records of {size} bytes are announced, {left} bytes are left")
        return number

    return count


def record_times(element: Repeat) -> Callable[[State, int], Sequence[Instant]]:
    """The times of so many records, in the order in which they stand. The declaration has a step."""
    step, factor = cast("int", element.step), element.times
    newest_first, of_newest = element.newest == "first", element.stamp == "newest"

    def spread(s: State, number: int) -> Sequence[Instant]:
        if number == 0:
            return ()
        distance = step * s.reads[factor] if factor else step
        span = distance * (number - 1)
        if span > LAST:
            raise malformed(s.pos, "the records would reach back thousands of years")
        if distance == 0 and number > 1:
            raise malformed(s.pos, f"‘{factor}’ is 0: {number} records cannot have one time")
        oldest = s.time - span if of_newest else s.time
        if number == 1:
            return (oldest,)
        if newest_first:
            return range(oldest + span, oldest - 1, -distance)
        return range(oldest, oldest + span + 1, distance)

    return spread


def columns(element: Repeat, parts: Sequence[Fixed], after: int) -> Op:
    """Records of nothing but plain numbers, a column at a time; `after` bytes follow them. The declaration has a
    step."""
    order = next((part.order for part in parts if part.order), ">")
    record = struct.Struct(order + "".join(part.code for part in parts))
    size, unpack = record.size, record.iter_unpack
    count, spread = record_count(element, size, after), record_times(element)
    taken = [_column(cast("Plain", part.plain)) for part in parts]
    width = len(taken)
    only = parts[0].code if width == 1 else None

    def run(s: State) -> None:
        number = count(s)
        if number * width > MAX_MEASUREMENTS:
            raise too_many(number * width)
        if not number:
            return
        at = s.pos
        s.pos = stop = at + number * size
        times = spread(s, number)
        if only is not None:
            taken[0](s.out, struct.unpack_from(f"{order}{number}{only}", s.data, at), times)
            return
        for column, raws in zip(taken, zip(*unpack(s.data[at:stop]), strict=True), strict=True):
            column(s.out, raws, times)

    return run


def _column(plain: Plain) -> Callable[[list[Measurement], Sequence[float], Sequence[Instant]], None]:
    """How a column of raw numbers becomes measurements."""
    name, unit, (factor, divisor, offset), missing = plain

    def with_missing(out: list[Measurement], raws: Sequence[float], times: Sequence[Instant]) -> None:
        kept = [(raw, time) for raw, time in zip(raws, times, strict=True) if raw not in missing]
        out += [Measurement(name, unit, raw * factor / divisor + offset, time) for raw, time in kept]

    def divided(out: list[Measurement], raws: Sequence[float], times: Sequence[Instant]) -> None:
        scaled = [raw / divisor for raw in raws]
        out += map(measurement, zip(repeat(name), repeat(unit), scaled, times))

    def scaled(out: list[Measurement], raws: Sequence[float], times: Sequence[Instant]) -> None:
        results = [raw * factor / divisor + offset for raw in raws]
        out += map(measurement, zip(repeat(name), repeat(unit), results, times))

    if missing:
        return with_missing
    return divided if factor == 1 and offset == 0 else scaled
