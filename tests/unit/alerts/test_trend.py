"""The picture of a message is a PNG that shows the value's course, its limit, and since when it is beyond it."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from alerts.trend import _INK, _LIMIT, _LINE, HEIGHT, WIDTH, Canvas, Trend, draw, window
from devices.model import HOUR, MINUTE, SECOND

T0 = 1_790_000_000 * SECOND
AT = [T0 + minute * MINUTE for minute in range(60)]


def pixels(png: bytes) -> Canvas:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    place, data = 8, b""
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        assert struct.unpack(">I", png[place + 8 + length : place + 12 + length]) == (zlib.crc32(kind + body),)
        if kind == b"IHDR":
            assert struct.unpack(">IIBB", body[:10]) == (WIDTH, HEIGHT, 8, 2)
        data += body if kind == b"IDAT" else b""
        place += 12 + length
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(HEIGHT, 1 + 3 * WIDTH)
    return rows[:, 1:].reshape(HEIGHT, WIDTH, 3)


def rows_of(picture: Canvas, colour: tuple[int, int, int], column: int) -> list[int]:
    return [int(row) for row in np.flatnonzero((picture[:, column] == colour).all(axis=1))]


def test_it_shows_the_course_the_limit_and_the_beginning() -> None:
    rising = draw(Trend(AT, [20.0 + n for n in range(60)], 60.0, AT[40]), "Asia/Shanghai")
    assert len(rising) < 20_000, "small enough for any channel"
    picture = pixels(rising)
    left, right = rows_of(picture, _LINE, 80), rows_of(picture, _LINE, WIDTH - 20)
    assert min(left) > max(right), "a rising value rises"
    limit = np.flatnonzero((picture == _LIMIT).all(axis=2).sum(axis=1) > 200)
    assert len(limit) == 2, "one dashed line"
    assert min(right) < limit[0] < min(left), "which the value has passed"
    begun = np.flatnonzero((picture[12:170, 70:] == _INK).all(axis=2).sum(axis=0) > 60)
    assert len(begun) == 1


def test_labels_are_in_the_zone_of_the_place() -> None:
    course = Trend(AT, [1.0 + n % 2 for n in range(60)])
    assert draw(course, "Asia/Shanghai") != draw(course, "UTC")


@pytest.mark.parametrize("values", [[5.0] * 60, [0.0] * 60, [-1e-9, 1e12] * 30])
def test_any_course_can_be_drawn(values: list[float]) -> None:
    pixels(draw(Trend(AT, values, 0.0, T0), "UTC"))


def test_one_reading_is_no_trend() -> None:
    with pytest.raises(ValueError, match="two times"):
        draw(Trend(AT[:1], [1.0]), "UTC")


def test_it_goes_back_an_hour_at_least_and_as_long_as_the_alarm_has_lasted() -> None:
    assert window(T0, T0 + MINUTE) == (T0 - HOUR, T0 + MINUTE)
    assert window(T0, T0 + 5 * HOUR) == (T0 - 5 * HOUR, T0 + 5 * HOUR)
