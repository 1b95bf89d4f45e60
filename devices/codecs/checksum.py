"""Checksums of vendor frames: sums, XOR, and any CRC by the parameters of the Rocksoft model (width, polynomial, start
value, reflection, final XOR). Where the standard library has the same CRC in C, that one is used."""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from devices.document import DocumentModel

Checksum = Callable[[bytes], int]
"""From the covered bytes to the number that the frame carries."""


class Crc(DocumentModel):
    """The parameters of a cyclic redundancy check, as the public catalogues list them."""

    width: Literal[8, 16, 24, 32, 64]
    poly: int = Field(gt=0, description="The polynomial without its highest term, not reflected")
    init: int = Field(default=0, ge=0, description="The register before the first byte")
    reflect_in: bool = Field(default=False, description="Each byte is taken with its lowest bit first")
    reflect_out: bool = Field(default=False, description="The register is reflected before the final XOR")
    xor_out: int = Field(default=0, ge=0, description="What the register is combined with at the end")

    @model_validator(mode="after")
    def _fits(self) -> Crc:
        for name in ("poly", "init", "xor_out"):
            if getattr(self, name) >> self.width:
                raise ValueError(f"{name} has more than {self.width} bits")
        return self


_CRCS = {
    "crc8": Crc(width=8, poly=0x07),
    "crc8-maxim": Crc(width=8, poly=0x31, reflect_in=True, reflect_out=True),
    "crc16-arc": Crc(width=16, poly=0x8005, reflect_in=True, reflect_out=True),
    "crc16-ccitt": Crc(width=16, poly=0x1021, init=0xFFFF),
    "crc16-dnp": Crc(width=16, poly=0x3D65, reflect_in=True, reflect_out=True, xor_out=0xFFFF),
    "crc16-en13757": Crc(width=16, poly=0x3D65, xor_out=0xFFFF),
    "crc16-kermit": Crc(width=16, poly=0x1021, reflect_in=True, reflect_out=True),
    "crc16-modbus": Crc(width=16, poly=0x8005, init=0xFFFF, reflect_in=True, reflect_out=True),
    "crc16-x25": Crc(width=16, poly=0x1021, init=0xFFFF, reflect_in=True, reflect_out=True, xor_out=0xFFFF),
    "crc16-xmodem": Crc(width=16, poly=0x1021),
    "crc32": Crc(
        width=32, poly=0x04C11DB7, init=0xFFFFFFFF, reflect_in=True, reflect_out=True, xor_out=0xFFFFFFFF
    ),
    "crc32-mpeg2": Crc(width=32, poly=0x04C11DB7, init=0xFFFFFFFF),
    "crc32c": Crc(
        width=32, poly=0x1EDC6F41, init=0xFFFFFFFF, reflect_in=True, reflect_out=True, xor_out=0xFFFFFFFF
    ),
}  # fmt: skip


def _sum8(data: bytes) -> int:
    return sum(data) & 0xFF


def _sum8_complement(data: bytes) -> int:
    return -sum(data) & 0xFF


def _sum16(data: bytes) -> int:
    return sum(data) & 0xFFFF


def _xor8(data: bytes) -> int:
    result = 0
    for byte in data:
        result ^= byte
    return result


_PLAIN: dict[str, tuple[int, Checksum]] = {
    "sum8": (1, _sum8),
    "sum8-complement": (1, _sum8_complement),
    "sum16": (2, _sum16),
    "xor8": (1, _xor8),
}

CheckName = Annotated[
    Literal[
        "sum8", "sum8-complement", "sum16", "xor8", "crc8", "crc8-maxim", "crc16-arc", "crc16-ccitt", "crc16-dnp",
        "crc16-en13757", "crc16-kermit", "crc16-modbus", "crc16-x25", "crc16-xmodem", "crc32", "crc32-mpeg2", "crc32c",
    ],
    Field(description="A checksum by name; crc16-ccitt starts at 0xFFFF"),
]  # fmt: skip


def checksum(kind: str | Crc) -> tuple[int, Checksum]:
    """How many bytes the checksum takes, and the function that works it out."""
    if isinstance(kind, str):
        if kind in _PLAIN:
            return _PLAIN[kind]
        kind = _CRCS[kind]
    return kind.width // 8, _crc(kind)


def _crc(crc: Crc) -> Checksum:
    if crc == _CRCS["crc32"]:
        return zlib.crc32
    if (crc.width, crc.poly, crc.reflect_in, crc.reflect_out) == (16, 0x1021, False, False):
        start, final = crc.init, crc.xor_out
        return lambda data: binascii.crc_hqx(data, start) ^ final
    return _reflected(crc) if crc.reflect_in else _straight(crc)


def _straight(crc: Crc) -> Checksum:
    width, mask, top = crc.width, (1 << crc.width) - 1, 1 << (crc.width - 1)
    table = []
    for byte in range(256):
        register = byte << (width - 8)
        for _ in range(8):
            register = (register << 1 ^ crc.poly if register & top else register << 1) & mask
        table.append(register)
    shift = width - 8

    def run(data: bytes) -> int:
        register = crc.init
        for byte in data:
            register = (register << 8 & mask) ^ table[register >> shift ^ byte]
        return (reflect(register, width) if crc.reflect_out else register) ^ crc.xor_out

    return run


def _reflected(crc: Crc) -> Checksum:
    width, poly = crc.width, reflect(crc.poly, crc.width)
    table = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = register >> 1 ^ poly if register & 1 else register >> 1
        table.append(register)
    start = reflect(crc.init, width)

    def run(data: bytes) -> int:
        register = start
        for byte in data:
            register = register >> 8 ^ table[(register ^ byte) & 0xFF]
        return (register if crc.reflect_out else reflect(register, width)) ^ crc.xor_out

    return run


def reflect(number: int, width: int) -> int:
    """The same bits in the opposite order."""
    return int(f"{number:0{width}b}"[::-1], 2)
