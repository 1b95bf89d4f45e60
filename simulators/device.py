"""A virtual device: what it puts into its uplinks, and in which words and bytes.

Pure: samples in, uplinks out. What the radio does to them is in `radio`, who sends them in `run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from devices.codecs.senml import encode_cbor, encode_json
from devices.model import SECOND, ContentFormat, Instant, Measurement, Transport
from devices.profile import Reporting
from simulators.noise import Floats, choice
from simulators.observation import Observation
from simulators.plant import Asset
from simulators.sensors import INSTRUMENTS

COAP_PAYLOAD = 1024
"""Bytes of payload that fit a datagram whatever the path (RFC 7252 section 4.6); more is split into several uplinks."""
MQTT_PAYLOAD = 16 * 1024
"""What the buffers of NB-IoT modems with MQTT inside take."""

# Sent with the last sample of a report only: they hardly change, and each byte costs battery.
_SLOW = frozenset({"battery", "battery_voltage", "rsrp", "snr", "coverage_level", "cell_id", "temperature", "voltage"})
_STATES = frozenset({"running", "enclosure_open"})
"""Sent as booleans."""
_EVENTS = frozenset({"enclosure_open"})
"""Sent with the last sample, and whenever they change."""
_OTHER_NAMES = {"position": "travel", "position_command": "setpoint"}
"""What some makers call them; the profile knows."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a device speaks."""

    transport: Transport
    content_format: ContentFormat
    at_root: bool
    """CoAP: its modem cannot set a path, so it posts to the root and names itself in the payload only."""
    other_names: bool
    """It uses its maker's names for some metrics."""

    @property
    def payload_limit(self) -> int:
        """Bytes of payload of one uplink."""
        return COAP_PAYLOAD if self.transport is Transport.COAP else MQTT_PAYLOAD


@dataclass(frozen=True, slots=True)
class Uplink:
    """One uplink as it leaves a device."""

    due: Instant
    """When the device sends it, in plant time."""
    sequence: int
    payload: bytes
    readings: Mapping[str, list[Instant]]
    """The sample times in it, by metric."""

    @property
    def count(self) -> int:
        """How many readings it holds."""
        return sum(map(len, self.readings.values()))


def manner(asset: Asset) -> Manner:
    """Half of each kind speaks CoAP and half MQTT; half of each of these JSON and half CBOR."""
    number = asset.number
    return Manner(
        transport=Transport.COAP if number % 2 else Transport.MQTT,
        content_format=ContentFormat.SENML_JSON if number % 4 < 2 else ContentFormat.SENML_CBOR,
        at_root=number % 8 in (5, 7),
        other_names=number % 3 == 2,
    )


def uplinks(asset: Asset, reporting: Reporting, seed: int, observation: Observation) -> Iterator[Uplink]:
    """The uplinks of a device over the times of an observation, in the order of their samples.

    Samples are gathered into reports of one reporting interval; a report that does not fit one uplink is split.
    """
    way = manner(asset)
    values = observation.values[asset.tag]
    times: list[Instant] = observation.times.tolist()
    # Fleets would all speak in the same second otherwise; each device waits a while of its own after its last sample.
    delay = round(choice(seed, f"{asset.tag}/delay", 2.0, 50.0)) * SECOND
    size = max(1, reporting.interval // reporting.sampling)
    sequence = 0
    begin = 0
    while begin < len(times):
        # Reports end on whole intervals, so that a run that begins between two sends the same ones from then on.
        end = min(begin + size - (times[begin] // reporting.sampling) % size, len(times))
        due = times[end - 1] + delay
        for payload, readings in _packs(asset, way, times, values, begin, end, sequence + 1):
            sequence += 1
            yield Uplink(due, sequence, payload, readings)
        begin = end


def _packs(
    asset: Asset,
    way: Manner,
    times: list[Instant],
    values: Mapping[str, Floats],
    begin: int,
    end: int,
    sequence: int,
) -> Iterator[tuple[bytes, dict[str, list[Instant]]]]:
    """Samples begin…end as one pack, or as several where one is too long."""
    readings = {metric: _sampled(metric, series, begin, end) for metric, series in values.items()}
    measurements = [
        _measurement(metric, float(values[metric][at]), times[at], other_names=way.other_names)
        for metric, places in readings.items()
        for at in places
    ]
    encode = encode_json if way.content_format is ContentFormat.SENML_JSON else encode_cbor
    payload = encode(asset.device.identity, measurements, sequence)
    if len(payload) <= way.payload_limit or end - begin == 1:
        yield payload, {metric: [times[at] for at in places] for metric, places in readings.items() if places}
        return
    middle = (begin + end) // 2
    first = list(_packs(asset, way, times, values, begin, middle, sequence))
    yield from first
    yield from _packs(asset, way, times, values, middle, end, sequence + len(first))


def _sampled(metric: str, series: Floats, begin: int, end: int) -> list[int]:
    """At which samples of a report a metric is sent."""
    if metric in _SLOW:
        return [end - 1]
    if metric in _EVENTS:
        changed = [at for at in range(max(begin, 1), end - 1) if series[at] != series[at - 1]]
        return [*changed, end - 1]
    return list(range(begin, end))


def _measurement(metric: str, value: float, at: Instant, *, other_names: bool) -> Measurement:
    name = _OTHER_NAMES.get(metric, metric) if other_names else metric
    if metric in _STATES:
        return Measurement(name, None, value > 0.5, at)
    # Whole numbers are sent as such: shorter in both forms.
    return Measurement(name, INSTRUMENTS[metric].unit, int(value) if value.is_integer() else value, at)
