"""The declaration of a binary vendor frame: what stands in a profile under `frame`, and whether it makes sense.

A layout is a list of elements, each named by its first key, that follow one another in the frame. What they do with
bytes is in `frame_decode` and `frame_encode`; the reference for profile authors is the room's README.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from devices.codecs.checksum import CheckName, Crc, checksum
from devices.codecs.frame_number import IntegerType, NumberType, Order, width
from devices.document import DocumentModel
from devices.duration import Duration
from devices.model import SECOND

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Path = tuple[str | int, ...]
"""Where an element stands inside the `frame` of a profile."""


def _hex(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('write bytes as hexadecimal digits in quotes, for example "68" or "1F 90"')  # noqa: TRY004 - pydantic's
    compact = value.replace(" ", "").lower().removeprefix("0x")
    if not re.fullmatch(r"([0-9a-f]{2})+", compact):
        raise ValueError(f'{value!r} is not hexadecimal bytes; write for example "68" or "1F 90"')
    return compact


Hex = Annotated[str, BeforeValidator(_hex, json_schema_input_type=str)]
"""Bytes as hexadecimal digits, two a byte."""


def _zone(text: str) -> str:
    match = re.fullmatch(r"[+-](\d\d):(\d\d)", text)
    if not match or int(match[1]) > 14 or int(match[2]) > 59:
        raise ValueError(f"{text!r} is not a distance from UTC such as +08:00")
    return text


Zone = Annotated[str, AfterValidator(_zone)]

_DATE_PARTS = ("CC", "YY", "MM", "DD", "hh", "mm", "ss")


def _date_format(text: str) -> str:
    parts = text.split()
    unknown = [part for part in parts if part not in _DATE_PARTS]
    if unknown or len(set(parts)) < len(parts) or not {"YY", "MM", "DD"} <= set(parts):
        raise ValueError(f"{text!r}: name each byte once, of CC (century) YY MM DD hh mm ss; YY, MM and DD are needed")
    return " ".join(parts)


class _Scaled(DocumentModel):
    """What turns a raw number into a value."""

    scale: float = Field(default=1.0, allow_inf_nan=False, description="The value is raw × scale + offset")
    offset: float = Field(default=0.0, allow_inf_nan=False)
    unit: str | None = Field(default=None, description="The value's unit; the profile's unit of the metric if absent")
    missing: tuple[int, ...] = Field(default=(), description="Bit patterns that mean ‘no value’, such as 0xFFFF")
    states: dict[int, float] | None = Field(
        default=None, description="What each raw number means; any other is an error"
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> _Scaled:
        if self.scale == 0:
            raise ValueError("a scale of 0 makes every value the same")
        if self.states is not None and (self.scale != 1 or self.offset != 0):
            raise ValueError("states and a scale exclude one another")
        if self.states is not None and not all(math.isfinite(value) for value in self.states.values()):
            raise ValueError("a state stands for a finite number")
        return self


class Value(_Scaled):
    """A number that becomes a measurement of a metric, by the profile's name or one of its further names."""

    value: str
    type: NumberType
    order: Order | None = None
    unit_codes: dict[int, str] | None = Field(
        default=None, description="One more byte follows that says the unit; what each of its codes means"
    )

    @model_validator(mode="after")
    def _one_unit(self) -> Value:
        if self.unit is not None and self.unit_codes is not None:
            raise ValueError("unit and unit_codes exclude one another")
        if self.unit_codes is not None and not all(0 <= code <= 255 for code in self.unit_codes):
            raise ValueError("a unit code is one byte, 0 to 255")
        return self


class Read(DocumentModel):
    """A whole number that other elements refer to (a type, a count), or that is only shown."""

    read: Name
    type: IntegerType
    order: Order | None = None
    among: tuple[int, ...] | None = Field(default=None, description="The only numbers that are right")
    default: int = Field(default=0, ge=0, description="What the encoder writes where it is told nothing")


class SequenceNumber(DocumentModel):
    """The uplink's sequence number."""

    sequence: IntegerType
    order: Order | None = None


class Identity(DocumentModel):
    """A number by which the device names itself; the payload then speaks for that device only."""

    identity: str = Field(pattern=r"^[^{}/+# ]*\{\}[^{}/+# ]*$", description="The identity, with {} for the number")
    type: IntegerType
    order: Order | None = None
    digits: int = Field(default=1, ge=1, le=20, description="The number is filled up with zeros to so many digits")


