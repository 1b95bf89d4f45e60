"""What a storm's devices say: one SenML pack as a row of bytes, of which each device's own is a copy with its digits,
its time and its values patched in. Two thousand packs take as long as one by an encoder.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from devices.codecs.senml import encode_cbor
from devices.model import ContentFormat, Measurement
from simulators.coap_message import post
from simulators.datagrams import Bytes
from simulators.noise import Floats

DIGITS = 7
"""Of a device's number: ten million devices a series."""
IDENTITY = "urn:dev:ser:storm-"
"""What every identity of a storm begins with; a series and the number follow."""
PROFILE = "centrifugal-pump"
FIELDS = (
    ("pressure", "Pa", 4.1e5), ("flow", "l/s", 11.5), ("vibration", "m/s", 2.1e-3), ("current", "A", 12.3),
    ("power", "W", 7510.5), ("temperature", "Cel", 18.3), ("speed", "1/min", 1480.5), ("voltage", "V", 400.3),
)  # fmt: skip
"""A healthy pump: wire name, unit, value. Each device's values differ from these by up to 2 %."""

_TIME = 1_234_567_890.5
_NUMBER = 9_999_999
_MARKS = tuple(0.1 + number for number in range(len(FIELDS)))


def identity(series: str, number: int) -> str:
    """The identity of the n-th device of a series."""
    return f"{IDENTITY}{series}-{number:0{DIGITS}}"


class Template:
    """A message as a row of bytes, and where in it things differ from device to device."""

    def __init__(self, message: bytes, payload: bytes) -> None:
        """`payload` stands in `message` as it is."""
        self.row: Bytes = np.frombuffer(message, np.uint8)
        self.payload_bytes = len(payload)
        digits = b"%07d" % _NUMBER
        self._digits = [at for at in range(len(message)) if message.startswith(digits, at)]
        self._time = message.index(struct.pack("!d", _TIME))
        self._values = [message.index(struct.pack("!d", mark)) for mark in _MARKS]

    def fill(self, rows: Bytes, numbers: NDArray[np.int64], sampled: Floats) -> None:
        """Write the messages of these devices, with samples of these times (seconds since 1970)."""
        rows[:] = self.row
        digits = (numbers[:, None] // 10 ** np.arange(DIGITS - 1, -1, -1) % 10 + 48).astype(np.uint8)
        for at in self._digits:
            rows[:, at : at + DIGITS] = digits
        rows[:, self._time : self._time + 8] = _doubles(sampled)
        for column, (at, (_, _, value)) in enumerate(zip(self._values, FIELDS, strict=True)):
            # A multiplicative hash (Knuth) is noise enough, and the same whenever the message is sent again.
            noise = (numbers * 2_654_435_761 + column * 40_503 & 0xFFFF) / 65_536.0
            rows[:, at : at + 8] = _doubles(value * (0.98 + 0.04 * noise))


def coap_template(series: str) -> Template:
    """A confirmable POST to `/telemetry/<identity>` with a token of four bytes; message id and token are zero."""
    name, payload = identity(series, _NUMBER), _payload(series)
    message = post(0, bytes(4), ("telemetry", name), ContentFormat.SENML_CBOR, payload)
    return Template(message, payload)


def mqtt_template(series: str) -> tuple[Template, int]:
    """A PUBLISH with QoS 1 of MQTT 5 (section 3.3), and where its packet identifier stands."""
    payload = _payload(series)
    topic = f"headworks/{identity(series, _NUMBER)}/telemetry".encode()
    body = len(topic).to_bytes(2) + topic + b"\0\0" + b"\0" + payload
    head = b"\x32" + variable_length(len(body))
    return Template(head + body, payload), len(head) + 2 + len(topic)


def variable_length(number: int) -> bytes:
    """A Variable Byte Integer (MQTT 5, section 1.5.5)."""
    found = bytearray()
    while True:
        number, low = number >> 7, number & 127
        found.append(low | (128 if number else 0))
        if not number:
            return bytes(found)


def _payload(series: str) -> bytes:
    name, at = identity(series, _NUMBER), round(_TIME * 1e6)
    return encode_cbor(
        name, [Measurement(field, unit, mark, at) for (field, unit, _), mark in zip(FIELDS, _MARKS, strict=True)]
    )


def _doubles(values: Floats) -> Bytes:
    return np.ascontiguousarray(values.astype(">f8")).view(np.uint8).reshape(-1, 8)
