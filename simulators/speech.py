"""What a device's samples become on the wire: SenML, its profile's frame, IoTDA, ThingsBoard, Sparkplug B.

Pure. Values come in wire units (`sensors`); the JSON of device platforms has no units, so there they are in the
metric's canonical one. Sparkplug's sequence number is its session's, so `sparkplug_node` appends it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from devices.codecs.frame import Repeat, inner_layouts
from devices.codecs.frame import values as frame_values
from devices.codecs.frame_encode import Message
from devices.codecs.senml import encode_cbor, encode_json
from devices.codecs.sparkplug import UNIT
from devices.codecs.sparkplug_schema import Payload
from devices.model import ContentFormat, Instant, Measurement, moment
from devices.profile import Profile
from simulators.noise import choice
from simulators.scenario import Format, Protocol
from simulators.sensors import INSTRUMENTS

SERVICE = "telemetry"
"""The service that IoTDA's properties are under."""
STATES = frozenset({"running", "enclosure_open", "valve_fault", "battery_low"})
"""Sent as booleans where the format has them."""
DERIVED_UNITS = {"volume": "m3", "settlement_volume": "m3", "valve_fault": "count", "battery_low": "count"}
"""Wire units of what `presented` works out."""
_DOUBLE, _BOOLEAN = 10, 11
CONTENT_FORMATS = {
    Format.JSON: ContentFormat.SENML_JSON,
    Format.CBOR: ContentFormat.SENML_CBOR,
    Format.FRAME: ContentFormat.OCTET_STREAM,
}


def measurement(metric: str, value: float, at: Instant) -> Measurement:
    """A sample in its wire unit."""
    if metric in STATES:
        return Measurement(metric, None, value > 0.5, at)
    unit = DERIVED_UNITS.get(metric) or INSTRUMENTS[metric].unit
    # Whole numbers are sent as such: shorter in every form.
    return Measurement(metric, unit, int(value) if value.is_integer() else value, at)


def encode(
    protocol: Protocol,
    form: Format,
    identity: str,
    profile: Profile,
    samples: Sequence[tuple[str, float, Instant]],
    sequence: int,
    sent_at: Instant,
) -> bytes:
    """The payload that says these samples (metric, wire value, time as the device has it).

    `ValueError` where the profile's frame cannot carry them.
    """
    match protocol:
        case Protocol.THINGSBOARD:
            return _json([{"ts": at // 1000, "values": values} for at, values in _by_time(samples).items()])
        case Protocol.IOTDA:
            services = [
                {"service_id": SERVICE, "properties": values, "event_time": f"{moment(at):%Y%m%dT%H%M%SZ}"}
                for at, values in _by_time(samples).items()
            ]
            return _json({"services": services})
        case Protocol.SPARKPLUG:
            return _sparkplug(identity, samples, sent_at)
    entries = [measurement(*sample) for sample in samples]
    match form:
        case Format.JSON:
            return encode_json(identity, entries, sequence)
        case Format.CBOR:
            return encode_cbor(identity, entries, sequence)
        case Format.FRAME:
            carried = [entry for entry in entries if entry.name in frame_metrics(profile)]
            message = Message(carried, sent_at, sequence % 65536, identity, {"address": _address(identity)})
            return profile.frame_encoder.encode(message)


def frame_metrics(profile: Profile) -> frozenset[str]:
    """The metrics that a profile's frame has a place for; none where it declares none."""
    if profile.frame is None:
        return frozenset()
    names = (part.value for _, part in frame_values(profile.frame.layout) if part.value is not None)
    return frozenset(profile.compiled[name].metric for name in names)


def frame_series(profile: Profile) -> frozenset[str]:
    """The metrics that a frame carries several samples of; of the others it has room for the newest."""
    if profile.frame is None:
        return frozenset()
    repeated = [element for element in _walk(profile.frame.layout) if isinstance(element, Repeat)]
    names = (part.value for element in repeated for _, part in frame_values(element.layout) if part.value is not None)
    return frozenset(profile.compiled[name].metric for name in names)


def alias(identity: str, metric: str) -> int:
    """The number that stands for a metric after its birth: the same in every life of the edge node."""
    return int(choice(0, f"{identity}/{metric}/alias", 1.0, 2.0**40))


def birth_metrics(payload: Any, identity: str, metrics: Mapping[str, float], at: Instant) -> None:
    """Name the metrics of a device in a birth, with type, unit and alias."""
    for metric, value in metrics.items():
        entry = measurement(metric, value, at)
        boolean = isinstance(entry.value, bool)
        added = payload.metrics.add(
            name=metric.encode(),
            alias=alias(identity, metric),
            timestamp=at // 1000,
            datatype=_BOOLEAN if boolean else _DOUBLE,
        )
        if boolean:
            added.boolean_value = entry.value
        else:
            added.double_value = float(entry.value or 0.0)
        if entry.unit is not None and not boolean:
            added.properties.keys.append(UNIT)
            added.properties.values.add(type=12, string_value=entry.unit.encode())


def _sparkplug(identity: str, samples: Sequence[tuple[str, float, Instant]], sent_at: Instant) -> bytes:
    payload = Payload(timestamp=sent_at // 1000)
    for metric, value, at in samples:
        if metric in STATES:
            payload.metrics.add(
                alias=alias(identity, metric), timestamp=at // 1000, datatype=_BOOLEAN, boolean_value=value > 0.5
            )
        else:
            payload.metrics.add(
                alias=alias(identity, metric), timestamp=at // 1000, datatype=_DOUBLE, double_value=value
            )
    return bytes(payload.SerializeToString())


def _by_time(samples: Sequence[tuple[str, float, Instant]]) -> dict[Instant, dict[str, object]]:
    found: dict[Instant, dict[str, object]] = {}
    for metric, value, at in samples:
        if metric in STATES:
            said: object = value > 0.5
        else:
            # As a device prints it: six places are finer than any instrument here.
            said = round(value / factor(metric), 6)
        found.setdefault(at, {})[metric] = said
    return found


def factor(metric: str) -> float:
    """Wire units over canonical ones."""
    return 1.0 if metric in DERIVED_UNITS else INSTRUMENTS[metric].factor


def _walk(layout: Iterable[Any]) -> Iterator[Any]:
    for element in layout:
        yield element
        for _, inner in inner_layouts(element):
            yield from _walk(inner)


def _address(identity: str) -> int:
    """A meter's address of 14 digits: the last of its identity's."""
    digits = "".join(sign for sign in identity if sign.isdecimal())[-14:]
    return int(digits or "0")


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
