"""Binary vendor frames, decoded as a profile declares them (`frame`).

A declaration is compiled once: neighbouring elements of fixed size become one `struct` call, a repeated block of plain
numbers is taken a column at a time (`frame_repeat`). The same compiler makes a tracing decoder that notes what each
byte became, so that what `headworks profiles try` shows is what the gateways do.

Memory and time grow with the payload and the declaration only: nothing that a payload says is allocated in advance.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from operator import add, mul, truediv
from typing import Any, NamedTuple

from devices.codecs.checksum import checksum
from devices.codecs.frame import (
    Block,
    Check,
    Frame,
    Mark,
    Optional,
    Preamble,
    Repeat,
    Switch,
    least_size,
    values,
)  # fmt: skip
from devices.codecs.frame_fixed import Act, Context, Fixed, Op, Plain, State, fixed, malformed, measurement, short
from devices.codecs.frame_number import Scaling
from devices.codecs.frame_repeat import MAX_MEASUREMENTS, columns, record_count, record_times, too_many
from devices.errors import DecodeError
from devices.model import Instant, Measurement, Report, moment


class FrameField(NamedTuple):
    """One element as it stood in a frame: bytes `start` to `end` (not included), its name, and what it means."""

    start: int
    end: int
    raw: bytes
    name: str
    meaning: str


@dataclass(slots=True)
class Explanation:
    """What became of a frame, element by element; either a report or an error is there."""

    fields: list[FrameField] = field(default_factory=list)
    report: Report | None = None
    error: DecodeError | None = None


class _TracedState(State):
    def __init__(self, data: bytes, received: Instant) -> None:
        super().__init__(data, received)
        self.trace: list[FrameField] = []


class FrameDecoder:
    """A compiled declaration."""

    def __init__(self, frame: Frame) -> None:
        self._ignore_rest = frame.rest == "ignore"
        self._plain = _layout(frame.layout, Context(frame.order, tracing=False))
        self._frame = frame
        self._traced: list[Op] | None = None

    def decode(self, payload: bytes, received_at: Instant) -> list[Report]:
        """The one report of a frame, which may have no measurement (a heartbeat, a sensor without a value);
        `DecodeError` with the offset of the byte that is wrong."""
        state = State(payload, received_at)
        for op in self._plain:
            op(state)
        if state.pos < state.end and not self._ignore_rest:
            raise _left_over(state)
        return [Report(state.identity, state.out, state.sequence, state.sent)]

    def explain(self, payload: bytes, received_at: Instant) -> Explanation:
        """What each byte became, as far as the frame could be read."""
        if self._traced is None:
            self._traced = _layout(self._frame.layout, Context(self._frame.order, tracing=True))
        state = _TracedState(payload, received_at)
        explanation = Explanation(state.trace)
        try:
            for op in self._traced:
                op(state)
            if state.pos < state.end and not self._ignore_rest:
                raise _left_over(state)
            explanation.report = Report(state.identity, state.out, state.sequence, state.sent)
        except DecodeError as error:
            explanation.error = error
        return explanation


def _left_over(state: State) -> DecodeError:
    return malformed(state.pos, f"{state.end - state.pos} bytes are left over after the frame")


def _layout(layout: Sequence[Any], context: Context) -> list[Op]:
    """One operation for each run of elements of fixed size, and for each other element."""
    ops: list[Op] = []
    run: list[Fixed] = []
    for index, element in enumerate(layout):
        part = fixed(element, context)
        if part is not None:
            if run and context.tracing:
                ops.append(_run(run, context))
                run = []
            orders = {other.order for other in run} | {part.order}
            if len(orders - {""}) > 1:
                ops.append(_run(run, context))
                run = []
            run.append(part)
            continue
        if run:
            ops.append(_run(run, context))
            run = []
        after = least_size(layout[index + 1 :]) + context.reserve
        ops.append(_sized(element, context, after))
    if run:
        ops.append(_run(run, context))
    return ops


def _run(parts: Sequence[Fixed], context: Context) -> Op:
    """Elements of fixed size, taken with one `struct` call."""
    order = next((part.order for part in parts if part.order), ">")
    layout = struct.Struct(order + "".join(part.code for part in parts))
    size, unpack = layout.size, layout.unpack_from
    steps = _steps(parts)

    def too_short(s: State) -> DecodeError:
        at = s.pos
        for part in parts:
            if at + part.size > s.end:
                return short(part.name, at, part.size, s.end)
            at += part.size
        raise AssertionError  # pragma: no cover - only called when it is too short

    def run(s: State) -> None:
        at = s.pos
        stop = at + size
        if stop > s.end:
            raise too_short(s)
        raws = unpack(s.data, at)
        s.pos = stop
        for act, index, offset in steps:
            act(s, raws[index], at + offset)

    return _traced(run, parts) if context.tracing else run


def _steps(parts: Sequence[Fixed]) -> list[tuple[Act, Any, int]]:
    """What to do with the unpacked run: an action, the index or slice of it that the action gets, and its offset. Plain
    values side by side are one step."""
    steps: list[tuple[Act, Any, int]] = []
    group: list[Plain] = []
    index, offset = 0, 0
    for part in (*parts, None):
        if part is not None and part.plain is not None:
            group.append(part.plain)
        elif group:
            steps.append((_group(group), slice(index - len(group), index), offset))
            group = []
        if part is None:
            break
        if part.act is not None:
            steps.append((part.act, index, offset))
        if part.act is not None or part.plain is not None:
            index += 1
        offset += part.size
    return steps


def _group(plains: Sequence[Plain]) -> Act:
    """Plain values, all at once: the arithmetic runs inside `map`."""
    if len(plains) == 1:
        return _one(plains[0])
    names, units = tuple(p.name for p in plains), tuple(p.unit for p in plains)
    scale = _scaler([p.scaling for p in plains])

    def step(s: State, raws: Any, at: int) -> None:
        s.out += map(measurement, zip(names, units, scale(raws), repeat(s.time)))

    def step_missing(s: State, raws: Any, at: int) -> None:
        for plain, raw in zip(plains, raws, strict=True):
            if raw not in plain.missing:
                s.out.append(Measurement(plain.name, plain.unit, plain.scaling.value(raw), s.time))

    return step_missing if any(p.missing for p in plains) else step


def _one(plain: Plain) -> Act:
    name, unit, (factor, divisor, offset), missing = plain

    def step(s: State, raws: Any, at: int) -> None:
        (raw,) = raws
        if raw not in missing:
            s.out.append(Measurement(name, unit, raw * factor / divisor + offset, s.time))

    return step


def _scaler(scalings: Sequence[Scaling]) -> Callable[[Sequence[float]], Iterable[float]]:
    """`Scaling.value` over a row, leaving out what changes nothing; the results are the same to the last bit."""
    factors = [s.factor for s in scalings]
    divisors = [s.divisor for s in scalings]
    offsets = [s.offset for s in scalings]
    if not any(offsets):
        if all(factor == 1 for factor in factors):
            return lambda row: map(truediv, row, divisors)
        if all(divisor == 1 for divisor in divisors):
            return lambda row: map(mul, row, factors)
    return lambda row: map(add, map(truediv, map(mul, row, factors), divisors), offsets)


def _sized(element: Any, context: Context, after: int) -> Op:
    """An element whose size the frame itself decides."""
    match element:
        case Preamble():
            skipping = _preamble(element)
            return _traced(skipping, [Fixed("a preamble", "", 0)]) if context.tracing else skipping
        case Mark():
            name = f"@{element.mark}"
            return lambda s: s.reads.__setitem__(name, s.pos)
        case Check():
            return _check(element, context)
        case Block():
            return _block(element, context)
        case Switch():
            return _switch(element, context, after)
        case Optional():
            inner = _sequence_of(_layout(element.optional, context.inner(after)))
            return lambda s: inner(s) if s.end - s.pos > after else None
        case Repeat():
            return _repeat(element, context, after)
    raise AssertionError(element)  # pragma: no cover - every kind of element is above


def _sequence_of(ops: Sequence[Op]) -> Op:
    def run(s: State) -> None:
        for op in ops:
            op(s)

    return ops[0] if len(ops) == 1 else run


def _preamble(element: Preamble) -> Op:
    byte, most = int(element.preamble, 16), element.most

    def run(s: State) -> None:
        stop = min(s.end, s.pos + most)
        while s.pos < stop and s.data[s.pos] == byte:
            s.pos += 1

    return run


def _check(element: Check, context: Context) -> Op:
    size, work = checksum(element.check)
    order, since = element.order or context.order, f"@{element.since}" if element.since else None

    def run(s: State) -> None:
        at = s.pos
        if at + size > s.end:
            raise short("the checksum", at, size, s.end)
        right = work(s.data[s.reads[since] if since else 0 : at])
        found = int.from_bytes(s.data[at : at + size], order)
        if found != right:
            raise malformed(at, f"the checksum is {found:0{2 * size}x}, the bytes before it give {right:0{2 * size}x}")
        s.pos = at + size

    return _traced(run, [Fixed("the checksum", "", size)]) if context.tracing else run


def _block(element: Block, context: Context) -> Op:
    name, ignore = f"#{element.block}", element.rest == "ignore"
    inner = _sequence_of(_layout(element.layout, context.inner(0)))

    def run(s: State) -> None:
        size, outer = s.reads[name], s.end
        if s.pos + size > outer:
            raise short(f"the block ‘{name[1:]}’", s.pos, size, outer)
        s.end = stop = s.pos + size
        inner(s)
        if s.pos < stop and not ignore:
            raise malformed(s.pos, f"{stop - s.pos} bytes are left over in the block ‘{name[1:]}’")
        s.pos, s.end = stop, outer

    return run


def _switch(element: Switch, context: Context, after: int) -> Op:
    name = element.switch
    cases = {case: _sequence_of(_layout(layout, context.inner(after))) for case, layout in element.cases.items()}
    otherwise = None
    if element.otherwise is not None:
        otherwise = _sequence_of(_layout(element.otherwise, context.inner(after)))

    def run(s: State) -> None:
        op = cases.get(s.reads[name], otherwise)
        if op is None:
            raise malformed(s.pos, f"nothing is declared for ‘{name}’ {s.reads[name]} ({s.reads[name]:#x})")
        op(s)

    return run


def _repeat(element: Repeat, context: Context, after: int) -> Op:
    """A repeated part: a column at a time where it is nothing but plain numbers, else record by record."""
    context = context.inner(0, repeated=True)
    parts = [fixed(part, context) for part in element.layout]
    plain = [part for part in parts if part is not None and part.plain is not None]
    one_order = len({part.order for part in plain} - {""}) <= 1
    if len(plain) == len(parts) and one_order and element.step and not context.tracing:
        return columns(element, plain, after)
    inner = _sequence_of(_layout(element.layout, context))
    weight = sum(1 for _ in values(element.layout))
    least = least_size(element.layout)
    count = record_count(element, least, after)
    spread = record_times(element) if element.step else None

    def run(s: State) -> None:
        before = s.time
        if isinstance(element.repeat, str) and element.repeat == "rest" and spread is None:
            while s.end - s.pos > after:
                inner(s)
                if len(s.out) > MAX_MEASUREMENTS:
                    raise too_many(len(s.out))
        else:
            number = count(s)
            if number * weight > MAX_MEASUREMENTS:
                raise too_many(number * weight)
            times = spread(s, number) if spread else repeat(before, number)
            for time in times:
                s.time = time
                inner(s)
        s.time = before

    return run


def _traced(op: Op, parts: Sequence[Fixed]) -> Op:
    """The same operation, which also notes what the bytes became (one part at a time when tracing)."""
    (part,) = parts

    def run(s: State) -> None:
        assert isinstance(s, _TracedState)
        start, known, reads = s.pos, len(s.out), dict(s.reads)
        time, sequence, identity = s.time, s.sequence, s.identity
        op(s)
        if s.pos == start:
            return
        notes = [f"{m.name} = {m.value:.10g}{' ' + m.unit if m.unit else ''}" for m in s.out[known:]]
        notes += [f"{name.replace('#', 'length of ')} = {n}" for name, n in s.reads.items() if reads.get(name) != n]
        if s.time != time:
            notes.append(f"time {moment(s.time).isoformat()}" if abs(s.time) < 6 * 10**16 else f"time {s.time} µs")
        if s.sequence != sequence:
            notes.append(f"sequence number {s.sequence}")
        if s.identity != identity:
            notes.append(f"identity {s.identity}")
        name = part.name.removeprefix("‘").removesuffix("’") if part.name.startswith("‘") else part.name
        s.trace.append(FrameField(start, s.pos, s.data[start : s.pos], name, "; ".join(notes)))

    return run
