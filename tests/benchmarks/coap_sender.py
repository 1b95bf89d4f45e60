"""A light CoAP sender: many devices, one confirmable message under way for each, answers matched by token.

It does as little as a correct client can, so that what it measures is the gateway.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

_CHANGED = 0x44
_CONFIRMABLE, _ACKNOWLEDGEMENT = 0, 2
_ACK_TIMEOUT = 2.0


@dataclass(slots=True)
class Result:
    """How a run went; `latencies` in seconds, sorted."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    retransmitted: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def latency(self, quantile: float) -> float:
        """A quantile of the time from sending to the answer."""
        return self.latencies[min(len(self.latencies) - 1, int(quantile * len(self.latencies)))]


def datagram(identity: str, payload: bytes, number: int) -> bytes:
    """POST /telemetry/<identity>, SenML CBOR, with a message id and a token made from `number`."""
    head = struct.pack("!BBHI", 0x44, 0x02, number & 0xFFFF, number)
    name = identity.encode()
    path = b"\xb9telemetry"
    segment = bytes([0x0D, len(name) - 13]) if len(name) >= 13 else bytes([len(name)])
    return head + path + segment + name + b"\x11\x70" + b"\xff" + payload


def send(host: str, port: int, packs: Sequence[tuple[str, bytes]], window: int) -> Result:
    """Send every pack and wait for its answer, at most `window` at a time; gives up after a minute."""
    waiting = deque((number, datagram(identity, payload, number)) for number, (identity, payload) in enumerate(packs))
    under_way: dict[int, tuple[float, float, bytes]] = {}
    result = Result()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        door.connect((host, port))
        door.setblocking(False)
        begin = time.perf_counter()
        while (waiting or under_way) and time.perf_counter() - begin < 60:
            while waiting and len(under_way) < window:
                number, message = waiting.popleft()
                now = time.perf_counter()
                door.send(message)
                under_way[number] = (now, now + _ACK_TIMEOUT, message)
                result.sent += 1
            select.select([door], [], [], 0.05)
            _receive(door, under_way, result)
            now = time.perf_counter()
            for number, (first, due, message) in list(under_way.items()):
                if due > now:
                    break
                door.send(message)
                result.retransmitted += 1
                del under_way[number]
                under_way[number] = (first, now + 2 * _ACK_TIMEOUT, message)
        result.seconds = time.perf_counter() - begin
    result.latencies.sort()
    return result


def _receive(door: socket.socket, under_way: dict[int, tuple[float, float, bytes]], result: Result) -> None:
    while True:
        try:
            answer = door.recv(2048)
        except BlockingIOError:
            return
        kind, code = answer[0] >> 4 & 3, answer[1]
        if code == 0:
            continue  # an empty acknowledgement: the answer comes separately
        if kind == _CONFIRMABLE:
            door.send(bytes([0x40 | _ACKNOWLEDGEMENT << 4, 0]) + answer[2:4])
        (number,) = struct.unpack("!I", answer[4:8])
        entry = under_way.pop(number, None)
        if entry is None:
            continue
        result.latencies.append(time.perf_counter() - entry[0])
        if code == _CHANGED:
            result.acknowledged += 1
        else:
            result.refused += 1
