"""What is fuzzed: each decoder as the gateways call it, and the CoAP message parser.

The promise that is tested: for any bytes there is a report, or the codec's own error with a short detail; whatever
comes out of a decoder can be normalised. Anything else that is raised is a finding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import cbor2

from devices.codecs.frame import Frame
from devices.codecs.frame_encode import Message
from devices.decode import decode
from devices.errors import LONGEST, DecodeError
from devices.model import MINUTE, SECOND, Codec, Device, Measurement, Transport, Uplink
from devices.normalize import normalize
from devices.profile import Profile, shipped_profiles
from ingest import coap_message
from ingest.mqtt_packets import PacketError, Parser
from simulators.speech import frame_metrics

NOW = 1_790_000_000 * SECOND
PROFILES = shipped_profiles()

_EVERYTHING: dict[str, Any] = {
    "layout": [
        {"preamble": "FE", "most": 4},
        {"mark": "start"},
        {"read": "kind", "type": "u8"},
        {"identity": "urn:dev:imei:{}", "type": "bcd8", "digits": 15},
        {"sequence": "u24"},
        {"time": "date", "format": "CC YY MM DD hh mm ss", "zone": "+08:00"},
        {"bits": 3, "fields": [{"value": "enclosure_open", "at": 0}, {"read": "period", "at": 4, "width": 12}]},
        {
            "switch": "kind",
            "cases": {
                1: [{"repeat": "rest", "step": "1m", "times": "period", "layout": [{"value": "flow", "type": "f32"}]}],
                2: [
                    {"length": "body", "type": "u16", "order": "little", "plus": 2},
                    {"block": "body", "layout": [
                        {"read": "count", "type": "u32"},
                        {"repeat": "count", "layout": [
                            {"time": "before", "type": "u64"},
                            {"value": "pressure", "type": "i24", "scale": 0.001, "missing": [0x800000]},
                            {"value": "temperature", "type": "f64"},
                        ]},
                    ]},
                ],
                3: [{"time": "epoch", "type": "u64", "unit": "1ms"}, {"value": "volume", "type": "bcd4",
                    "unit_codes": {0x2C: "m3", 0x29: "l"}}],
                4: [{"time": "age", "type": "u64", "unit": "1d"}, {"value": "position", "type": "u8",
                    "states": {0: 0, 1: 100}}, {"optional": [{"value": "battery", "type": "u8"}]}],
            },
            "otherwise": [{"repeat": "rest", "step": "1s", "newest": "first", "layout": [
                {"value": "flow", "type": "u16", "missing": [65535]}, {"value": "pressure", "type": "i8"}]}],
        },
        {"check": "sum8", "since": "start"},
    ]
}  # fmt: skip


_SERVICES = b'"services":[{"service_id":"s","properties":{"flow":"1.5"},"event_time":"20260801T101112Z"}]'
_PLATFORMS = {
    Codec.IOTDA: [
        b"{" + _SERVICES + b"}",
        b"{" + _SERVICES.replace(b"20260801T101112Z", b"2026-08-01T10:11:12.5Z") + b"}",
    ],
    Codec.IOTDA_GATEWAY: [b'{"devices":[{"device_id":"urn:x",' + _SERVICES + b"}]}"],
    Codec.THINGSBOARD: [b'[{"ts":1790000000000,"values":{"flow":1.5}},{"flow":true}]'],
    Codec.THINGSBOARD_GATEWAY: [b'{"urn:x":[{"ts":1790000000000,"values":{"flow":1.5}},{"flow":"2"}]}'],
    Codec.SPARKPLUG: [
        bytes.fromhex(
            "0880d8c1a28c3412280a04666c6f7710011880d8c1a28c3420094a100a07656e67556e6974120542036c2f73650000c03f120c0a06"
            "766f6c756d6520035007120a0a046c65616b200b70011802"
        )
    ],
}


class Target(NamedTuple):
    """Something that reads bytes; `run` raises only where a promise is broken."""

    name: str
    run: Callable[[bytes], None]
    seeds: list[bytes]


def targets() -> list[Target]:
    """Everything that is fuzzed: one target a codec, a frame and a parser."""
    water = PROFILES["water-meter"]
    found = [
        _codec("senml-json", water, [_SENML_JSON, b'[{"bn":"urn:x:","bt":1.79e9},{"n":"flow","v":1,"t":-60}]'], 110),
        _codec("senml-cbor", water, [_SENML_CBOR, cbor2.dumps([{-2: "urn:x:", 0: "flow", 2: 1.5, 6: -60}])], 112),
    ]
    for name, profile in PROFILES.items():
        if profile.frame is not None:
            found.append(_codec(f"frame-{name}", profile, [_example(profile)]))
    everything = water.model_copy(update={"codec": Codec.FRAME, "frame": Frame.model_validate(_EVERYTHING)})
    found.append(_codec("frame-everything", everything, [bytes([kind]) + bytes(40) for kind in range(5)]))
    # Codecs that a topic names: each reads its uplinks through the same door.
    found += [
        _codec(codec.value, water, [_SENML_JSON, b"{}", *_PLATFORMS.get(codec, [])], None, codec)
        for codec in Codec
        if codec not in (Codec.SENML, Codec.FRAME)
    ]
    return [*found, Target("coap-message", _parse, [_POST, _POST[:8]]), Target("mqtt-packets", _packets, [_MQTT])]


def _codec(
    name: str, profile: Profile, seeds: list[bytes], content_format: int | None = None, codec: Codec | None = None
) -> Target:
    device = Device("urn:x", profile.profile)

    def run(payload: bytes) -> None:
        uplink = Uplink(Transport.COAP, payload, NOW, "urn:x", content_format, codec=codec)
        try:
            reports = decode(uplink, profile)
        except DecodeError as error:
            assert len(error.detail) <= LONGEST + 2
            return
        for report in reports:
            readings, rejects, offset = normalize(report, device, profile, NOW)
            # One more where a clock was wrong: by how much.
            assert 0 <= len(readings) + len(rejects) - len(report.measurements) <= bool(offset)

    return Target(name, run, seeds)


def _parse(datagram: bytes) -> None:
    found = coap_message.parse(datagram)
    assert isinstance(found, coap_message.Plain | coap_message.Other)
    if isinstance(found, coap_message.Plain):
        assert datagram.endswith(found.payload)


def _packets(stream: bytes) -> None:
    parser = Parser(1000)
    parser.feed(stream)
    try:
        while parser.next() is not None:
            pass
    except PacketError as error:
        assert len(str(error)) <= LONGEST


def _example(profile: Profile) -> bytes:
    """A valid frame of a shipped profile."""
    carried = frame_metrics(profile)
    middle = {
        name: sum(spec.sensor) / 2 if spec.sensor else 1.0 for name, spec in profile.metrics.items() if name in carried
    }
    times = [NOW - 15 * MINUTE * index for index in range(3)]
    entries = [Measurement(name, None, value, time) for name, value in middle.items() for time in times]
    return profile.frame_encoder.encode(Message(entries, NOW, reads={"control": 0x81}))


_SENML_JSON = json.dumps(
    [
        {"bn": "urn:x:", "bt": 1.79e9, "bu": "Cel", "bv": 1, "bs": 2, "bver": 10, "n": "temperature", "v": 5, "ut": 60},
        {"n": "flow", "u": "l/s", "v": 1.5, "t": -60}, {"n": "leak", "vb": True}, {"n": "x", "vs": "y"},
        {"n": "volume", "s": 5}, {"n": "seq", "v": 7}, {"n": "d", "vd": "aGk"},
    ]
).encode()  # fmt: skip
_SENML_CBOR = cbor2.dumps(
    [{-2: "urn:x:", -3: 1.79e9, -4: "Cel", -5: 1, 0: "temperature", 2: 5}, {0: "leak", 4: True}, {0: "d", 8: b"hi"}]
)
_MQTT = bytes.fromhex(
    "101a 0004 4d515454 05c2 003c 05 1100000e10 0001 63 0001 75 0001 70"  # CONNECT
    "320b 0001 74 0001 03 030001 78 7b7d 8208 0001 00 0002 612f 01 c000 e000"
)
_POST = bytes.fromhex("44021234 01020304 b9") + b"telemetry" + b"\x05urn:x" + bytes.fromhex("11 6e ff") + b"[]"
