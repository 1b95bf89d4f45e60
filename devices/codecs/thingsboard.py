"""ThingsBoard's device and gateway telemetry in JSON.

Three shapes: `{key: value}`, `{"ts": ms, "values": {…}}`, and a list of either. Without `ts` a value is of when it was
received.
"""

from __future__ import annotations

from devices.codecs.platform_json import bounded, malformed, measurements, parse
from devices.model import Instant, Measurement, Report

MAX_DEVICES = 1_000
_LATEST_MS = 10**15


def decode_device(payload: bytes, received_at: Instant) -> list[Report]:
    """`v1/devices/…/telemetry`: one report, of the device that the topic names."""
    return [Report(None, _series(parse(payload, "ThingsBoard telemetry"), received_at))]


def decode_gateway(payload: bytes, received_at: Instant) -> list[Report]:
    """`v1/gateway/telemetry`: `{device: [shapes]}`, a report a device."""
    document = parse(payload, "ThingsBoard gateway telemetry")
    if not isinstance(document, dict):
        raise malformed("a gateway's telemetry is an object with a list for each device")
    if len(document) > MAX_DEVICES:
        raise malformed(f"{len(document)} devices; at most {MAX_DEVICES}")
    found = []
    for name, series in document.items():
        if not name or not isinstance(series, list):
            raise malformed("a gateway's telemetry is an object with a list for each device")
        found.append(Report(name, _series(series, received_at)))
    bounded(sum(len(report.measurements) for report in found))
    return found


def _series(document: object, received_at: Instant) -> list[Measurement]:
    found: list[Measurement] = []
    for entry in document if isinstance(document, list) else [document]:
        if not isinstance(entry, dict):
            raise malformed("telemetry is an object, or a list of them")
        values, at = entry, received_at
        # A device may have a key `values` or `ts` of its own: only an object under `values` makes it the longer shape.
        if isinstance(entry.get("values"), dict):
            values, at = entry["values"], _time(entry.get("ts"), received_at)
        found += measurements(values.items(), at)
        bounded(len(found))
    return found


def _time(milliseconds: object, received_at: Instant) -> Instant:
    if milliseconds is None:
        return received_at
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        raise malformed("`ts` is a number of milliseconds")
    if not -_LATEST_MS < milliseconds < _LATEST_MS:
        raise malformed(f"`ts` {milliseconds} is no time")
    return round(milliseconds * 1000)
