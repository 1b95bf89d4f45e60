"""The wire format of RFC 7252, as far as the plain POST of telemetry needs it: pure functions on bytes.

What is not a plain POST (Block1, Observe, OSCORE, a ping, any option not named here) is not looked at further: the
gateway hands it to aiocoap.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

CONFIRMABLE, NON_CONFIRMABLE, ACKNOWLEDGEMENT, RESET = range(4)
EMPTY = 0x00
POST = 0x02
CHANGED = 0x44

_VERSION = 1
_URI_HOST, _URI_PORT, _URI_PATH, _CONTENT_FORMAT, _MAX_AGE, _URI_QUERY = 3, 7, 11, 12, 14, 15
_MARKER = 0xFF
_HEADER = 4
_TOKEN_LIMIT = 8
_ONE_BYTE, _TWO_BYTES = 13, 14
NOW = "now"
"""The query (`/telemetry/…?now`) by which a device asks for the time in its answer."""


class Plain(NamedTuple):
    """A POST with nothing but a path, a content format, a payload, and perhaps the wish to be told the time."""

    confirmable: bool
    mid: int
    token: bytes
    path: tuple[str, ...]
    content_format: int | None
    payload: bytes
    asks_now: bool = False


class Other(Enum):
    """What a datagram is instead."""

    UNUSUAL = "unusual"
    """Well-formed as far as was read, and nothing for the small path."""
    MALFORMED = "malformed"
    """A message format error (section 3): a confirmable one is answered with a reset, others are ignored."""


def parse(datagram: bytes) -> Plain | Other:  # noqa: C901 - one pass over one datagram, on the hot path
    """Read a datagram; never raises."""
    if len(datagram) < _HEADER or datagram[0] >> 6 != _VERSION:
        return Other.MALFORMED
    kind = datagram[0] >> 4 & 3
    token_length = datagram[0] & 15
    if token_length > _TOKEN_LIMIT or len(datagram) < _HEADER + token_length:
        return Other.MALFORMED
    if datagram[1] != POST or kind > NON_CONFIRMABLE:
        return Other.UNUSUAL
    at = _HEADER + token_length
    mid = datagram[2] << 8 | datagram[3]
    token = datagram[_HEADER:at]
    path: list[str] = []
    content_format: int | None = None
    asks_now = False
    number = 0
    end = len(datagram)
    try:
        while at < end:
            head = datagram[at]
            if head == _MARKER:
                if at + 1 == end:
                    return Other.MALFORMED  # a marker with nothing behind it
                return Plain(kind == CONFIRMABLE, mid, token, tuple(path), content_format, datagram[at + 1 :], asks_now)
            at += 1
            delta, length = head >> 4, head & 15
            if delta >= _ONE_BYTE:
                delta, at = _extended(datagram, delta, at)
            if length >= _ONE_BYTE:
                length, at = _extended(datagram, length, at)
            number += delta
            value = datagram[at : at + length]
            at += length
            if at > end:
                return Other.MALFORMED
            if number == _URI_PATH:
                path.append(value.decode())
            elif number == _CONTENT_FORMAT:
                if content_format is not None or length > 2:
                    return Other.UNUSUAL
                content_format = int.from_bytes(value)
            elif number == _URI_QUERY and value == b"now":
                asks_now = True
            elif number not in (_URI_HOST, _URI_PORT):
                return Other.UNUSUAL
    except UnicodeDecodeError:
        return Other.UNUSUAL
    except (IndexError, ValueError):
        return Other.MALFORMED
    return Plain(kind == CONFIRMABLE, mid, token, tuple(path), content_format, b"", asks_now)


def _extended(datagram: bytes, nibble: int, at: int) -> tuple[int, int]:
    """An option's delta or length in its longer forms (section 3.1); `ValueError` for the reserved nibble 15."""
    if nibble == _ONE_BYTE:
        return datagram[at] + 13, at + 1
    if nibble == _TWO_BYTES:
        return (datagram[at] << 8 | datagram[at + 1]) + 269, at + 2
    raise ValueError("reserved")


def empty(kind: int, mid: int) -> bytes:
    """An empty acknowledgement or reset."""
    return bytes((_VERSION << 6 | kind << 4, EMPTY, mid >> 8, mid & 0xFF))


def response(
    kind: int,
    code: int,
    mid: int,
    token: bytes,
    *,
    max_age: int | None = None,
    content_format: int | None = None,
    payload: bytes = b"",
) -> bytes:
    """A response; without a content format its payload is text for people (section 5.5.2)."""
    head = bytes((_VERSION << 6 | kind << 4 | len(token), code, mid >> 8, mid & 0xFF))
    options = b""
    number = 0
    for option, value in ((_CONTENT_FORMAT, content_format), (_MAX_AGE, max_age)):
        if value is not None:
            encoded = value.to_bytes((value.bit_length() + 7) // 8)
            delta = option - number
            # A delta from 13 on has a byte of its own; both lengths are short.
            first = (
                bytes((delta << 4 | len(encoded),))
                if delta < _ONE_BYTE
                else bytes((_ONE_BYTE << 4 | len(encoded), delta - _ONE_BYTE))
            )
            options += first + encoded
            number = option
    return b"".join((head, token, options, b"\xff" + payload if payload else b""))


def with_payload(datagram: bytes, payload: bytes) -> bytes:
    """A response of ours with another payload in the place of its own."""
    marker = datagram.index(_MARKER, _HEADER + (datagram[0] & 15))
    return datagram[: marker + 1] + payload
