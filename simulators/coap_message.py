"""The bytes of RFC 7252 that a device needs: a confirmable POST out, empty messages and responses in.

Kept apart from the gateway's own parser on purpose: two readings of the standard find each other's mistakes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CONFIRMABLE, NON_CONFIRMABLE, ACKNOWLEDGEMENT, RESET = range(4)
EMPTY = 0
DEFAULT_MAX_AGE = 60
"""Seconds, where a response has no Max-Age (section 5.10.5)."""
_POST = 2
_URI_PATH, _CONTENT_FORMAT, _MAX_AGE, _BLOCK1 = 11, 12, 14, 27
_MARKER = 0xFF


class Received(NamedTuple):
    """A message that came in; `code` is its byte, options other than Max-Age are not kept."""

    kind: int
    code: int
    mid: int
    token: bytes
    max_age: int
    payload: bytes


class Block(NamedTuple):
    """Which part of a request's body a message has (Block1, RFC 7959); `size` is a power of two from 16 to 1024."""

    number: int
    more: bool
    size: int


def post(
    mid: int,
    token: bytes,
    path: tuple[str, ...],
    content_format: int | None,
    payload: bytes,
    block: Block | None = None,
) -> bytes:
    """A confirmable POST; the format is left out where there is none."""
    parts = [struct.pack("!BBH", 0x40 | CONFIRMABLE << 4 | len(token), _POST, mid), token]
    number = 0
    for segment in path:
        parts.append(_option(_URI_PATH - number, segment.encode()))
        number = _URI_PATH
    if content_format is not None:
        value = content_format.to_bytes((content_format.bit_length() + 7) // 8)
        parts.append(_option(_CONTENT_FORMAT - number, value))
        number = _CONTENT_FORMAT
    if block is not None:
        part = block.number << 4 | block.more << 3 | (block.size.bit_length() - 5)
        parts.append(_option(_BLOCK1 - number, part.to_bytes((part.bit_length() + 7) // 8)))
    if payload:
        parts += [bytes([_MARKER]), payload]
    return b"".join(parts)


def empty(kind: int, mid: int) -> bytes:
    """An empty acknowledgement or reset."""
    return struct.pack("!BBH", 0x40 | kind << 4, EMPTY, mid)


def parse(datagram: bytes) -> Received | None:
    """A message, or None where the bytes are not one (section 3: silently ignored)."""
    if len(datagram) < 4 or datagram[0] >> 6 != 1:
        return None
    length = datagram[0] & 15
    if length > 8 or len(datagram) < 4 + length:
        return None
    max_age, at, number = DEFAULT_MAX_AGE, 4 + length, 0
    try:
        while at < len(datagram) and datagram[at] != _MARKER:
            head, at = datagram[at], at + 1
            delta, at = _extended(datagram, head >> 4, at)
            size, at = _extended(datagram, head & 15, at)
            number += delta
            if at + size > len(datagram):
                return None
            if number == _MAX_AGE:
                max_age = int.from_bytes(datagram[at : at + size])
            at += size
    except (IndexError, ValueError):
        return None
    return Received(
        datagram[0] >> 4 & 3,
        datagram[1],
        datagram[2] << 8 | datagram[3],
        datagram[4 : 4 + length],
        max_age,
        datagram[at + 1 :],
    )


def dotted(code: int) -> str:
    """A code as people write it: `2.04`."""
    return f"{code >> 5}.{code & 31:02d}"


def _option(delta: int, value: bytes) -> bytes:
    head, extended = 0, b""
    for nibble in (delta, len(value)):
        if nibble < 13:
            head = head << 4 | nibble
        elif nibble < 269:
            head, extended = head << 4 | 13, extended + bytes([nibble - 13])
        else:
            head, extended = head << 4 | 14, extended + (nibble - 269).to_bytes(2)
    return bytes([head]) + extended + value


def _extended(datagram: bytes, nibble: int, at: int) -> tuple[int, int]:
    if nibble < 13:
        return nibble, at
    if nibble == 13:
        return datagram[at] + 13, at + 1
    if nibble == 14:
        return (datagram[at] << 8 | datagram[at + 1]) + 269, at + 2
    raise ValueError("reserved")
