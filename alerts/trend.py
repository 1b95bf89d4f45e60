"""The trend that goes with a message: a small PNG, drawn with numpy alone. Pure.

A phone shows it beside the text, so it has what the text lacks: the course of the value, the limit, and where the alarm
began. Where the readings come from is `headworks.telling`'s business.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from devices.model import MINUTE, Instant, moment

WIDTH, HEIGHT = 480, 200
"""Pixels."""
_FINE = 2
"""Drawn so many times larger and then averaged, which smooths the edges."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 26
_PAPER, _INK, _QUIET, _LINE, _LIMIT = (255, 255, 255), (29, 35, 41), (213, 216, 220), (70, 82, 95), (196, 22, 42)
# Five by seven, a row a number: all that labels of an axis are made of.
_GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14), "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8), "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12), ".": (0, 0, 0, 0, 0, 12, 12), "-": (0, 0, 0, 31, 0, 0, 0),
    ":": (0, 12, 12, 0, 12, 12, 0), "e": (0, 0, 14, 17, 31, 16, 14), "+": (0, 4, 4, 31, 4, 4, 0),
}  # fmt: skip

Canvas = NDArray[np.uint8]
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Trend:
    """What is drawn: readings by time, the rule's limit, and since when its condition holds."""

    at: Sequence[Instant]
    value: Sequence[float]
    limit: float | None = None
    since: Instant | None = None


def draw(trend: Trend, zone: str) -> bytes:
    """A PNG with times in `zone`; `ValueError` for fewer than two readings."""
    if len(trend.at) < 2 or trend.at[-1] <= trend.at[0]:
        raise ValueError("a trend needs readings at two times at least")
    low, high = _range(trend)
    canvas = np.full((HEIGHT * _FINE, WIDTH * _FINE, 3), 255, np.uint8)
    canvas[:] = _PAPER
    left, right = _LEFT * _FINE, (WIDTH - _RIGHT) * _FINE
    top, bottom = _TOP * _FINE, (HEIGHT - _BOTTOM) * _FINE
    at, value = np.asarray(trend.at, np.float64), np.asarray(trend.value, np.float64)
    x = left + (at - at[0]) / (at[-1] - at[0]) * (right - left)
    y = bottom - (value - low) / (high - low) * (bottom - top)
    _box(canvas, left, bottom, right, bottom + _FINE, _QUIET)
    _box(canvas, left - _FINE, top, left, bottom + _FINE, _QUIET)
    if trend.since is not None and at[0] < trend.since < at[-1]:
        place = int(left + (trend.since - at[0]) / (at[-1] - at[0]) * (right - left)) // _FINE * _FINE
        for piece in range(top, bottom, 8 * _FINE):
            _box(canvas, place, piece, place + _FINE, piece + 4 * _FINE, _INK)
    labels = [(low, _INK), (high, _INK)]
    if trend.limit is not None:
        place = int(bottom - (trend.limit - low) / (high - low) * (bottom - top)) // _FINE * _FINE
        for piece in range(left, right, 14 * _FINE):
            _box(canvas, piece, place - _FINE, min(right, piece + 9 * _FINE), place + _FINE, _LIMIT)
        labels = [(trend.limit, _LIMIT), *labels]
    _polyline(canvas, x, y)
    taken: list[float] = []
    for number, colour in labels:
        row = bottom - (number - low) / (high - low) * (bottom - top)
        if all(abs(row - other) > 18 * _FINE for other in taken):
            taken.append(row)
            text = f"{number:.3g}"
            _text(canvas, text, left - 8 * _FINE - _width(text), int(row) - 7 * _FINE, colour)
    begin, end = (_clock(instant, zone) for instant in (trend.at[0], trend.at[-1]))
    _text(canvas, begin, left, bottom + 8 * _FINE, _INK)
    _text(canvas, end, right - _width(end), bottom + 8 * _FINE, _INK)
    small = canvas.reshape(HEIGHT, _FINE, WIDTH, _FINE, 3).mean(axis=(1, 3)).astype(np.uint8)
    return _png(small)


def window(since: Instant, until: Instant) -> tuple[Instant, Instant]:
    """Which part of the past belongs to an alarm that began at `since` and is told at `until`: an hour before it, or as
    long before as it has lasted."""
    return since - max(60 * MINUTE, until - since), max(until, since + MINUTE)


def _range(trend: Trend) -> tuple[float, float]:
    numbers = [*trend.value, *([] if trend.limit is None else [trend.limit])]
    low, high = float(min(numbers)), float(max(numbers))
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _clock(at: Instant, zone: str) -> str:
    local: datetime = moment(at).astimezone(ZoneInfo(zone))
    return f"{local:%H:%M}"


def _box(canvas: Canvas, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
    canvas[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = colour


def _polyline(canvas: Canvas, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Each piece as close points, each point as wide as the pen."""
    pen = 2 * _FINE
    for start in range(len(x) - 1):
        steps = int(max(abs(x[start + 1] - x[start]), abs(y[start + 1] - y[start]))) + 1
        columns = np.linspace(x[start], x[start + 1], steps).astype(int)
        rows = np.linspace(y[start], y[start + 1], steps).astype(int)
        for dx in range(-(pen // 2), pen - pen // 2):
            for dy in range(-(pen // 2), pen - pen // 2):
                canvas[np.clip(rows + dy, 0, len(canvas) - 1), np.clip(columns + dx, 0, canvas.shape[1] - 1)] = _LINE


_PIXEL = 2 * _FINE


def _width(text: str) -> int:
    return (6 * len(text) - 1) * _PIXEL


def _text(canvas: Canvas, text: str, left: int, top: int, colour: Colour) -> None:
    for place, letter in enumerate(text):
        for row, bits in enumerate(_GLYPHS[letter]):
            for column in range(5):
                if bits >> (4 - column) & 1:
                    x, y = left + (6 * place + column) * _PIXEL, top + row * _PIXEL
                    _box(canvas, x, y, x + _PIXEL, y + _PIXEL, colour)


def _png(pixels: Canvas) -> bytes:
    """PNG (ISO/IEC 15948), eight bits a colour, no filter."""
    height, width, _ = pixels.shape
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw, 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
