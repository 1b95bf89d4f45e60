"""The elements of a frame whose size is the same in every frame: what each does with its bytes.

An element becomes a `Fixed`: its part of a `struct` format, and an action on what was unpacked. How those are put
together to runs, columns and whole frames is in `frame_decode`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, cast

from devices.codecs.frame import Bit, Bits, Constant, Identity, Length, Read, SequenceNumber, Skip, Time, Value
from devices.codecs.frame_number import NumberFormat, Order, Scaling, number_format, scaling
from devices.errors import DecodeError
from devices.model import Instant, Measurement, Reason, instant

LAST: Instant = 10**17
"""Instants beyond ±3,168 years of 1970 are no times; keeps them inside 64 bits."""


class State:
    """What is known while a frame is being decoded. What few frames have is a default of the class."""

    pos = 0
    base: Instant | None = None
    sequence: int | None = None
    identity: str | None = None
    sent: Instant | None = None

    def __init__(self, data: bytes, received: Instant) -> None:
        self.data = data
        self.end = len(data)
        self.received = self.time = received
        self.out: list[Measurement] = []
        # What was read by name; lengths stand there as `#name`, marks as `@name`.
        self.reads: dict[str, int] = {}


Op = Callable[[State], None]
"""Reads on from where the frame has been read to."""
Act = Callable[[State, Any, int], None]
"""What to do with one unpacked element that stands at a byte offset."""


measurement = cast("Callable[[tuple[Any, ...]], Measurement]", partial(tuple.__new__, Measurement))
"""A measurement of the tuple of its parts: many at a time, without Python code for each."""


def malformed(at: int, what: str) -> DecodeError:
    """The error of a frame that is wrong at a byte."""
    return DecodeError(Reason.MALFORMED, f"byte {at}: {what}")


def short(name: str, at: int, size: int, end: int) -> DecodeError:
    """The error of a frame that ends before an element does."""
    left = max(end - at, 0)
    return malformed(at, f"{name} takes {size} byte{'s' if size > 1 else ''}, {left} left")


@dataclass(frozen=True)
class Context:
    """What compiling an element depends on besides itself. `reserve` is what stands after the layout: a part that
    reads ‘the rest’ leaves so many bytes."""

    order: Order
    tracing: bool
    reserve: int = 0
    repeated: bool = False

    def format(self, kind: str, order: Order | None) -> NumberFormat:
        """A number's format; the frame's byte order where it names none."""
        return number_format(kind, order or self.order)

    def inner(self, reserve: int, *, repeated: bool = False) -> Context:
        """The context of a part inside."""
        return Context(self.order, self.tracing, reserve, self.repeated or repeated)


class Plain(NamedTuple):
    """A value that is nothing but a number of the frame, scaled: those are handled many at a time."""

    name: str
    unit: str | None
    scaling: Scaling
    missing: frozenset[int]


@dataclass(frozen=True, slots=True)
class Fixed:
    """An element of fixed size: its part of a `struct` format, and either what to do with it or a plain value."""

    name: str
    code: str
    size: int
    order: str = ""
    act: Act | None = None
    plain: Plain | None = None


def fixed(element: Any, context: Context) -> Fixed | None:
    """An element of fixed size compiled, or None for every other."""
    match element:
        case Value():
            return _value(element, context)
        case Read():
            form = context.format(element.type, element.order)
            return Fixed(f"‘{element.read}’", form.code, form.width, form.order, _read(element, form))
        case SequenceNumber():
            form = context.format(element.sequence, element.order)
            return Fixed("the sequence number", form.code, form.width, form.order, _sequence(form))
        case Identity():
            form = context.format(element.type, element.order)
            return Fixed("the identity", form.code, form.width, form.order, _identity(element, form))
        case Length():
            form = context.format(element.type, element.order)
            return Fixed(f"the length of ‘{element.length}’", form.code, form.width, form.order, _length(element, form))
        case Time():
            return _time(element, context)
        case Bits():
            form = context.format(f"u{8 * element.bits}", element.order)
            return Fixed("a group of bits", form.code, form.width, form.order, _bits(element, form))
        case Constant():
            size = len(element.choices[0])
            return Fixed("a constant", f"{size}s", size, act=_constant(element.choices))
        case Skip():
            return Fixed("reserved bytes", f"{element.skip}x", element.skip)
    return None


def _number(form: NumberFormat, raw: Any, at: int, name: str) -> int | float:
    """The number that was unpacked; BCD that is none is an error at its byte."""
    if form.read is None:
        return cast("int | float", raw)
    try:
        return form.read(raw)
    except ValueError as error:
        raise malformed(at, f"{name}: {error}") from None


def _value(element: Value, context: Context) -> Fixed:
    form = context.format(element.type, element.order)
    name, scale = element.value, scaling(element.scale, element.offset)
    missing = frozenset(element.missing)
    simple = form.read is None and element.states is None and element.unit_codes is None
    # A pattern of a signed or float number is not the number itself: those take the way through `bits`.
    if simple and (not missing or element.type.startswith("u")):
        plain = Plain(name, element.unit, scale, missing)
        return Fixed(f"‘{name}’", form.code, form.width, form.order, plain=plain)
    states, codes, unit = element.states, element.unit_codes, element.unit
    label = f"‘{name}’"

    def act(s: State, raw: Any, at: int) -> None:
        if missing and form.bits(raw) in missing:
            return
        number = _number(form, raw, at, label)
        value = scale.value(number) if states is None else _state(states, number, at, label)
        s.out.append(Measurement(name, unit, value, s.time))

    if codes is None:
        return Fixed(label, form.code, form.width, form.order, act)
    size, table = form.width, codes
    part = struct.Struct(f"{form.order or '>'}{form.code}")

    def act_with_unit(s: State, raw: bytes, at: int) -> None:
        (bare,) = part.unpack(raw[:size])
        if missing and form.bits(bare) in missing:
            return
        code = table.get(raw[size])
        if code is None:
            raise malformed(at + size, f"{label}: the unit code {raw[size]:#04x} is not declared")
        number = _number(form, bare, at, label)
        value = scale.value(number) if states is None else _state(states, number, at, label)
        s.out.append(Measurement(name, code, value, s.time))

    return Fixed(label, f"{size + 1}s", size + 1, act=act_with_unit)


def _state(states: dict[int, float], number: float, at: int, label: str) -> float:
    try:
        return states[cast("int", number)]
    except KeyError:
        raise malformed(at, f"{label}: {number} is not a declared state") from None


def _read(element: Read, form: NumberFormat) -> Act:
    name, among = element.read, frozenset(element.among or ())

    def keep(s: State, raw: Any, at: int) -> None:
        s.reads[name] = raw

    if form.read is None and not among:
        return keep

    def act(s: State, raw: Any, at: int) -> None:
        number = cast("int", _number(form, raw, at, f"‘{name}’"))
        if among and number not in among:
            raise malformed(at, f"‘{name}’ is {number}; {', '.join(map(str, sorted(among)))} would be right")
        s.reads[name] = number

    return act


def _sequence(form: NumberFormat) -> Act:
    def keep(s: State, raw: Any, at: int) -> None:
        s.sequence = raw

    if form.read is None and form.width < 8:
        return keep

    def act(s: State, raw: Any, at: int) -> None:
        number = cast("int", _number(form, raw, at, "the sequence number"))
        if number >= 1 << 63:
            raise malformed(at, f"the sequence number {number} does not fit into 63 bits")
        s.sequence = number

    return act


def _identity(element: Identity, form: NumberFormat) -> Act:
    before, _, after = element.identity.partition("{}")
    digits = element.digits

    def act(s: State, raw: Any, at: int) -> None:
        number = cast("int", _number(form, raw, at, "the identity"))
        s.identity = f"{before}{number:0{digits}d}{after}"

    return act


def _length(element: Length, form: NumberFormat) -> Act:
    name, plus = f"#{element.length}", element.plus

    def act(s: State, raw: Any, at: int) -> None:
        number = cast("int", _number(form, raw, at, "a length"))
        if number < plus:
            raise malformed(at, f"the length {number} is less than the {plus} it counts anyway")
        s.reads[name] = number - plus

    return act


def _constant(choices: tuple[bytes, ...]) -> Act:
    def act(s: State, raw: Any, at: int) -> None:
        if raw not in choices:
            raise malformed(at, f"{raw.hex(' ')} where {' or '.join(choice.hex(' ') for choice in choices)} belongs")

    return act


def _bits(element: Bits, form: NumberFormat) -> Act:
    parts = [_bit(bit) for bit in element.fields]

    def act(s: State, raw: Any, at: int) -> None:
        group = form.bits(raw)
        for part in parts:
            part(s, group, at)

    return act


def _bit(bit: Bit) -> Act:
    at_bit, mask = bit.at, (1 << bit.width) - 1
    sign = 1 << bit.width - 1 if bit.signed else 0
    missing, states, unit = frozenset(bit.missing), bit.states, bit.unit
    scale = scaling(bit.scale, bit.offset)

    def read(s: State, group: int, at: int) -> None:
        s.reads[cast("str", bit.read)] = group >> at_bit & mask

    if bit.value is None:
        return read
    name = bit.value

    def value(s: State, group: int, at: int) -> None:
        raw = group >> at_bit & mask
        if raw in missing:
            return
        number = (raw ^ sign) - sign
        result = scale.value(number) if states is None else _state(states, raw, at, f"‘{name}’")
        s.out.append(Measurement(name, unit, result, s.time))

    return value


def _time(element: Time, context: Context) -> Fixed:
    if element.type is None:
        read = _date(element)
        code, size, order = f"{element.size}s", element.size, ""
    else:
        form = context.format(element.type, element.order)
        read = _counted(element, form)
        code, size, order = form.code, form.width, form.order
    repeated, sent = context.repeated, element.sent

    def act(s: State, raw: Any, at: int) -> None:
        time = read(s, raw, at)
        if not -LAST < time < LAST:
            raise malformed(at, "a time that is none: it lies thousands of years away")
        s.time = time
        if sent:
            s.sent = time
        if repeated:
            return
        if s.out and s.base is None:
            s.out[:] = [entry._replace(time=time) for entry in s.out]
        s.base = time

    return Fixed("a time", code, size, order, act)


def _counted(element: Time, form: NumberFormat) -> Callable[[State, Any, int], Instant]:
    unit, kind = element.unit, element.time
    start = instant(datetime(element.since.year, element.since.month, element.since.day, tzinfo=UTC) - element.ahead)

    if kind == "epoch" and form.read is None:
        return lambda s, raw, at: start + raw * unit

    def read(s: State, raw: Any, at: int) -> Instant:
        count = cast("int", _number(form, raw, at, "a time")) * unit
        if kind == "epoch":
            return start + count
        if kind == "age":
            return s.received - count
        base = s.received if s.base is None else s.base
        return base - count if kind == "before" else base + count

    return read


def _date(element: Time) -> Callable[[State, Any, int], Instant]:
    parts, packed, ahead = element.format.split(), element.digits == "bcd", element.ahead

    def read(s: State, raw: bytes, at: int) -> Instant:
        found = dict.fromkeys(("hh", "mm", "ss"), 0) | {"CC": 20}
        for index, (part, byte) in enumerate(zip(parts, raw, strict=True)):
            if packed and (byte >> 4 > 9 or byte & 15 > 9):
                raise malformed(at + index, f"{byte:02x} is not packed decimal")
            found[part] = (byte >> 4) * 10 + (byte & 15) if packed else byte
        try:
            naive = datetime(found["CC"] * 100 + found["YY"], found["MM"], found["DD"], found["hh"], found["mm"],
                             found["ss"], tzinfo=UTC)  # fmt: skip
            return instant(naive - ahead)
        except (ValueError, OverflowError) as error:
            raise malformed(at, f"no date: {error}") from None

    return read
