"""Declared binary frames: CPU time a frame, beside the same frame read by hand-written `struct` code."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from functools import partial

from devices.codecs.frame import Frame
from devices.codecs.frame_decode import FrameDecoder
from devices.model import MINUTE, SECOND, Instant, Measurement, Report
from tests.benchmarks.figures import Figure

RECORDS = (1, 8, 50)
_ROUNDS, _FRAMES = 9, 3_000
_STEP = 15 * MINUTE
_HEAD = struct.Struct(">BIHB")
_DECLARED = Frame.model_validate(
    {
        "layout": [
            {"constant": "01"},
            {"time": "epoch", "type": "u32"},
            {"sequence": "u16"},
            {"read": "count", "type": "u8"},
            {"repeat": "count", "step": "15m", "layout": [{"value": "pressure", "type": "u16", "scale": 0.01}]},
        ]
    }
)


def figures() -> list[Figure]:
    """One figure a number of records; each decoder's best round, in CPU µs."""
    decode = FrameDecoder(_DECLARED).decode
    found: list[Figure] = []
    for count in RECORDS:
        frame = _HEAD.pack(1, 1_790_000_000, 7, count) + struct.pack(f">{count}H", *range(400, 400 + count))
        assert decode(frame, 0) == _by_hand(frame)
        declared, by_hand = _cost(partial(decode, frame, 0)), _cost(partial(_by_hand, frame))
        found.append(Figure(f"frame of {count} records, CPU", declared, "µs", by_hand, "struct by hand"))
    return found


def _by_hand(frame: bytes) -> list[Report]:
    """What one would write for this frame alone."""
    version, newest, sequence, count = _HEAD.unpack_from(frame)
    if version != 1 or len(frame) != _HEAD.size + 2 * count:
        raise ValueError("not this frame")
    at: Instant = newest * SECOND - (count - 1) * _STEP
    measurements = []
    for raw in struct.unpack_from(f">{count}H", frame, _HEAD.size):
        measurements.append(Measurement("pressure", None, raw / 100.0, at))
        at += _STEP
    return [Report(None, measurements, sequence, None)]


def _cost(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.process_time_ns()
        for _ in range(_FRAMES):
            work()
        best = min(best, (time.process_time_ns() - start) / 1000 / _FRAMES)
    return best
