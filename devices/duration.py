"""Durations as people write them in profiles and rules: `30s`, `15m`, `1h30m`, `2d`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from devices.model import DAY, HOUR, MINUTE, SECOND, Instant

_UNITS = {"ms": SECOND // 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_duration(text: str) -> Instant:
    """Microseconds of a duration such as `90s` or `1h30m`; `0` needs no unit. `ValueError` for anything else."""
    compact = text.replace(" ", "")
    if compact == "0":
        return 0
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 15m, 1h30m or 2d")
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def format_duration(duration: Instant) -> str:
    """The shortest text that `parse_duration` reads back to the same duration, for whole milliseconds."""
    if duration == 0:
        return "0"
    text, rest = "", duration
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            text += f"{count}{unit}"
    return text


def _validate(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int) and value == 0:
        return 0
    raise ValueError("write a duration with its unit, for example 30s, 15m, 1h30m or 2d")


Duration = Annotated[int, BeforeValidator(_validate, json_schema_input_type=str), PlainSerializer(format_duration)]
"""A pydantic field: a duration text on the way in, microseconds in Python."""
