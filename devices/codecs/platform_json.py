"""What the JSON dialects of device platforms have in common: bounded parsing, and values as they come."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from devices.errors import DecodeError
from devices.model import Instant, Measurement, Reason

MAX_BYTES = 1 << 20
MAX_RECORDS = 20_000

_decoder = msgspec.json.Decoder()
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")


def parse(payload: bytes, what: str) -> Any:
    """The document; `DecodeError` where it is none, or larger than anything sensible."""
    if len(payload) > MAX_BYTES:
        raise DecodeError(Reason.TOO_LARGE, f"{len(payload)} bytes; at most {MAX_BYTES}")
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(Reason.MALFORMED, f"not {what}: {error}") from error


def malformed(text: str) -> DecodeError:
    """The error of a document that is JSON, but not this."""
    return DecodeError(Reason.MALFORMED, text)


def measurements(values: Iterable[tuple[str, object]], at: Instant) -> list[Measurement]:
    """Named values of one moment. Numbers that come as texts are numbers; what has no place in a series (null, lists,
    nested objects) is without a value, for quarantine to name."""
    return [Measurement(name, None, _value(value), at) for name, value in values]


def bounded(count: int) -> None:
    """`DecodeError` where there are more records than one uplink may have."""
    if count > MAX_RECORDS:
        raise DecodeError(Reason.TOO_LARGE, f"more than {MAX_RECORDS} records")


def _value(value: object) -> float | bool | str | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else value
    return None
