"""How one number stands in a frame: its width, its `struct` code, and the way there and back.

Integers of 1 to 8 bytes with and without a sign, IEEE 754 floats, packed BCD; big or little endian. Scale and offset of
a value are here too, so that decoder and encoder cannot differ.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field

Order = Literal["big", "little"]
"""Which byte of a number comes first: the most (big) or the least (little) significant."""

_INTEGERS = "u8 … u64 (whole bytes), or bcd1 … bcd8 (packed decimal, so many bytes)"
_NUMBERS = "u8 … u64, i8 … i64 (whole bytes), f32, f64, or bcd1 … bcd8 (packed decimal, so many bytes)"


def _type(pattern: str, meaning: str) -> Any:
    """A field whose text is one of the number types; the pattern is for editors, the message for people."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"‘{text}’ is no number type: {meaning}")
        return text

    return Annotated[str, AfterValidator(check), Field(json_schema_extra={"pattern": f"^({pattern})$"})]


if TYPE_CHECKING:
    NumberType = str
    IntegerType = str
else:
    NumberType = _type(r"[ui](8|16|24|32|40|48|56|64)|f32|f64|bcd[1-8]", _NUMBERS)
    IntegerType = _type(r"u(8|16|24|32|40|48|56|64)|bcd[1-8]", _INTEGERS)

_NATIVE = {("u", 1): "B", ("u", 2): "H", ("u", 4): "I", ("u", 8): "Q", ("i", 1): "b", ("i", 2): "h", ("i", 4): "i",
           ("i", 8): "q", ("f", 4): "f", ("f", 8): "d"}  # fmt: skip


class NumberFormat(NamedTuple):
    """One number type in one byte order.

    `code` is its `struct` code; `order` the prefix it needs (`<`, `>`, or empty where the order makes no difference).
    `read` turns what `struct` unpacked into a number (None: it is one already) and raises `ValueError` for bytes that
    are none; `bits` gives the same bytes as one unsigned number; `pack` and `from_bits` are the ways back
    (`ValueError` if a number does not fit).
    """

    width: int
    code: str
    order: str
    read: Callable[[Any], int | float] | None
    bits: Callable[[Any], int]
    pack: Callable[[float], bytes]
    from_bits: Callable[[int], bytes]


def width(kind: str) -> int:
    """How many bytes a number type takes."""
    match = re.match(r"([uif]|bcd)(\d+)", kind)
    assert match
    return int(match[2]) if match[1] == "bcd" else int(match[2]) // 8


def number_format(kind: str, order: Order) -> NumberFormat:
    """The format of a type such as `u16` or `bcd4`."""
    size = width(kind)
    if kind.startswith("bcd"):
        return _bcd(size, order)
    family = kind[0]
    code = _NATIVE.get((family, size))
    prefix = "" if size == 1 else "<" if order == "little" else ">"

    def from_bits(raw: int) -> bytes:
        return raw.to_bytes(size, order)

    if family == "f":
        packer = struct.Struct(prefix + (code or ""))
        return NumberFormat(
            size,
            code or "",
            prefix,
            None,
            lambda raw: int.from_bytes(packer.pack(raw), order),
            _float(packer),
            from_bits,
        )
    signed = family == "i"
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)

    def pack(number: float) -> bytes:
        whole = round(number)
        if not low <= whole <= high:
            raise ValueError(f"{whole} is not from {low} to {high}")
        return whole.to_bytes(size, order, signed=signed)

    if code:
        mask = (1 << 8 * size) - 1
        return NumberFormat(size, code, prefix, None, lambda raw: raw & mask, pack, from_bits)
    return NumberFormat(
        size,
        f"{size}s",
        "",
        lambda raw: int.from_bytes(raw, order, signed=signed),
        lambda raw: int.from_bytes(raw, order),
        pack,
        from_bits,
    )


def _float(packer: struct.Struct) -> Callable[[float], bytes]:
    def pack(number: float) -> bytes:
        try:
            return packer.pack(number)
        except OverflowError:
            raise ValueError(f"{number} does not fit into {packer.size} bytes") from None

    return pack


def _bcd(size: int, order: Order) -> NumberFormat:
    little = order == "little"

    def read(raw: bytes) -> int:
        digits = (raw[::-1] if little else raw).hex()
        if not digits.isdigit():
            raise ValueError(f"{digits} is not packed decimal")
        return int(digits)

    def pack(number: float) -> bytes:
        whole = round(number)
        if not 0 <= whole < 100**size:
            raise ValueError(f"{whole} is not from 0 to {100**size - 1}")
        packed = bytes.fromhex(f"{whole:0{2 * size}d}")
        return packed[::-1] if little else packed

    return NumberFormat(
        size, f"{size}s", "", read, lambda raw: int.from_bytes(raw, order), pack, lambda raw: raw.to_bytes(size, order)
    )


class Scaling(NamedTuple):
    """From a raw number to a value: `raw * factor / divisor + offset`. A divisor keeps decimal scales exact: 412 with
    the scale 0.01 is 4.12, where 412 * 0.01 is not."""

    factor: float
    divisor: float
    offset: float

    def value(self, raw: float) -> float:
        """The value of a raw number."""
        return raw * self.factor / self.divisor + self.offset

    def raw(self, value: float) -> float:
        """The raw number of a value, not yet rounded."""
        return (value - self.offset) * self.divisor / self.factor


def scaling(scale: float, offset: float) -> Scaling:
    """A scale and an offset, with the scale as a whole divisor where it is one (0.01, 1/3)."""
    if 0 < abs(scale) < 1 and abs(1 / scale - round(1 / scale)) < 1e-9 * abs(1 / scale):
        return Scaling(1.0, float(round(1 / scale)), offset)
    return Scaling(float(scale), 1.0, offset)