class Time(DocumentModel):
    """A device time: it holds for the values that follow, and the first one for those before it too."""

    time: Literal["epoch", "date", "age", "before", "after"] = Field(
        description="epoch: time since `since`; date: one byte each, as `format` says; age: before the arrival; "
        "before, after: relative to the frame's time"
    )
    type: IntegerType | None = None
    order: Order | None = None
    unit: Duration = Field(default=SECOND, gt=0, description="What one count stands for")
    since: date = Field(default=date(1970, 1, 1), ge=date(1900, 1, 1), description="Where epoch begins, UTC")
    format: Annotated[str, AfterValidator(_date_format)] = "YY MM DD hh mm ss"
    digits: Literal["bcd", "binary"] = "bcd"
    zone: Zone = Field(default="+00:00", description="How far the device's clock is ahead of UTC")
    sent: bool = Field(default=False, description="This is when the device sent the frame")

    @model_validator(mode="after")
    def _complete(self) -> Time:
        if (self.time == "date") == (self.type is not None):
            raise ValueError("‘type’ belongs to every time but a date, which has a ‘format’")
        return self

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return len(self.format.split()) if self.type is None else width(self.type)

    @property
    def ahead(self) -> timedelta:
        """How far the device's clock is ahead of UTC."""
        hours, minutes = self.zone[1:].split(":")
        distance = timedelta(hours=int(hours), minutes=int(minutes))
        return -distance if self.zone[0] == "-" else distance


class Bit(_Scaled):
    """One bit or some neighbouring bits; bit 0 is the least significant of the whole group."""

    value: str | None = None
    read: Name | None = None
    at: int = Field(ge=0, le=63)
    width: int = Field(default=1, ge=1, le=64)
    signed: bool = False
    default: int = Field(default=0, ge=0, description="What the encoder writes where it is told nothing (read)")

    @model_validator(mode="after")
    def _one_purpose(self) -> Bit:
        if (self.value is None) == (self.read is None):
            raise ValueError("a bit field is either a ‘value’ or a ‘read’")
        return self


class Bits(DocumentModel):
    """A group of 1 to 8 bytes whose bits mean something each; bits that no field names are 0 and ignored."""

    bits: int = Field(ge=1, le=8, description="Bytes of the group")
    order: Order | None = None
    fields: tuple[Bit, ...] = Field(min_length=1)


class Constant(DocumentModel):
    """Bytes that are always the same; with several, any of them is right and the first is written."""

    constant: Hex | tuple[Hex, ...]

    @property
    def choices(self) -> tuple[bytes, ...]:
        """The bytes that are right."""
        texts = (self.constant,) if isinstance(self.constant, str) else self.constant
        return tuple(bytes.fromhex(text) for text in texts)

    @model_validator(mode="after")
    def _one_length(self) -> Constant:
        if len({len(choice) for choice in self.choices}) != 1:
            raise ValueError("all of a constant's forms have the same length")
        return self


class Skip(DocumentModel):
    """Bytes that mean nothing: zeros are written, and anything is read."""

    skip: int = Field(ge=1, le=1024)


class Preamble(DocumentModel):
    """A byte that may stand there several times or not at all (wake-up of a line); none is written."""

    preamble: Hex
    most: int = Field(ge=1, le=64)

    @model_validator(mode="after")
    def _one_byte(self) -> Preamble:
        if len(self.preamble) != 2:
            raise ValueError("a preamble repeats one byte")
        return self


class Mark(DocumentModel):
    """A name for this place, from which a checksum can count."""

    mark: Name


class Length(DocumentModel):
    """How many bytes a later block of the same layout takes, plus a fixed number."""

    length: Name
    type: IntegerType
    order: Order | None = None
    plus: int = Field(default=0, description="What the number counts beside the block")


class Block(DocumentModel):
    """A part whose size a length element told; nothing in it reads beyond it."""

    block: Name
    layout: Layout
    rest: Literal["refuse", "ignore"] = Field(default="refuse", description="What becomes of bytes left over in it")


class Repeat(DocumentModel):
    """A part that stands there several times, each with its own time."""

    repeat: int | str = Field(description="How often: a number, the name of a read, or ‘rest’ (to the end)")
    layout: Layout
    step: Duration | None = Field(default=None, gt=0, description="Time from one record to the next")
    times: Name | None = Field(default=None, description="A read that the step is multiplied by")
    newest: Literal["first", "last"] = "last"
    stamp: Literal["newest", "oldest"] = Field(default="newest", description="Which record the frame's time is of")

    @model_validator(mode="after")
    def _countable(self) -> Repeat:
        if isinstance(self.repeat, int) and not 1 <= self.repeat <= 4096:
            raise ValueError("a fixed number of records is from 1 to 4096")
        if self.step is None and self.times is not None:
            raise ValueError("‘times’ multiplies a ‘step’, and there is none")
        return self


class Switch(DocumentModel):
    """What follows depends on a number that was read before."""

    switch: Name
    cases: dict[int, Layout] = Field(min_length=1)
    otherwise: Layout | None = Field(default=None, description="For every other number; absent: it is an error")


