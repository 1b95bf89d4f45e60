"""Sparkplug B payloads whose metrics carry their names: the form that `ingest.sparkplug_session` gives every message.

On the wire only a birth names its metrics; data that follow give numbers (aliases), without type or unit. The session
fills those in, so that what is committed, spooled or quarantined can be decoded by itself at any later time.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from google.protobuf.message import DecodeError as WireError

from devices.codecs.sparkplug_schema import Payload
from devices.errors import DecodeError
from devices.model import Instant, Measurement, Reason, Report
from devices.profile import Profile

MAX_BYTES = 1 << 20
MAX_METRICS = 20_000
CONNECTED = "connected"
"""The metric that a birth sets to 1 and a death to 0, for profiles that have it."""
UNIT = b"engUnit"
"""The property that edge nodes put a metric's unit in: not in the specification, but common usage."""
QUALITY = b"Quality"
GOOD = 192
"""The specification's qualities are 0 (bad), 192 (good) and 500 (stale)."""
_LATEST_MS = 253_402_300_800_000  # the year 10000

_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
_UNSIGNED = {5: 8, 6: 16, 7: 32, 8: 64}
_FLOATS = (9, 10)
_BOOLEAN = 11
_TEXTS = (12, 14, 15)
_NAMES = {
    13: "a DateTime", 16: "a DataSet", 17: "Bytes", 18: "a File", 19: "a Template", 20: "a PropertySet",
    21: "a PropertySetList", **dict.fromkeys(range(22, 35), "an array"),
}  # fmt: skip


def node_identity(group: str, node: str, device: str | None = None) -> str:
    """The identity of an edge node, or of a device behind it, in the registry: `spBv1.0:group:node[:device]`, with each
    part percent-encoded, as an identity is a level of MQTT topics and a part may hold a colon."""
    parts = (group, node) if device is None else (group, node, device)
    return ":".join(("spBv1.0", *(quote(part, safe="") for part in parts)))


def parse(payload: bytes) -> Any:
    """The payload as a protobuf message; `DecodeError` where it is none, or larger than anything sensible."""
    if len(payload) > MAX_BYTES:
        raise DecodeError(Reason.TOO_LARGE, f"{len(payload)} bytes; at most {MAX_BYTES}")
    try:
        message = Payload.FromString(payload)
    except WireError as error:
        raise DecodeError(Reason.MALFORMED, f"not a Sparkplug B payload: {error}") from error
    if len(message.metrics) > MAX_METRICS:
        raise DecodeError(Reason.TOO_LARGE, f"more than {MAX_METRICS} metrics")
    return message


def decode(payload: bytes, received_at: Instant, profile: Profile | None = None) -> list[Report]:
    """One report, of the node or device that the topic names.

    Left out are commands (`Node Control/…`, `Device Control/…`), `bdSeq`, descriptions (`Properties/…`) and metrics
    that are null. What cannot be a reading (data sets, templates, texts, values that the device itself calls bad or
    stale, an alias that nobody has named) is kept as a text, for quarantine to say.
    """
    message = parse(payload)
    sent_at = _instant(message.timestamp) if message.HasField("timestamp") else None
    found: list[Measurement] = []
    for metric in message.metrics:
        name = _name(metric)
        if name == CONNECTED and (profile is None or CONNECTED not in profile.compiled):
            continue
        if metric.is_null or name == "bdSeq" or name.startswith(("Node Control/", "Device Control/", "Properties/")):
            continue
        at = sent_at
        if metric.HasField("timestamp"):
            at = _instant(metric.timestamp)
        elif name == CONNECTED:  # seen from here, and in the order in which it was seen
            at = received_at
        found.append(Measurement(name, _unit(metric), _value(metric), received_at if at is None else at))
    return [Report(None, found, sent_at=sent_at if sent_at is not None and sent_at < _LATEST_MS * 1000 else None)]


def _instant(milliseconds: int) -> Instant:
    return milliseconds * 1000


def _name(metric: Any) -> str:
    return text(metric.name) if metric.name else f"alias {metric.alias}"


def text(octets: bytes) -> str:
    """A text of a payload; `DecodeError` where it is not UTF-8."""
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"a text that is not UTF-8: {error}") from error


def properties(metric: Any) -> dict[bytes, Any]:
    """A metric's properties by key."""
    if not metric.HasField("properties"):
        return {}
    return dict(zip(metric.properties.keys, metric.properties.values, strict=False))


def _unit(metric: Any) -> str | None:
    unit = properties(metric).get(UNIT)
    return text(unit.string_value) or None if unit is not None else None


def _value(metric: Any) -> float | bool | str | None:
    quality = properties(metric).get(QUALITY)
    if quality is not None and not quality.is_null:
        code = quality.long_value if quality.HasField("long_value") else quality.int_value
        if code != GOOD:
            return f"of quality {code}"
    field = metric.WhichOneof("value")
    if field is None:
        return None
    value = getattr(metric, field)
    kind = metric.datatype
    if field in ("int_value", "long_value"):
        return _integer(value, kind)
    if field in ("float_value", "double_value"):
        return float(value) if kind in _FLOATS or not kind else _odd(kind)
    if field == "boolean_value":
        return bool(value) if kind == _BOOLEAN or not kind else _odd(kind)
    if field == "string_value":
        return text(value) if kind in _TEXTS or not kind else _odd(kind)
    return _odd(kind)


def _integer(value: int, kind: int) -> float | str:
    """Integers travel unsigned, in two's complement; some senders extend the sign beyond the type's width."""
    if kind in _SIGNED:
        width = _SIGNED[kind]
        value &= (1 << width) - 1
        return float(value - (1 << width) if value >> (width - 1) else value)
    if kind in _UNSIGNED:
        return float(value & ((1 << _UNSIGNED[kind]) - 1))
    return _odd(kind)


def _odd(kind: int) -> str:
    return _NAMES.get(kind) or (f"of type {kind}" if kind else "without a type")