class Optional(DocumentModel):
    """A part that is only there if bytes are left."""

    optional: Layout


class Check(DocumentModel):
    """A checksum of the bytes from the start of the frame, or from a mark, up to here."""

    check: CheckName | Crc
    since: Name | None = None
    order: Order | None = None


ELEMENTS: dict[str, type[DocumentModel]] = {
    "value": Value, "read": Read, "sequence": SequenceNumber, "identity": Identity, "time": Time, "bits": Bits,
    "constant": Constant, "skip": Skip, "preamble": Preamble, "mark": Mark, "length": Length, "block": Block,
    "repeat": Repeat, "switch": Switch, "optional": Optional, "check": Check,
}  # fmt: skip
"""Every kind of element, by the key that it begins with."""


def _kind(entry: Any) -> str | None:
    if isinstance(entry, DocumentModel):
        return f"<{type(entry).__name__}>"
    if not isinstance(entry, dict):
        return None
    return next((f"<{ELEMENTS[str(key)].__name__}>" for key in entry if str(key) in ELEMENTS), None)


Element = Annotated[
    Annotated[Value, Tag("<Value>")]
    | Annotated[Read, Tag("<Read>")]
    | Annotated[SequenceNumber, Tag("<SequenceNumber>")]
    | Annotated[Identity, Tag("<Identity>")]
    | Annotated[Time, Tag("<Time>")]
    | Annotated[Bits, Tag("<Bits>")]
    | Annotated[Constant, Tag("<Constant>")]
    | Annotated[Skip, Tag("<Skip>")]
    | Annotated[Preamble, Tag("<Preamble>")]
    | Annotated[Mark, Tag("<Mark>")]
    | Annotated[Length, Tag("<Length>")]
    | Annotated[Block, Tag("<Block>")]
    | Annotated[Repeat, Tag("<Repeat>")]
    | Annotated[Switch, Tag("<Switch>")]
    | Annotated[Optional, Tag("<Optional>")]
    | Annotated[Check, Tag("<Check>")],
    Discriminator(
        _kind,
        custom_error_type="element",
        custom_error_message=f"an element begins with one of: {', '.join(ELEMENTS)}",
    ),
]
"""One element of a layout; its first key says which."""

Layout = tuple[Element, ...]

for _model in (Block, Repeat, Switch, Optional):
    _model.model_rebuild()


class Frame(DocumentModel):
    """A binary frame."""

    order: Order = Field(default="big", description="The byte order of what names none")
    layout: Layout = Field(min_length=1)
    rest: Literal["refuse", "ignore"] = Field(default="refuse", description="What becomes of bytes after the layout")


def values(layout: Sequence[Any], path: Path = ("layout",)) -> Iterator[tuple[Path, Value | Bit]]:
    """Everything in a layout that becomes a measurement, with its place."""
    for index, element in enumerate(layout):
        here = (*path, index)
        if isinstance(element, Value):
            yield here, element
        elif isinstance(element, Bits):
            for number, bit in enumerate(element.fields):
                if bit.value is not None:
                    yield (*here, "fields", number), bit
        for inner, part in inner_layouts(element):
            yield from values(part, (*here, *inner))


def inner_layouts(element: Any) -> list[tuple[Path, Layout]]:
    """The layouts inside an element, with the keys that lead to them."""
    match element:
        case Block() | Repeat():
            return [(("layout",), element.layout)]
        case Optional():
            return [(("optional",), element.optional)]
        case Switch():
            found: list[tuple[Path, Layout]] = [(("cases", case), layout) for case, layout in element.cases.items()]
            return [*found, (("otherwise",), element.otherwise)] if element.otherwise is not None else found
    return []


def least_size(layout: Sequence[Any]) -> int:
    """The fewest bytes that a layout can take."""
    return sum(map(_least, layout))


def _least(element: Any) -> int:
    match element:
        case Block():
            return least_size(element.layout)
        case Repeat() if isinstance(element.repeat, int):
            return element.repeat * least_size(element.layout)
        case Switch():
            cases = [*element.cases.values(), *([element.otherwise] if element.otherwise is not None else [])]
            return min(least_size(case) for case in cases)
        case Check():
            return checksum(element.check)[0]
    return fixed_size(element) or 0


def fixed_size(element: Any) -> int | None:
    """How many bytes an element takes whose size is the same in every frame; None for the others."""
    match element:
        case Value():
            return width(element.type) + (element.unit_codes is not None)
        case Read() | Identity() | Length():
            return width(element.type)
        case SequenceNumber():
            return width(element.sequence)
        case Time():
            return element.size
        case Bits():
            return element.bits
        case Constant():
            return len(element.choices[0])
        case Skip():
            return element.skip
    return None
